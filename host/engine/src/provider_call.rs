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
}

/// Why a call to a provider has no results. It ends the app's call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the provider `{provider}` failed: {why}")]
pub struct ProviderError {
    pub provider: String,
    pub why: String,
    /// Whether all instances that the app may use are in use.
    pub is_busy: bool,
}
