//! The connection to a collector: OTLP over HTTP, with Protocol Buffers. Blocks its thread, within
//! a timeout. Never retries.

use super::config::Config;
use crate::observe::limits;
use prost::Message;
use ureq::{Agent, http::StatusCode};

/// A client of one collector.
pub(super) struct Collector {
    agent: Agent,
    config: Config,
}

/// Why a collector didn't accept data.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Another attempt may succeed.
    #[error("{0}")]
    Temporary(String),
    #[error("{0}")]
    Permanent(String),
}

impl Collector {
    pub(super) fn new(config: Config) -> Self {
        let settings = Agent::config_builder()
            .timeout_global(Some(limits::TELEMETRY_REQUEST_TIME))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("isopod/", env!("CARGO_PKG_VERSION")));
        Self { agent: settings.build().new_agent(), config }
    }

    /// Sends data to the path of its signal, such as `v1/traces`.
    pub(super) fn send(&self, path: &str, data: &impl Message) -> Result<(), Refusal> {
        let mut request = self.agent.post(format!("{}/{path}", self.config.endpoint));
        for (name, value) in &self.config.headers {
            request = request.header(name, value);
        }
        let body = data.encode_to_vec();
        let sent = request.header("content-type", "application/x-protobuf").send(body.as_slice());
        let mut response = sent.map_err(|error| Refusal::Temporary(error.to_string()))?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let reading = response.body_mut().with_config().limit(limits::TELEMETRY_RESPONSE_BYTES);
        drop(reading.read_to_vec());
        match status {
            status if status.is_success() => Ok(()),
            // The statuses that the specification of OTLP lets clients retry, and other errors of
            // proxies and collectors that may be temporary.
            StatusCode::TOO_MANY_REQUESTS => Err(Refusal::Temporary(format!("it answered {status}"))),
            status if status.is_server_error() => Err(Refusal::Temporary(format!("it answered {status}"))),
            status => Err(Refusal::Permanent(format!("it answered {status}"))),
        }
    }
}
