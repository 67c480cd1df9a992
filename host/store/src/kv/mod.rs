//! The key-value stores of apps: one database each, so that apps can't read, fill or slow each
//! other's. Owns the set of open databases. Never gives an app a path into another app's folder: an
//! app's name is a single label.

mod closer;
mod lane;
mod tables;
mod version;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use isopod_policy::AppName;
use tokio::sync::Semaphore;

pub use self::version::ValueVersion;

use self::closer::Closer;
use self::lane::{AppDatabase, Shared};
use crate::app_folders::AppFolders;
use crate::data_record::DataRecord;
use crate::limits::{
    APPS_CLOSING_MAX, APPS_OPEN_MAX, BUCKET_BYTES_MAX, KEY_BYTES_MAX, KEY_VALUE_CALLS_MAX, KEY_VALUE_THREADS,
    VALUE_BYTES_MAX,
};
use crate::workers::Workers;
use crate::{Options, StoreError};

/// The key-value stores at `apps/<app>/kv.db`. Cheap to clone.
///
/// A write is on disk when its future is ready. Concurrent writes of one app share a commit.
#[derive(Debug, Clone)]
pub struct KvStore {
    inner: Arc<Inner>,
}

/// The fields are dropped in this order: calls complete before databases are closed.
#[derive(Debug)]
struct Inner {
    folders: AppFolders,
    shared: Shared,
    _workers: Workers,
    open: Mutex<OpenApps>,
    /// One permit for each database that is open or being closed.
    slots: Arc<Semaphore>,
    _closer: Closer,
}

/// The open databases, with the number of their last call.
#[derive(Debug, Default)]
struct OpenApps {
    apps: HashMap<AppName, (Arc<AppDatabase>, u64)>,
    /// Counts calls: a logical clock for finding the least recently used database.
    calls: u64,
}

impl OpenApps {
    /// Returns the app's database if it is open, and marks it as recently used.
    fn used(&mut self, app: &AppName) -> Option<Arc<AppDatabase>> {
        self.calls += 1;
        let (database, last_call) = self.apps.get_mut(app)?;
        *last_call = self.calls;
        Some(database.clone())
    }

    /// Removes the least recently used database.
    fn take_quietest(&mut self) -> Option<Arc<AppDatabase>> {
        let quietest = self.apps.iter().min_by_key(|(_, (_, last_call))| *last_call).map(|(app, _)| app.clone())?;
        self.apps.remove(&quietest).map(|(database, _)| database)
    }
}

