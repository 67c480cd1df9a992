//! SDK for Isopod apps in Rust: async handlers for HTTP and events in a few lines, with `?` on
//! errors.
//!
//! ```
//! use isopod_sdk::prelude::*;
//!
//! isopod_sdk::http!(hello);
//!
//! async fn hello(_request: Request) -> Result<Response> {
//!     Ok(Response::text("Hello, world!"))
//! }
//! # fn main() {}
//! ```
//!
//! | to | use |
//! | --- | --- |
//! | answer HTTP | [`http!`], with [`routes!`] for several paths, or [`http_streaming!`] for bodies of any size |
//! | handle events and schedules | [`events!`] |
//! | send events, and answer before the work is done | [`events::emit`], [`events::ask`] |
//! | report the app's health to the host | [`health!`] |
//! | prepare an instance before its first request | [`init!`] |
//! | receive requests before an app does | [`middleware!`], in a plugin |
//! | receive the activity of apps | [`hook!`], in a plugin |
//! | decide whether releases are activated | [`gate!`], in a plugin |
//! | limit the rate of requests | [`plugin::counters`], in a plugin |
//! | read config vars | [`config`] |
//! | store data | [`kv`] |
//! | send requests to other servers | [`http::fetch`] |
//! | log | the crate `log`, or `tracing` with the feature of that name |
//! | wait | [`time::sleep`] |
//! | test without a host | the module `testing`, natively |
//!
//! The crate also compiles natively. There, storage, configuration, clock, logs and outgoing
//! requests are simulated in memory, so handlers are tested with plain `cargo test`.
//!
//! # Features
//!
//! `log` (default) forwards the records of the crate `log` to `wasi:logging`. An app that logs
//! nothing doesn't import that interface. `tracing` does the same for the crate `tracing`.
//! `wasi-03` exports HTTP as `wasi:http/handler` 0.3.
//!
//! `allocator` (default) sets the component's global allocator to one that reuses small blocks
//! immediately. Turn it off to set another one.

#[cfg(any(test, all(target_family = "wasm", feature = "allocator", not(target_feature = "atomics"))))]
mod allocator;
pub mod config;
mod error;
pub mod events;
pub mod http;
pub mod kv;
pub mod limits;
mod logging;
mod macros;
pub mod plugin;
pub mod time;

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
use native as platform;
#[cfg(target_family = "wasm")]
use wasm as platform;

pub use error::{Context, Error, Result};

/// The items that most apps use.
pub mod prelude {
    pub use crate::events::{self, Event, EventError, IntoEventError, NewEvent, Reply};
    pub use crate::http::{Body, BodyWriter, Headers, IncomingBody, Method, Request, Response, fetch};
    pub use crate::time::sleep;
    pub use crate::{Context, Error, Result, config, kv};
}

/// Items that the macros' expansions use. Not part of the public interface.
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub mod __private {
    pub use crate::wasm::exports::*;
    pub use wasip2;
    #[cfg(feature = "wasi-03")]
    pub use wasip3;
}
