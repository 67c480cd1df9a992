//! Owns the rollout watch after a commit: compares the new release with the former release on
//! standby. Ends the canary phase of a plugin's upgrade. Never changes which release serves: the
//! app's task does (`app_task/automatic_rollback.rs`).

use std::{sync::Arc, time::Instant};

use isopod_policy::{
    AppType,
    swap_watch::{Counts, Verdict, is_canary_complete, judge},
};

use crate::control::{app::AppRecord, limits};
use crate::{
    observe::logs::LogLine,
    runtime::{ActiveRelease, PoolCounters},
};

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
        let (new, elapsed) = (counts(now.counters()), started_at.elapsed());
        let verdict = judge(&old, &new, elapsed);
        if !matches!(verdict, Verdict::Worse(_)) && is_canary_complete(&new, elapsed) {
            end_canary(app, now);
        }
        match verdict {
            Verdict::Watching => tokio::time::sleep(limits::ROLLOUT_CHECK_INTERVAL).await,
            Verdict::Passed => return Watched::Healthy,
            Verdict::Worse(worse) => return Watched::Worse(worse.to_string()),
        }
    }
}

/// Lets all apps use a new release of a plugin, if its canary phase is in progress.
fn end_canary(app: &AppRecord, now: &ActiveRelease) {
    if let (Some(first), Some(release)) = (app.traffic.end_canary(), now.release()) {
        let text = format!("{release} serves all apps; `{first}` used it first");
        app.log.write(LogLine::host(&app.name, text));
    }
}

fn counts(tally: PoolCounters) -> Counts {
    Counts { requests: tally.requests, failures: tally.failures }
}
