//! The phases of a request as fields of its log line. Never measures a time.

use isopod_policy::{Phase, Timing};
use serde::{Deserialize, Serialize};

/// The time of each phase of a request, in milliseconds. Phases that took no time are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct RequestTiming {
    /// The host received the request's body, before the request waited for an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body_ms: Option<f64>,
    /// The middlewares of the app ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plugins_ms: Option<f64>,
    /// The request waited in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) queue_ms: Option<f64>,
    /// The release was thawed or loaded, and an instance was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_ms: Option<f64>,
    /// CPU time of the guest until it returned the response's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<f64>,
    /// The guest was runnable and waited for a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheduling_ms: Option<f64>,
    /// The guest waited for its key-value data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keyvalue_ms: Option<f64>,
    /// The guest waited until an event that it sent was stored or answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) events_ms: Option<f64>,
    /// The guest waited for a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) providers_ms: Option<f64>,
    /// The guest waited for an outbound HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) http_ms: Option<f64>,
    /// The guest waited for anything else, such as a timer or its client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) other_ms: Option<f64>,
    /// The body of a streamed response was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_ms: Option<f64>,
}

impl RequestTiming {
    /// Returns the fields of these times; `None` if no phase took time.
    pub(super) fn of(timing: &Timing) -> Option<Self> {
        let ms = |phase| Some(timing.us(phase)).filter(|&us| us > 0).map(|us| f64::from(us) / 1e3);
        (!timing.is_empty()).then(|| Self {
            body_ms: ms(Phase::Body),
            plugins_ms: ms(Phase::Plugins),
            queue_ms: ms(Phase::Queue),
            start_ms: ms(Phase::Start),
            cpu_ms: ms(Phase::Cpu),
            scheduling_ms: ms(Phase::Scheduling),
            keyvalue_ms: ms(Phase::KeyValue),
            events_ms: ms(Phase::Events),
            providers_ms: ms(Phase::Providers),
            http_ms: ms(Phase::Http),
            other_ms: ms(Phase::Other),
            reply_ms: ms(Phase::Reply),
        })
    }
}
