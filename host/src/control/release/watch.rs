//! Owns the rollout watch after a commit: compares the new release with the former release on
//! standby. If the new release is clearly worse, the app returns to its last good release;
//! otherwise the standby is wound down one instance at a time. Never builds a release.

use std::{sync::Arc, time::Instant};

use isopod_policy::{
    AppEvent, AppType, ErrorCause, ReleaseEvent, ReleaseNumber, ReleaseState,
    swap_watch::{Counts, Verdict, judge},
};
use isopod_store::{Control, NewActivity, Reason};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use crate::control::{
    AppRecord, Deployer, Failure, background::activity_log::Storing, lifecycle::step_or_warn, release::boot::Purpose,
};
use crate::{
    limits,
    observe::logs::LogLine,
    runtime::{ActiveRelease, CrashReport, PoolCounters},
};

impl Deployer {
    /// Watches a rollout, and then winds down the standby releases. If the app returns to a release
    /// that had not passed its own watch, that release is watched next.
    pub(in crate::control) async fn watch_rollout(&self, app: &Arc<AppRecord>, mut now: Arc<ActiveRelease>) {
        loop {
            let Some(before) = app.standby().last().cloned() else { return };
            let app_type = app.fields().app_type;
            let watched = match app_type {
                // Dev apps deploy every few seconds, and broken code is expected.
                AppType::Dev => WatchOutcome::Healthy,
                AppType::Staging | AppType::Production => watch(app, &before, &now).await,
            };
            match watched {
                WatchOutcome::Worse(detail) => match self.revert(app, &now, "worse-than-before", detail).await {
                    Some(before) => now = before,
                    None => return,
                },
                WatchOutcome::Healthy | WatchOutcome::Superseded => {
                    let standby = take_standby(app, &now);
                    // Dropped first: the release may be frozen or stopped while standby releases
                    // drain long work.
                    drop(now);
                    for release in standby {
                        release.drain().await;
                    }
                    return;
                }
            }
        }
    }

    /// Handles reports about process types that fail repeatedly. A fresh release is reverted; a
    /// proven release stays.
    pub(in crate::control) async fn receive_crash_reports(self, mut crash_reports: mpsc::Receiver<CrashReport>) {
        while let Some(report) = crash_reports.recv().await {
            let Ok(app) = report.app.parse().map_err(drop).and_then(|name| self.app(&name).map_err(drop)) else {
                continue;
            };
            let Some(serving) = app.traffic.active().filter(|running| running.release() == report.release) else {
                continue;
            };
            let detail = format!("process `{}`: {}", report.process, report.detail);
            if serving.is_fresh() {
                if let Some(now) = self.revert(&app, &serving, "crash-loop", detail).await {
                    let deployer = self.clone();
                    self.in_background(async move { deployer.watch_rollout(&app, now).await });
                }
                continue;
            }
            // A proven release is unlikely to be the cause. Reverting would discard one good
            // release after another, and stop the process types that still work.
            let text = format!(
                "{detail}; the release served without such failures before, so it stays in service and the host restarts the \
                 process"
            );
            app.log.write(LogLine::host(&app.name, text.clone()));
            let data = json!({ "release": serving.release(), "process": report.process, "detail": report.detail });
            self.record(&app, "process-failing", text, data).await;
        }
    }

    /// Takes a release out of service permanently. The app returns to the newest standby release,
    /// or to its last good release; without either it enters the state `error`. Returns the release
    /// that serves now.
    async fn revert(
        &self,
        app: &Arc<AppRecord>,
        bad: &Arc<ActiveRelease>,
        code: &str,
        detail: String,
    ) -> Option<Arc<ActiveRelease>> {
        let _commit = app.commit.lock().await;
        let is_serving = app.traffic.active().is_some_and(|serving| Arc::ptr_eq(&serving, bad));
        let (true, Some(bad_number)) = (is_serving, bad.release()) else { return None };
        let reason = Reason { code: code.to_owned(), detail: detail.clone() };
        let standby = app.standby().pop();
        let is_loaded = standby.is_none();
        let good = match standby {
            Some(standby) => Some((standby.release(), standby)),
            None => self.last_good(app, bad_number).await,
        };
        let now = match good {
            Some((Some(good_number), good)) => {
                // Traffic switches first, since clients wait. The store follows within
                // milliseconds.
                drop(app.traffic.install(Arc::clone(&good)));
                if is_loaded {
                    good.supervise(&self.0.crash_reports);
                }
                {
                    let mut fields = app.fields();
                    fields.release = Some(good_number);
                    fields.serves_http = good.serves_http();
                }
                let text = format!("{bad_number} is taken out of service and {good_number} serves again: {detail}");
                app.log.write(LogLine::host(&app.name, text.clone()));
                tracing::warn!(app = %app.name, "{text}");
                let data = json!({ "release": good_number, "bad": bad_number, "code": code, "detail": detail });
                let activity = self.activity_of(app, "release-returned", text, data);
                self.store_return(app, (bad_number, good_number), reason, activity).await;
                self.adopt_settings(app, good_number).await;
                Some(good)
            }
            Some((None, _)) | None => {
                let text = format!("{bad_number} is stopped, and the app has no good release to return to: {detail}");
                drop(app.traffic.set_stopped("the app is in error"));
                app.log.write(LogLine::host(&app.name, text.clone()));
                tracing::warn!(app = %app.name, "{text}");
                self.mark_failed(app, bad_number, ReleaseEvent::DeployFails, reason).await;
                step_or_warn(app, AppEvent::Failed(ErrorCause::HealthCheck), &detail);
                let data = json!({ "release": bad_number, "code": code, "detail": detail });
                self.record(app, "app-error", text, data).await;
                None
            }
        };
        // Wound down in the background, since its work may take long.
        let bad = Arc::clone(bad);
        self.in_background(async move { bad.drain().await });
        now
    }

