//! The databases of apps: one file each with the app's key-value entries and events, so that apps
//! can't read, fill or slow each other's, and both commit together. Owns the set of open databases.
//! Never gives an app a path into another app's folder: an app's name is a single label.

mod checker;
mod closer;
mod damage;
mod health;
mod journal;
mod lane;
mod rescue;
mod resync;
mod schema;
mod shrink;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use isopod_policy::AppName;
use tokio::sync::Semaphore;

use self::checker::Checker;
use self::closer::Closer;
use self::lane::Shared;
use crate::app_folders::AppFolders;
use crate::boot::Boot;
use crate::data_record::DataRecord;
use crate::limits::{APP_DATABASE_CALLS_MAX, APP_DATABASE_THREADS, APPS_CLOSING_MAX, APPS_OPEN_MAX};
use crate::loss::KEY_VALUE;
use crate::workers::Workers;
use crate::{Options, StoreError};

pub(crate) use self::damage::finish as finish_replacement;
pub(crate) use self::lane::AppDatabase;
pub(crate) use self::rescue::CopyRows;
pub(crate) use self::schema::{FORMAT, format_of};
pub(crate) use self::shrink::shrink;

/// The databases at `apps/<app>/kv.db`. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AppDatabases {
    inner: Arc<Inner>,
}

/// The fields are dropped in this order: calls complete before databases are closed.
#[derive(Debug)]
struct Inner {
    folders: AppFolders,
    shared: Shared,
    _workers: Workers,
    _checker: Checker,
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
    /// The value of `calls` when idle databases were last closed.
    calls_before: u64,
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

    /// Removes the databases without a call since the last removal.
    fn take_idle(&mut self) -> Vec<Arc<AppDatabase>> {
        let before = std::mem::replace(&mut self.calls_before, self.calls);
        let is_idle = |_: &AppName, (_, last_call): &mut (Arc<AppDatabase>, u64)| *last_call <= before;
        self.apps.extract_if(is_idle).map(|(_, (database, _))| database).collect()
    }
}

impl AppDatabases {
    /// Opens the databases below a data folder, without a record of app data.
    pub(crate) fn open(folder: &Path, options: &Options, copy_rows: CopyRows) -> Result<Self, StoreError> {
        let folders = AppFolders::of(folder);
        let (record, _) = DataRecord::new(folders.clone(), BTreeMap::new(), Weak::new());
        Self::open_recording(folder, options, folders, Arc::new(record), copy_rows)
    }

