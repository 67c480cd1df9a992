//! The key-value stores of apps: one database each, so that no app sees, fills or slows another's. Owns which of them
//! are open. Never gives one app a path into the other's folder: the name of an app is one plain label.

mod lane;
mod tables;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use isopod_policy::AppName;
use sha2::{Digest, Sha256};

use self::lane::AppDatabase;
use crate::app_folders::AppFolders;
use crate::limits::{APPS_OPEN_MAX, BUCKET_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::{Options, StoreError};

/// The key-value stores under `apps/<app>/kv.db`. Cheap to clone.
///
/// A write is on disk when its future is ready; writes of one app that come together share one commit.
#[derive(Debug, Clone)]
pub struct KvStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folders: AppFolders,
    pages_max: Option<u32>,
    open: Mutex<OpenApps>,
}

/// Tells one value of a key from another: a digest of its bytes, or none for a key without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueVersion(pub Option<[u8; 32]>);

impl ValueVersion {
    fn of(value: Option<&[u8]>) -> Self {
        Self(value.map(|value| Sha256::digest(value).into()))
    }
}

/// The databases that are open, and when each was last asked for.
#[derive(Debug, Default)]
struct OpenApps {
    apps: HashMap<AppName, (Arc<AppDatabase>, u64)>,
    /// Counts calls, which is clock enough to find the one that was quiet for longest.
    calls: u64,
}

impl KvStore {
    /// Opens the key-value stores below a data folder.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(folder, &Options::default())
    }

    /// As [`KvStore::open`], with options.
    pub fn open_with(folder: impl AsRef<Path>, options: &Options) -> Result<Self, StoreError> {
        let folders = AppFolders::of(folder.as_ref());
        folders.open()?;
        let open = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { folders, pages_max: options.pages_max, open }) })
    }

    /// The value of a key, if it has one.
    pub async fn get(&self, app: &AppName, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.database(app).read(move |connection| tables::get(connection, &bucket, &key)).await
    }

    /// Whether a key has a value.
    pub async fn exists(&self, app: &AppName, bucket: &str, key: &str) -> Result<bool, StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.database(app).read(move |connection| tables::exists(connection, &bucket, &key)).await
    }

    /// The keys of a bucket after the cursor, in order, and the cursor that leads to the rest.
    pub async fn list_keys(
        &self,
        app: &AppName,
        bucket: &str,
        cursor: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), StoreError> {
        check_bucket(bucket)?;
        let (bucket, after) = (bucket.to_owned(), cursor.map(str::to_owned));
        self.database(app).read(move |connection| tables::keys(connection, &bucket, after.as_deref())).await
    }

    /// Gives a key a value.
    pub async fn set(&self, app: &AppName, bucket: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        check(bucket, key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(StoreError::ValueTooLarge { bytes: value.len() });
        }
        let (bucket, key, value) = (bucket.to_owned(), key.to_owned(), value.to_owned());
        self.database(app).write(move |connection| tables::set(connection, &bucket, &key, &value)).await
    }

    /// Removes a key; that it has no value is fine.
    pub async fn delete(&self, app: &AppName, bucket: &str, key: &str) -> Result<(), StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.database(app).write(move |connection| tables::delete(connection, &bucket, &key)).await
    }

    /// Adds to a number, kept as decimal text, and returns the sum; a key without a value counts as 0.
    pub async fn increment(&self, app: &AppName, bucket: &str, key: &str, delta: i64) -> Result<i64, StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.database(app).write(move |connection| tables::increment(connection, &bucket, &key, delta)).await
    }

    /// The value of a key, if it has one, and the version to pass to [`KvStore::set_if`].
    pub async fn get_versioned(
        &self,
        app: &AppName,
        bucket: &str,
        key: &str,
    ) -> Result<(Option<Vec<u8>>, ValueVersion), StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let read = move |connection: &rusqlite::Connection| {
            let value = tables::get(connection, &bucket, &key)?;
            let version = ValueVersion::of(value.as_deref());
            Ok((value, version))
        };
        self.database(app).read(read).await
    }

    /// Compare-and-swap: gives a key a value if its present one still has this version. Returns the version of the present
    /// value otherwise, and writes nothing.
    pub async fn set_if(
        &self,
        app: &AppName,
        bucket: &str,
        key: &str,
        seen: ValueVersion,
        value: &[u8],
    ) -> Result<Result<(), ValueVersion>, StoreError> {
        check(bucket, key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(StoreError::ValueTooLarge { bytes: value.len() });
        }
        let (bucket, key, value) = (bucket.to_owned(), key.to_owned(), value.to_owned());
        self.database(app).write(move |connection| tables::set_if(connection, &bucket, &key, seen, &value)).await
    }

    /// Closes the app's database and removes all that the app keeps. The app is destroyed: a later call would begin a new
    /// store. Blocks.
    pub fn remove_app(&self, app: &AppName) -> Result<(), StoreError> {
        let open = self.lock().apps.remove(app);
        if let Some((database, _)) = open {
            database.close();
        }
        if self.inner.folders.folder(app).is_dir() {
            self.inner.folders.mark_destroyed(app)?;
        }
        self.inner.folders.remove(app)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OpenApps> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The app's database, which is opened by its first call.
    fn database(&self, app: &AppName) -> Arc<AppDatabase> {
        let mut open = self.lock();
        open.calls += 1;
        let call = open.calls;
        if let Some((database, last_call)) = open.apps.get_mut(app) {
            *last_call = call;
            return database.clone();
        }
        if open.apps.len() >= APPS_OPEN_MAX {
            // Calls still under way keep it open until they are done; SQLite's own locks see to it that nobody notices.
            let quietest = open.apps.iter().min_by_key(|(_, (_, last_call))| *last_call).map(|(app, _)| app.clone());
            quietest.and_then(|app| open.apps.remove(&app));
        }
        let database = Arc::new(AppDatabase::new(self.inner.folders.folder(app), self.inner.pages_max));
        open.apps.insert(app.clone(), (database.clone(), call));
        database
    }

    #[cfg(test)]
    fn open_apps(&self) -> usize {
        self.lock().apps.len()
    }
}

fn check(bucket: &str, key: &str) -> Result<(), StoreError> {
    check_bucket(bucket)?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(StoreError::BadKey { bytes: key.len() });
    }
    Ok(())
}

fn check_bucket(bucket: &str) -> Result<(), StoreError> {
    if bucket.len() > BUCKET_BYTES_MAX {
        return Err(StoreError::BadBucket { bytes: bucket.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_so_many_databases_are_open_and_none_forgets() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let store = KvStore::open(folder.path()).expect("the store opens");
        let app = |number: usize| format!("app-{number}").parse::<AppName>().expect("the name is valid");
        for number in 0..APPS_OPEN_MAX + 6 {
            store.set(&app(number), "", "me", number.to_string().as_bytes()).await.expect("it is set");
            assert!(store.open_apps() <= APPS_OPEN_MAX);
        }
        for number in 0..APPS_OPEN_MAX + 6 {
            let found = store.get(&app(number), "", "me").await.expect("it is read");
            assert_eq!(found, Some(number.to_string().into_bytes()));
        }
    }
}
