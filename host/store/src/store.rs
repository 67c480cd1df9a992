//! The data folder as a whole. Owns the order in which its parts are opened, and what belongs together when an app is
//! created or deleted. Never works without the folder's lock.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use isopod_policy::retention::StoredRelease;
use isopod_policy::{AppName, AppType, ConfigVars, ProcessName, PushEvent, PushId, ReleaseEvent, ReleaseNumber};
use jiff::Timestamp;

use crate::files::{private_folder, remove_folder};
use crate::kv::APPS;
use crate::lock::FolderLock;
use crate::model::{
    Activity, App, Inserted, Intended, ListedRelease, LogLine, NewActivity, NewApp, NewPush, NewRelease, Push, Reason,
    Release, ScheduleFired, Token,
};
use crate::page::{Page, Paged};
use crate::sqlite::Sqlite;
use crate::usage::{Month, MonthUsage};
use crate::{Blobs, Control, Digest, KvStore, Secrets, StoreError};

/// What may be set when a store is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many pages of 4 KiB each database may have; none for as many as the disk has room for.
    pub pages_max: Option<u32>,
}

/// The data folder of a host: `control.db`, `blobs/`, `apps/` and `secrets.key`. Cheap to clone.
///
/// Its methods must be called inside a Tokio runtime. When the last clone is dropped, what waits is still written.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The fields are dropped in this order, so that the lock is let go last.
#[derive(Debug)]
struct Inner {
    control: Sqlite,
    blobs: Blobs,
    kv: KvStore,
    secrets: Secrets,
    folder: PathBuf,
    _lock: FolderLock,
}

impl Store {
    /// Opens or makes the data folder. Blocks shortly; meant for the start of a host.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(folder, &Options::default())
    }

    /// As [`Store::open`], with options.
    pub fn open_with(folder: impl AsRef<Path>, options: &Options) -> Result<Self, StoreError> {
        let folder = folder.as_ref();
        private_folder(folder)?;
        let lock = FolderLock::take(folder)?;
        let control = Sqlite::open(&folder.join("control.db"), options.pages_max)?;
        let blobs = Blobs::open(&folder.join("blobs"))?;
        let kv = KvStore::open_with(folder, options)?;
        remove_leftovers(&folder.join(APPS), &control.app_names()?)?;
        let secrets = Secrets::open(folder)?;
        Ok(Self { inner: Arc::new(Inner { control, blobs, kv, secrets, folder: folder.to_owned(), _lock: lock }) })
    }

    /// The content-addressed files.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// The digests of all bundles that a release, or a push that is not done, names: what must not be removed, here or
    /// wherever something made from a bundle is kept.
    pub async fn bundles_in_use(&self) -> Result<HashSet<Digest>, StoreError> {
        self.inner.control.bundles_in_use().await
    }

    /// Removes the blobs that are not in use and that nobody has put for `idle`, and returns how many they were. Meant
    /// to be called now and then; `idle` must be longer than it takes to put a blob and record its use.
    pub async fn remove_unused_blobs(&self, idle: Duration) -> Result<usize, StoreError> {
        let in_use = self.bundles_in_use().await?;
        self.inner.blobs.remove_unused(in_use, idle).await
    }

    /// The key-value databases of apps.
    pub fn kv(&self) -> &KvStore {
        &self.inner.kv
    }

    /// What seals the secrets among config vars.
    pub fn secrets(&self) -> &Secrets {
        &self.inner.secrets
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// The folder of all that an app keeps; it is removed together with the app. It may not exist yet.
    pub fn app_folder(&self, app: &AppName) -> PathBuf {
        self.inner.folder.join(APPS).join(app.as_str())
    }
}

/// Removes the folders of apps that are no longer there: a crash can come between an app's deletion and its folder's.
fn remove_leftovers(apps: &Path, known: &[AppName]) -> Result<(), StoreError> {
    let failed = |error| StoreError::file(apps, &error);
    for entry in fs::read_dir(apps).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !known.iter().any(|app| name == app.as_str()) {
            remove_folder(&apps.join(name))?;
        }
    }
    Ok(())
}

#[async_trait]
impl Control for Store {
    async fn create_app(&self, app: NewApp) -> Result<App, StoreError> {
        let kv = self.inner.kv.clone();
        // Should the folder of an earlier app of this name still be there, the new app must not see it.
        self.inner.control.create_app_with(app, move |name| kv.remove_app(name)).await
    }

    async fn app(&self, name: &AppName) -> Result<Option<App>, StoreError> {
        self.inner.control.app(name).await
    }

    async fn apps(&self, page: Page) -> Result<Paged<App>, StoreError> {
        self.inner.control.apps(page).await
    }