    /// Opens the databases below a data folder, and records app data.
    pub(crate) fn open_recording(
        folder: &Path,
        options: &Options,
        folders: AppFolders,
        record: Arc<DataRecord>,
        copy_rows: CopyRows,
    ) -> Result<Self, StoreError> {
        folders.open()?;
        let failed = |error| StoreError::file(folder, &error);
        let workers = Workers::start("isopod-kv", APP_DATABASE_THREADS, APP_DATABASE_CALLS_MAX, folder)?;
        let closer = Closer::start().map_err(failed)?;
        let checker = Checker::start().map_err(failed)?;
        let (workers_handle, closer_handle) = (workers.handle(), closer.handle());
        let shared = Shared {
            pages_max: options.pages_max,
            workers: workers_handle,
            closer: closer_handle,
            record,
            checker: checker.handle(),
            health: Arc::default(),
            boot: Boot::open(folder),
            copy_rows,
        };
        let slots = Arc::new(Semaphore::new(APPS_OPEN_MAX + APPS_CLOSING_MAX));
        let open = Mutex::default();
        let inner = Inner { folders, shared, _workers: workers, _checker: checker, open, slots, _closer: closer };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the app's database like [`AppDatabases::database`], unless it has none.
    pub(crate) async fn existing(&self, app: &AppName) -> Result<Option<Arc<AppDatabase>>, StoreError> {
        if let Some(database) = self.lock().used(app) {
            return Ok(Some(database));
        }
        if self.path(app).exists() { self.database(app).await.map(Some) } else { Ok(None) }
    }

    /// Returns whether the app's database is open.
    pub(crate) fn is_open(&self, app: &AppName) -> bool {
        self.lock().apps.contains_key(app)
    }

    /// Returns the path of the app's database.
    pub(crate) fn path(&self, app: &AppName) -> PathBuf {
        self.inner.folders.folder(app).join(KEY_VALUE)
    }

    /// Returns whether a closed database has a journal. If the journal is damaged, the database is
    /// replaced before its next call. Must be called before the database is opened.
    pub(crate) fn check_journal(&self, app: &AppName) -> Result<bool, StoreError> {
        let path = self.path(app);
        self.inner.shared.check_journal(app, &path)?;
        Ok(journal::journal_of(&path).exists())
    }

    /// Returns the apps with a folder.
    pub(crate) fn apps(&self) -> Result<Vec<AppName>, StoreError> {
        self.inner.folders.apps()
    }

    /// Closes the app's database and removes all its data. Intended for a destroyed app, since a
    /// later call would create a new database. Blocks.
    pub(crate) fn remove_app(&self, app: &AppName) -> Result<(), StoreError> {
        let open = self.lock().apps.remove(app);
        if let Some((database, _)) = open {
            database.close();
        }
        self.inner.shared.record.forget(app);
        self.inner.shared.health.forget(app);
        if self.inner.folders.folder(app).is_dir() {
            self.inner.folders.mark_destroyed(app)?;
        }
        self.inner.folders.remove(app)
    }

    /// Reports data that apps lost since the last check, and closes the databases without a call
    /// since then. Blocks.
    pub(crate) fn look_for_losses(&self) {
        let open: Vec<_> = self.lock().apps.values().map(|(database, _)| database.clone()).collect();
        for database in open {
            database.leave_lost_file();
        }
        self.inner.shared.record.look();
        let idle = self.lock().take_idle();
        drop(idle);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OpenApps> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the app's database, opening it for the first call. Waits if too many databases are
    /// being closed.
    pub(crate) async fn database(&self, app: &AppName) -> Result<Arc<AppDatabase>, StoreError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KvStore;
    use crate::limits::CALLS_WAITING_MAX;
    use crate::sql::Durability;

    fn open(folder: &tempfile::TempDir) -> (AppDatabases, KvStore) {
        let databases = AppDatabases::open(folder.path(), &Options::default(), crate::rescue::copy_rows)
            .expect("the databases open");
        (databases.clone(), KvStore::of(databases))
    }

    #[tokio::test]
    async fn the_number_of_open_databases_is_bounded_and_no_value_is_lost() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (databases, store) = open(&folder);
        let app = |number: usize| format!("app-{number}").parse::<AppName>().expect("the name is valid");
        for number in 0..APPS_OPEN_MAX + 6 {
            store.set(&app(number), "", "me", number.to_string().as_bytes()).await.expect("the key is set");
            assert!(databases.open_apps() <= APPS_OPEN_MAX);
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
        let (databases, store) = open(&folder);
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        databases.inner.shared.closer.hold(held);
        for number in 0..APPS_OPEN_MAX + APPS_CLOSING_MAX {
            store.set(&app(number), "", "me", b"here").await.expect("the key is set");
        }
        assert_eq!((databases.open_apps(), databases.inner.slots.available_permits()), (APPS_OPEN_MAX, 0));
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
    async fn a_database_without_calls_between_two_checks_is_closed() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (databases, store) = open(&folder);
        for number in [1, 2] {
            store.set(&app(number), "", "me", b"here").await.expect("the key is set");
        }
        databases.look_for_losses();
        assert_eq!(databases.open_apps(), 2, "both were used since the start");
        assert_eq!(store.get(&app(1), "", "me").await, Ok(Some(b"here".to_vec())));
        databases.look_for_losses();
        assert!(databases.is_open(&app(1)) && !databases.is_open(&app(2)));
        assert_eq!(store.get(&app(2), "", "me").await, Ok(Some(b"here".to_vec())));
    }

    #[tokio::test]
    async fn a_panicking_call_does_not_affect_other_calls() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (databases, store) = open(&folder);
        let injected = StoreError::Panicked { detail: "injected".to_owned() };
        for _ in 0..2 * APP_DATABASE_THREADS {
            let database = || async { databases.database(&app(1)).await.expect("it opens") };
            let panics = |_: &rusqlite::Connection| -> crate::sql::Sql<()> { panic!("injected") };
            assert_eq!(database().await.read(panics).await, Err(injected.clone()));
            assert_eq!(database().await.write(panics).await, Err(injected.clone()));
        }
        for number in [1, 2] {
            store.set(&app(number), "", "me", b"here").await.expect("the key is set");
            assert_eq!(store.get(&app(number), "", "me").await, Ok(Some(b"here".to_vec())));
        }
    }

    /// Unsynced writes wait for the disk only if a synced write is in their group.
    #[tokio::test]
    async fn a_commit_is_synced_if_one_of_its_writes_asks_for_it() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (databases, store) = open(&folder);
        store.set(&app(1), "", "me", b"here").await.expect("the key is set");
        let database = databases.database(&app(1)).await.expect("it opens");
        let level = |durability| {
            let level = |connection: &rusqlite::Connection| -> crate::sql::Sql<i64> {
                Ok(connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?)
            };
            database.clone().write_with(durability, level)
        };
        let (normal, full) = (1, 2);
        assert_eq!(level(Durability::Unsynced).await, Ok(normal));
        assert_eq!(level(Durability::Synced).await, Ok(full));
        assert_eq!(level(Durability::Unsynced).await, Ok(normal));
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let hold = move |_: &rusqlite::Connection| {
            let _released = held.recv();
            Ok(())
        };
        let mut holding = Box::pin(database.clone().write(hold));
        assert!(futures::poll!(&mut holding).is_pending());
        let group = [Durability::Unsynced, Durability::Synced, Durability::Unsynced].map(level);
        let mut group = Box::pin(futures::future::join_all(group));
        assert!(futures::poll!(&mut group).is_pending());
        drop(release);
        holding.await.expect("it is committed");
        assert_eq!(group.await, [Ok(full), Ok(full), Ok(full)]);
    }

    /// An app uses at most one thread for its reads and one for its writes.
    #[tokio::test]
    async fn an_app_with_slow_calls_leaves_threads_for_other_apps() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (databases, store) = open(&folder);
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let held = Arc::new(Mutex::new(held));
        let database = databases.database(&app(1)).await.expect("it opens");
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
