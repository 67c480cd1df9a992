//! Owns what follows a swap: the new release is watched beside the one before, which is wound down one instance at a
//! time once the new one has shown that it is no worse. If it is clearly worse, the app goes back.

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
    AppRecord, Deployer, Failure, background::activity_log::Storing, lifecycle::settle, release::boot::Purpose,
};
use crate::{
    limits,
    observe::logs::LogLine,
    runtime::{ActiveRelease, CrashReport, PoolCounters},
};

impl Deployer {
    /// Watches over a swap, then winds down the releases that are not needed any more. Where the app goes back to one that
    /// had no time to prove well itself, that one is watched in its turn.
    pub(in crate::control) async fn hand_over(&self, entry: &Arc<AppRecord>, mut now: Arc<ActiveRelease>) {
        loop {
            let Some(before) = entry.earlier().last().cloned() else { return };
            let app_type = entry.fields().app_type;
            let watched = match app_type {
                // New code comes every few seconds and may well be broken: that is what a dev app is for.
                AppType::Dev => Watched::Well,
                AppType::Staging | AppType::Production => watch(entry, &before, &now).await,
            };
            match watched {
                Watched::Worse(detail) => match self.go_back(entry, &now, "worse-than-before", detail).await {
                    Some(before) => now = before,
                    None => return,
                },
                Watched::Well | Watched::Superseded => {
                    let done = not_needed(entry, &now);
                    // It may be frozen or stopped while those finish long work, and then nobody else keeps it.
                    drop(now);
                    for earlier in done {
                        earlier.drain().await;
                    }
                    return;
                }
            }
        }
    }

    /// Listens to process types that can't be kept going.
    pub(in crate::control) async fn receive_crash_reports(self, mut crash_reports: mpsc::Receiver<CrashReport>) {
        while let Some(trouble) = crash_reports.recv().await {
            let Ok(entry) = trouble.app.parse().map_err(drop).and_then(|name| self.app(&name).map_err(drop)) else {
                continue;
            };
            let Some(serving) = entry.traffic.active().filter(|running| running.release() == trouble.release) else {
                continue;
            };
            let detail = format!("process `{}`: {}", trouble.process, trouble.detail);
            if serving.is_fresh() {
                if let Some(now) = self.go_back(&entry, &serving, "crash-loop", detail).await {
                    let deployer = self.clone();
                    self.in_background(async move { deployer.hand_over(&entry, now).await });
                }
                continue;
            }
            // It ran well for long, so the cause is hardly its own: going back would burn one good release after
            // another, and take down what of it still works.
            let text = format!("{detail}; the release has served well before, so it stays, and it is tried again");
            entry.log.write(LogLine::host(&entry.name, text.clone()));
            let data = json!({ "release": serving.release(), "process": trouble.process, "detail": trouble.detail });
            self.record(&entry, "process-failing", text, data).await;
        }
    }

    /// Takes a release out of service for good. The app goes back to the one before, or else to its last good release,
    /// or else it is in error. Gives the release that serves instead.
    async fn go_back(
        &self,
        entry: &Arc<AppRecord>,
        bad: &Arc<ActiveRelease>,
        code: &str,
        detail: String,
    ) -> Option<Arc<ActiveRelease>> {
        let _alone = entry.commit.lock().await;
        let is_serving = entry.traffic.active().is_some_and(|serving| Arc::ptr_eq(&serving, bad));
        let (true, Some(bad_number)) = (is_serving, bad.release()) else { return None };
        let reason = Reason { code: code.to_owned(), detail: detail.clone() };
        let before = entry.earlier().pop();
        let is_loaded = before.is_none();
        let good = match before {
            Some(before) => Some((before.release(), before)),
            None => self.last_good(entry, bad_number).await,
        };
        let now = match good {
            Some((Some(good_number), good)) => {
                // Traffic first: people wait, and what is stored follows within milliseconds.
                drop(entry.traffic.install(Arc::clone(&good)));
                if is_loaded {
                    good.supervise(&self.0.crash_reports);
                }
                {
                    let mut fields = entry.fields();
                    fields.release = Some(good_number);
                    fields.serves_http = good.serves_http();
                }
                let text = format!("{bad_number} is taken out of service and {good_number} serves again: {detail}");
                entry.log.write(LogLine::host(&entry.name, text.clone()));
                tracing::warn!(app = %entry.name, "{text}");
                let data = json!({ "release": good_number, "bad": bad_number, "code": code, "detail": detail });
                let activity = self.activity_of(entry, "release-returned", text, data);
                self.store_return(entry, (bad_number, good_number), reason, activity).await;
                self.refresh_from(entry, good_number).await;
                Some(good)
            }
            Some((None, _)) | None => {
                let text = format!("{bad_number} is stopped, and there is no good release to go back to: {detail}");
                drop(entry.traffic.set_stopped("the app is in error"));
                entry.log.write(LogLine::host(&entry.name, text.clone()));
                tracing::warn!(app = %entry.name, "{text}");
                self.mark_failed(entry, bad_number, ReleaseEvent::DeployFails, reason).await;
                settle(entry, AppEvent::Failed(ErrorCause::HealthCheck), &detail);
                let data = json!({ "release": bad_number, "code": code, "detail": detail });
                self.record(entry, "app-error", text, data).await;
                None
            }
        };
        // It may have long work to finish, for which nobody is to wait.
        let bad = Arc::clone(bad);
        self.in_background(async move { bad.drain().await });
        now
    }

