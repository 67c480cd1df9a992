//! Implements the control store's interface with statements on `control.db`. Owns the mapping of
//! calls to statements, and the steps that create or delete an app together with its folder. Never
//! contains a statement itself.

use async_trait::async_trait;
use isopod_policy::retention::StoredRelease;
use isopod_policy::{
    AppName, AppType, ConfigVars, CoresOverride, ProcessName, PushEvent, PushId, ReleaseEvent, ReleaseNumber,
};
use jiff::Timestamp;
use rusqlite::Connection;

use super::{activity, apps, pushes, releases, schedules, tokens, usage};
use crate::control::Control;
use crate::files::blocking;
use crate::model::{
    Activity, App, Idempotency, Inserted, Intended, ListedRelease, LogLine, NewActivity, NewApp, NewPush, NewRelease,
    Push, Reason, Release, ScheduleFired, Token,
};
use crate::page::{Page, Paged};
use crate::usage::{Month, MonthUsage};
use crate::{Store, StoreError};

#[async_trait]
impl Control for Store {
    async fn create_app(&self, app: NewApp) -> Result<App, StoreError> {
        let folders = self.folders().clone();
        let create = move |connection: &Connection| {
            let app = apps::create(connection, &app)?;
            folders.make(&app.name)?;
            Ok(app)
        };
        self.sqlite().write(create).await
    }

    async fn app(&self, name: &AppName) -> Result<Option<App>, StoreError> {
        let name = name.clone();
        self.sqlite().read(move |connection| apps::get(connection, &name)).await
    }

    async fn apps(&self, page: Page) -> Result<Paged<App>, StoreError> {
        self.sqlite().read(move |connection| apps::list(connection, &page)).await
    }

    async fn delete_app(&self, name: &AppName) -> Result<(), StoreError> {
        let (folders, deleted) = (self.folders().clone(), name.clone());
        let delete = move |connection: &Connection| {
            let app = apps::existing(connection, &deleted)?;
            folders.mark_destroyed(&deleted)?;
            apps::delete(connection, &deleted)?;
            tokens::forget_app(connection, &deleted, &app.id)
        };
        let outcome = self.sqlite().write(delete).await;
        if outcome.as_ref().is_err_and(|error| !matches!(error, StoreError::UnknownApp { .. })) {
            let (folders, app) = (self.folders().clone(), name.clone());
            // If the tombstone can't be removed now, the next start removes it.
            let _ = blocking(move || folders.unmark(&app)).await;
        }
        outcome
    }

    async fn set_app_type(&self, name: &AppName, app_type: AppType, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.sqlite().write(move |connection| apps::set_type(connection, &name, app_type, at)).await
    }

    async fn set_intended(&self, name: &AppName, intended: Intended, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.sqlite().write(move |connection| apps::set_intended(connection, &name, intended, at)).await
    }

    async fn set_app_config(&self, name: &AppName, config: ConfigVars, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.sqlite().write(move |connection| apps::set_config(connection, &name, &config, at)).await
    }

    async fn set_app_cores(&self, name: &AppName, cores: CoresOverride, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.sqlite().write(move |connection| apps::set_cores(connection, &name, cores, at)).await
    }

    async fn insert_push(&self, push: NewPush) -> Result<Inserted, StoreError> {
        self.sqlite().write(move |connection| pushes::insert(connection, &push)).await
    }

