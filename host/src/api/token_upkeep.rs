//! The upkeep of tokens: ends secrets that are due, and stores the last uses and the refused calls.
//! Requests never wait for it. Never authorises a request.

use std::{pin::pin, sync::Arc};

use futures::future::join;
use isopod_store::Store;
use jiff::Timestamp;
use tokio::time::{Duration, Instant, sleep, sleep_until};
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
    /// Runs until the host stops, then stores the last uses and refused calls a last time.
    pub(crate) async fn run(self) {
        let mut storing = pin!(join(self.store_uses_regularly(), self.store_calls_regularly()));
        // While the disk hangs, the store waits for it. Secrets still end in time.
        tokio::select! {
            () = self.end_secrets() => {}
            _ = &mut storing => return,
            () = self.stop.cancelled() => {}
        }
        // A disk that hangs must not delay the stop.
        drop(tokio::time::timeout(limits::TOKEN_USES_STOP_TIME, storing).await);
    }

    /// Ends each secret that is due.
    async fn end_secrets(&self) {
        loop {
            let until_next = self.tokens.end_due(Timestamp::now()).map(|next| next.duration_since(Timestamp::now()));
            let until_next = until_next.map_or(Duration::MAX, |left| left.try_into().unwrap_or(Duration::ZERO));
            // The clock may be set at any time, so the task never sleeps for long.
            let check_at = Instant::now() + until_next.min(limits::TOKEN_CHECK_INTERVAL);
            tokio::select! {
                () = self.tokens.changed() => {}
                () = sleep_until(check_at) => {}
            }
        }
    }

    async fn store_uses_regularly(&self) {
        let interval = failpoint::interval("token-uses", limits::TOKEN_USES_INTERVAL);
        while !self.stops_within(interval).await {
            self.store_uses().await;
        }
        self.store_uses().await;
    }

    async fn store_calls_regularly(&self) {
        let interval = failpoint::interval("refused-calls", limits::REFUSED_CALLS_INTERVAL);
        while !self.stops_within(interval).await {
            self.store_calls().await;
        }
        self.store_calls().await;
    }

    /// Waits for an interval. Returns true immediately if the host stops.
    async fn stops_within(&self, interval: Duration) -> bool {
        self.stop.run_until_cancelled(sleep(interval)).await.is_none()
    }

    /// Stores the refused calls in one transaction, as one entry for each token. If that fails, the
    /// next interval tries again.
    async fn store_calls(&self) {
        let entries = self.refused_calls.unstored(Timestamp::now());
        if entries.is_empty() {
            return;
        }
        match self.store.append_activities(entries).await {
            Ok(()) => self.refused_calls.stored(),
            Err(error) => tracing::warn!(%error, "failed to store the refused calls; trying again later"),
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
