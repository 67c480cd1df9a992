//! The databases of apps: one file each with the app's key-value entries and events, so that apps
//! can't read, fill or slow each other's, and both commit together. Owns the set of open databases.
//! Never gives an app a path into another app's folder: an app's name is a single label.

mod checker;
mod checkpoint;
mod closer;
mod damage;
mod database;
mod format;
mod health;
mod journal;
mod lane;
mod open_apps;
mod open_connection;
mod open_guard;
mod recovery;
mod rescue;
mod rescuer;
mod resync;
mod schema;
mod shrink;
#[cfg(test)]
mod suspicions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use isopod_policy::AppName;
use tokio::sync::Semaphore;

use self::checker::Checker;
use self::closer::Closer;
use self::database::Shared;
use self::open_apps::{OpenApps, State};
use self::rescuer::Rescuer;
use crate::app_folders::AppFolders;
use crate::boot::Boot;
use crate::data_record::DataRecord;
use crate::files::exists;
use crate::limits::{APP_DATABASE_CALLS_MAX, APP_DATABASE_THREADS, APPS_CLOSING_MAX, APPS_OPEN_MAX};
use crate::loss::KEY_VALUE;
use crate::workers::Workers;
use crate::{Options, StoreError};

pub(crate) use self::damage::finish as finish_replacement;
pub(crate) use self::database::AppDatabase;
pub(crate) use self::format::check_format;
pub(crate) use self::rescue::CopyRows;
pub(crate) use self::schema::{FORMAT, format_of};
pub(crate) use self::shrink::shrink;

/// The databases at `apps/<app>/kv.db`. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AppDatabases {
    inner: Arc<Inner>,
}

