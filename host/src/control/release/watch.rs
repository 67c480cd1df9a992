//! Owns the rollout watch after a commit: compares the new release with the former release on
//! standby. Never changes which release serves: the app's task does
//! (`app_task/automatic_rollback.rs`).

use std::{sync::Arc, time::Instant};

use isopod_policy::{
    AppType,
    swap_watch::{Counts, Verdict, judge},
};

use crate::control::{app::AppRecord, limits};
use crate::runtime::{ActiveRelease, PoolCounters};

/// The result of a rollout watch.
pub(in crate::control) enum Watched {
    Healthy,
    /// The release is clearly worse. Contains the comparison.
    Worse(String),
    /// Another release serves, or none does, or the release is frozen.
    Superseded,
}

/// Compares a new release with the release before it until there is a verdict.
pub(in crate::control) async fn watch_outcome(
    app: &AppRecord,
    before: &ActiveRelease,
    now: &Arc<ActiveRelease>,
) -> Watched {
    if app.fields().app_type == AppType::Dev {
        // Dev apps deploy every few seconds, and broken code is expected.
        return Watched::Healthy;
    }
    let started_at = Instant::now();
    let old = counts(before.counters());
    loop {
        let serving = app.traffic.active();
        if !serving.is_some_and(|serving| Arc::ptr_eq(&serving, now)) {
            return Watched::Superseded;
        }
        match judge(&old, &counts(now.counters()), started_at.elapsed()) {
            Verdict::Watching => tokio::time::sleep(limits::ROLLOUT_CHECK_INTERVAL).await,
            Verdict::Passed => return Watched::Healthy,
            Verdict::Worse(worse) => return Watched::Worse(worse.to_string()),
        }
    }
}

fn counts(tally: PoolCounters) -> Counts {
    Counts { requests: tally.requests, failures: tally.failures }
}
