//! Plugins: components that extend the host. Never passes a decision to the host; `wasm/` does.
//!
//! Middleware receives the requests to apps, and the heads of their responses:
//!
//! ```
//! use isopod_sdk::prelude::*;
//! use isopod_sdk::plugin::{AppRequest, Decision};
//! use serde::Deserialize;
//!
//! isopod_sdk::middleware!(require_key);
//!
//! #[derive(Deserialize)]
//! struct Settings {
//!     keys: Vec<String>,
//! }
//!
//! async fn require_key(request: &AppRequest, settings: &Settings) -> Result<Decision> {
//!     let key = request.header("x-api-key").or_status(401, "send a key in x-api-key")?;
//!     settings.keys.iter().find(|known| *known == key).or_status(403, "the key is unknown")?;
//!     Ok(Decision::Pass)
//! }
//! # fn main() {}
//! ```
//!
//! A [hook](crate::hook!) receives the activity of apps as events: see [`Activity`].
//!
//! A [`gate`] decides whether releases of apps are activated.
//!
//! An instance serves several apps. It parses the settings of each app once and caches them.

pub mod assets;
pub mod counters;
pub mod gate;
pub(crate) mod hook;
pub(crate) mod middleware;
pub(crate) mod settings;

pub use assets::AssetResponse;
pub use hook::{__handle, Activity};
pub use middleware::{
    __check_handlers, __pass_response, AppRequest, Decision, RequestChanges, ResponseChanges, ResponseDecision,
    ResponseHead,
};
pub use settings::{NoSettings, parse_settings};
