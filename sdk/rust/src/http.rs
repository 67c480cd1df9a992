//! HTTP: requests, responses, bodies, and requests to other servers. Contains no logic of its own.

mod body;
mod client;
mod headers;
mod method;
pub(crate) mod packed;
mod request;
mod response;
mod routes;
mod url;

#[cfg(target_family = "wasm")]
pub(crate) use body::Sink;
pub use body::{Body, BodyWriter, IncomingBody};
pub(crate) use body::{Kind, collect};
pub use client::{fetch, fetch_streaming};
pub use headers::{HeaderValue, Headers};
pub use method::Method;
pub use request::Request;
pub(crate) use request::Target;
pub use response::Response;
#[doc(hidden)]
pub use routes::{Path, no_route};
