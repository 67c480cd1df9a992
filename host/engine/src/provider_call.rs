//! A call from an app to a provider, as the embedder passes it on, and its result. Never reads a
//! value.

use std::sync::Arc;
use wasmtime::component::Val;

/// A call from an app to a function of a provider.
pub struct ProviderCall {
    pub(crate) interface: Arc<str>,
    pub(crate) function: Arc<str>,
    /// The calling app.
    pub(crate) caller: Arc<str>,
    pub(crate) arguments: Vec<Val>,
    /// The number of results of the function.
    pub(crate) results: usize,
}

/// The results of a call to a provider.
pub struct ProviderResults(pub(crate) Vec<Val>);

impl ProviderCall {
    /// Returns the name of the interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Returns about how much memory the arguments take in a guest.
    pub fn argument_bytes(&self) -> u64 {
        self.arguments.iter().map(bytes_in_guest).sum()
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