/// The fields are dropped in this order: calls complete before databases are closed. No lane is
/// resumed once the workers end.
#[derive(Debug)]
struct Inner {
    folders: AppFolders,
    shared: Shared,
    _rescuer: Rescuer,
    _workers: Workers,
    _checker: Checker,
    open: Mutex<OpenApps>,
    /// One permit for each database that is open or being closed.
    slots: Arc<Semaphore>,
    _closer: Closer,
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
        let rescuer = Rescuer::start().map_err(failed)?;
        let shared = Shared {
            pages_max: options.pages_max,
            workers: workers.handle(),
            closer: closer.handle(),
            record,
            checker: checker.handle(),
            rescuer: rescuer.handle(),
            health: Arc::default(),
            boot: Boot::open(folder),
            copy_rows,
        };
        let slots = Arc::new(Semaphore::new(APPS_OPEN_MAX + APPS_CLOSING_MAX));
        let open = Mutex::default();
        let inner = Inner {
            folders,
            shared,
            _rescuer: rescuer,
            _workers: workers,
            _checker: checker,
            open,
            slots,
            _closer: closer,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the app's database like [`AppDatabases::database`], unless it has none.
    pub(crate) async fn existing(&self, app: &AppName) -> Result<Option<Arc<AppDatabase>>, StoreError> {
        if let State::Open(database) = self.lock().used(app) {
            return Ok(Some(database));
        }
        if exists(&self.path(app))? { self.database(app).await.map(Some) } else { Ok(None) }
    }

    /// Returns the app's database for a read like [`AppDatabases::existing`]. A lost database is
    /// returned too, so that its loss is reported.
    pub(crate) async fn readable(&self, app: &AppName) -> Result<Option<Arc<AppDatabase>>, StoreError> {
        let has_data = self.inner.shared.record.has_database(app) || exists(&self.path(app))?;
        if has_data { self.database(app).await.map(Some) } else { Ok(None) }
    }

    /// Returns whether the app's database is open, or being closed.
    pub(crate) fn is_open(&self, app: &AppName) -> bool {
        self.lock().is_open(app)
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
        exists(&journal::journal_of(&path))
    }

    /// Returns why the app's database can't be used, if an error is recorded.
    pub(crate) fn unusable(&self, app: &AppName) -> Option<StoreError> {
        self.inner.shared.health.unusable(app)
    }

    /// Records that an app's database can't be read.
    pub(crate) fn note_unreadable(&self, app: &AppName, error: &StoreError) {
        self.inner.shared.health.note_opened(app, Err(error));
        self.inner.shared.health.note_failed(app, health::Call::Read, error);
    }

    /// Returns the apps with a folder.
    pub(crate) fn apps(&self) -> Result<Vec<AppName>, StoreError> {
        self.inner.folders.apps()
    }

    /// Closes the app's database and removes all its data. Intended for a destroyed app, since a
    /// later call would create a new database. Blocks.
    pub(crate) fn remove_app(&self, app: &AppName) -> Result<(), StoreError> {
        loop {
            let state = self.lock().used(app);
            match state {
                // Until this database is closed, calls use it and don't open another one.
                State::Open(database) => {
                    database.close();
                    self.lock().remove(app);
                }
                State::Closing(closing) => closing.wait(),
                State::Closed => break,
            }
        }
        self.inner.shared.record.forget(app);
        self.inner.shared.health.forget(app);
        if self.inner.folders.folder(app).is_dir() {
            self.inner.folders.mark_destroyed(app)?;
        }
        self.inner.folders.remove(app)
    }

    /// Reports data that apps lost since the last check, repeats checks that were not completed,
    /// and closes the databases without a call since then. Blocks.
    pub(crate) fn look_for_losses(&self) {
        let open = self.lock().all();
        for database in open {
            database.close_lost_file();
            database.repeat_check();
        }
        self.inner.shared.record.look();
        self.lock().evict_idle();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OpenApps> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the app's database, opening it for the first call. Waits until an earlier database
    /// of the app is closed, and if too many databases are being closed.
    pub(crate) async fn database(&self, app: &AppName) -> Result<Arc<AppDatabase>, StoreError> {
        let mut slot = None;
        loop {
            let closing = {
                let mut open = self.lock();
                match (open.used(app), slot.take()) {
                    (State::Open(database), _) => return Ok(database),
                    (State::Closing(closing), kept) => {
                        slot = kept;
                        Some(closing)
                    }
                    (State::Closed, Some(slot)) => {
                        let (folders, shared) = (self.inner.folders.clone(), self.inner.shared.clone());
                        let make = |guard| AppDatabase::new(folders, app.clone(), shared, guard);
                        return Ok(open.open(app, slot, make));
                    }
                    (State::Closed, None) => None,
                }
            };
            match closing {
                Some(closing) => closing.ended().await,
                None => {
                    let free = self.inner.slots.clone().acquire_owned().await;
                    slot = Some(free.map_err(|_| StoreError::Closed)?);
                }
            }
        }
    }

    #[cfg(test)]
    fn open_apps(&self) -> usize {
        self.lock().count()
    }
}

#[cfg(test)]
mod tests {
    use super::checker::{Checked as _, Running};
    use super::*;
    use crate::KvStore;
    use crate::limits::{CALLS_WAITING_MAX, CHECKED_BYTES_MAX};
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
        assert!(databases.lock().is_kept(&app(1)) && !databases.lock().is_kept(&app(2)));
        assert_eq!(store.get(&app(2), "", "me").await, Ok(Some(b"here".to_vec())));
    }

    /// Begins an unsynced write that ends once the returned sender is dropped. Synced writes are
    /// queued behind it.
    fn hold(database: &Arc<AppDatabase>) -> (std::sync::mpsc::SyncSender<()>, impl Future<Output = ()> + use<>) {
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let (begun, begins) = std::sync::mpsc::sync_channel::<()>(1);
        let hold = move |_: &rusqlite::Connection| {
            let (_begun, _released) = (begun.send(()), held.recv());
            Ok(())
        };
        let mut holding = Box::pin(database.clone().write_with(Durability::Unsynced, hold));
        assert!(futures::FutureExt::now_or_never(&mut holding).is_none());
        begins.recv().expect("it begins");
        (release, async move { assert_eq!(holding.await, Ok(())) })
    }

    /// A second one would rewrite or replace the files that the first one writes.
    #[tokio::test]
    async fn an_evicted_database_with_running_calls_is_used_again() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (databases, store) = open(&folder);
        let first = databases.database(&app(1)).await.expect("it opens");
        let (release, holding) = hold(&first);
        for _ in 0..2 {
            databases.look_for_losses();
        }
        assert!(databases.is_open(&app(1)) && !databases.lock().is_kept(&app(1)));
        let again = databases.database(&app(1)).await.expect("it is open");
        assert!(Arc::ptr_eq(&first, &again) && databases.lock().is_kept(&app(1)));
        drop((first, again, release));
        holding.await;
        store.set(&app(1), "", "me", b"here").await.expect("the key is set");
    }

