//! Owns a push as the API shows it. Never sends a request.

use serde_json::Value;

/// A push at one point in time.
#[derive(Debug, Clone)]
pub struct Push {
    pub id: String,
    pub app: String,
    pub state: String,
    pub reason: Option<String>,
    pub reason_code: Option<String>,
    pub release: Option<u64>,
    pub created_app: bool,
    pub log: Vec<String>,
}

impl Push {
    pub fn path(&self) -> String {
        format!("/v1/apps/{}/pushes/{}", self.app, self.id)
    }

    pub fn is_final(&self) -> bool {
        ["cancelled", "completed", "failed"].contains(&self.state.as_str())
    }
}

impl From<Value> for Push {
    #[track_caller]
    fn from(value: Value) -> Self {
        let may = |name: &str| value[name].as_str().map(str::to_owned);
        let must = |name: &str| may(name).unwrap_or_else(|| panic!("a push without {name}: {value}"));
        let log = value["log"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self {
            id: must("id"),
            app: must("app"),
            state: must("state"),
            reason: may("reason"),
            reason_code: may("reason_code"),
            release: value["release"].as_u64(),
            created_app: value["created_app"] == true,
            log: log.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect(),
        }
    }
}
