//! Owns restoring the apps when the host starts. Never fails the start because of one app.

use std::{collections::HashMap, sync::Arc, time::Instant};

use futures::StreamExt;
use isopod_policy::{AppKind, AppName, Entry as ProcessEntry, ProcessName, PushEvent, Refusal, ReleaseEvent};
use isopod_store::{App, Intended, NewActivity, Page, Push, Release, Store, StoreError};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::oneshot;

use crate::control::{
    app_command::{AppHandle, Command},
    app_table::AppTable,
    app_task::AppTask,
    apps::Apps,
    background::{data_watch, gc, scheduler::Schedules},
    error::{DeployError, Failure},
    events::Events,
    limits,
    plugins::Plugins,
    shutdown::Shutdown,
};
use crate::{failpoint, runtime::Directory};

/// Restores the apps. Used once.
pub(in crate::control) struct Startup {
    pub(in crate::control) apps: Apps,
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) store: Store,
    pub(in crate::control) schedules: Schedules,
    pub(in crate::control) directory: Arc<Directory>,
    pub(in crate::control) late: LateServices,
}

/// The services that must not start before all apps are registered.
pub(in crate::control) struct LateServices {
    pub(in crate::control) gc: gc::Service,
    pub(in crate::control) data_watch: data_watch::Service,
    pub(in crate::control) events: Events,
    pub(in crate::control) plugins: Plugins,
    pub(in crate::control) shutdown: Shutdown,
}

impl Startup {
    /// Registers all stored apps, and marks push jobs that the last stop interrupted as failed. No
    /// app serves yet.
    pub(in crate::control) async fn restore(self) -> Result<Restored, DeployError> {
        failpoint::here("restore-apps");
        self.end_interrupted_pushes().await?;
        self.end_interrupted_releases().await?;
        let mut fired: HashMap<AppName, Vec<(ProcessName, Timestamp)>> = HashMap::new();
        for schedule in self.store.schedules().await? {
            fired.entry(schedule.app).or_default().push((schedule.process, schedule.last_fired_at));
        }
        let (mut apps, mut cold) = (Vec::new(), 0);
        let rows = futures::stream::iter(self.stored_apps().await?);
        // Reads some releases ahead, since each read waits for a thread of the store.
        let mut rows = rows.map(|row| self.with_release(row)).buffered(limits::RESTORE_PARALLEL);
        while let Some((row, release)) = rows.next().await {
            let is_running = row.intended == Intended::Running && row.release.is_some();
            let is_stopped = row.intended == Intended::Stopped;
            let fired = fired.remove(&row.name).unwrap_or_default();
            let mut task = self.apps.register(row, fired.into_iter().collect());
            let app = task.handle.clone();
            app.record.traffic.resources().set_stored_events_unknown();
            if is_running && self.restore_cold(&mut task, release?) {
                cold += 1;
            } else if is_running {
                task.restore_starting();
                drop(app.record.traffic.set_stopped(Refusal::Starting.as_str()));
                apps.push(app);
            } else if is_stopped {
                drop(app.record.traffic.set_stopped(Refusal::Stopped.as_str()));
                if let Some(release) = app.record.fields().release {
                    self.schedules.schedule_stored(&self.store, &app.record, release).await;
                }
            }
            task.spawn();
        }
        drop(rows);
        let known: Vec<_> = self.app_table.all().iter().map(|app| Arc::clone(&app.traffic)).collect();
        self.directory.put(&known);
        let (plugins, apps) = apps.into_iter().partition(|app: &AppHandle| app.record.kind == AppKind::Plugin);
        Ok(Restored { plugins, apps, cold, late: self.late })
    }

    /// Returns an app with its current release: `None` if the app is stopped, has no release, or
    /// has a damaged one.
    async fn with_release(&self, app: App) -> (App, Result<Option<Release>, StoreError>) {
        let release = match app.release {
            Some(number) if app.intended == Intended::Running => self.store.release(&app.name, number).await,
            _ => Ok(None),
        };
        match release {
            // The regular start of the app reports the error.
            Err(StoreError::Damaged { .. }) => (app, Ok(None)),
            release => (app, release),
        }
    }

    /// Registers the app's release as cold if it has no work before the first request. The start
    /// then reads only one row per app, and the app's state is `running` as before. Returns false
    /// if the release must be loaded.
    fn restore_cold(&self, task: &mut AppTask, release: Option<Release>) -> bool {
        let Some(release) = release else { return false };
        let app = Arc::clone(&task.handle.record);
        let (fields, number) = (app.fields(), release.number);
        // A release that was committed recently is loaded, since its rollout watch resumes. The
        // first release of an app replaced no other, so there is no watch.
        let is_first = number.get() == 1;
        let is_new =
            Timestamp::now().duration_since(release.updated_at).unsigned_abs() < crate::runtime::limits::RELEASE_FRESH;
        if (is_new && !is_first) || release.state.is_final() || !release.manifest.sleeps(fields.app_type) {
            return false;
        }
        task.restore_running();
        let mut processes = release.manifest.processes.values();
        // Without declared process types, only the component shows whether it serves HTTP.
        let serves_http = processes.len() == 0 || processes.any(|process| process.entry == ProcessEntry::Http);
        task.publish(|fields| {
            fields.config = release.config;
            fields.serves_http = serves_http;
        });
        app.traffic.install_cold(number);
        self.schedules.schedule(&app, &release.manifest);
        true
    }

