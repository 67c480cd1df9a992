//! Puts releases in service, in the app's task: after a start, for a cold app, and after a commit.
//! Never loads a release.

use std::sync::Arc;

use isopod_policy::{AppCommand, LoadId, ReleaseNumber};
use serde_json::json;

use super::{AppTask, Done, Incoming};
use crate::control::{
    error::Failure,
    limits,
    release::{
        load::{Loaded, log_deferred_load},
        watch::watch_outcome,
    },
};
use crate::{observe::logs::LogLine, runtime::ActiveRelease};

impl AppTask {
    /// Puts the release of a start in service, or records why it can't be loaded. `is_restored` if
    /// the release served before the host's start.
    pub(super) async fn loaded(
        &mut self,
        load: LoadId,
        release: ReleaseNumber,
        result: Result<Loaded, Failure>,
        is_restored: bool,
    ) {
        match result {
            Ok(Loaded { running, beside }) => {
                if let Some(beside) = &beside {
                    self.app.traffic.put_on_standby(beside);
                    beside.supervise(&self.services.crash_reports);
                }
                let incoming = Incoming::New { running: Arc::new(running), beside, is_upgrade: false };
                let cause = format!("{release} serves");
                if self.step(AppCommand::Loaded(load), &cause, Some(incoming)).is_ok() {
                    if !is_restored {
                        self.report_stranded_events();
                    }
                    self.adopt_settings(release).await;
                }
            }
            Err(failure) if failure.is_passing() => {
                log_deferred_load(&self.app, release, &failure);
                self.step_or_warn(AppCommand::LoadDeferred(load), "the host tries again");
                if let Some(next) = &mut self.load {
                    next.is_restored = is_restored;
                }
            }
            Err(failure) => {
                let command = AppCommand::LoadFailed(load, failure.cause());
                self.cannot_serve(command, release, &failure).await;
            }
        }
    }

    /// Puts the app in the state `error`, since its release can't be loaded.
    pub(super) async fn cannot_serve(&mut self, command: AppCommand, release: ReleaseNumber, failure: &Failure) {
        let Ok(decision) = self.decide(command) else { return };
        let reason = format!("{}: {failure}", failure.code());
        self.app.log.write(LogLine::host(&self.app.name, format!("{release} can't be started: {reason}")));
        self.services.schedules.schedule_stored(&self.services.store, &self.app, release).await;
        self.perform(decision, &reason, None);
        let data = json!({ "release": release, "cause": failure.cause(), "code": failure.code() });
        let text = format!("{release} can't be started: {reason}");
        self.services.activity.record(&self.app, "app-error", text, data).await;
    }

    /// Puts a cold release in service that was loaded for its first request. Returns false if the
    /// app serves another release, or none, by now.
    pub(super) fn cold_loaded(&self, running: &Arc<ActiveRelease>) -> bool {
        let serves = self.app.traffic.install_loaded(running);
        if serves {
            self.publish(|fields| fields.serves_http = running.serves_http());
            self.deliver_events(running);
        }
        serves
    }

    /// Puts a release in service, and starts its rollout watch. The former release stays on standby
    /// until the new release passes its watch, together with earlier releases that did not pass
    /// theirs in time.
    pub(super) fn serve(&mut self, incoming: Incoming) {
        let at_swap = incoming.running().counters();
        let running = match incoming {
            Incoming::New { running, beside, is_upgrade } => {
                running.supervise(&self.services.crash_reports);
                let former = match is_upgrade {
                    true => self.app.traffic.install_canary(Arc::clone(&running)),
                    false => self.app.traffic.install(Arc::clone(&running)),
                };
                self.include_unfit_users(&running);
                self.standby.extend(former.or(beside));
                self.limit_standby();
                self.publish_standby();
                running
            }
            Incoming::Return { running, is_loaded } => {
                let bad = self.app.traffic.install(Arc::clone(&running));
                if is_loaded {
                    running.supervise(&self.services.crash_reports);
                }
                // Wound down in the background, since its work may take long.
                if let Some(bad) = bad {
                    self.services.shutdown.in_background(async move { bad.drain().await });
                }
                running
            }
        };
        self.publish(|fields| fields.serves_http = running.serves_http());
        self.deliver_events(&running);
        match self.standby.last().cloned() {
            Some(before) => {
                let (plugins, app) = (self.services.releases.plugins.clone(), Arc::clone(&self.app));
                self.begin_watch(async move {
                    let outcome = watch_outcome(&plugins, &app, &before, (&running, at_swap)).await;
                    Done::Watched(running, outcome)
                });
            }
            None => {
                self.stop_watch();
                self.app.traffic.forget_callers();
            }
        }
    }

    /// Evicts a release from standby if there are too many. Keeps the oldest, which passed its
    /// watch, and the former release of a plugin that apps use in a canary phase.
    fn limit_standby(&mut self) {
        if self.standby.len() <= limits::STANDBY_RELEASES_MAX {
            return;
        }
        let used = self.app.traffic.canary_former();
        let is_unused = |release: &Arc<ActiveRelease>| !used.as_ref().is_some_and(|used| Arc::ptr_eq(used, release));
        let Some(index) = (1..self.standby.len()).find(|index| self.standby.get(*index).is_some_and(is_unused)) else {
            return;
        };
        let evicted = self.standby.remove(index);
        self.services.shutdown.in_background(async move { evicted.drain().await });
    }

    /// Publishes which releases are on standby, after a change.
    pub(super) fn publish_standby(&self) {
        let standby = self.standby.iter().filter_map(|release| release.release()).collect();
        self.publish(|fields| fields.standby = standby);
    }

    /// Delivers the events that waited for a release.
    fn deliver_events(&self, running: &ActiveRelease) {
        if running.has_deliveries() {
            self.services.events.wake(&self.app);
        }
    }

    /// Reports the events that wait for process types which the release in service lacks. Called
    /// after each change of that release, and not at each start of the host. Runs in the
    /// background, since it reads the app's queue.
    pub(super) fn report_stranded_events(&self) {
        let Some(running) = self.app.traffic.active() else { return };
        let Some(release) = running.release() else { return };
        let app = Arc::clone(&self.app);
        let (events, activity) = (self.services.events.clone(), self.services.activity.clone());
        self.services.shutdown.in_background(async move {
            for stranded in events.stranded(&app, &running).await {
                let text = stranded.describe(release);
                app.log.write(LogLine::host(&app.name, text.clone()));
                let data = json!({ "process": stranded.process, "events": stranded.events, "release": release });
                activity.record(&app, "events-stranded", text, data).await;
            }
        });
    }

    /// Adopts the config and the schedules of a release that serves again.
    pub(super) async fn adopt_settings(&self, number: ReleaseNumber) {
        match self.services.store.release(&self.app.name, number).await {
            Ok(Some(release)) => {
                self.publish(|fields| fields.config = release.config);
                self.services.schedules.schedule(&self.app, &release.manifest);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(app = %self.app.name, %error, "a release could not be read"),
        }
    }
}
