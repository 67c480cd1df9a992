//! Reads config vars: the values set by `isopod config set` and the manifest's `[config]`. Never
//! caches or changes them.

use crate::{Error, Result, platform};

/// Returns the value of a config var, or else of the environment variable with this name.
///
/// ```
/// use isopod_sdk::config;
/// let greeting = config::get("GREETING").unwrap_or_else(|| "Hello".to_owned());
/// # assert_eq!(greeting, "Hello");
/// ```
pub fn get(name: &str) -> Option<String> {
    platform::config_get(name).or_else(|| std::env::var(name).ok())
}

/// Returns the value of a config var that the app requires. The error names the variable.
pub fn require(name: &str) -> Result<String> {
    get(name).ok_or_else(|| {
        Error::msg(format!("the config var {name} is not set; set it with `isopod config set {name}=VALUE`"))
    })
}
