//! A call from an app to a provider, as the embedder passes it on, and its result. Never reads a
//! value.

use async_trait::async_trait;
use std::sync::Arc;
use wasmtime::component::Val;

/// A call from an app to a provider.
pub struct ProviderCall {
    pub(crate) interface: Arc<str>,
    /// The calling app.
    pub(crate) caller: Arc<str>,
    pub(crate) action: Action,
}

/// What a call does.
pub(crate) enum Action {
    /// Calls a function. Resources in the arguments are represented by numbers.
    Call {
        function: Arc<str>,
        arguments: Vec<Val>,
        /// The number of results of the function.
        results: usize,
        /// Whether its type has resources.
        has_resources: bool,
    },
    /// Drops the resource with this number.
    Drop { resource: u32 },
}

/// The results of a call to a provider.
pub struct ProviderResults {
    /// Resources in the values are represented by numbers.
    pub(crate) values: Vec<Val>,
    /// The number of resources of the instance that the app holds.
    pub(crate) resources: usize,
}

impl ProviderResults {
    /// Returns whether the app holds resources of the instance, which must serve its further calls.
    pub fn holds_resources(&self) -> bool {
        self.resources > 0
    }
}

/// The results of a first call to a provider, and the session if the app holds resources.
pub struct Provided {
    pub results: ProviderResults,
    pub session: Option<Box<dyn ProviderSession>>,
}

impl ProviderCall {
    /// Returns the name of the interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Returns about how much memory the arguments take in a guest.
    pub fn argument_bytes(&self) -> u64 {
        match &self.action {
            Action::Call { arguments, .. } => arguments.iter().map(bytes_in_guest).sum(),
            Action::Drop { .. } => 0,
        }
    }
}

/// Returns about how much memory a value takes in a guest.
fn bytes_in_guest(value: &Val) -> u64 {
    /// Address and length of a text or a list.
    const SLICE_BYTES: u64 = 8;
    let all = |values: &[Val]| values.iter().map(bytes_in_guest).sum::<u64>();
    let some = |value: &Option<Box<Val>>| 1 + value.as_deref().map_or(0, bytes_in_guest);
    match value {
        Val::Bool(_) | Val::S8(_) | Val::U8(_) | Val::Enum(_) => 1,
        Val::S16(_) | Val::U16(_) => 2,
        Val::S64(_) | Val::U64(_) | Val::Float64(_) => 8,
        Val::String(text) => SLICE_BYTES + text.len() as u64,
        Val::List(values) => SLICE_BYTES + all(values),
        Val::Tuple(values) | Val::FixedLengthList(values) => all(values),
        Val::Map(pairs) => {
            SLICE_BYTES + pairs.iter().map(|(key, value)| bytes_in_guest(key) + bytes_in_guest(value)).sum::<u64>()
        }
        Val::Record(fields) => fields.iter().map(|(_, value)| bytes_in_guest(value)).sum(),
        Val::Variant(_, value) | Val::Option(value) | Val::Result(Ok(value) | Err(value)) => some(value),
        _ => 4,
    }
}

/// An instance of a provider that is leased to one call of an app, which holds resources of the
/// instance. Dropping it ends the lease.
#[async_trait]
pub trait ProviderSession: Send {
    /// Calls the instance. No call follows after an error.
    async fn call(&mut self, call: ProviderCall, request_id: &str) -> Result<ProviderResults, ProviderError>;
    /// Returns whether the instance is gone, with all of its resources. A call then fails.
    fn is_ended(&self) -> bool;
}

/// Why a call to a provider has no results. It ends the app's call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The provider failed, or could not be called.
    #[error("the provider `{provider}` failed: {why}")]
    Failed { provider: String, why: String, kind: ProviderErrorKind },
    /// The app may not call the interface, so it has no provider.
    #[error("the interface `{interface}` is not granted")]
    NotGranted { interface: String },
}

/// Whether a provider was called and failed, or could not be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// The provider isn't installed in a version that the app accepts.
    Missing,
    /// No release of the provider is serving.
    Unavailable,
    /// All instances that the app may use are in use.
    Busy,
    /// The provider itself failed, or the app's call is invalid.
    Failed,
}
