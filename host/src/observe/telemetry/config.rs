//! The settings of the export of telemetry. Never reads a file.

use http::{HeaderName, HeaderValue};
use isopod_policy::Sampling;
use std::time::Duration;

/// The settings of the export.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The URL of the collector, without a slash at its end.
    pub(crate) endpoint: String,
    /// Fields of each request to the collector. Their values are secrets.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) sampling: Sampling,
    /// The interval at which metrics are exported.
    pub(crate) interval: Duration,
}
