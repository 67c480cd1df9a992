//! Owns the rollout watch after a commit: compares the new release with the former release on
//! standby. Ends the canary phase of a plugin's upgrade. Never changes which release serves: the
//! app's task does (`app_task/automatic_rollback.rs`).

use std::{sync::Arc, time::Instant};

use isopod_policy::{
    AppType,
    swap_watch::{Counts, Verdict, is_canary_complete, judge, reference},
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

/// Compares a new release with the release before it until there is a verdict. `at_swap` are the
/// counters of the new release when it went into service: a plugin's check of configs was counted
/// before.
pub(in crate::control) async fn watch_outcome(
    app: &AppRecord,
    before: &ActiveRelease,
    (now, at_swap): (&Arc<ActiveRelease>, PoolCounters),
) -> Watched {
    if app.fields().app_type == AppType::Dev {
        // Dev apps deploy every few seconds, and broken code is expected.
        return Watched::Healthy;
    }
    let started_at = Instant::now();
    let (old, mut start) = (counts(before.counters()), at_swap);
    loop {
        let serving = app.traffic.active();
        if !serving.is_some_and(|serving| Arc::ptr_eq(&serving, now)) {
            return Watched::Superseded;
        }
        let (counters, elapsed) = (now.counters(), started_at.elapsed());
        let new = counts(counters.since(start));
        let verdict = judge(&reference(old, app.traffic.canary_before()), &new, elapsed);
        let is_worse = matches!(verdict, Verdict::Worse(_));
        if !is_worse && is_canary_complete(&new, elapsed) && end_canary(app, now) {
            // The calls of the first app must not count against the release in the other phase.
            start = counters;
        }
        match verdict {
            Verdict::Watching => tokio::time::sleep(limits::ROLLOUT_CHECK_INTERVAL).await,
            Verdict::Passed => return Watched::Healthy,
            Verdict::Worse(worse) => return Watched::Worse(worse.to_string()),
        }
    }
}

/// Lets all apps use a new release of a plugin, if its canary phase is in progress. Returns whether
/// an app used it.
fn end_canary(app: &AppRecord, now: &ActiveRelease) -> bool {
    let first = app.traffic.end_canary();
    if let (Some(first), Some(release)) = (&first, now.release()) {
        let text = format!("{release} serves all apps; `{first}` used it first");
        app.log.write(LogLine::host(&app.name, text));
    }
    first.is_some()
}

fn counts(tally: PoolCounters) -> Counts {
    Counts { requests: tally.requests, failures: tally.failures }
}
