//! A control store in memory, for tests and for hosts without a data folder. Owns plain maps behind
//! one lock, with one file of operations per kind of row, as for SQLite. Passes the same contract
//! as the durable store. Never writes to disk.

mod activity;
mod apps;
mod pushes;
mod releases;
mod rows;
mod schedules;
mod tokens;
mod usage;

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use isopod_policy::retention::StoredRelease;
use isopod_policy::{
    AppName, AppType, ConfigVars, CoresOverride, ProcessName, PushEvent, PushId, ReleaseEvent, ReleaseNumber,
};
use jiff::Timestamp;

use self::rows::Rows;
use crate::model::{
    Activity, App, Idempotency, Inserted, Intended, ListedRelease, LogLine, NewActivity, NewApp, NewPush, NewRelease,
    Push, Reason, Release, ScheduleFired, Token,
};
use crate::page::{Page, Paged};
use crate::usage::{Month, MonthUsage};
use crate::{Control, StoreError};

/// A control store in memory.
#[derive(Debug, Default)]
pub struct Memory {
    rows: Mutex<Rows>,
}

impl Memory {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Control for Memory {
    async fn create_app(&self, app: NewApp) -> Result<App, StoreError> {
        self.rows().create_app(app)
    }

    async fn app(&self, name: &AppName) -> Result<Option<App>, StoreError> {
        Ok(self.rows().apps.get(name).cloned())
    }

    async fn apps(&self, page: Page) -> Result<Paged<App>, StoreError> {
        Ok(self.rows().list_apps(&page))
    }

    async fn delete_app(&self, name: &AppName) -> Result<(), StoreError> {
        self.rows().delete_app(name)
    }

    async fn set_app_type(&self, name: &AppName, app_type: AppType, at: Timestamp) -> Result<App, StoreError> {
        self.rows().change_app(name, at, |app| app.app_type = app_type)
    }

    async fn set_intended(&self, name: &AppName, intended: Intended, at: Timestamp) -> Result<App, StoreError> {
        self.rows().change_app(name, at, |app| app.intended = intended)
    }

    async fn set_app_config(&self, name: &AppName, config: ConfigVars, at: Timestamp) -> Result<App, StoreError> {
        self.rows().change_app(name, at, |app| app.config = config)
    }

    async fn set_app_cores(&self, name: &AppName, cores: CoresOverride, at: Timestamp) -> Result<App, StoreError> {
        self.rows().change_app(name, at, |app| app.cores = cores)
    }

    async fn insert_push(&self, push: NewPush) -> Result<Inserted, StoreError> {
        self.rows().insert_push(push)
    }

    async fn sent_before(
        &self,
        app: &AppName,
        sent: Idempotency,
        now: Timestamp,
    ) -> Result<Option<Inserted>, StoreError> {
        self.rows().sent_before(app, &sent, now)
    }

    async fn push(&self, id: &PushId) -> Result<Option<Push>, StoreError> {
        Ok(self.rows().push(id).ok().map(|row| row.push.clone()))
    }

    async fn pushes(&self, app: &AppName, page: Page) -> Result<Paged<Push>, StoreError> {
        self.rows().list_pushes(app, &page)
    }

    async fn unfinished_pushes(&self, page: Page) -> Result<Paged<Push>, StoreError> {
        self.rows().unfinished_pushes(&page)
    }

    async fn advance_push(
        &self,
        id: &PushId,
        event: PushEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        self.rows().advance_push(id, event, reason, at)
    }

    async fn complete_push(
        &self,
        id: &PushId,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        self.rows().complete_push(id, number, activity, at)
    }

    async fn append_push_log(&self, id: &PushId, text: &str, at: Timestamp) -> Result<bool, StoreError> {
        self.rows().append_push_log(id, text, at)
    }

    async fn push_log(&self, id: &PushId, after: u32) -> Result<Vec<LogLine>, StoreError> {
        self.rows().push_log(id, after)
    }

    async fn insert_release(&self, release: NewRelease) -> Result<Release, StoreError> {
        self.rows().insert_release(release)
    }

    async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>, StoreError> {
        Ok(self.rows().releases.get(&(app.clone(), number)).cloned())
    }

    async fn releases(&self, app: &AppName, page: Page) -> Result<Paged<ListedRelease>, StoreError> {
        self.rows().list_releases(app, &page)
    }

    async fn step_release(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Release, StoreError> {
        self.rows().step_release(app, number, event, reason, at)
    }

    async fn make_current(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        self.rows().make_current(app, number, activity, at)
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
        self.rows().return_to(app, bad, good, reason, activity, at)
    }

    async fn interrupted_releases(&self) -> Result<Vec<Release>, StoreError> {
        Ok(self.rows().interrupted_releases())
    }

    async fn release_stamps(&self, app: &AppName) -> Result<Vec<StoredRelease>, StoreError> {
        Ok(self.rows().release_stamps(app))
    }

    async fn delete_releases(&self, app: &AppName, numbers: &[ReleaseNumber]) -> Result<usize, StoreError> {
        self.rows().delete_releases(app, numbers)
    }

    async fn schedule_fired(&self, app: &AppName, process: &ProcessName, at: Timestamp) -> Result<(), StoreError> {
        self.rows().schedule_fired(app, process, at)
    }

    async fn schedules(&self) -> Result<Vec<ScheduleFired>, StoreError> {
        Ok(self.rows().schedules.values().cloned().collect())
    }

    async fn usage(&self, app: &AppName, month: Month) -> Result<Option<MonthUsage>, StoreError> {
        Ok(self.rows().usage.get(&(app.clone(), month)).cloned())
    }

    async fn put_usage(&self, app: &AppName, month: Month, usage: MonthUsage) -> Result<(), StoreError> {
        self.rows().put_usage(app, month, usage)
    }

    async fn append_activity(&self, activity: NewActivity) -> Result<Activity, StoreError> {
        Ok(self.rows().append_activity(activity))
    }

    async fn activity(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError> {
        self.rows().list_activity(app, &page)
    }

    async fn activity_after(&self, app: Option<&AppName>, id: u64) -> Result<Vec<Activity>, StoreError> {
        Ok(self.rows().activity_after(app, id))
    }

    async fn insert_token(&self, token: Token) -> Result<Token, StoreError> {
        self.rows().insert_token(token)
    }

    async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        Ok(self.rows().tokens.values().find(|token| token.hash == hash).cloned())
    }

    async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        Ok(self.rows().tokens.values().cloned().collect())
    }

    async fn delete_token(&self, name: &str) -> Result<(), StoreError> {
        self.rows().delete_token(name)
    }
}
