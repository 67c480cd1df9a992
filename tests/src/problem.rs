//! Checks the form that every problem document must have (RFC 9457), wherever the host creates it.
//! Never knows one route.

use crate::Answer;
use serde_json::Value;

impl Answer {
    /// Returns the response's problem document.
    ///
    /// # Panics
    /// If the response isn't a problem of this kind, or lacks a required member.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self}");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:isopod:problem:{code}"), "{self}");
        assert_eq!(problem["status"], status, "{self}");
        for part in ["title", "detail", "request_id"] {
            assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{part} is missing: {self}");
        }
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{self}");
        assert!(matches!(self.header("x-isopod-error-source"), Some("app" | "host")), "{self}");
        problem
    }

    /// Returns the response's problem document about one app.
    ///
    /// # Panics
    /// As `problem`, and if it names another app or no app.
    #[track_caller]
    pub fn problem_of(&self, app: &str, status: u16, code: &str) -> Value {
        let problem = self.problem(status, code);
        assert_eq!(problem["app"], app, "{self}");
        problem
    }
}