    async fn sent_before(
        &self,
        app: &AppName,
        sent: Idempotency,
        now: Timestamp,
    ) -> Result<Option<Inserted>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| pushes::sent_before(connection, &app, &sent, now)).await
    }

    async fn push(&self, id: &PushId) -> Result<Option<Push>, StoreError> {
        let id = id.clone();
        self.sqlite().read(move |connection| pushes::get(connection, &id)).await
    }

    async fn pushes(&self, app: &AppName, page: Page) -> Result<Paged<Push>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| pushes::list(connection, &app, &page)).await
    }

    async fn unfinished_pushes(&self, page: Page) -> Result<Paged<Push>, StoreError> {
        self.sqlite().read(move |connection| pushes::unfinished(connection, &page)).await
    }

    async fn advance_push(
        &self,
        id: &PushId,
        event: PushEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let id = id.clone();
        self.sqlite().write(move |connection| pushes::advance(connection, &id, event, reason, at)).await
    }

    async fn complete_push(
        &self,
        id: &PushId,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let id = id.clone();
        self.sqlite()
            .write(move |connection| {
                let push = pushes::complete(connection, &id, number, at)?;
                activity::append(connection, activity)?;
                Ok(push)
            })
            .await
    }

    async fn append_push_log(&self, id: &PushId, text: &str, at: Timestamp) -> Result<bool, StoreError> {
        let (id, text) = (id.clone(), text.to_owned());
        self.sqlite().write(move |connection| pushes::append_log(connection, &id, &text, at)).await
    }

    async fn push_log(&self, id: &PushId, after: u32) -> Result<Vec<LogLine>, StoreError> {
        let id = id.clone();
        self.sqlite().read(move |connection| pushes::log(connection, &id, after)).await
    }

    async fn insert_release(&self, release: NewRelease) -> Result<Release, StoreError> {
        self.sqlite().write(move |connection| releases::insert(connection, release)).await
    }

    async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| releases::get(connection, &app, number)).await
    }

    async fn releases(&self, app: &AppName, page: Page) -> Result<Paged<ListedRelease>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| releases::list(connection, &app, &page)).await
    }

    async fn step_release(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Release, StoreError> {
        let app = app.clone();
        self.sqlite().write(move |connection| releases::step(connection, &app, number, event, reason, at)).await
    }

    async fn make_current(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        let app = app.clone();
        self.sqlite()
            .write(move |connection| {
                let app = releases::make_current(connection, &app, number, at)?;
                activity::append(connection, activity)?;
                Ok(app)
            })
            .await
    }

    async fn return_to(
        &self,
        app: &AppName,
        bad: ReleaseNumber,
        good: ReleaseNumber,
        reason: Reason,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        let app = app.clone();
        self.sqlite()
            .write(move |connection| {
                let app = releases::return_to(connection, &app, bad, good, reason, at)?;
                activity::append(connection, activity)?;
                Ok(app)
            })
            .await
    }

    async fn interrupted_releases(&self) -> Result<Vec<Release>, StoreError> {
        self.sqlite().read(releases::interrupted).await
    }

    async fn release_stamps(&self, app: &AppName) -> Result<Vec<StoredRelease>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| releases::stamps(connection, &app)).await
    }

    async fn delete_releases(&self, app: &AppName, numbers: &[ReleaseNumber]) -> Result<usize, StoreError> {
        let (app, numbers) = (app.clone(), numbers.to_owned());
        self.sqlite().write(move |connection| releases::delete(connection, &app, &numbers)).await
    }

    async fn schedule_fired(&self, app: &AppName, process: &ProcessName, at: Timestamp) -> Result<(), StoreError> {
        let (app, process) = (app.clone(), process.clone());
        self.sqlite().write(move |connection| schedules::fired(connection, &app, &process, at)).await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleFired>, StoreError> {
        self.sqlite().read(schedules::list).await
    }

    async fn usage(&self, app: &AppName, month: Month) -> Result<Option<MonthUsage>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| usage::get(connection, &app, month)).await
    }

    async fn put_usage(&self, app: &AppName, month: Month, usage: MonthUsage) -> Result<(), StoreError> {
        let app = app.clone();
        self.sqlite().write(move |connection| usage::put(connection, &app, month, &usage)).await
    }

    async fn append_activity(&self, activity: NewActivity) -> Result<Activity, StoreError> {
        self.sqlite().write(move |connection| activity::append(connection, activity)).await
    }

    async fn activity(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError> {
        let app = app.cloned();
        self.sqlite().read(move |connection| activity::list(connection, app.as_ref(), &page)).await
    }

    async fn activity_after(&self, app: Option<&AppName>, id: u64) -> Result<Vec<Activity>, StoreError> {
        let app = app.cloned();
        self.sqlite().read(move |connection| activity::after(connection, app.as_ref(), id)).await
    }

    async fn insert_token(&self, token: Token) -> Result<Token, StoreError> {
        self.sqlite().write(move |connection| tokens::insert(connection, token)).await
    }

    async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        let hash = hash.to_owned();
        self.sqlite().read(move |connection| tokens::by_hash(connection, &hash)).await
    }

    async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.sqlite().read(tokens::list).await
    }

    async fn delete_token(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.sqlite().write(move |connection| tokens::delete(connection, &name)).await
    }
}
