//! Owns the errors of requests about stored events. Never maps one to a response.

use isopod_store::StoreError;

/// Why a request about stored events fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventsError {
    /// No release of the app serves; contains the reason.
    #[error("{0}")]
    NotServing(String),
    #[error("the app has no process type that takes events")]
    NoHandler,
    #[error("the app was destroyed")]
    Destroyed,
    #[error(transparent)]
    Store(#[from] StoreError),
}
