//! The settings of the export of telemetry. Never reads a file.

use http::{HeaderName, HeaderValue, Uri};
use isopod_policy::Sampling;
use std::{net::IpAddr, time::Duration};
use ureq::tls::RootCerts;

/// The settings of the export.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The URL of the collector, without a slash at its end.
    pub(crate) endpoint: String,
    /// Fields of each request to the collector. Their values are secrets.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The authorities that may sign the collector's certificate.
    pub(crate) roots: RootCerts,
    pub(crate) signals: Signals,
    pub(crate) sampling: Sampling,
    /// The interval at which metrics are exported.
    pub(crate) interval: Duration,
}

impl Config {
    /// Returns whether the headers cross a network without encryption.
    pub(super) fn exposes_headers(&self) -> bool {
        let Ok(uri) = self.endpoint.parse::<Uri>() else { return false };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        !self.headers.is_empty() && uri.scheme_str() == Some("http") && !is_local
    }
}

/// A kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    /// The number of signals.
    pub(super) const COUNT: usize = 3;

    /// Returns the name of the signal in settings, logs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// The signals that are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signals {
    pub(crate) traces: bool,
    pub(crate) metrics: bool,
    pub(crate) logs: bool,
}

impl Signals {
    pub(crate) const ALL: Self = Self { traces: true, metrics: true, logs: true };

    /// Returns the signals of a list.
    pub(crate) fn of(list: &[Signal]) -> Self {
        let [traces, metrics, logs] =
            [Signal::Traces, Signal::Metrics, Signal::Logs].map(|signal| list.contains(&signal));
        Self { traces, metrics, logs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_exposed_without_tls_on_a_network() {
        let exposes = |endpoint: &str, headers: &[(HeaderName, HeaderValue)]| {
            let config = Config {
                endpoint: endpoint.to_owned(),
                headers: headers.to_vec(),
                roots: RootCerts::WebPki,
                signals: Signals::ALL,
                sampling: Sampling::new(1.0).expect("it is in range"),
                interval: Duration::from_secs(1),
            };
            config.exposes_headers()
        };
        let secret = [(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer key"))];
        for local in ["http://127.0.0.1:4318", "http://localhost", "http://[::1]:4318/base", "https://otel.example"] {
            assert!(!exposes(local, &secret), "{local}");
        }
        for remote in ["http://otel.example:4318", "http://10.0.0.7", "http://[2001:db8::1]"] {
            assert!(exposes(remote, &secret) && !exposes(remote, &[]), "{remote}");
        }
    }
}
