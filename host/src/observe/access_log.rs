//! The record of each request to an app. Never stores the records: the log does.

use http::{HeaderValue, Method, StatusCode, Version};
use isopod_engine::Fault;
use isopod_policy::{AppName, InstanceId, ReleaseNumber, RequestId, RequestTrace, Sampling, Timing};
use std::time::Duration;

/// Receives one line per request. The I/O threads call it, so it must never block.
pub(crate) trait AccessLog: Send + Sync {
    fn request(&self, line: AccessLine<'_>);

    /// Returns which traces are recorded; `None` if none is.
    fn sampling(&self) -> Option<Sampling> {
        None
    }
}

/// One answered request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessLine<'a> {
    pub(crate) app: &'a AppName,
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) request_id: RequestId,
    pub(crate) method: &'a Method,
    /// Without the query, which may contain secrets.
    pub(crate) path: &'a str,
    pub(crate) status: StatusCode,
    /// From the request's head to the response's head.
    pub(crate) duration: Duration,
    /// From the request's head to the end of a streamed response, otherwise the same as `duration`.
    pub(crate) elapsed: Duration,
    /// The length of the response's body: the sent bytes of a streamed body or of a large file,
    /// otherwise the announced length.
    pub(crate) bytes: Option<u64>,
    /// The stable name of the fault, if any, before the response or during its body.
    pub(crate) fault: Option<&'static str>,
    /// The plugin that responded or failed in place of the app.
    pub(crate) plugin: Option<&'a AppName>,
    /// The instance of the app that got the request.
    pub(crate) instance: Option<&'a InstanceId>,
    pub(crate) is_https: bool,
    pub(crate) version: Version,
    pub(crate) trace: RequestTrace,
    /// The `tracestate` of the trace, if traces are exported.
    pub(crate) trace_state: Option<&'a HeaderValue>,
    /// The time of each phase.
    pub(crate) timing: Timing,
}

impl AccessLine<'_> {
    /// Returns the fault for the metrics. A client that disconnects during a response doesn't count
    /// as a fault of the app.
    pub(crate) fn counted_fault(&self) -> Option<&'static str> {
        self.fault.filter(|&fault| fault != Fault::ClientGone.code())
    }
}
