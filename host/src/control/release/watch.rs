//! Owns the rollout watch after a commit: compares the new release with the former release on
//! standby, and finds the release that an app can return to. Never changes what serves: the app's
//! task does (`app_task/automatic_rollback.rs`).

use std::{sync::Arc, time::Instant};

use isopod_policy::{
    AppType, ReleaseNumber, ReleaseState,
    swap_watch::{Counts, Verdict, judge},
};

use crate::control::{
    app::AppRecord,
    error::Failure,
    limits,
    release::{boot::Purpose, releases::Releases},
};
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

impl Releases {
    /// Loads the release that served last before `bad` and was not stopped for a failure.
    pub(in crate::control) async fn last_good(
        &self,
        app: &AppRecord,
        bad: ReleaseNumber,
    ) -> Option<(ReleaseNumber, Arc<ActiveRelease>)> {
        let stamps = self.store.release_stamps(&app.name).await.ok()?;
        let mut good: Vec<_> = stamps
            .into_iter()
            .filter(|stamp| stamp.number != bad && stamp.state == ReleaseState::Retired)
            .filter_map(|stamp| stamp.last_current_at.map(|at| (at, stamp.number)))
            .collect();
        good.sort_unstable();
        // Tries a few releases, newest first, since some may fail to load.
        for (_, number) in good.into_iter().rev().take(limits::ROLLBACK_CANDIDATES_MAX) {
            match self.load(app, number, Purpose::Serve).await {
                Ok(running) => return Some((number, Arc::new(running))),
                Err(failure) => log_load_failure(app, number, &failure),
            }
        }
        None
    }
}

fn log_load_failure(app: &AppRecord, number: ReleaseNumber, failure: &Failure) {
    let text = format!("{number} can't be loaded to serve again: {}: {failure}", failure.code());
    app.log.write(LogLine::host(&app.name, text));
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
