//! The database of one app: one connection for reads and one for writes, each opened on first use.
//! Owns the app's queued calls, and limits them to two of the threads that all apps share: one for
//! reads, one for writes. Never continues with a file that was removed or replaced.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use isopod_policy::AppName;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::checker::{Checked, CheckerHandle, Running};
use super::closer::{CloserHandle, Closing};
use super::health::Health;
use super::journal::{self, journal_of};
use super::rescue::{CopyRows, rescue};
use super::resync::rewrite_journal;
use super::{damage, schema};
use crate::StoreError;
use crate::app_folders::AppFolders;
use crate::boot::Boot;
use crate::data_record::{DataRecord, loss_of};
use crate::files::{FileId, private_folder};
use crate::group::{self, Job};
use crate::limits::{CALLS_WAITING_MAX, CHECKED_BYTES_MAX, READS_PER_TURN, WRITE_TURN_MAX};
use crate::loss::KEY_VALUE;
use crate::sql::{Durability, Sql, connect_with, keep_journal, look_into, save, set_durability};
use crate::workers::{WorkerHandle, caught};

/// Runs a read and replies to its caller, or replies with an error.
type Read = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

/// The state that all databases share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) pages_max: Option<u32>,
    pub(super) workers: WorkerHandle,
    pub(super) closer: CloserHandle,
    pub(super) record: Arc<DataRecord>,
    pub(super) checker: CheckerHandle,
    pub(super) health: Arc<Health>,
    pub(super) boot: Boot,
    pub(super) copy_rows: CopyRows,
}

impl Shared {
    /// Refuses a database with a damaged journal before its first use in a run of the host. Checks
    /// only a journal that was written in this boot, since a power failure may truncate a journal.
    pub(super) fn check_journal(&self, app: &AppName, path: &Path) -> Result<(), StoreError> {
        if self.health.is_checked(app) || !self.boot.has_written(&journal_of(path)) {
            return Ok(());
        }
        let Some(detail) = journal::damage_of(path) else { return Ok(()) };
        self.health.suspect_journal(app, &detail);
        Err(StoreError::damaged(detail))
    }
}

#[derive(Debug)]
pub(crate) struct AppDatabase {
    app: AppName,
    folders: AppFolders,
    folder: PathBuf,
    path: PathBuf,
    shared: Shared,
    /// Bounds the queued and running calls of this app.
    calls: Arc<Semaphore>,
    reads: Lane<Read>,
    writes: Lane<(Durability, Job)>,
    /// The open file, and its journal.
    file: Mutex<Option<Files>>,
    /// Held while a connection is opened, so that only the first connection checks the file.
    opening: Mutex<()>,
    /// Whether a sync of the journal may have failed, here or in a killed host.
    is_journal_doubtful: AtomicBool,
    /// Whether the database is closed permanently.
    closed: AtomicBool,
    /// The slot of an open database, held until it is closed.
    slot: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, Copy)]
struct Files {
    database: FileId,
    journal: Option<FileId>,
}

/// Queued calls and their connection.
struct Lane<J> {
    waiting: Mutex<Waiting<J>>,
    connection: Mutex<Option<Connection>>,
}

struct Waiting<J> {
    jobs: VecDeque<J>,
    /// Whether a thread runs the lane or is scheduled to run it.
    is_scheduled: bool,
}

impl<J> std::fmt::Debug for Lane<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = locked(&self.waiting);
        f.debug_struct("Lane").field("jobs", &waiting.jobs.len()).field("is_scheduled", &waiting.is_scheduled).finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<J> Lane<J> {
    fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting { jobs: VecDeque::new(), is_scheduled: false }),
            connection: Mutex::default(),
        }
    }

    /// Adds a job. Returns whether the lane must be scheduled.
    fn put(&self, job: J) -> bool {
        let mut waiting = locked(&self.waiting);
        waiting.jobs.push_back(job);
        !std::mem::replace(&mut waiting.is_scheduled, true)
    }

    fn take(&self) -> Option<J> {
        locked(&self.waiting).jobs.pop_front()
    }

    /// Ends a turn. Returns whether the lane must be scheduled again.
    fn end_turn(&self) -> bool {
        let mut waiting = locked(&self.waiting);
        waiting.is_scheduled = !waiting.jobs.is_empty();
        waiting.is_scheduled
    }
}

