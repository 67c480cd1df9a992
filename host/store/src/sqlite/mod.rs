//! The control store in SQLite. Owns `control.db`: one thread writes, several connections read. The statements stand in
//! one file per kind of row.

mod activity;
mod apps;
mod pushes;
mod reader;
mod releases;
mod rows;
mod schedules;
mod schema;
mod tokens;
mod usage;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use isopod_policy::retention::StoredRelease;
use isopod_policy::{AppName, AppType, ConfigVars, ProcessName, PushEvent, PushId, ReleaseEvent, ReleaseNumber};
use jiff::Timestamp;
use rusqlite::Connection;

use self::rows::SqlError;
pub(crate) use self::rows::{Sql, all, connect, first};
use self::{reader::Readers, writer::Writer};
use crate::control::Control;
use crate::model::{
    Activity, App, Inserted, Intended, ListedRelease, LogLine, NewActivity, NewApp, NewPush, NewRelease, Push, Reason,
    Release, ScheduleFired, Token,
};
use crate::page::{Page, Paged};
use crate::usage::{Month, MonthUsage};
use crate::{Digest, StoreError};

/// The control store in SQLite.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
}

impl Sqlite {
    /// Opens or makes the database and brings it to the present format.
    pub(crate) fn open(path: &Path, pages_max: Option<u32>) -> Result<Self, StoreError> {
        let explain = |error: SqlError| error.explain(path);
        let mut connection = connect(path, pages_max)?;
        schema::migrate(&mut connection).map_err(explain)?;
        let writer = Writer::start(path.to_owned(), connection)?;
        Ok(Self { path: path.to_owned(), writer, readers: Readers::new(path) })
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(job).await
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.read(job).await
    }

    /// The names of all apps, read at once while the store is being opened.
    pub(crate) fn app_names(&self) -> Result<Vec<AppName>, StoreError> {
        let connection = connect(&self.path, None)?;
        apps::names(&connection).map_err(|error| error.explain(&self.path))
    }

    /// The digests of all bundles that a release, or a push that is not done, names.
    pub(crate) async fn bundles_in_use(&self) -> Result<HashSet<Digest>, StoreError> {
        self.read(releases::bundles_in_use).await
    }

    /// Creates an app and calls `fresh` inside the same transaction, so that nothing of an earlier app of this name is
    /// left.
    pub(crate) async fn create_app_with(
        &self,
        app: NewApp,
        fresh: impl FnOnce(&AppName) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<App, StoreError> {
        self.write(move |connection| {
            let app = apps::create(connection, &app)?;
            fresh(&app.name)?;
            Ok(app)
        })
        .await
    }
}

#[async_trait]
impl Control for Sqlite {
    async fn create_app(&self, app: NewApp) -> Result<App, StoreError> {
        self.create_app_with(app, |_| Ok(())).await
    }

    async fn app(&self, name: &AppName) -> Result<Option<App>, StoreError> {
        let name = name.clone();
        self.read(move |connection| apps::get(connection, &name)).await
    }

    async fn apps(&self, page: Page) -> Result<Paged<App>, StoreError> {
        self.read(move |connection| apps::list(connection, &page)).await
    }

    async fn delete_app(&self, name: &AppName) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(move |connection| apps::delete(connection, &name)).await
    }

    async fn set_app_type(&self, name: &AppName, app_type: AppType, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.write(move |connection| apps::set_type(connection, &name, app_type, at)).await
    }

    async fn set_intended(&self, name: &AppName, intended: Intended, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.write(move |connection| apps::set_intended(connection, &name, intended, at)).await
    }

    async fn set_app_config(&self, name: &AppName, config: ConfigVars, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.write(move |connection| apps::set_config(connection, &name, &config, at)).await
    }

    async fn insert_push(&self, push: NewPush) -> Result<Inserted, StoreError> {
        self.write(move |connection| pushes::insert(connection, &push)).await
    }

    async fn push(&self, id: &PushId) -> Result<Option<Push>, StoreError> {
        let id = id.clone();
        self.read(move |connection| pushes::get(connection, &id)).await
    }

    async fn pushes(&self, app: &AppName, page: Page) -> Result<Paged<Push>, StoreError> {
        let app = app.clone();
        self.read(move |connection| pushes::list(connection, &app, &page)).await
    }