    async fn stored_apps(&self) -> Result<Vec<App>, DeployError> {
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.store.apps(Page { cursor, limit: Some(isopod_store::limits::ROWS_PER_PAGE_MAX) }).await?;
            rows.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(rows);
            }
        }
    }

    async fn end_interrupted_pushes(&self) -> Result<(), DeployError> {
        let control = &self.store;
        let (mut pushes, mut cursor): (Vec<Push>, _) = (Vec::new(), None);
        loop {
            let page = control
                .unfinished_pushes(Page { cursor, limit: Some(isopod_store::limits::ROWS_PER_PAGE_MAX) })
                .await?;
            pushes.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let failure = Failure::HostStopped;
        for push in pushes {
            let reason = failure.reason();
            control.advance_push(&push.id, PushEvent::Fail, Some(reason), Timestamp::now()).await?;
            let activity = NewActivity {
                app: Some(push.app.clone()),
                kind: "push-failed".to_owned(),
                text: format!("push {} failed: {failure}", push.id),
                data: json!({ "push": push.id, "code": failure.code(), "by": push.created_by }),
                at: Timestamp::now(),
            };
            control.append_activity(activity).await?;
            tracing::info!(app = %push.app, push = %push.id, "a push that the host's stop interrupted has failed");
        }
        Ok(())
    }

    async fn end_interrupted_releases(&self) -> Result<(), DeployError> {
        let (control, failure) = (&self.store, Failure::HostStopped);
        loop {
            let interrupted = match control.interrupted_releases().await {
                Err(error @ StoreError::Damaged { .. }) => {
                    // One damaged row must not prevent the other apps from serving.
                    tracing::error!(%error, "can't read the releases that the host's stop interrupted");
                    return Ok(());
                }
                found => found?,
            };
            if interrupted.is_empty() {
                return Ok(());
            }
            for release in interrupted {
                let reason = failure.reason();
                let failed = ReleaseEvent::DeployFails;
                control.step_release(&release.app, release.number, failed, Some(reason), Timestamp::now()).await?;
                let activity = NewActivity {
                    text: format!("{} was not finished: {}: {failure}", release.number, release.cause),
                    app: Some(release.app.clone()),
                    kind: "release-interrupted".to_owned(),
                    data: json!({ "release": release.number, "code": failure.code(), "by": release.created_by }),
                    at: Timestamp::now(),
                };
                control.append_activity(activity).await?;
                tracing::info!(app = %release.app, release = %release.number, "the host's stop interrupted a release");
            }
        }
    }
}

/// Registered apps that wait to be loaded.
pub(crate) struct Restored {
    plugins: Vec<AppHandle>,
    apps: Vec<AppHandle>,
    /// The number of cold apps, which load on the first request.
    cold: usize,
    late: LateServices,
}

impl Restored {
    /// Loads the plugins. Called before the host accepts traffic, since a cold app serves
    /// immediately and its requests need its plugins. Checks the configs of the host's settings in
    /// the background.
    pub(crate) async fn load_plugins(&self) {
        load(&self.plugins).await;
        let plugins = self.late.plugins.clone();
        self.late.shutdown.in_background(async move { plugins.check_host_configs().await });
    }

    /// Loads the apps, a bounded number concurrently, and then starts garbage collection and the
    /// watch on the data folder.
    pub(crate) async fn activate(self) {
        let started_at = Instant::now();
        // Includes the plugins again, since some may not have begun to load in time.
        tokio::join!(load(&self.plugins), load(&self.apps));
        let duration_ms = started_at.elapsed().as_millis();
        let (started, cold) = (self.plugins.len() + self.apps.len(), self.cold);
        tracing::info!(started, cold, duration_ms, "the apps are loaded; cold apps load on their first request");
        let LateServices { gc, data_watch, events, plugins: _, shutdown } = self.late;
        let reporter = data_watch.clone();
        shutdown.in_background(async move { reporter.report_unreadable(events.resume().await).await });
        shutdown.in_background(gc.run());
        shutdown.in_background(data_watch.run());
    }
}

/// Loads apps, a bounded number concurrently.
async fn load(apps: &[AppHandle]) {
    futures::stream::iter(apps)
        .for_each_concurrent(limits::RESTORE_PARALLEL, |app| async move {
            let (done, is_done) = oneshot::channel();
            // The app may have been destroyed, and may need no load.
            if app.send(Command::Load { done }).await.is_ok() {
                drop(is_done.await);
            }
        })
        .await;
}