impl Lane<(Durability, Job)> {
    /// Takes the first write of a group, and returns what the group's commit must survive: a power
    /// failure, if any queued write must.
    fn first(&self) -> Option<(Durability, Job)> {
        let mut waiting = locked(&self.waiting);
        let durability = waiting.jobs.iter().map(|(durability, _)| *durability).max()?;
        waiting.jobs.pop_front().map(|(_, job)| (durability, job))
    }

    /// Takes the next write of a group whose commit has this durability. Ends the group if a queued
    /// write needs a synced commit and this one is not: both are decided under one lock, so that no
    /// synced write joins an unsynced commit.
    fn next(&self, durability: Durability) -> Option<Job> {
        let mut waiting = locked(&self.waiting);
        let is_synced = durability == Durability::Synced;
        if !is_synced && waiting.jobs.iter().any(|(needed, _)| *needed == Durability::Synced) {
            return None;
        }
        waiting.jobs.pop_front().map(|(_, job)| job)
    }
}

impl AppDatabase {
    pub(super) fn new(folders: AppFolders, app: AppName, shared: Shared, slot: OwnedSemaphorePermit) -> Self {
        let folder = folders.folder(&app);
        Self {
            app,
            folders,
            path: folder.join(KEY_VALUE),
            folder,
            shared,
            calls: Arc::new(Semaphore::new(CALLS_WAITING_MAX)),
            reads: Lane::new(),
            writes: Lane::new(),
            file: Mutex::default(),
            opening: Mutex::default(),
            is_journal_doubtful: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            slot: Some(slot),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the work on the connection for reads.
    pub(crate) async fn read<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permits = self.permits().await?;
        let (reply, outcome) = oneshot::channel();
        let (path, reporter) = (self.path.clone(), Reporter::of(&self));
        let read: Read = Box::new(move |connection| {
            let _permits = permits;
            let read = |connection| caught(|| work(connection))?.map_err(|error| error.explain(&path));
            // The caller may have been cancelled.
            let _ = reply.send(connection.and_then(read).map_err(|error| reporter.noted(error)));
        });
        if self.reads.put(read) {
            self.queue_reads();
        }
        drop(self);
        outcome.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs the work in a transaction, and returns once it is committed and synced.
    pub(crate) async fn write<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write_with(Durability::Synced, work).await
    }

    /// Runs the work in a transaction, and returns once it is committed.
    pub(crate) async fn write_with<T: Send + 'static>(
        self: Arc<Self>,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permits = self.permits().await?;
        let (path, reporter) = (self.path.clone(), Reporter::of(&self));
        let (job, outcome) = group::job(&self.path, move |connection| {
            work(connection).map_err(|error| reporter.noted(error.explain(&path)).into())
        });
        let write: Job = Box::new(move |connection| job(connection).then(move || drop(permits)));
        if self.writes.put((durability, write)) {
            self.queue_writes();
        }
        let reporter = Reporter::of(&self);
        drop(self);
        outcome.await.map_err(|_| StoreError::Closed)?.map_err(|error| reporter.noted(error))
    }

    /// Waits for a permit of the app, and then for a permit of all apps. A call holds both until it
    /// completes, even if its caller was cancelled.
    async fn permits(&self) -> Result<[OwnedSemaphorePermit; 2], StoreError> {
        let of_app = self.calls.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        Ok([of_app, self.shared.workers.permit().await?])
    }

    fn queue_reads(self: &Arc<Self>) {
        let database = Arc::clone(self);
        self.shared.workers.push(move || database.read_turn());
    }

    fn queue_writes(self: &Arc<Self>) {
        let database = Arc::clone(self);
        self.shared.workers.push(move || database.write_turn());
    }

    /// Runs some of the queued reads; further reads are queued behind the calls of other apps.
    fn read_turn(self: Arc<Self>) {
        self.prepare(&self.reads.connection);
        let mut slot = locked(&self.reads.connection);
        for _ in 0..READS_PER_TURN {
            let Some(read) = self.reads.take() else { break };
            read(self.opened(&mut slot));
            if self.is_suspect() {
                break;
            }
        }
        drop(slot);
        if self.reads.end_turn() {
            self.queue_reads();
        }
    }

