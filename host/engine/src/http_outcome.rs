//! The outcome of an HTTP request to an instance. Never drives an instance.

use crate::{fault::Fault, instance::Instance, response_body::ResponseBody, unfinished::Unfinished};
use http::Response;

/// A response, or why it is missing, and the state of the instance afterwards.
pub struct HttpOutcome {
    pub response: Result<Response<ResponseBody>, Fault>,
    pub after: InstanceState,
}

impl HttpOutcome {
    /// Creates a fault that also ended the instance.
    pub(crate) fn lost(fault: Fault) -> Self {
        Self { response: Err(fault), after: InstanceState::Ended }
    }
}

/// The state of an instance once its response's head is known.
pub enum InstanceState {
    /// Free for the next call.
    Free(Box<Instance>),
    /// Ended, or not reusable: replace it.
    Ended,
    /// Still working, on the response's body or after it. The caller must drive it to its end.
    Working(Unfinished),
}

impl From<Option<Box<Instance>>> for InstanceState {
    fn from(instance: Option<Box<Instance>>) -> Self {
        instance.map_or(Self::Ended, Self::Free)
    }
}