    /// Stores the return from a bad release to a good release.
    async fn store_return(
        &self,
        app: &AppRecord,
        (bad, good): (ReleaseNumber, ReleaseNumber),
        reason: Reason,
        activity: NewActivity,
    ) {
        self.flush_activity().await;
        let (store, name, stored) = (self.0.parts.store.clone(), app.name.clone(), activity.clone());
        let attempt = move || -> Storing {
            let (store, name, reason, stored) = (store.clone(), name.clone(), reason.clone(), stored.clone());
            Box::pin(async move { store.return_to(&name, bad, good, reason, stored, Timestamp::now()).await.map(drop) })
        };
        self.store_or_later(app, "a return to the former release", attempt).await;
        self.publish(activity);
    }

    /// Loads the release that served last before `bad` and was not stopped for a failure.
    pub(in crate::control) async fn last_good(
        &self,
        app: &Arc<AppRecord>,
        bad: ReleaseNumber,
    ) -> Option<(Option<ReleaseNumber>, Arc<ActiveRelease>)> {
        let stamps = self.0.parts.store.release_stamps(&app.name).await.ok()?;
        let mut good: Vec<_> = stamps
            .into_iter()
            .filter(|stamp| stamp.number != bad && stamp.state == ReleaseState::Retired)
            .filter_map(|stamp| stamp.last_current_at.map(|at| (at, stamp.number)))
            .collect();
        good.sort_unstable();
        // Tries a few releases, newest first, since some may fail to load.
        for (_, number) in good.into_iter().rev().take(limits::RETURN_CANDIDATES) {
            match self.load(app, number, Purpose::Serve).await {
                Ok(running) => return Some((Some(number), Arc::new(running))),
                Err(failure) => self.log_load_failure(app, number, &failure),
            }
        }
        None
    }

    fn log_load_failure(&self, app: &AppRecord, number: ReleaseNumber, failure: &Failure) {
        let text = format!("{number} can't be loaded to serve again: {}: {failure}", failure.code());
        app.log.write(LogLine::host(&app.name, text));
    }
}

/// The result of a rollout watch.
enum WatchOutcome {
    Healthy,
    /// The release is clearly worse. Contains the comparison.
    Worse(String),
    /// Another release serves, or none does.
    Superseded,
}

/// Takes the standby releases if `now` passed its watch, or if no release serves. Takes none if
/// another release serves: they belong to its watch.
fn take_standby(app: &AppRecord, now: &Arc<ActiveRelease>) -> Vec<Arc<ActiveRelease>> {
    // Locked during the check, since a concurrent rollout adds standby releases.
    let mut standby = app.standby();
    match app.traffic.active() {
        Some(serving) if !Arc::ptr_eq(&serving, now) => Vec::new(),
        Some(_) | None => std::mem::take(&mut *standby),
    }
}

/// Compares a new release with the release before it until there is a verdict.
async fn watch(app: &AppRecord, before: &ActiveRelease, now: &Arc<ActiveRelease>) -> WatchOutcome {
    let started_at = Instant::now();
    let old = counts(before.counters());
    loop {
        let serving = app.traffic.active();
        if !serving.is_some_and(|serving| Arc::ptr_eq(&serving, now)) {
            return WatchOutcome::Superseded;
        }
        match judge(&old, &counts(now.counters()), started_at.elapsed()) {
            Verdict::Watching => tokio::time::sleep(limits::SWAP_LOOK).await,
            Verdict::Passed => return WatchOutcome::Healthy,
            Verdict::Worse(worse) => return WatchOutcome::Worse(worse.to_string()),
        }
    }
}

fn counts(tally: PoolCounters) -> Counts {
    Counts { requests: tally.requests, failures: tally.failures }
}
