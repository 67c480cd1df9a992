//! Owns the rollout watch after a commit: compares the new release with the former release on
//! standby. If the new release is clearly worse, the app returns to its last good release;
//! otherwise the standby is wound down one instance at a time. Never builds a release.

use std::{sync::Arc, time::Instant};

use isopod_policy::{
    AppCommand, AppType, ReleaseEvent, ReleaseNumber, ReleaseState,
    swap_watch::{Counts, Verdict, judge},
};
use isopod_store::{Control, NewActivity, Reason};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use crate::control::release::releases::Releases;
use crate::control::{
    AppRecord, Deployer, Failure,
    app_command::Command,
    app_task::{AppTask, Incoming},
    background::activity_log::activity_of,
    release::boot::Purpose,
    storing::Storing,
};
use crate::{
    control::limits,
    observe::logs::LogLine,
    runtime::{ActiveRelease, CrashReport, PoolCounters},
};

/// The result of a rollout watch.
pub(in crate::control) enum Watched {
    Healthy,
    /// The release is clearly worse. Contains the comparison.
    Worse(String),
    /// Another release serves, or none does, or the release is frozen.
    Superseded,
}

/// A release that must be replaced, and the reason.
pub(in crate::control) struct Replacing {
    bad: Arc<ActiveRelease>,
    number: ReleaseNumber,
    code: &'static str,
    detail: String,
}

impl Replacing {
    fn new(bad: Arc<ActiveRelease>, code: &'static str, detail: String) -> Option<Self> {
        bad.release().map(|number| Self { bad, number, code, detail })
    }

    fn reason(&self) -> Reason {
        Reason { code: self.code.to_owned(), detail: self.detail.clone() }
    }
}

impl Deployer {
    /// Hands reports about process types that fail repeatedly to the tasks of their apps.
    pub(in crate::control) async fn receive_crash_reports(self, mut crash_reports: mpsc::Receiver<CrashReport>) {
        while let Some(report) = crash_reports.recv().await {
            if let Ok(app) = report.app.parse().map_err(drop).and_then(|name| self.handle(&name).map_err(drop)) {
                // The app may be destroyed meanwhile.
                drop(app.tell(Command::Crashed(report)).await);
            }
        }
    }
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

impl AppTask {
    /// Handles the outcome of the rollout watch of the release that serves. If the app returned to
    /// a release that had not passed its own watch, that release is watched next.
    pub(in crate::control) async fn watched(&mut self, now: Arc<ActiveRelease>, outcome: Watched) {
        match outcome {
            Watched::Worse(detail) => {
                if let Some(replacing) = Replacing::new(now, "worse-than-before", detail) {
                    self.replace(replacing).await;
                }
            }
            Watched::Healthy | Watched::Superseded => {
                let standby = std::mem::take(&mut self.standby);
                self.deployer.in_background(async move {
                    for release in standby {
                        release.drain().await;
                    }
                });
            }
        }
    }

    /// Handles a report about a process type that fails repeatedly. A fresh release is replaced; a
    /// proven release stays.
    pub(in crate::control) async fn crashed(&mut self, report: CrashReport) {
        let active = self.app.traffic.active();
        let Some(serving) = active.filter(|running| running.release() == report.release) else { return };
        let detail = format!("process `{}`: {}", report.process, report.detail);
        if serving.is_fresh() {
            if let Some(replacing) = Replacing::new(serving, "crash-loop", detail) {
                self.replace(replacing).await;
            }
            return;
        }
        // A proven release is unlikely to be the cause. Replacing it would discard one good release
        // after another, and stop the process types that still work.
        let text = format!(
            "{detail}; the release served without such failures before, so it stays in service and the host restarts the \
             process"
        );
        self.app.log.write(LogLine::host(&self.app.name, text.clone()));
        let data = json!({ "release": serving.release(), "process": report.process, "detail": report.detail });
        self.deployer.0.activity.record(&self.app, "process-failing", text, data).await;
    }

