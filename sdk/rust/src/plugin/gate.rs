//! Gates: the release that a gate receives before its activation, the gate's decision, and the
//! macro that exports a gate. Never calls a handler.
//!
//! ```
//! use isopod_sdk::plugin::NoSettings;
//! use isopod_sdk::plugin::gate::{Decision, Release};
//! use isopod_sdk::prelude::*;
//!
//! isopod_sdk::gate!(before_activate);
//!
//! async fn before_activate(release: &Release, _: &NoSettings) -> Result<Decision> {
//!     Ok(match release.widened_grants.first() {
//!         Some(grant) => Decision::refuse(format!("it adds the grant {grant}")),
//!         None => Decision::Allow,
//!     })
//! }
//! # fn main() {}
//! ```

use serde::de::DeserializeOwned;

use crate::{Context, Error, Result};

/// The kind of change that creates a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The upload of a bundle.
    Push,
    /// A rollback to an earlier release, by a person.
    Rollback,
    /// A change of config vars.
    Config,
    /// A change of process types, such as their scale.
    Formation,
    /// A change of grants.
    Grants,
    /// The approval of a release that asks for more than its ceiling allows.
    Approval,
}

/// A release that is about to be activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The app.
    pub app: String,
    /// The type of the app: `dev`, `staging` or `production`.
    pub app_type: String,
    /// The number of the release: 7 is v7.
    pub number: u32,
    /// The number of the app's current release; none if this is its first.
    pub current: Option<u32>,
    /// The kind of change that creates the release.
    pub cause: Cause,
    /// The change as the activity of the app shows it, such as `rollback to v3`.
    pub description: String,
    /// The name of the token that requested the change.
    pub created_by: String,
    /// The name in the manifest of the bundle. It may differ from the app.
    pub manifest_name: String,
    /// The SHA-256 digest of the component, in hexadecimal.
    pub digest: String,
    /// The size of the component and its static files in bytes.
    pub size_bytes: u64,
    /// The plugins that handle the app's requests, with their ranges, such as `require-jwt@^1.2`.
    pub middleware: Vec<String>,
    /// The grants of the release, as JSON.
    pub grants: String,
    /// The grants of the current release, as JSON; none if this is the first release.
    pub current_grants: Option<String>,
    /// The grants that the current release doesn't include, one text each, such as `http "b.org"`.
    pub widened_grants: Vec<String>,
}

impl Release {
    /// Returns the first release of an app of the type `production`, created by a push and without
    /// grants, for tests.
    pub fn new(app: impl Into<String>) -> Self {
        let app = app.into();
        Self {
            manifest_name: app.clone(),
            app,
            app_type: "production".to_owned(),
            number: 1,
            current: None,
            cause: Cause::Push,
            description: "push p-test".to_owned(),
            created_by: "test".to_owned(),
            digest: "0".repeat(64),
            size_bytes: 0,
            middleware: Vec::new(),
            grants: "{}".to_owned(),
            current_grants: None,
            widened_grants: Vec::new(),
        }
    }

    /// Parses the grants.
    pub fn grants<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.grants).map_err(Error::from).context("the grants don't have the expected form")
    }
}

/// The decision about a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The release continues.
    Allow,
    /// The release fails for this reason, which is shown to the person who requested it.
    Refuse(String),
}

impl Decision {
    /// Refuses the release for a reason.
    pub fn refuse(reason: impl Into<String>) -> Self {
        Self::Refuse(reason.into())
    }
}

/// Exports a gate: an `async fn(&Release, &Settings) -> Result<Decision>` that may refuse the
/// activation of a release. The component is a plugin that the host's settings name.
///
/// The gate defines the type of its settings. The SDK deserialises them from the `config` in the
/// host's settings. If that fails, the plugin can't be installed. A gate without settings takes
/// [`NoSettings`](crate::plugin::NoSettings). An error is a failure of the plugin and not a
/// refusal.
///
/// ```
/// use isopod_sdk::plugin::NoSettings;
/// use isopod_sdk::plugin::gate::{Decision, Release};
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::gate!(limit_size);
///
/// async fn limit_size(release: &Release, _: &NoSettings) -> Result<Decision> {
///     Ok(match release.size_bytes {
///         0..=10_000_000 => Decision::Allow,
///         bytes => Decision::refuse(format!("it has {bytes} bytes")),
///     })
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! gate {
    ($before_activate:path) => {
        #[cfg(target_family = "wasm")]
        $crate::__export_gate!($before_activate);
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            #[allow(dead_code)]
            fn __isopod_handler() {
                $crate::plugin::gate::__check_gate($before_activate);
            }
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_gate {
    ($before_activate:path) => {
        const _: () = {
            $crate::__link!(GATE, "component-type:isopod-sdk:0.1.0:gate-plugin");

            #[unsafe(export_name = "isopod:plugin/gate@0.1.0#before-activate")]
            unsafe extern "C" fn __isopod_before_activate(parameters: *mut u8) -> *const u8 {
                // SAFETY: the host passes parameters that it wrote for this call.
                unsafe { $crate::__private::before_activate(parameters, $before_activate) }
            }
        };
        const _: () = {
            $crate::__link!(PLUGIN_CONFIG, "component-type:isopod-sdk:0.1.0:config-plugin");

            #[unsafe(export_name = "isopod:plugin/config@0.1.0#validate-config")]
            unsafe extern "C" fn __isopod_validate_config(config: *mut u8, length: usize) -> *const u8 {
                // SAFETY: the host passes a string that it wrote for this call.
                unsafe { $crate::__private::validate_gate_config((config, length), $before_activate) }
            }
        };
    };
}

/// Checks the handler type of [`gate!`](crate::gate!) on targets that don't export it.
#[doc(hidden)]
pub fn __check_gate<C, F>(_before_activate: F)
where
    C: DeserializeOwned + 'static,
    F: AsyncFn(&Release, &C) -> Result<Decision>,
{
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Settings {
        digests: Vec<String>,
    }

    crate::gate!(decide);

    async fn decide(release: &Release, settings: &Settings) -> Result<Decision> {
        if release.cause == Cause::Rollback || settings.digests.contains(&release.digest) {
            return Ok(Decision::Allow);
        }
        Ok(Decision::refuse(format!("the digest {} is unknown", release.digest)))
    }

    #[test]
    fn a_gate_is_tested_without_a_host() {
        let settings = Settings { digests: vec!["2a".to_owned()] };
        let decided = |release: Release| block_on(decide(&release, &settings)).unwrap();
        let known = Release { digest: "2a".to_owned(), ..Release::new("shop") };
        assert_eq!(decided(known), Decision::Allow);
        assert_eq!(decided(Release { cause: Cause::Rollback, ..Release::new("shop") }), Decision::Allow);
        assert!(matches!(decided(Release::new("shop")), Decision::Refuse(why) if why.contains("0000 is unknown")));
    }

    #[test]
    fn the_grants_of_a_release_are_parsed() {
        #[derive(Debug, Deserialize)]
        struct Grants {
            http: Vec<String>,
        }
        let release = Release { grants: r#"{"http":["b.org"],"keyvalue":true}"#.to_owned(), ..Release::new("shop") };
        assert_eq!(release.grants::<Grants>().unwrap().http, ["b.org"]);
        assert!(Release::new("shop").grants::<Grants>().unwrap_err().to_string().contains("the expected form"));
    }
}