    /// Commits one group of the queued writes; further writes are queued behind the calls of other
    /// apps.
    fn write_turn(self: Arc<Self>) {
        self.prepare(&self.writes.connection);
        let mut slot = locked(&self.writes.connection);
        if let Some((durability, first)) = self.writes.first() {
            let opened = self.opened(&mut slot).and_then(|connection| {
                self.rewrite_doubtful_journal()?;
                set_durability(connection, durability).map_err(|error| StoreError::sqlite(&self.path, &error))?;
                Ok(connection)
            });
            match opened {
                Ok(connection) => {
                    let begin = Instant::now();
                    let may_continue = || begin.elapsed() < WRITE_TURN_MAX && !self.is_suspect();
                    let next = || if may_continue() { self.writes.next(durability) } else { None };
                    if !group::commit_group(connection, &self.path, first, next) {
                        self.is_journal_doubtful.store(true, Ordering::SeqCst);
                    }
                }
                Err(error) => group::refuse(first, error),
            }
        }
        drop(slot);
        if self.writes.end_turn() {
            self.queue_writes();
        }
    }

    /// Writes the journal again before the next commit, if a sync may have failed. The caller must
    /// hold the connection for writes.
    fn rewrite_doubtful_journal(&self) -> Result<(), StoreError> {
        if self.is_journal_doubtful.load(Ordering::SeqCst) {
            rewrite_journal(&self.path)?;
            self.is_journal_doubtful.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Closes the database permanently, once running calls complete. Later calls are refused.
    /// Blocks.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for connection in [&self.reads.connection, &self.writes.connection] {
            drop(locked(connection).take());
        }
    }

    /// Opens a connection for the calls of a turn, if none is open. Replaces a damaged file first.
    /// Ignores any other failure: the first call reports it.
    fn prepare(self: &Arc<Self>, connection: &Mutex<Option<Connection>>) {
        self.leave_lost_file();
        self.leave_damaged_file();
        let is_damaged = matches!(self.opened(&mut locked(connection)), Err(StoreError::Damaged { .. }));
        if is_damaged {
            self.leave_damaged_file();
        }
    }

