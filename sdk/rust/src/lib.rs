//! Write Isopod apps in Rust.
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
//! Everything here compiles for the machine it is developed on as well: there, storage, configuration, the clock, logs
//! and outgoing requests are held in memory by [`testing`], so that handlers are tested with plain `cargo test`.

pub mod config;
mod error;
pub mod events;
pub mod http;
pub mod kv;
pub mod limits;
mod logging;
mod macros;
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

/// What most apps use.
pub mod prelude {
    pub use crate::events::{Event, EventError, Reply, RetryAfter};
    pub use crate::http::{Body, BodyWriter, Headers, IncomingBody, Method, Request, Response, fetch};
    pub use crate::time::sleep;
    pub use crate::{Context, Error, Result, config, kv};
}

/// What the macros expand to. It is no part of the interface.
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub mod __private {
    pub use crate::wasm::exports::*;
    pub use wasip2;
    #[cfg(feature = "wasi-03")]
    pub use wasip3;
}