    /// Stores that an app went back from a bad release to a good one.
    async fn store_return(
        &self,
        entry: &AppRecord,
        (bad, good): (ReleaseNumber, ReleaseNumber),
        reason: Reason,
        activity: NewActivity,
    ) {
        self.recorded().await;
        let (store, app, told) = (self.0.parts.store.clone(), entry.name.clone(), activity.clone());
        let attempt = move || -> Storing {
            let (store, app, reason, told) = (store.clone(), app.clone(), reason.clone(), told.clone());
            Box::pin(async move { store.return_to(&app, bad, good, reason, told, Timestamp::now()).await.map(drop) })
        };
        self.store_or_later(entry, "a return to the release before", attempt).await;
        self.tell(activity);
    }

    /// The release that served last before this one and was well, ready to serve.
    pub(in crate::control) async fn last_good(
        &self,
        entry: &Arc<AppRecord>,
        bad: ReleaseNumber,
    ) -> Option<(Option<ReleaseNumber>, Arc<ActiveRelease>)> {
        let stamps = self.0.parts.store.release_stamps(&entry.name).await.ok()?;
        let mut good: Vec<_> = stamps
            .into_iter()
            .filter(|stamp| stamp.number != bad && stamp.state == ReleaseState::Retired)
            .filter_map(|stamp| stamp.last_current_at.map(|at| (at, stamp.number)))
            .collect();
        good.sort_unstable();
        // The few latest: one that can't be loaded any more must not keep the app from going back further.
        for (_, number) in good.into_iter().rev().take(limits::RETURN_CANDIDATES) {
            match self.load(entry, number, Purpose::Serve).await {
                Ok(running) => return Some((Some(number), Arc::new(running))),
                Err(failure) => self.told_why_not(entry, number, &failure),
            }
        }
        None
    }

    fn told_why_not(&self, entry: &AppRecord, number: ReleaseNumber, failure: &Failure) {
        let text = format!("{number} can't serve again: {}: {failure}", failure.code());
        entry.log.write(LogLine::host(&entry.name, text));
    }
}

/// What came of watching a release.
enum Watched {
    Well,
    /// What is wrong with it.
    Worse(String),
    /// Another release took over, or none serves.
    Superseded,
}

/// The earlier releases of an app that need not serve again, since `now` has proven well or nothing serves. Where another
/// release took over, whoever watches that one has them.
fn not_needed(entry: &AppRecord, now: &Arc<ActiveRelease>) -> Vec<Arc<ActiveRelease>> {
    // Held meanwhile, since a release that takes over comes with those before it.
    let mut earlier = entry.earlier();
    match entry.traffic.active() {
        Some(serving) if !Arc::ptr_eq(&serving, now) => Vec::new(),
        Some(_) | None => std::mem::take(&mut *earlier),
    }
}

/// Watches a new release beside the one before.
async fn watch(entry: &AppRecord, before: &ActiveRelease, now: &Arc<ActiveRelease>) -> Watched {
    let begun = Instant::now();
    let old = counts(before.counters());
    loop {
        let serving = entry.traffic.active();
        if !serving.is_some_and(|serving| Arc::ptr_eq(&serving, now)) {
            return Watched::Superseded;
        }
        match judge(&old, &counts(now.counters()), begun.elapsed()) {
            Verdict::Watching => tokio::time::sleep(limits::SWAP_LOOK).await,
            Verdict::Passed => return Watched::Well,
            Verdict::Worse(worse) => return Watched::Worse(worse.to_string()),
        }
    }
}

fn counts(tally: PoolCounters) -> Counts {
    Counts { requests: tally.requests, failures: tally.failures }
}