    async fn delete_app(&self, name: &AppName) -> Result<(), StoreError> {
        self.inner.control.delete_app(name).await?;
        let (kv, name) = (self.inner.kv.clone(), name.clone());
        tokio::task::spawn_blocking(move || kv.remove_app(&name)).await.map_err(|_| StoreError::Closed)?
    }

    async fn set_app_type(&self, name: &AppName, app_type: AppType, at: Timestamp) -> Result<App, StoreError> {
        self.inner.control.set_app_type(name, app_type, at).await
    }

    async fn set_intended(&self, name: &AppName, intended: Intended, at: Timestamp) -> Result<App, StoreError> {
        self.inner.control.set_intended(name, intended, at).await
    }

    async fn set_app_config(&self, name: &AppName, config: ConfigVars, at: Timestamp) -> Result<App, StoreError> {
        self.inner.control.set_app_config(name, config, at).await
    }

    async fn insert_push(&self, push: NewPush) -> Result<Inserted, StoreError> {
        self.inner.control.insert_push(push).await
    }

    async fn push(&self, id: &PushId) -> Result<Option<Push>, StoreError> {
        self.inner.control.push(id).await
    }

    async fn pushes(&self, app: &AppName, page: Page) -> Result<Paged<Push>, StoreError> {
        self.inner.control.pushes(app, page).await
    }

    async fn unfinished_pushes(&self, page: Page) -> Result<Paged<Push>, StoreError> {
        self.inner.control.unfinished_pushes(page).await
    }

    async fn advance_push(
        &self,
        id: &PushId,
        event: PushEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        self.inner.control.advance_push(id, event, reason, at).await
    }

    async fn complete_push(
        &self,
        id: &PushId,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        self.inner.control.complete_push(id, number, activity, at).await
    }

    async fn append_push_log(&self, id: &PushId, text: &str, at: Timestamp) -> Result<bool, StoreError> {
        self.inner.control.append_push_log(id, text, at).await
    }

    async fn push_log(&self, id: &PushId, after: u32) -> Result<Vec<LogLine>, StoreError> {
        self.inner.control.push_log(id, after).await
    }

    async fn insert_release(&self, release: NewRelease) -> Result<Release, StoreError> {
        self.inner.control.insert_release(release).await
    }

    async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>, StoreError> {
        self.inner.control.release(app, number).await
    }

    async fn releases(&self, app: &AppName, page: Page) -> Result<Paged<ListedRelease>, StoreError> {
        self.inner.control.releases(app, page).await
    }

    async fn step_release(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Release, StoreError> {
        self.inner.control.step_release(app, number, event, reason, at).await
    }

    async fn make_current(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        self.inner.control.make_current(app, number, activity, at).await
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
        self.inner.control.return_to(app, bad, good, reason, activity, at).await
    }

    async fn interrupted_releases(&self) -> Result<Vec<Release>, StoreError> {
        self.inner.control.interrupted_releases().await
    }

    async fn release_stamps(&self, app: &AppName) -> Result<Vec<StoredRelease>, StoreError> {
        self.inner.control.release_stamps(app).await
    }

    async fn delete_releases(&self, app: &AppName, numbers: &[ReleaseNumber]) -> Result<usize, StoreError> {
        self.inner.control.delete_releases(app, numbers).await
    }

    async fn schedule_fired(&self, app: &AppName, process: &ProcessName, at: Timestamp) -> Result<(), StoreError> {
        self.inner.control.schedule_fired(app, process, at).await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleFired>, StoreError> {
        self.inner.control.schedules().await
    }

    async fn usage(&self, app: &AppName, month: Month) -> Result<Option<MonthUsage>, StoreError> {
        self.inner.control.usage(app, month).await
    }

    async fn put_usage(&self, app: &AppName, month: Month, usage: MonthUsage) -> Result<(), StoreError> {
        self.inner.control.put_usage(app, month, usage).await
    }

    async fn append_activity(&self, activity: NewActivity) -> Result<Activity, StoreError> {
        self.inner.control.append_activity(activity).await
    }

    async fn activity(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError> {
        self.inner.control.activity(app, page).await
    }

    async fn activity_after(&self, app: Option<&AppName>, id: u64) -> Result<Vec<Activity>, StoreError> {
        self.inner.control.activity_after(app, id).await
    }

    async fn insert_token(&self, token: Token) -> Result<(), StoreError> {
        self.inner.control.insert_token(token).await
    }

    async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        self.inner.control.token(hash).await
    }

    async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.inner.control.tokens().await
    }

    async fn delete_token(&self, name: &str) -> Result<(), StoreError> {
        self.inner.control.delete_token(name).await
    }
}
