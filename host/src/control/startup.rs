//! Owns bringing every app back when the host starts. Never keeps the host from starting because of one app.

use std::{collections::HashMap, sync::Arc, time::Instant};

use futures::StreamExt;
use isopod_policy::{AppEvent, AppName, AppState, Entry as ProcessEntry, ProcessName, PushEvent, ReleaseEvent};
use isopod_store::{App, Control, Intended, NewActivity, Page, Push, StoreError};
use jiff::Timestamp;
use serde_json::json;

use crate::control::{AppRecord, DeployError, Deployer, Failure, lifecycle::settle};
use crate::limits;

impl Deployer {
    /// Makes all stored apps known, and ends pushes that the last stop interrupted. Nothing serves yet.
    pub(crate) async fn restore(&self) -> Result<Restored, DeployError> {
        self.end_interrupted_pushes().await?;
        self.end_interrupted_releases().await?;
        let mut fired: HashMap<AppName, Vec<(ProcessName, Timestamp)>> = HashMap::new();
        for schedule in self.0.parts.store.schedules().await? {
            fired.entry(schedule.app).or_default().push((schedule.process, schedule.last_fired_at));
        }
        let (mut entries, mut asleep) = (Vec::new(), 0);
        for row in self.stored_apps().await? {
            let wanted = row.intended == Intended::Running && row.release.is_some();
            let stopped = row.intended == Intended::Stopped;
            let entry = self.enter(row);
            entry.fields().fired.extend(fired.remove(&entry.name).unwrap_or_default());
            if wanted && self.stays_cold(&entry).await? {
                asleep += 1;
                continue;
            }
            if wanted {
                settle(&entry, AppEvent::Start, "the host has started");
                drop(entry.traffic.set_stopped("the host has just started and the app is being brought back"));
                entries.push(entry);
            } else if stopped {
                drop(entry.traffic.set_stopped("the app is stopped"));
                let release = entry.fields().release;
                if let Some(release) = release {
                    self.schedule_stored(&entry, release).await;
                }
            }
        }
        let known: Vec<_> = self.apps(None, usize::MAX).iter().map(|entry| Arc::clone(&entry.traffic)).collect();
        self.0.parts.directory.put(&known);
        Ok(Restored { deployer: self.clone(), entries, asleep })
    }

    /// Leaves an app cold whose release has nothing to do until somebody asks for it, so that starting the host takes no
    /// longer for it than reading a row. For its users it runs, as it did before.
    async fn stays_cold(&self, entry: &Arc<AppRecord>) -> Result<bool, DeployError> {
        let (number, app_type) = {
            let fields = entry.fields();
            (fields.release, fields.app_type)
        };
        let Some(number) = number else { return Ok(false) };
        let release = match self.0.parts.store.release(&entry.name, number).await {
            Ok(Some(release)) => release,
            // The usual way to start says what is wrong with it.
            Ok(None) | Err(StoreError::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        // A release right after its swap is watched anew, for which it has to run. The first one of an app has taken nothing's
        // place.
        let is_first = number.get() == 1;
        let is_new = Timestamp::now().duration_since(release.updated_at).unsigned_abs() < limits::RELEASE_FRESH;
        if (is_new && !is_first) || release.state.is_final() || !release.manifest.sleeps(app_type) {
            return Ok(false);
        }
        {
            let mut fields = entry.fields();
            fields.state = AppState::Running;
            fields.config = release.config;
            let mut processes = release.manifest.processes.values();
            // Where none are named it is known only once the component is looked at.
            fields.serves_http = processes.len() == 0 || processes.any(|process| process.entry == ProcessEntry::Http);
        }
        entry.traffic.install_cold(number);
        self.schedule(entry, &release.manifest);
        Ok(true)
    }

    async fn stored_apps(&self) -> Result<Vec<App>, DeployError> {
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.0.parts.store.apps(Page { cursor, limit: Some(limits::PAGE_ITEMS_MAX) }).await?;
            rows.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(rows);
            }
        }
    }

    async fn end_interrupted_pushes(&self) -> Result<(), DeployError> {
        let control = &self.0.parts.store;
        let (mut pushes, mut cursor): (Vec<Push>, _) = (Vec::new(), None);
        loop {
            let page = control.unfinished_pushes(Page { cursor, limit: Some(limits::PAGE_ITEMS_MAX) }).await?;
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
            tracing::info!(app = %push.app, push = %push.id, "a push was interrupted by the host's stop and is failed");
        }
        Ok(())
    }

    async fn end_interrupted_releases(&self) -> Result<(), DeployError> {
        let (control, failure) = (&self.0.parts.store, Failure::HostStopped);
        loop {
            let interrupted = match control.interrupted_releases().await {
                Err(error @ StoreError::Damaged { .. }) => {
                    // One app's row is no reason to keep all others from serving.
                    tracing::error!(%error, "releases that the host's stop interrupted can't be read, and stay as they are");
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

/// Apps that are known and wait to be brought up.
pub(crate) struct Restored {
    deployer: Deployer,
    entries: Vec<Arc<AppRecord>>,
    /// How many are known and start when somebody asks for them.
    asleep: usize,
}

impl Restored {
    /// Brings them up, a bounded number at a time, and then throws away what none of them needs.
    pub(crate) async fn bring_up(self) {
        let begun = Instant::now();
        let deployer = &self.deployer;
        futures::stream::iter(&self.entries)
            .for_each_concurrent(limits::RESTORE_PARALLEL, |entry| deployer.bring_up(entry))
            .await;
        let duration_ms = begun.elapsed().as_millis();
        let (started, asleep) = (self.entries.len(), self.asleep);
        tracing::info!(started, asleep, duration_ms, "the apps are brought back; who sleeps starts when asked for");
        deployer.in_background(deployer.clone().keep_tidy());
        deployer.in_background(deployer.clone().watch_data());
    }
}
