//! The database of one app: one connection that reads and one that writes, each opened when first needed. Owns the app's
//! waiting calls, and that they take at most two of the threads that all apps share: one for reads, one for writes.
//! Never keeps working with a file that was removed or replaced.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isopod_policy::AppName;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::closer::{CloserHandle, Closing};
use super::tables;
use crate::StoreError;
use crate::app_folders::AppFolders;
use crate::files::{FileId, private_folder};
use crate::group::{self, Job};
use crate::kept::{KEY_VALUE, Kept, loss_of};
use crate::limits::{CALLS_WAITING_MAX, READS_PER_TURN};
use crate::sqlite::{Sql, connect, keep_journal, save};
use crate::workers::{WorkerHandle, caught};

/// Runs a read and replies to its caller, or replies with an error.
type Read = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

/// State that all databases share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) pages_max: Option<u32>,
    pub(super) workers: WorkerHandle,
    pub(super) closer: CloserHandle,
    pub(super) kept: Arc<Kept>,
}

#[derive(Debug)]
pub(super) struct AppDatabase {
    app: AppName,
    folders: AppFolders,
    folder: PathBuf,
    path: PathBuf,
    shared: Shared,
    /// Bounds the queued and running calls of this app.
    calls: Arc<Semaphore>,
    reads: Lane<Read>,
    writes: Lane<Job>,
    /// The file that the connections have open, and its journal.
    file: Mutex<Option<Files>>,
    /// Whether it is never opened again.
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
    /// Whether a thread runs the lane, or is scheduled to.
    has_turn: bool,
}

