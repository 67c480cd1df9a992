//! The end of a token's secret, which also ends the event streams and bodies that it opened. Never
//! decides when a secret ends.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a secret is no longer valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// The token was revoked, or the secret replaced by a rotation.
    Revocation,
    /// The token expired.
    Expiry,
}

/// The end of one secret, in the past or in the future. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenEnd(Arc<End>);

#[derive(Debug, Default)]
struct End {
    by: OnceLock<EndedBy>,
    ended: CancellationToken,
}

impl TokenEnd {
    /// Ends the secret. Later calls change nothing.
    pub(crate) fn end(&self, by: EndedBy) {
        self.0.by.get_or_init(|| by);
        self.0.ended.cancel();
    }

    /// Returns why the secret has ended, if it has.
    pub(crate) fn by(&self) -> Option<EndedBy> {
        self.0.by.get().copied()
    }

    /// Waits until the secret has ended.
    pub(crate) async fn wait(&self) -> EndedBy {
        self.0.ended.cancelled().await;
        self.by().unwrap_or(EndedBy::Revocation)
    }
}
