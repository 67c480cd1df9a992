//! Delivers requests to the collector: retries them, and reports failures in the host's log. Only
//! the exporter's thread waits for the collector. Never counts lost items.

use super::{
    collector::{Accepted, Collector, Refusal},
    config::{Config, Signal},
    health::Health,
    queue::Telemetry,
};
use crate::observe::limits;
use prost::Message;
use std::time::{Duration, Instant};

/// The delivery of all signals.
pub(super) struct Delivery {
    collector: Collector,
    telemetry: Telemetry,
    health: [Health; Signal::COUNT],
}

impl Delivery {
    pub(super) fn new(config: Config, telemetry: Telemetry) -> Self {
        Self { collector: Collector::new(config), telemetry, health: Default::default() }
    }

    /// Sends data. Returns the number of items that the collector rejected, or why it didn't accept
    /// the data after the last attempt.
    pub(super) fn send(&mut self, signal: Signal, data: impl Message) -> Result<u64, Refusal> {
        let body = data.encode_to_vec();
        drop(data);
        let sent = self.sent(signal, &body);
        let health = &mut self.health[signal as usize];
        match sent {
            Ok(Accepted { rejected, message }) => {
                if health.succeeded() {
                    tracing::info!(signal = signal.name(), "telemetry export recovered");
                }
                if (rejected > 0 || !message.is_empty()) && health.rejected(Instant::now()) {
                    let signal = signal.name();
                    tracing::warn!(signal, rejected, ?message, "the telemetry collector rejected a part of the data");
                }
                Ok(rejected)
            }
            Err(refusal) => {
                if health.failed(Instant::now()) {
                    let signal = signal.name();
                    tracing::warn!(
                        signal,
                        %refusal,
                        "telemetry export failed; data is dropped and counted until the collector recovers"
                    );
                }
                Err(refusal)
            }
        }
    }

    /// Sends an encoded request, up to the last attempt.
    fn sent(&self, signal: Signal, body: &[u8]) -> Result<Accepted, Refusal> {
        let mut attempt = 1;
        loop {
            let time_left = self.telemetry.time_left();
            if time_left.is_some_and(|left| left.is_zero()) {
                return Err(Refusal::Permanent { reason: "the host is stopping".to_owned() });
            }
            let timeout = time_left.unwrap_or(Duration::MAX).min(limits::TELEMETRY_REQUEST_TIME);
            let refusal = match self.collector.send(signal, body, timeout) {
                Ok(accepted) => return Ok(accepted),
                Err(refusal) => refusal,
            };
            let Refusal::Temporary { reason, retry_after } = &refusal else { return Err(refusal) };
            if attempt >= limits::TELEMETRY_ATTEMPTS || self.telemetry.time_left().is_some() {
                return Err(refusal);
            }
            tracing::debug!(signal = signal.name(), reason, "telemetry export failed; it is retried");
            // The stop ends the pause.
            std::thread::park_timeout(retry_after.unwrap_or(limits::TELEMETRY_RETRY_PAUSE * attempt));
            attempt += 1;
        }
    }
}
