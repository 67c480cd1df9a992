//! The data folder as a whole. Owns the order in which its parts are opened. Never works without the folder's lock. What
//! it remembers of apps is asked of it by [`Control`](crate::Control).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isopod_policy::AppName;
use jiff::Timestamp;

use crate::app_folders::{AppFolders, FolderReport};
use crate::files::{blocking, private_folder};
use crate::identity::{self, Evidence};
use crate::lock::FolderLock;
use crate::sqlite::Sqlite;
use crate::{Blobs, Digest, KvStore, Secrets, StoreError, SweptBlobs};

/// What may be set when a store is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many pages of 4 KiB each database may have; none for as many as the disk has room for.
    pub pages_max: Option<u32>,
    /// Whether to open a folder that its `control.db` does not match. Nothing is deleted: entries
    /// that no app owns are moved to `lost+found/`.
    pub adopt: bool,
}

/// The data folder of a host: `control.db`, `data.id`, `blobs/`, `apps/`, `lost+found/` and `secrets.key`. Cheap to clone.
///
/// Its methods must be called inside a Tokio runtime. When the last clone is dropped, what waits is still written.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The fields are dropped in this order, so that the lock is let go last.
#[derive(Debug)]
struct Inner {
    sqlite: Sqlite,
    blobs: Blobs,
    kv: KvStore,
    secrets: Secrets,
    folder: PathBuf,
    folders: AppFolders,
    report: FolderReport,
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
        let folders = AppFolders::of(folder);
        let database = folder.join("control.db");
        if !database.exists() && !options.adopt {
            // Checked before a database is created, so that a refusal leaves no `control.db`
            // behind.
            check(folder, &folders, None, &[])?;
        }
        let sqlite = Sqlite::open(&database, options.pages_max)?;
        let blobs = Blobs::open(&folder.join("blobs"))?;
        let report = settle(folder, &folders, &sqlite, &blobs, options)?;
        let kv = KvStore::open_with(folder, options)?;
        let secrets = Secrets::open(folder)?;
        let folder = folder.to_owned();
        Ok(Self { inner: Arc::new(Inner { sqlite, blobs, kv, secrets, folder, folders, report, _lock: lock }) })
    }

    /// The result of checking app folders when the data folder was opened.
    pub fn folder_report(&self) -> &FolderReport {
        &self.inner.report
    }

    pub(crate) fn folders(&self) -> &AppFolders {
        &self.inner.folders
    }

    pub(crate) fn sqlite(&self) -> &Sqlite {
        &self.inner.sqlite
    }

    /// The content-addressed files.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// The digests of all bundles that a release, or a push that is not done, names: what must not be removed, here or
    /// wherever something made from a bundle is kept.
    pub async fn bundles_in_use(&self) -> Result<HashSet<Digest>, StoreError> {
        self.inner.sqlite.bundles_in_use().await
    }

    /// Stores the bytes as a blob, and records that this database put it.
    pub async fn put_blob(&self, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<Digest, StoreError> {
        let (bytes, digest) = blocking(move || {
            let digest = Digest::of(bytes.as_ref());
            Ok((bytes, digest))
        })
        .await?;
        // First, so that a crash leaves no blob that would be taken for another database's.
        self.inner.sqlite.remember_blobs(vec![digest]).await?;
        self.inner.blobs.put(bytes).await
    }

    /// Removes the blobs that this database put, that are not in use and that were not put again for `idle`. Unused blobs
    /// that it did not put are moved to `lost+found/`. Meant to be called now and then; `idle` must be longer than it takes
    /// to put a blob and record its use.
    pub async fn sweep_blobs(&self, idle: Duration) -> Result<SweptBlobs, StoreError> {
        let (put, in_use) = (self.inner.sqlite.blobs_put().await?, self.bundles_in_use().await?);
        let swept = self.inner.blobs.sweep(in_use, put, idle, self.inner.folders.lost_blobs()).await?;
        if !swept.removed.is_empty() {
            self.inner.sqlite.forget_blobs(swept.removed.clone()).await?;
        }
        Ok(swept)
    }

    /// The key-value databases of apps.
    pub fn kv(&self) -> &KvStore {
        &self.inner.kv
    }

    /// What seals the secrets among config vars.
    pub fn secrets(&self) -> &Secrets {
        &self.inner.secrets
    }

    /// Removes the folder of a deleted app with all that its guests kept. Its key-value data must not be used any more.
    /// Should the host end before this is done, the next start does it.
    pub async fn remove_data(&self, app: &AppName) -> Result<(), StoreError> {
        let (kv, app) = (self.kv().clone(), app.clone());
        blocking(move || kv.remove_app(&app)).await
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// The folder of all that an app keeps; it is removed together with the app. It may not exist yet.
    pub fn app_folder(&self, app: &AppName) -> PathBuf {
        self.inner.folders.folder(app)
    }
}

/// Refuses a database that does not match the folder.
fn check(folder: &Path, folders: &AppFolders, id: Option<&str>, listed: &[AppName]) -> Result<(), StoreError> {
    let survey = folders.survey(listed, id.is_none())?;
    let in_file = identity::read(folder)?;
    let listed = listed.len();
    Evidence { folder, in_database: id, in_file: in_file.as_deref(), listed, survey: &survey }.check()
}

/// Checks that the database matches the folder, assigns both an id if they have none, and
/// reconciles the app folders with the database.
fn settle(
    folder: &Path,
    folders: &AppFolders,
    sqlite: &Sqlite,
    blobs: &Blobs,
    options: &Options,
) -> Result<FolderReport, StoreError> {
    let (id, listed) = (sqlite.folder_id()?, sqlite.app_names()?);
    if !options.adopt {
        check(folder, folders, id.as_deref(), &listed)?;
    }
    let without_id = id.is_none();
    let in_file = identity::read(folder).or_else(|error| if options.adopt { Ok(None) } else { Err(error) })?;
    let id = match id {
        Some(id) => id,
        // The database first: a crash in between leaves one without a file, never a file without one.
        // A version that had no ids remembered no blobs either. Those of a folder that had an id are another database's.
        None => {
            let blobs = if in_file.is_none() { blobs.all()? } else { Vec::new() };
            sqlite.set_folder_id(in_file.clone().unwrap_or_else(identity::new_id), &blobs)?
        }
    };
    if in_file.as_ref() != Some(&id) {
        identity::write(folder, &id)?;
    }
    let survey = folders.survey(&listed, without_id)?;
    let mut report = folders.settle(survey, Timestamp::now())?;
    if without_id {
        // They may never have had one.
        report.missing.clear();
    }
    Ok(report)
}
