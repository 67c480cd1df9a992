//! HTTP: requests, answers, bodies, and asking other servers.

mod body;
mod client;
mod headers;
mod method;
mod request;
mod response;
mod routes;
mod url;

pub(crate) use body::{Kind, Sink, collect};
pub use body::{Body, BodyWriter, IncomingBody};
pub use client::{fetch, fetch_streaming};
pub use headers::{HeaderValue, Headers};
pub use method::Method;
pub use request::Request;
pub use response::Response;
#[doc(hidden)]
pub use routes::{Path, no_route};
