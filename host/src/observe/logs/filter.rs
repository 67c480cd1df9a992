//! Selects lines of a log. Never reads a log.

use isopod_policy::RequestId;

use super::LogLine;

/// Selects lines by equal fields; by default all lines.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LineFilter {
    /// The request id of the lines. All attempts of an event have the same request id.
    pub(crate) request_id: Option<RequestId>,
}

impl LineFilter {
    pub(super) fn selects(&self, line: &LogLine) -> bool {
        self.request_id.is_none_or(|id| line.request_id.as_deref() == Some(id.as_str()))
    }
}