impl KvStore {
    /// Opens the key-value stores below a data folder.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(folder, &Options::default())
    }

    /// Opens the key-value stores like [`KvStore::open`], with options.
    pub fn open_with(folder: impl AsRef<Path>, options: &Options) -> Result<Self, StoreError> {
        let folders = AppFolders::of(folder.as_ref());
        let (record, _) = DataRecord::new(folders.clone(), BTreeMap::new(), Weak::new());
        Self::open_recording(folder.as_ref(), options, folders, Arc::new(record))
    }

    /// Opens the key-value stores like [`KvStore::open_with`], with the record of app data.
    pub(crate) fn open_recording(
        folder: &Path,
        options: &Options,
        folders: AppFolders,
        record: Arc<DataRecord>,
    ) -> Result<Self, StoreError> {
        folders.open()?;
        let failed = |error| StoreError::file(folder, &error);
        let workers = Workers::start("isopod-kv", KEY_VALUE_THREADS, KEY_VALUE_CALLS_MAX, folder)?;
        let closer = Closer::start().map_err(failed)?;
        let (workers_handle, closer_handle) = (workers.handle(), closer.handle());
        let shared = Shared { pages_max: options.pages_max, workers: workers_handle, closer: closer_handle, record };
        let slots = Arc::new(Semaphore::new(APPS_OPEN_MAX + APPS_CLOSING_MAX));
        let inner = Inner { folders, shared, _workers: workers, open: Mutex::default(), slots, _closer: closer };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the value of a key, if it has one.
    pub async fn get(&self, app: &AppName, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.database(app).await?.read(move |connection| tables::get(connection, &bucket, &key)).await
    }

    /// Returns whether a key has a value.
    pub async fn exists(&self, app: &AppName, bucket: &str, key: &str) -> Result<bool, StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.database(app).await?.read(move |connection| tables::exists(connection, &bucket, &key)).await
    }

    /// Returns the keys of a bucket after the cursor, in order, and the cursor for the next page.
    pub async fn list_keys(
        &self,
        app: &AppName,
        bucket: &str,
        cursor: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), StoreError> {
        check_bucket(bucket)?;
        let (bucket, after) = (bucket.to_owned(), cursor.map(str::to_owned));
        self.database(app).await?.read(move |connection| tables::keys(connection, &bucket, after.as_deref())).await
    }

    /// Sets the value of a key.
    pub async fn set(&self, app: &AppName, bucket: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        check(bucket, key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(StoreError::ValueTooLarge { bytes: value.len() });
        }
        let (bucket, key, value) = (bucket.to_owned(), key.to_owned(), value.to_owned());
        self.database(app).await?.write(move |connection| tables::set(connection, &bucket, &key, &value)).await
    }

    /// Removes a key. A key without a value is not an error.
    pub async fn delete(&self, app: &AppName, bucket: &str, key: &str) -> Result<(), StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.database(app).await?.write(move |connection| tables::delete(connection, &bucket, &key)).await
    }

    /// Adds to a number, stored as decimal text, and returns the sum. A key without a value counts
    /// as 0.
    pub async fn increment(&self, app: &AppName, bucket: &str, key: &str, delta: i64) -> Result<i64, StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.database(app).await?.write(move |connection| tables::increment(connection, &bucket, &key, delta)).await
    }

    /// Returns the value of a key, if it has one, and the version to pass to [`KvStore::set_if`].
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
        self.database(app).await?.read(read).await
    }

    /// Sets a key (compare-and-swap) if its value still has this version. Otherwise returns the
    /// version of the current value, and writes nothing.
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
        self.database(app).await?.write(move |connection| tables::set_if(connection, &bucket, &key, seen, &value)).await
    }

    /// Closes the app's database and removes all its data. For a destroyed app: a later call would
    /// create a new database. Blocks.
    pub fn remove_app(&self, app: &AppName) -> Result<(), StoreError> {
        let open = self.lock().apps.remove(app);
        if let Some((database, _)) = open {
            database.close();
        }
        self.inner.shared.record.forget(app);
        if self.inner.folders.folder(app).is_dir() {
            self.inner.folders.mark_destroyed(app)?;
        }
        self.inner.folders.remove(app)
    }

    /// Reports data that apps lost since the last check. Blocks.
    pub(crate) fn look_for_losses(&self) {
        let open: Vec<_> = self.lock().apps.values().map(|(database, _)| database.clone()).collect();
        for database in open {
            database.leave_lost_file();
        }
        self.inner.shared.record.look();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OpenApps> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the app's database, opening it for the first call. Waits if too many databases are
    /// being closed.
    async fn database(&self, app: &AppName) -> Result<Arc<AppDatabase>, StoreError> {
        if let Some(database) = self.lock().used(app) {
            return Ok(database);
        }
        let slot = self.inner.slots.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let mut open = self.lock();
        // Another call may have opened it first.
        if let Some(database) = open.used(app) {
            return Ok(database);
        }
        // Running calls keep it open until they complete. SQLite's locks order them with calls on
        // the next connection.
        let evicted = if open.apps.len() >= APPS_OPEN_MAX { open.take_quietest() } else { None };
        let (folders, shared) = (self.inner.folders.clone(), self.inner.shared.clone());
        let database = Arc::new(AppDatabase::new(folders, app.clone(), shared, slot));
        let last_call = open.calls;
        open.apps.insert(app.clone(), (database.clone(), last_call));
        drop(open);
        drop(evicted);
        Ok(database)
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
    use crate::limits::CALLS_WAITING_MAX;

    #[tokio::test]
    async fn the_number_of_open_databases_is_bounded_and_no_value_is_lost() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let store = KvStore::open(folder.path()).expect("the store opens");
        let app = |number: usize| format!("app-{number}").parse::<AppName>().expect("the name is valid");
        for number in 0..APPS_OPEN_MAX + 6 {
            store.set(&app(number), "", "me", number.to_string().as_bytes()).await.expect("the key is set");
            assert!(store.open_apps() <= APPS_OPEN_MAX);
        }
        for number in 0..APPS_OPEN_MAX + 6 {
            let found = store.get(&app(number), "", "me").await.expect("it is read");
            assert_eq!(found, Some(number.to_string().into_bytes()));
        }
    }

    fn app(number: usize) -> AppName {
        format!("app-{number}").parse().expect("the name is valid")
    }

    /// A call that evicts another app's database doesn't wait for its checkpoint, unless the
    /// maximum number of databases is being closed.
    #[tokio::test]
    async fn evicted_databases_are_closed_on_the_closer_thread() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let store = KvStore::open(folder.path()).expect("the store opens");
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        store.inner.shared.closer.hold(held);
        for number in 0..APPS_OPEN_MAX + APPS_CLOSING_MAX {
            store.set(&app(number), "", "me", b"here").await.expect("the key is set");
        }
        assert_eq!((store.open_apps(), store.inner.slots.available_permits()), (APPS_OPEN_MAX, 0));
        let journal = folder.path().join("apps/app-0/kv.db-wal");
        assert!(journal.exists(), "the database is not closed yet");
        let next = app(APPS_OPEN_MAX + APPS_CLOSING_MAX);
        let mut opening = Box::pin(store.set(&next, "", "me", b"here"));
        assert!(futures::poll!(&mut opening).is_pending());
        drop(release);
        opening.await.expect("a slot becomes free once a database is closed");
        assert!(!journal.exists(), "closing the database made its checkpoint");
        assert_eq!(store.get(&app(0), "", "me").await, Ok(Some(b"here".to_vec())));
    }

    #[tokio::test]
    async fn a_panicking_call_does_not_affect_other_calls() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let store = KvStore::open(folder.path()).expect("the store opens");
        let injected = StoreError::Panicked { detail: "injected".to_owned() };
        for _ in 0..2 * KEY_VALUE_THREADS {
            let database = || async { store.database(&app(1)).await.expect("it opens") };
            let panics = |_: &rusqlite::Connection| -> crate::sql::Sql<()> { panic!("injected") };
            assert_eq!(database().await.read(panics).await, Err(injected.clone()));
            assert_eq!(database().await.write(panics).await, Err(injected.clone()));
        }
        for number in [1, 2] {
            store.set(&app(number), "", "me", b"here").await.expect("the key is set");
            assert_eq!(store.get(&app(number), "", "me").await, Ok(Some(b"here".to_vec())));
        }
    }

    /// An app uses at most one thread for its reads and one for its writes.
    #[tokio::test]
    async fn an_app_with_slow_calls_leaves_threads_for_other_apps() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let store = KvStore::open(folder.path()).expect("the store opens");
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let held = Arc::new(Mutex::new(held));
        let database = store.database(&app(1)).await.expect("it opens");
        let slow = (0..CALLS_WAITING_MAX).map(|_| {
            let held = held.clone();
            database.clone().read(move |_| {
                let _released = held.lock().map(|held| held.recv());
                Ok(())
            })
        });
        let mut slow = Box::pin(futures::future::join_all(slow));
        assert!(futures::poll!(&mut slow).is_pending());
        store.set(&app(2), "", "me", b"here").await.expect("the key is set");
        assert_eq!(store.get(&app(2), "", "me").await, Ok(Some(b"here".to_vec())));
        drop(release);
        assert!(slow.await.into_iter().all(|read| read == Ok(())));
    }
}
