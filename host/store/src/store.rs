//! The data folder as a whole. Owns the order in which its parts are opened. Never works without the folder's lock. What
//! it remembers of apps is asked of it by [`Control`](crate::Control).

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isopod_policy::AppName;

use crate::files::{blocking, private_folder, remove_folder};
use crate::kv::APPS;
use crate::lock::FolderLock;
use crate::sqlite::Sqlite;
use crate::{Blobs, Digest, KvStore, Secrets, StoreError};

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
    sqlite: Sqlite,
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
        let sqlite = Sqlite::open(&folder.join("control.db"), options.pages_max)?;
        let blobs = Blobs::open(&folder.join("blobs"))?;
        let kv = KvStore::open_with(folder, options)?;
        remove_leftovers(&folder.join(APPS), &sqlite.app_names()?)?;
        let secrets = Secrets::open(folder)?;
        Ok(Self { inner: Arc::new(Inner { sqlite, blobs, kv, secrets, folder: folder.to_owned(), _lock: lock }) })
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

    /// Removes the folder of a deleted app with all that its guests kept. Nobody may reach for its key-value data any more.
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