impl<J> std::fmt::Debug for Lane<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = locked(&self.waiting);
        f.debug_struct("Lane").field("jobs", &waiting.jobs.len()).field("has_turn", &waiting.has_turn).finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<J> Lane<J> {
    fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { jobs: VecDeque::new(), has_turn: false }), connection: Mutex::default() }
    }

    /// Adds a job, and returns whether the lane needs a turn for it.
    fn put(&self, job: J) -> bool {
        let mut waiting = locked(&self.waiting);
        waiting.jobs.push_back(job);
        !std::mem::replace(&mut waiting.has_turn, true)
    }

    fn take(&self) -> Option<J> {
        locked(&self.waiting).jobs.pop_front()
    }

    /// Ends a turn, and returns whether the lane needs another one.
    fn end_turn(&self) -> bool {
        let mut waiting = locked(&self.waiting);
        waiting.has_turn = !waiting.jobs.is_empty();
        waiting.has_turn
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
            closed: AtomicBool::new(false),
            slot: Some(slot),
        }
    }

    /// Runs the work with the reading connection.
    pub(super) async fn read<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let places = self.places().await?;
        let (reply, outcome) = oneshot::channel();
        let path = self.path.clone();
        let read: Read = Box::new(move |connection| {
            let _places = places;
            let read = |connection| caught(|| work(connection))?.map_err(|error| error.explain(&path));
            // The caller may have been cancelled.
            let _ = reply.send(connection.and_then(read));
        });
        if self.reads.put(read) {
            self.queue_reads();
        }
        let (app, kept) = (self.app.clone(), Arc::clone(&self.shared.kept));
        drop(self);
        reported(&app, &kept, outcome.await.map_err(|_| StoreError::Closed)?)
    }

    /// Has the work done, and returns once it is committed.
    pub(super) async fn write<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let places = self.places().await?;
        let (job, outcome) = group::job(&self.path, work);
        let write: Job = Box::new(move |connection| {
            let answer = job(connection);
            Box::new(move |committed| {
                answer(committed);
                drop(places);
            })
        });
        if self.writes.put(write) {
            self.queue_writes();
        }
        let (app, kept) = (self.app.clone(), Arc::clone(&self.shared.kept));
        drop(self);
        reported(&app, &kept, outcome.await.map_err(|_| StoreError::Closed)?)
    }

    /// Waits for a permit of the app, and then for one of all apps. A call holds both until it
    /// completes, even if its caller was cancelled.
    async fn places(&self) -> Result<[OwnedSemaphorePermit; 2], StoreError> {
        let of_app = self.calls.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        Ok([of_app, self.shared.workers.place().await?])
    }

    fn queue_reads(self: &Arc<Self>) {
        let database = Arc::clone(self);
        self.shared.workers.push(move || database.read_turn());
    }

    fn queue_writes(self: &Arc<Self>) {
        let database = Arc::clone(self);
        self.shared.workers.push(move || database.write_turn());
    }

    /// Runs some of the queued reads; further ones are queued behind the calls of other apps.
    fn read_turn(self: Arc<Self>) {
        self.leave_lost_file();
        let mut slot = locked(&self.reads.connection);
        for _ in 0..READS_PER_TURN {
            let Some(read) = self.reads.take() else { break };
            read(self.opened(&mut slot));
        }
        drop(slot);
        if self.reads.end_turn() {
            self.queue_reads();
        }
    }

    /// Commits one group of the queued writes; further ones are queued behind the calls of other
    /// apps.
    fn write_turn(self: Arc<Self>) {
        self.leave_lost_file();
        let mut slot = locked(&self.writes.connection);
        if let Some(first) = self.writes.take() {
            match self.opened(&mut slot) {
                Ok(connection) => group::commit_group(connection, &self.path, first, || self.writes.take()),
                Err(error) => group::refuse(first, error),
            }
        }
        drop(slot);
        if self.writes.end_turn() {
            self.queue_writes();
        }
    }

    /// Closes it permanently, once running calls complete; later ones are refused. Blocks.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for connection in [&self.reads.connection, &self.writes.connection] {
            drop(locked(connection).take());
        }
    }

    fn opened<'c>(&self, slot: &'c mut Option<Connection>) -> Result<&'c Connection, StoreError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        if slot.is_none() {
            // The lane must keep its turn, even if this fails.
            *slot = Some(caught(|| self.open())??);
        }
        Ok(slot.as_ref().expect("it was filled above"))
    }

    fn open(&self) -> Result<Connection, StoreError> {
        let kept = &self.shared.kept;
        kept.report_lost_database(&self.app, None);
        private_folder(&self.folder)?;
        let connection = connect(&self.path, self.shared.pages_max)?;
        tables::make(&connection).map_err(|error| error.explain(&self.path))?;
        *locked(&self.file) =
            FileId::of(&self.path).map(|database| Files { database, journal: FileId::of(&self.journal()) });
        kept.note(&self.app, KEY_VALUE);
        Ok(connection)
    }

    /// Whether the file that the connections have open was removed, replaced or emptied.
    fn is_lost(&self) -> bool {
        locked(&self.file).is_some_and(|open| !open.database.is_at(&self.path))
    }

    /// Closes both connections if their file was removed or replaced, and saves what they had open. They are closed before
    /// another file is opened at the path, since SQLite's index of the journal is shared by path. The caller holds neither
    /// connection's lock.
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
            self.shared.kept.report_lost_database(&self.app, saved);
        } else {
            self.shared.kept.report_replaced_database(&self.app, saved);
        }
    }

    fn journal(&self) -> PathBuf {
        self.folder.join(format!("{KEY_VALUE}-wal"))
    }

    /// Moves the journal of the lost file away, or removes it if the copy has what is in it: SQLite would apply it to the
    /// next file at the path.
    fn leave_journal(&self, is_saved: bool) {
        let journal = self.journal();
        let removed = match is_saved {
            true => fs::remove_file(&journal).map_err(|error| StoreError::file(&journal, &error)),
            false => {
                self.folders.move_aside(&journal, &format!("{}-{KEY_VALUE}-wal", self.app), Timestamp::now()).map(drop)
            }
        };
        if let Err(error) = removed {
            tracing::warn!(app = %self.app, %error, "the journal of a lost key-value database can't be moved away");
        }
    }

    /// Saves the content of an open database to `lost+found/`. A failure leaves only the report of the loss.
    fn save(&self, connection: &Connection) -> Option<PathBuf> {
        let to = self.folders.lost_path(&format!("{}-{KEY_VALUE}", self.app)).ok()?;
        save(connection, &to).is_ok().then_some(to)
    }
}

impl Drop for AppDatabase {
    /// Closes it on the closer thread: the current thread may serve requests.
    fn drop(&mut self) {
        let [reader, writer] = [&self.reads.connection, &self.writes.connection].map(|slot| locked(slot).take());
        if let Some(slot) = self.slot.take() {
            self.shared.closer.close(Closing { reader, writer, slot });
        }
    }
}

/// Reports a database that can't be read.
fn reported<T>(app: &AppName, kept: &Kept, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
    if let Err(StoreError::Damaged { detail }) = &outcome {
        kept.report_damaged_database(app, detail);
    }
    outcome
}
