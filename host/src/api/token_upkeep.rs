//! The upkeep of tokens: ends secrets that are due, and stores the last uses and the refused calls.
//! Requests never wait for it. Never authorises a request.

use std::sync::Arc;

use isopod_store::Store;
use jiff::Timestamp;
use tokio::time::{Duration, Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{auth::Tokens, refused_calls::RefusedCalls};
use crate::{api::limits, control::failpoint};

/// The task that maintains the tokens.
pub(crate) struct Service {
    pub(crate) tokens: Tokens,
    pub(crate) refused_calls: Arc<RefusedCalls>,
    pub(crate) store: Store,
    pub(crate) stop: CancellationToken,
}

impl Service {
    /// Runs until the host stops, then stores the last uses and refused calls once more.
    pub(crate) async fn run(self) {
        let interval = failpoint::interval("token-uses", limits::TOKEN_USES_INTERVAL);
        let calls_interval = failpoint::interval("refused-calls", limits::REFUSED_CALLS_INTERVAL);
        let (mut store_at, mut calls_at) = (Instant::now() + interval, Instant::now() + calls_interval);
        loop {
            let until_next = self.tokens.end_due(Timestamp::now()).map(|next| next.duration_since(Timestamp::now()));
            let until_next = until_next.map_or(Duration::MAX, |left| left.try_into().unwrap_or(Duration::ZERO));
            // The clock may be set at any time, so the task never sleeps for long.
            let check_at = Instant::now() + until_next.min(limits::TOKEN_CHECK_INTERVAL);
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.tokens.changed() => {}
                () = sleep_until(check_at.min(store_at).min(calls_at)) => {}
            }
            if Instant::now() >= store_at {
                self.store_uses().await;
                store_at = Instant::now() + interval;
            }
            if Instant::now() >= calls_at {
                self.store_calls().await;
                calls_at = Instant::now() + calls_interval;
            }
        }
        // A disk that hangs must not delay the stop.
        let storing = async { tokio::join!(self.store_uses(), self.store_calls()) };
        drop(tokio::time::timeout(limits::TOKEN_USES_STOP_TIME, storing).await);
    }

    /// Stores the refused calls, as one entry for each token.
    async fn store_calls(&self) {
        for entry in self.refused_calls.take(Timestamp::now()) {
            if let Err(error) = self.store.append_activity(entry).await {
                tracing::warn!(%error, "failed to store refused calls, which are now missing from the audit trail");
            }
        }
    }

    /// Stores the last uses in one transaction. If that fails, the next interval tries again.
    async fn store_uses(&self) {
        let uses = self.tokens.unstored_uses();
        if uses.is_empty() {
            return;
        }
        match self.store.record_token_uses(uses.clone()).await {
            Ok(()) => self.tokens.stored(&uses),
            Err(error) => tracing::debug!(%error, "failed to store the last uses of tokens; trying again later"),
        }
    }
}
