//! Ends rollout watches, in the app's task. If the new release is clearly worse, the app returns to
//! its last good release. Otherwise the standby is drained one instance at a time. A release that
//! crashes repeatedly is replaced in the same way. Never builds a release.

use std::sync::Arc;

use isopod_policy::{AppCommand, ReleaseEvent, ReleaseNumber};
use isopod_store::{NewActivity, Reason};
use jiff::Timestamp;
use serde_json::json;

use super::{AppTask, Done, Incoming};
use crate::control::{
    background::activity_log::activity_of,
    error::Failure,
    release::{
        last_good::{LastGood, LastGoodSearch},
        watch::Watched,
    },
    storing::Storing,
};
use crate::{
    observe::logs::LogLine,
    runtime::{ActiveRelease, CrashReport},
};

/// A release that must be replaced, and the reason.
pub(super) struct Replacing {
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

impl AppTask {
    /// Handles the outcome of the rollout watch of the release that serves. If the app returned to
    /// a release that had not passed its own watch, that release is watched next.
    pub(super) async fn watched(&mut self, now: Arc<ActiveRelease>, outcome: Watched) {
        match outcome {
            Watched::Worse(detail) => {
                if let Some(replacing) = Replacing::new(now, "worse-than-before", detail) {
                    self.replace(replacing);
                }
            }
            Watched::Healthy | Watched::WorseForOneApp(..) | Watched::Superseded => {
                if let Watched::WorseForOneApp(user, detail) = outcome {
                    self.report_failing_user(&now, user, &detail);
                }
                // The canary phase may still be in progress, for example if the release was frozen.
                self.app.traffic.end_canary();
                self.app.traffic.forget_callers();
                let standby = std::mem::take(&mut self.standby);
                self.publish_standby();
                self.services.shutdown.in_background(async move {
                    for release in standby {
                        release.drain().await;
                    }
                });
            }
        }
    }

    /// Handles a report about a process type that fails repeatedly. A fresh release is replaced; a
    /// proven release stays.
    pub(super) async fn crashed(&mut self, report: CrashReport) {
        let active = self.app.traffic.active();
        let Some(serving) = active.filter(|running| running.release() == report.release) else { return };
        let detail = format!("process `{}`: {}", report.process, report.detail);
        if serving.is_fresh() {
            if let Some(replacing) = Replacing::new(serving, "crash-loop", detail) {
                self.replace(replacing);
            }
            return;
        }
        // A proven release is unlikely to be the cause. Replacing it would discard one good release
        // after another, and stop the process types that still work.
        let text = format!(
            "{detail}; the release served without such failures before, so it stays in service, and the host \
             restarts the process type"
        );
        self.app.log.write(LogLine::host(&self.app.name, text.clone()));
        let data = json!({ "release": serving.release(), "process": report.process, "detail": report.detail });
        self.services.activity.record(&self.app, "process-failing", text, data).await;
    }

    /// Replaces a release under the commit lock, so that no plugin and no app that uses it commits
    /// meanwhile. Another task waits for the lock, since a commit holds it while it waits for this
    /// task.
    fn replace(&mut self, replacing: Replacing) {
        let (plugins, kind) = (self.services.releases.plugins.clone(), self.app.kind);
        self.begin(async move { Done::Locked(Box::new(replacing), plugins.lock(kind).await) });
    }

    /// Takes a release out of service permanently. The app returns to the newest standby release,
    /// or to its last good release, which is loaded first.
    pub(super) async fn replace_locked(&mut self, replacing: Replacing) {
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
    /// If the host can't read its own files now, it tries again later.
    pub(super) async fn replacement_loaded(
        &mut self,
        bad: ReleaseNumber,
        mut search: LastGoodSearch,
        loaded: Result<Option<LastGood>, Failure>,
    ) {
        let Some(replacing) = self.replacing.take_if(|replacing| replacing.number == bad) else { return };
        let good = match loaded {
            Ok(good) => good,
            Err(failure) if failure.is_passing() => {
                // Denied if the app was stopped or has another release meanwhile.
                if self.decide(AppCommand::ReplacementLoaded { bad, with: None }).is_ok() {
                    search.defer(&self.app, bad, &failure);
                    self.replacing = Some(replacing);
                    self.begin_replacement(bad, search);
                }
                return;
            }
            Err(failure) => {
                tracing::error!(app = %self.app.name, %bad, %failure, "failed to find the last good release");
                None
            }
        };
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
        self.services.releases.mark_failed(&self.app, bad, ReleaseEvent::DeployFails, reason).await;
        self.perform(decision, detail, None);
        let data = json!({ "release": bad, "code": replacing.code, "detail": detail });
        self.services.activity.record(&self.app, "app-error", text, data).await;
    }

    async fn return_to(&mut self, command: AppCommand, good: ReleaseNumber, incoming: Incoming, replacing: Replacing) {
        let Ok(decision) = self.decide(command) else { return };
        if matches!(incoming, Incoming::Return { is_loaded: false, .. }) {
            // The newest standby release serves again.
            self.standby.pop();
        }
        let (bad, detail, code) = (replacing.number, &replacing.detail, replacing.code);
        let running = Arc::clone(incoming.running());
        // Traffic switches first, since clients wait. The store follows within milliseconds.
        self.perform(decision, detail, Some(incoming));
        self.report_stranded_events();
        let text = format!("{bad} is taken out of service and {good} serves again: {detail}");
        self.app.log.write(LogLine::host(&self.app.name, text.clone()));
        tracing::warn!(app = %self.app.name, "{text}");
        let data = json!({ "release": good, "bad": bad, "code": code, "detail": detail });
        let activity = activity_of(&self.app, "release-returned", text, data);
        self.store_return((bad, good), replacing.reason(), activity).await;
        self.publish_standby();
        self.adopt_settings(good).await;
        self.report_unfit_plugins(running, replacing.bad);
    }

    /// Stores the rollback from a bad release to a good release.
    async fn store_return(&self, (bad, good): (ReleaseNumber, ReleaseNumber), reason: Reason, activity: NewActivity) {
        let services = &self.services;
        services.activity.flush().await;
        let (store, name, stored) = (services.store.clone(), self.app.name.clone(), activity.clone());
        let attempt = move || -> Storing {
            let (store, name, reason, stored) = (store.clone(), name.clone(), reason.clone(), stored.clone());
            Box::pin(async move { store.return_to(&name, bad, good, reason, stored, Timestamp::now()).await.map(drop) })
        };
        services.activity.store_or_later(&self.app, "a return to the previous release", attempt).await;
        services.activity.publish(activity);
    }
}
