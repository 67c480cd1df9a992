//! Owns the rollout watch after a commit: compares the new release with the former release on
//! standby. Ends the canary phase of a plugin's upgrade. Never changes which release serves: the
//! app's task does (`app_task/automatic_rollback.rs`).

use std::{sync::Arc, time::Instant};

use isopod_policy::{
    AppName, AppType,
    limits::SWAP_WATCH,
    swap_watch::{CallerCounts, Counts, Evidence, Verdict, Worse, evidence, is_canary_complete, judge, reference},
};

use crate::control::{app::AppRecord, limits, plugins::Plugins};
use crate::{
    observe::logs::LogLine,
    runtime::{ActiveRelease, PoolCounters},
};

/// The result of a rollout watch.
pub(in crate::control) enum Watched {
    Healthy,
    /// The release is clearly worse. Contains the comparison.
    Worse(String),
    /// A plugin's release is clearly worse, but only for one app. Contains the comparison.
    WorseForOneApp(AppName, String),
    /// Another release serves, or none does, or the release is frozen.
    Superseded,
}

/// A verdict, with the app if the failures of a plugin are those of one app.
enum Judged {
    Watching,
    Passed,
    Worse(Worse),
    WorseForOneApp(AppName, Worse),
    /// Only one app has called the plugin's release so far.
    Suspected(Worse),
}

impl Judged {
    /// Weighs a verdict by the calls of each app, which are empty unless the release is a plugin's.
    /// `suspected_at` is when the failures became significant.
    fn of(verdict: Verdict, app: &AppRecord, suspected_at: &mut Option<Instant>) -> Self {
        let worse = match verdict {
            Verdict::Watching => return Self::Watching,
            Verdict::Passed => return Self::Passed,
            Verdict::Worse(worse) => worse,
        };
        let (apps, calls): (Vec<AppName>, Vec<CallerCounts>) = app.traffic.callers().into_iter().unzip();
        let waited = suspected_at.get_or_insert_with(Instant::now).elapsed();
        match evidence(&worse, &calls, waited) {
            Evidence::Sufficient => Self::Worse(worse),
            Evidence::OfOnlyCaller => Self::Suspected(worse),
            Evidence::OfOneApp(index) => match apps.into_iter().nth(index) {
                Some(app) => Self::WorseForOneApp(app, worse),
                None => Self::Worse(worse),
            },
        }
    }
}

/// Compares a new release with the previous one until the verdict. `at_swap` are the counters of
/// the new release when it went into service. They include a plugin's checks of configs, and are
/// subtracted.
pub(in crate::control) async fn watch_outcome(
    plugins: &Plugins,
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
    let mut suspected_at = None;
    loop {
        let serving = app.traffic.active();
        if !serving.is_some_and(|serving| Arc::ptr_eq(&serving, now)) {
            return Watched::Superseded;
        }
        let (counters, elapsed) = (now.counters(), started_at.elapsed());
        let new = counts(counters.since(start));
        let verdict = judge(&reference(old, app.traffic.canary_before()), &new, elapsed);
        let ends_canary = match Judged::of(verdict, app, &mut suspected_at) {
            Judged::Worse(worse) => return Watched::Worse(worse.to_string()),
            Judged::WorseForOneApp(user, worse) if elapsed >= SWAP_WATCH => {
                return Watched::WorseForOneApp(user, worse.to_string());
            }
            Judged::Passed => return Watched::Healthy,
            Judged::Watching => is_canary_complete(&new, elapsed),
            // The calls of that app must not shorten the phase.
            Judged::WorseForOneApp(..) => is_canary_complete(&Counts::default(), elapsed),
            Judged::Suspected(worse) => {
                if !plugins.has_several_users(&app.name).await {
                    return Watched::Worse(worse.to_string());
                }
                app.traffic.admit_second_canary();
                false
            }
        };
        if ends_canary && end_canary(app, now) {
            // The calls of the first app must not count against the release in the other phase.
            (start, suspected_at) = (counters, None);
        }
        tokio::time::sleep(limits::ROLLOUT_CHECK_INTERVAL).await;
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
