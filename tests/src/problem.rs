//! Owns what every problem must look like (RFC 9457), wherever it comes from.

use crate::Answer;
use serde_json::Value;

impl Answer {
    /// The answer as a problem of this kind.
    ///
    /// # Panics
    /// Where it is none, or lacks a part that each must have.
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
        problem
    }

    /// The same, about one app.
    ///
    /// # Panics
    /// As `problem`, and where it names another app or none.
    #[track_caller]
    pub fn problem_of(&self, app: &str, status: u16, code: &str) -> Value {
        let problem = self.problem(status, code);
        assert_eq!(problem["app"], app, "{self}");
        problem
    }
}
