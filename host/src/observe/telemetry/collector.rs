//! The connection to a collector: OTLP over HTTP, with Protocol Buffers. Blocks its thread, within
//! a timeout. Never retries.

use super::config::{Config, Signal};
use crate::{http::retry_after::retry_after, observe::limits};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use std::time::Duration;
use ureq::{
    Agent,
    http::{StatusCode, header},
    tls::TlsConfig,
};

/// A client of one collector.
pub(super) struct Collector {
    agent: Agent,
    config: Config,
}

/// The response of a collector that has accepted data, or a part of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The number of rejected spans, lines or values.
    pub(super) rejected: u64,
    /// Why they were rejected, or a warning. Empty if there is none.
    pub(super) message: String,
}

/// Why a collector didn't accept data.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Another attempt may succeed, after a pause that the collector may request.
    #[error("{reason}")]
    Temporary { reason: String, retry_after: Option<Duration> },
    #[error("{reason}")]
    Permanent { reason: String },
}

impl Collector {
    pub(super) fn new(config: Config) -> Self {
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .tls_config(TlsConfig::builder().root_certs(config.roots.clone()).build())
            .user_agent(concat!("isopod/", env!("CARGO_PKG_VERSION")));
        Self { agent: settings.build().new_agent(), config }
    }

    /// Sends an encoded request with data of one signal.
    pub(super) fn send(&self, signal: Signal, body: &[u8], timeout: Duration) -> Result<Accepted, Refusal> {
        let mut request = self.agent.post(format!("{}/v1/{}", self.config.endpoint, signal.name()));
        for (name, value) in &self.config.headers {
            request = request.header(name, value);
        }
        let request = request.config().timeout_global(Some(timeout)).build();
        let sent = request.header(header::CONTENT_TYPE, "application/x-protobuf").send(body);
        let mut response = sent.map_err(|error| Refusal::Temporary { reason: error.to_string(), retry_after: None })?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let reading = response.body_mut().with_config().limit(limits::TELEMETRY_RESPONSE_BYTES);
        let body = reading.read_to_vec().unwrap_or_default();
        if status.is_success() {
            return Ok(Accepted::read(&body));
        }
        let reason = format!("HTTP status {status}");
        // The statuses that the specification of OTLP lets clients retry, and other errors of
        // proxies and collectors that may be temporary.
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let retry_after = retry_after(response.headers(), limits::TELEMETRY_RETRY_AFTER_MAX);
            return Err(Refusal::Temporary { reason, retry_after });
        }
        Err(Refusal::Permanent { reason })
    }
}

impl Accepted {
    /// Reads the body of a response. The responses for all signals have the same encoding. A body
    /// in another form, such as one of a proxy, rejects nothing.
    fn read(body: &[u8]) -> Self {
        let response = ExportTraceServiceResponse::decode(body).unwrap_or_default();
        let Some(partial) = response.partial_success else { return Self::default() };
        let mut message = partial.error_message;
        message.truncate(message.floor_char_boundary(limits::TELEMETRY_MESSAGE_BYTES));
        Self { rejected: u64::try_from(partial.rejected_spans).unwrap_or(0), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    #[test]
    fn the_rejected_part_of_a_request_is_read() {
        let body = |rejected_spans, error_message: &str| {
            let partial_success =
                Some(ExportTracePartialSuccess { rejected_spans, error_message: error_message.to_owned() });
            ExportTraceServiceResponse { partial_success }.encode_to_vec()
        };
        let read = |body: &[u8]| Accepted::read(body);
        assert_eq!(read(&body(3, "too old")), Accepted { rejected: 3, message: "too old".to_owned() });
        assert_eq!(read(&body(-3, "")), Accepted::default());
        assert_eq!(read(&body(0, &"ä".repeat(500))).message.len(), limits::TELEMETRY_MESSAGE_BYTES);
        for other in [&b""[..], b"ok", b"{\"partialSuccess\":{}}", b"\x0a\xff"] {
            assert_eq!(read(other), Accepted::default(), "{other:?}");
        }
    }
}