    #[expect(clippy::expect_used, reason = "it was filled above")]
    fn opened<'c>(self: &Arc<Self>, slot: &'c mut Option<Connection>) -> Result<&'c Connection, StoreError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        if slot.is_none() {
            // The lane's turn must end normally, even if this panics.
            *slot = Some(caught(|| self.open())??);
        }
        Ok(slot.as_ref().expect("opened above"))
    }

    fn open(self: &Arc<Self>) -> Result<Connection, StoreError> {
        let _opening = locked(&self.opening);
        let record = &self.shared.record;
        if let Some(refusal) = self.shared.health.refusal(&self.app) {
            return Err(refusal);
        }
        record.report_lost_database(&self.app, None);
        private_folder(&self.folder)?;
        if locked(&self.file).is_none() && self.shared.boot.has_written(&self.journal()) {
            // A killed host has left it.
            self.is_journal_doubtful.store(true, Ordering::SeqCst);
        }
        let opened = self.connect();
        if let Err(StoreError::Damaged { detail }) = &opened {
            self.shared.health.suspect(&self.app, detail);
        }
        let connection = opened?;
        *locked(&self.file) =
            FileId::of(&self.path).map(|database| Files { database, journal: FileId::of(&self.journal()) });
        record.note(&self.app, KEY_VALUE);
        Ok(connection)
    }

    fn connect(self: &Arc<Self>) -> Result<Connection, StoreError> {
        self.shared.check_journal(&self.app, &self.path)?;
        let connection = connect_with(&self.path, self.shared.pages_max, schema::set_up)?;
        if !self.shared.health.is_checked(&self.app) {
            self.check(&connection)?;
        }
        schema::make(&connection).map_err(|error| error.explain(&self.path))?;
        Ok(connection)
    }

    /// Refuses a damaged file at its first use in a run of the host, before anything is written to
    /// it. Queues the check of a large file instead.
    fn check(self: &Arc<Self>, connection: &Connection) -> Result<(), StoreError> {
        let bytes = fs::metadata(&self.path).map_or(0, |found| found.len());
        if bytes > CHECKED_BYTES_MAX {
            let database: Weak<Self> = Arc::downgrade(self);
            self.shared.checker.check(database);
        } else if let Some(found) = damage::check(connection).map_err(|error| error.explain(&self.path))? {
            keep_journal(connection);
            return Err(StoreError::damaged(format_args!("{}: {found}", self.path.display())));
        }
        self.shared.health.set_checked(&self.app);
        Ok(())
    }

    /// Returns whether the database is to be replaced before its next call.
    fn is_suspect(&self) -> bool {
        self.shared.health.suspicion(&self.app).is_some()
    }

    /// Replaces a database that may be damaged, after closing both connections. The caller must not
    /// hold the lock of either connection.
    fn leave_damaged_file(&self) {
        if !self.is_suspect() {
            return;
        }
        let health = &self.shared.health;
        let (mut reader, mut writer) = (locked(&self.reads.connection), locked(&self.writes.connection));
        // Another thread may have replaced the database meanwhile.
        let Some(suspicion) = health.suspicion(&self.app) else { return };
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        [&*reader, &*writer].into_iter().flatten().for_each(keep_journal);
        drop((reader.take(), writer.take()));
        *locked(&self.file) = None;
        let Shared { pages_max, copy_rows, .. } = self.shared;
        let is_of_journal = suspicion.is_of_journal;
        let set_aside = caught(|| {
            damage::set_aside(&self.folders, &self.app, is_of_journal, |from, to| {
                rescue(from, to, pages_max, copy_rows)
            })
        });
        match set_aside.and_then(|outcome| outcome) {
            Ok(Some(aside)) => {
                health.set_replaced(&self.app);
                let record = &self.shared.record;
                record.report_rescued_database(&self.app, &suspicion.detail, aside.to, aside.rescued);
            }
            Ok(None) => {
                health.set_intact(&self.app);
                self.shared.record.report_damaged_database(&self.app, &suspicion.detail);
            }
            Err(error) => {
                let detail = format!("{}; it can't be replaced: {error}", suspicion.detail);
                self.shared.record.report_damaged_database(&self.app, &detail);
                health.refuse(&self.app, StoreError::Damaged { detail });
            }
        }
    }

    /// Returns whether the open file was removed, replaced or emptied.
    fn is_lost(&self) -> bool {
        locked(&self.file).is_some_and(|open| !open.database.is_at(&self.path))
    }

    /// Closes both connections if their file was removed or replaced, and saves the open content.
    /// They are closed before another file is opened at the path, since SQLite shares the journal's
    /// index by path. The caller must not hold the lock of either connection.
    pub(super) fn leave_lost_file(&self) {
        if !self.is_lost() {
            return;
        }
        let (mut reader, mut writer) = (locked(&self.reads.connection), locked(&self.writes.connection));
        if !self.is_lost() {
            return;
        }
        let files = locked(&self.file).take();
        let open = [&*reader, &*writer].into_iter().flatten();
        open.clone().for_each(keep_journal);
        let saved = open.into_iter().find_map(|connection| self.save(connection));
        drop((reader.take(), writer.take()));
        if files.is_some_and(|files| files.journal.is_some() && files.journal == FileId::of(&self.journal())) {
            self.leave_journal(saved.is_some());
        }
        if loss_of(&self.path).is_some() {
            self.shared.record.report_lost_database(&self.app, saved);
        } else {
            self.shared.record.report_replaced_database(&self.app, saved);
        }
    }

    fn journal(&self) -> PathBuf {
        journal_of(&self.path)
    }

    /// Moves the journal of the lost file away, since SQLite would apply it to the next file at the
    /// path. Removes it instead if the saved copy has its changes.
    fn leave_journal(&self, is_saved: bool) {
        let journal = self.journal();
        let removed = match is_saved {
            true => fs::remove_file(&journal).map_err(|error| StoreError::file(&journal, &error)),
            false => {
                self.folders.move_aside(&journal, &format!("{}-{KEY_VALUE}-wal", self.app), Timestamp::now()).map(drop)
            }
        };
        if let Err(error) = removed {
            tracing::warn!(app = %self.app, %error, "cannot move the journal of a lost key-value database away");
        }
    }

    /// Saves the content of an open database to `lost+found/`. If that fails, the loss is still
    /// reported, without a copy.
    fn save(&self, connection: &Connection) -> Option<PathBuf> {
        let to = self.folders.lost_path(&format!("{}-{KEY_VALUE}", self.app)).ok()?;
        save(connection, &to).is_ok().then_some(to)
    }
}