    #[tokio::test]
    async fn a_database_is_opened_again_only_once_it_is_closed() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (databases, store) = open(&folder);
        store.set(&app(1), "", "me", b"here").await.expect("the key is set");
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        databases.inner.shared.closer.hold(held);
        let app = app(1);
        while !databases.lock().is_closing(&app) {
            databases.look_for_losses();
        }
        let mut reading = Box::pin(store.get(&app, "", "me"));
        assert!(futures::poll!(&mut reading).is_pending() && databases.is_open(&app));
        assert!(!databases.lock().is_kept(&app), "its files are being closed");
        drop(release);
        assert_eq!(reading.await, Ok(Some(b"here".to_vec())));
    }

    #[tokio::test]
    async fn a_queued_write_does_not_create_the_folder_of_a_destroyed_app() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (databases, store) = open(&folder);
        store.set(&app(1), "", "me", b"here").await.expect("the key is set");
        let database = databases.database(&app(1)).await.expect("it is open");
        let (release, holding) = hold(&database);
        let mut queued = Box::pin(database.clone().write(|_| Ok(())));
        assert!(futures::poll!(&mut queued).is_pending());
        for _ in 0..2 {
            databases.look_for_losses();
        }
        let destroying = tokio::task::spawn_blocking({
            let databases = databases.clone();
            move || databases.remove_app(&app(1))
        });
        while database.clone().read(|_| Ok(())).await != Err(StoreError::Closed) {
            tokio::task::yield_now().await;
        }
        drop(release);
        holding.await;
        assert_eq!(queued.await, Err(StoreError::Closed));
        assert_eq!(destroying.await.expect("it ends"), Ok(()));
        assert!(!folder.path().join("apps/app-1").exists());
        store.set(&app(1), "", "me", b"new").await.expect("a new app can have the name");
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
    const PAGE: usize = 4_096;
    /// Far longer than any call or check takes.
    const TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);

    fn damage_page(folder: &tempfile::TempDir, app: &AppName, number: usize) {
        let path = folder.path().join("apps").join(app.as_str()).join(KEY_VALUE);
        let mut bytes = std::fs::read(&path).expect("it is read");
        bytes[number * PAGE..(number + 1) * PAGE].fill(0xa5);
        std::fs::write(&path, bytes).expect("it is written");
    }

    /// Each rescue of [`delayed_copy`] waits until the receiver's sender is dropped.
    static DELAY: Mutex<Option<std::sync::mpsc::Receiver<()>>> = Mutex::new(None);

    fn delayed_copy(
        from: &rusqlite::Connection,
        to: &rusqlite::Connection,
        has_events: bool,
    ) -> crate::sql::Sql<crate::Rescued> {
        let delay = DELAY.lock().unwrap_or_else(PoisonError::into_inner);
        let _released = delay.as_ref().map(std::sync::mpsc::Receiver::recv);
        crate::rescue::copy_rows(from, to, has_events)
    }

    #[tokio::test]
    async fn rescues_of_many_databases_leave_threads_for_other_apps() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let damaged: Vec<AppName> = (0..=APP_DATABASE_THREADS).map(app).collect();
        let (databases, store) = open(&folder);
        for app in &damaged {
            store.set(app, "", "me", b"here").await.expect("the key is set");
        }
        drop((databases, store));
        damaged.iter().for_each(|app| damage_page(&folder, app, 1));
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        *DELAY.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        let databases = AppDatabases::open(folder.path(), &Options::default(), delayed_copy);
        let store = KvStore::of(databases.expect("the databases open"));
        let calls = damaged.iter().map(|app| {
            let (read, write) = (store.get(app, "", "me"), store.set(app, "", "you", b"here"));
            async { futures::join!(read, write) }
        });
        let mut rescued = Box::pin(futures::future::join_all(calls));
        assert!(futures::poll!(&mut rescued).is_pending());
        let other = app(APP_DATABASE_THREADS + 1);
        let answered = async {
            store.set(&other, "", "me", b"here").await.expect("the key is set");
            store.get(&other, "", "me").await
        };
        let answer = tokio::time::timeout(TIME_MAX, answered).await;
        let is_delayed = futures::poll!(&mut rescued).is_pending();
        drop(release);
        let answer = answer.expect("no thread waits for a rescue");
        assert!(is_delayed && answer == Ok(Some(b"here".to_vec())), "{answer:?}");
        for (read, written) in rescued.await {
            assert!(read.is_ok() && written == Ok(()), "both lanes continue: {read:?} {written:?}");
        }
    }

    /// Creates a database that is checked while it is used. Returns the number of a page that the
    /// calls of these tests don't read.
    async fn large_database(folder: &tempfile::TempDir) -> usize {
        let (databases, store) = open(folder);
        for number in 0..=CHECKED_BYTES_MAX >> 20 {
            store.set(&app(1), "", &number.to_string(), &vec![b'v'; 1 << 20]).await.expect("the key is set");
        }
        drop((databases, store));
        let path = folder.path().join("apps/app-1/kv.db");
        let connection = rusqlite::Connection::open(path).expect("it opens");
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'events_in_line'";
        let page: i64 = connection.query_row(sql, [], |row| row.get(0)).expect("it exists");
        usize::try_from(page).expect("a page number") - 1
    }

    /// Uses the database and looks for losses until the database is checked. The host does the
    /// same, with pauses.
    async fn until_checked(databases: &AppDatabases, store: &KvStore) {
        let checked = async {
            while !databases.inner.shared.health.is_checked(&app(1)) {
                databases.look_for_losses();
                store.get(&app(1), "", "me").await.expect("it is read");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIME_MAX, checked).await.expect("the check is repeated");
    }

    #[tokio::test]
    async fn a_check_that_could_not_be_queued_is_repeated() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let page = large_database(&folder).await;
        damage_page(&folder, &app(1), page);
        let (databases, store) = open(&folder);
        let checker = &databases.inner.shared.checker;
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        checker.hold(held);
        release.send(()).expect("the thread is held");
        while checker.check(Weak::<AppDatabase>::new()) {}
        store.set(&app(1), "", "me", b"here").await.expect("the key is set");
        let found = store.get(&app(1), "", "me").await;
        assert_eq!(found, Ok(Some(b"here".to_vec())), "the journal of the first connection is not examined");
        assert!(!databases.inner.shared.health.is_checked(&app(1)));
        drop(release);
        until_checked(&databases, &store).await;
        let saved = std::fs::read_dir(folder.path().join("lost+found")).expect("it is read").count();
        assert_eq!(saved, 1, "the damaged file was replaced");
    }

    #[tokio::test]
    async fn a_check_that_was_not_completed_is_repeated() {
        let folder = tempfile::tempdir().expect("the folder is created");
        large_database(&folder).await;
        let (databases, store) = open(&folder);
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        databases.inner.shared.checker.hold(held);
        store.get(&app(1), "", "me").await.expect("it is read");
        let interrupted = Running::default();
        interrupted.stop();
        databases.database(&app(1)).await.expect("it is open").check_while_used(&interrupted);
        assert!(!databases.inner.shared.health.is_checked(&app(1)), "it was interrupted");
        while databases.is_open(&app(1)) {
            databases.look_for_losses();
            tokio::task::yield_now().await;
        }
        drop(release);
        assert!(!databases.inner.shared.health.is_checked(&app(1)), "it was closed before its turn");
        until_checked(&databases, &store).await;
        assert!(!folder.path().join("lost+found").exists(), "it is intact");
    }
}