    async fn unfinished_pushes(&self, page: Page) -> Result<Paged<Push>, StoreError> {
        self.read(move |connection| pushes::unfinished(connection, &page)).await
    }

    async fn advance_push(
        &self,
        id: &PushId,
        event: PushEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let id = id.clone();
        self.write(move |connection| pushes::advance(connection, &id, event, reason, at)).await
    }

    async fn complete_push(
        &self,
        id: &PushId,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let id = id.clone();
        self.write(move |connection| {
            let push = pushes::complete(connection, &id, number, at)?;
            activity::append(connection, activity)?;
            Ok(push)
        })
        .await
    }

    async fn append_push_log(&self, id: &PushId, text: &str, at: Timestamp) -> Result<bool, StoreError> {
        let (id, text) = (id.clone(), text.to_owned());
        self.write(move |connection| pushes::append_log(connection, &id, &text, at)).await
    }

    async fn push_log(&self, id: &PushId, after: u32) -> Result<Vec<LogLine>, StoreError> {
        let id = id.clone();
        self.read(move |connection| pushes::log(connection, &id, after)).await
    }

    async fn insert_release(&self, release: NewRelease) -> Result<Release, StoreError> {
        self.write(move |connection| releases::insert(connection, release)).await
    }

    async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>, StoreError> {
        let app = app.clone();
        self.read(move |connection| releases::get(connection, &app, number)).await
    }

    async fn releases(&self, app: &AppName, page: Page) -> Result<Paged<ListedRelease>, StoreError> {
        let app = app.clone();
        self.read(move |connection| releases::list(connection, &app, &page)).await
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
        self.write(move |connection| releases::step(connection, &app, number, event, reason, at)).await
    }

    async fn make_current(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        let app = app.clone();
        self.write(move |connection| {
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
        self.write(move |connection| {
            let app = releases::return_to(connection, &app, bad, good, reason, at)?;
            activity::append(connection, activity)?;
            Ok(app)
        })
        .await
    }

    async fn interrupted_releases(&self) -> Result<Vec<Release>, StoreError> {
        self.read(releases::interrupted).await
    }

    async fn release_stamps(&self, app: &AppName) -> Result<Vec<StoredRelease>, StoreError> {
        let app = app.clone();
        self.read(move |connection| releases::stamps(connection, &app)).await
    }

    async fn delete_releases(&self, app: &AppName, numbers: &[ReleaseNumber]) -> Result<usize, StoreError> {
        let (app, numbers) = (app.clone(), numbers.to_owned());
        self.write(move |connection| releases::delete(connection, &app, &numbers)).await
    }

    async fn schedule_fired(&self, app: &AppName, process: &ProcessName, at: Timestamp) -> Result<(), StoreError> {
        let (app, process) = (app.clone(), process.clone());
        self.write(move |connection| schedules::fired(connection, &app, &process, at)).await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleFired>, StoreError> {
        self.read(schedules::list).await
    }

    async fn usage(&self, app: &AppName, month: Month) -> Result<Option<MonthUsage>, StoreError> {
        let app = app.clone();
        self.read(move |connection| usage::get(connection, &app, month)).await
    }

    async fn put_usage(&self, app: &AppName, month: Month, usage: MonthUsage) -> Result<(), StoreError> {
        let app = app.clone();
        self.write(move |connection| usage::put(connection, &app, month, &usage)).await
    }

    async fn append_activity(&self, activity: NewActivity) -> Result<Activity, StoreError> {
        self.write(move |connection| activity::append(connection, activity)).await
    }

    async fn activity(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError> {
        let app = app.cloned();
        self.read(move |connection| activity::list(connection, app.as_ref(), &page)).await
    }

    async fn activity_after(&self, app: Option<&AppName>, id: u64) -> Result<Vec<Activity>, StoreError> {
        let app = app.cloned();
        self.read(move |connection| activity::after(connection, app.as_ref(), id)).await
    }

    async fn insert_token(&self, token: Token) -> Result<(), StoreError> {
        self.write(move |connection| tokens::insert(connection, &token)).await
    }

    async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        let hash = hash.to_owned();
        self.read(move |connection| tokens::by_hash(connection, &hash)).await
    }

    async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.read(tokens::list).await
    }

    async fn delete_token(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write(move |connection| tokens::delete(connection, &name)).await
    }
}
