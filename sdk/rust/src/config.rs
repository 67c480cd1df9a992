//! Config vars: what `isopod config set` and the manifest's `[config]` give to an app.

use crate::{Error, Result, platform};

/// The value of a config var, or of an environment variable where the host has no such var.
///
/// ```
/// use isopod_sdk::config;
/// let greeting = config::get("GREETING").unwrap_or_else(|| "Hello".to_owned());
/// # assert_eq!(greeting, "Hello");
/// ```
pub fn get(name: &str) -> Option<String> {
    platform::config_get(name).or_else(|| std::env::var(name).ok())
}

/// The value of a config var that the app can't do without; the error names it.
pub fn require(name: &str) -> Result<String> {
    get(name).ok_or_else(|| {
        Error::msg(format!("the config var {name} is not set; set it with `isopod config set {name}=VALUE`"))
    })
}