    /// Takes a release out of service permanently. The app returns to the newest standby release,
    /// or to its last good release, which is loaded first.
    async fn replace(&mut self, replacing: Replacing) {
        if !self.app.traffic.active().is_some_and(|serving| Arc::ptr_eq(&serving, &replacing.bad)) {
            return;
        }
        let bad = replacing.number;
        match self.standby.last().and_then(|standby| Some((standby.release()?, Arc::clone(standby)))) {
            Some((good, running)) => {
                let command = AppCommand::Replace { bad, with: Some(good) };
                self.return_to(command, good, Incoming::Return { running, is_loaded: false }, replacing).await;
            }
            None => {
                if self.step(AppCommand::Replace { bad, with: None }, "", None).is_ok() {
                    self.replacing = Some(replacing);
                }
            }
        }
    }

    /// Puts the loaded last good release in service. Without one, the app enters the state `error`.
    pub(in crate::control) async fn replacement_loaded(
        &mut self,
        bad: ReleaseNumber,
        good: Option<(ReleaseNumber, Arc<ActiveRelease>)>,
    ) {
        let Some(replacing) = self.replacing.take_if(|replacing| replacing.number == bad) else { return };
        let with = good.as_ref().map(|(number, _)| *number);
        let command = AppCommand::ReplacementLoaded { bad, with };
        if let Some((number, running)) = good {
            let incoming = Incoming::Return { running, is_loaded: true };
            return self.return_to(command, number, incoming, replacing).await;
        }
        let Ok(decision) = self.decide(command) else { return };
        let (reason, detail) = (replacing.reason(), &replacing.detail);
        let text = format!("{bad} is stopped, and the app has no good release to return to: {detail}");
        self.app.log.write(LogLine::host(&self.app.name, text.clone()));
        tracing::warn!(app = %self.app.name, "{text}");
        self.deployer.0.releases.mark_failed(&self.app, bad, ReleaseEvent::DeployFails, reason).await;
        self.perform(decision, detail, None);
        let data = json!({ "release": bad, "code": replacing.code, "detail": detail });
        self.deployer.0.activity.record(&self.app, "app-error", text, data).await;
    }

    async fn return_to(&mut self, command: AppCommand, good: ReleaseNumber, incoming: Incoming, replacing: Replacing) {
        let Ok(decision) = self.decide(command) else { return };
        if matches!(incoming, Incoming::Return { is_loaded: false, .. }) {
            // The newest standby release serves again.
            self.standby.pop();
        }
        let (bad, detail, code) = (replacing.number, &replacing.detail, replacing.code);
        // Traffic switches first, since clients wait. The store follows within milliseconds.
        self.perform(decision, detail, Some(incoming));
        let text = format!("{bad} is taken out of service and {good} serves again: {detail}");
        self.app.log.write(LogLine::host(&self.app.name, text.clone()));
        tracing::warn!(app = %self.app.name, "{text}");
        let data = json!({ "release": good, "bad": bad, "code": code, "detail": detail });
        let activity = activity_of(&self.app, "release-returned", text, data);
        self.store_return((bad, good), replacing.reason(), activity).await;
        self.adopt_settings(good).await;
    }

    /// Stores the return from a bad release to a good release.
    async fn store_return(&self, (bad, good): (ReleaseNumber, ReleaseNumber), reason: Reason, activity: NewActivity) {
        let deployer = &self.deployer;
        deployer.0.activity.flush().await;
        let (store, name, stored) = (deployer.0.parts.store.clone(), self.app.name.clone(), activity.clone());
        let attempt = move || -> Storing {
            let (store, name, reason, stored) = (store.clone(), name.clone(), reason.clone(), stored.clone());
            Box::pin(async move { store.return_to(&name, bad, good, reason, stored, Timestamp::now()).await.map(drop) })
        };
        deployer.0.activity.store_or_later(&self.app, "a return to the former release", attempt).await;
        deployer.0.activity.publish(activity);
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
