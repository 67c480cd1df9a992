//! What is recorded of each request. Where it is kept is the log's matter.

use http::{Method, StatusCode};
use isopod_engine::Fault;
use isopod_policy::{AppName, ReleaseNumber, RequestId};
use std::time::Duration;

/// Takes one line per request. Called from the I/O threads, so it must never block.
pub(crate) trait AccessLog: Send + Sync {
    fn request(&self, line: AccessLine<'_>);
}

/// One answered request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessLine<'a> {
    pub(crate) app: &'a AppName,
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) request_id: RequestId,
    pub(crate) method: &'a Method,
    /// Without the query, which may hold what should not be logged.
    pub(crate) path: &'a str,
    pub(crate) status: StatusCode,
    /// From the request's head to the answer's head.
    pub(crate) duration: Duration,
    /// The length of the response's body: the sent bytes of a streamed one, otherwise the announced
    /// length.
    pub(crate) bytes: Option<u64>,
    /// The stable name of the fault, if any: instead of a response, or in the middle of its body.
    pub(crate) fault: Option<&'static str>,
}

impl AccessLine<'_> {
    /// The fault for the metrics. A client that disconnects during a response doesn't count as a
    /// fault of the app.
    pub(crate) fn counted_fault(&self) -> Option<&'static str> {
        self.fault.filter(|&fault| fault != Fault::ClientGone.code())
    }
}
