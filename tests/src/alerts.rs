//! Reads the alerts of a host. Never sets a rule: a test does, in the host's settings.

use crate::{Ask, Host, wait_for};
use serde_json::Value;

impl Host {
    /// Returns the alert of a rule, if it fires.
    #[track_caller]
    pub fn alert(&self, rule: &str) -> Option<Value> {
        let alerts = self.api(Ask::get("/v1/alerts")).expect(200).json();
        alerts["items"].as_array().expect("a list of alerts").iter().find(|alert| alert["rule"] == rule).cloned()
    }

    /// Waits until the alert of a rule fires, and returns it.
    #[track_caller]
    pub fn until_alert(&self, rule: &str) -> Value {
        wait_for(&format!("the alert {rule}"), || self.alert(rule))
    }

    /// Waits until the alert of a rule has ended.
    #[track_caller]
    pub fn until_no_alert(&self, rule: &str) {
        wait_for(&format!("the end of the alert {rule}"), || self.alert(rule).is_none().then_some(()));
    }
}
