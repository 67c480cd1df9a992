//! An alert that fires, as it is stored, sent and shown. Never decides whether it fires.

use isopod_policy::{AlertRule, AppName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An alert that fires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alert {
    pub(crate) rule: AlertRule,
    /// `None` for the host.
    pub(crate) app: Option<AppName>,
    /// Distinguishes the app from earlier and later apps of the same name.
    pub(crate) app_id: Option<String>,
    /// When it fired.
    pub(crate) since: Timestamp,
    /// The value of the last sample.
    pub(crate) value: f64,
    pub(crate) threshold: f64,
    /// What the value means, for people.
    pub(crate) text: String,
}

impl Alert {
    /// Returns the key of the stored alert: the rule, and the id of its app.
    pub(crate) fn key(&self) -> String {
        match &self.app_id {
            Some(id) => format!("{}/{id}", self.rule),
            None => self.rule.to_string(),
        }
    }
}