impl AppDatabase {
    /// Moves changes from the journal into the file while calls use both. A check reads one state
    /// of the file, so the journal grows during it; without this, the next write would move all
    /// changes.
    fn move_journal(&self) {
        // SQLite would move the journal of a removed file into another file at its path.
        if self.is_lost() || self.closed.load(Ordering::SeqCst) {
            return;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Ok(connection) = Connection::open_with_flags(&self.path, flags) else { return };
        keep_journal(&connection);
        // If this fails, later writes move the changes.
        if connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).is_err() {
            self.is_journal_doubtful.store(true, Ordering::SeqCst);
        }
    }
}

impl Checked for AppDatabase {
    /// Checks the file while calls use it. Blocks.
    fn check_while_used(&self, running: &Running) {
        let found = look_into(&self.path, false).and_then(|connection| {
            if !running.begin(&connection) || self.closed.load(Ordering::SeqCst) {
                return Ok(None);
            }
            damage::check(&connection).map_err(|error| error.explain(&self.path))
        });
        match found {
            Ok(None) => self.move_journal(),
            Ok(Some(found)) => {
                self.shared.health.suspect(&self.app, &format!("{}: {found}", self.path.display()));
            }
            Err(StoreError::Damaged { detail }) => self.shared.health.suspect(&self.app, &detail),
            // The check was interrupted, or the file can't be read now, which later calls report.
            Err(error) => tracing::debug!(app = %self.app, %error, "the check of a database was not completed"),
        }
    }

    fn replace_if_damaged(&self) {
        self.leave_damaged_file();
    }
}

impl Drop for AppDatabase {
    /// Closes the database on the closer thread: the current thread may be serving requests.
    fn drop(&mut self) {
        let [reader, writer] = [&self.reads.connection, &self.writes.connection].map(|slot| locked(slot).take());
        if self.is_journal_doubtful.load(Ordering::SeqCst) {
            // SQLite must not move it into the file. The next connection writes it again.
            [&reader, &writer].into_iter().flatten().for_each(keep_journal);
        }
        if let Some(slot) = self.slot.take() {
            self.shared.closer.close(Closing { reader, writer, slot });
        }
    }
}

/// Records damage that a call met.
struct Reporter {
    app: AppName,
    shared: Shared,
    database: Weak<AppDatabase>,
}

impl Reporter {
    fn of(database: &Arc<AppDatabase>) -> Self {
        Self { app: database.app.clone(), shared: database.shared.clone(), database: Arc::downgrade(database) }
    }

    /// Returns the error unchanged. If it reports damage, the database is replaced before its next
    /// call.
    fn noted(&self, error: StoreError) -> StoreError {
        if let StoreError::Damaged { detail } = &error {
            self.shared.health.suspect(&self.app, detail);
            self.shared.checker.replace(self.database.clone());
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(lane: &Lane<(Durability, Job)>, durability: Durability) {
        lane.put((durability, group::job(Path::new("kv.db"), |_| Ok(())).0));
    }

    #[test]
    fn no_synced_write_joins_an_unsynced_commit() {
        let lane = Lane::new();
        write(&lane, Durability::Unsynced);
        let (group, _) = lane.first().expect("a write is queued");
        assert_eq!(group, Durability::Unsynced);
        write(&lane, Durability::Synced);
        write(&lane, Durability::Unsynced);
        assert!(lane.next(group).is_none(), "the synced write came after the group began");
        let (group, _) = lane.first().expect("the synced write is queued");
        assert_eq!(group, Durability::Synced);
        assert!(lane.next(group).is_some() && lane.next(group).is_none());
    }
}
