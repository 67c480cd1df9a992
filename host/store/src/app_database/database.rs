//! The database of one app: one connection for reads and one for writes, each opened on first use.
//! Owns the app's queued calls, and limits them to two of the threads that all apps share: one for
//! reads, one for writes. Never continues with a file that was removed or replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use isopod_policy::AppName;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::checker::CheckerHandle;
use super::checkpoint::{Checkpoints, checkpoint_if_long, disable_automatic};
use super::closer::{CloserHandle, ClosingFiles};
use super::health::{Call, Health};
use super::journal::{self, journal_of};
use super::lane::{Lane, Read, locked};
use super::open_connection::OpenConnection;
use super::open_guard::{Closing, OpenGuard};
use super::rescue::CopyRows;
use super::rescuer::RescuerHandle;
use super::resync::rewrite_journal;
use super::{damage, schema};
use crate::StoreError;
use crate::app_folders::AppFolders;
use crate::boot::Boot;
use crate::data_record::DataRecord;
use crate::files::{FileId, private_folder};
use crate::group::{self, GroupEnd, Job};
use crate::limits::{CALLS_WAITING_MAX, CHECKED_BYTES_MAX, READS_PER_TURN, WRITE_TURN_MAX};
use crate::loss::KEY_VALUE;
use crate::sql::{Durability, Sql, connect_with, disable_checkpoints};
use crate::workers::{WorkerHandle, caught};

/// The state that all databases share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) pages_max: Option<u32>,
    pub(super) workers: WorkerHandle,
    pub(super) closer: CloserHandle,
    pub(super) record: Arc<DataRecord>,
    pub(super) checker: CheckerHandle,
    pub(super) rescuer: RescuerHandle,
    pub(super) health: Arc<Health>,
    pub(super) boot: Boot,
    pub(super) copy_rows: CopyRows,
}

impl Shared {
    /// Refuses symbolic links. Before the first use of a database in a run of the host, also
    /// refuses a damaged journal. Checks only a journal that was written since the machine booted,
    /// because a power failure may truncate a journal.
    pub(super) fn check_journal(&self, app: &AppName, path: &Path) -> Result<(), StoreError> {
        journal::refuse_links(path)?;
        if self.health.is_journal_checked(app) || !self.boot.has_written(&journal_of(path)) {
            return Ok(());
        }
        let Some(detail) = journal::damage_of(path)? else { return Ok(()) };
        self.health.suspect_journal(app, &detail);
        Err(StoreError::damaged(detail))
    }
}

#[derive(Debug)]
pub(crate) struct AppDatabase {
    pub(super) app: AppName,
    pub(super) folders: AppFolders,
    folder: PathBuf,
    pub(super) path: PathBuf,
    pub(super) shared: Shared,
    /// Bounds the queued and running calls of this app.
    calls: Arc<Semaphore>,
    pub(super) reads: Lane<Read>,
    pub(super) writes: Lane<(Durability, Job)>,
    /// The open file, and its journal.
    pub(super) file: Mutex<Option<Files>>,
    /// Held while a connection is opened, so that only the first connection checks the file.
    opening: Mutex<()>,
    /// Whether the check of a large file is queued or runs.
    pub(super) is_check_queued: AtomicBool,
    /// Whether the replacement of a damaged file is queued.
    pub(super) is_rescue_queued: AtomicBool,
    pub(super) checkpoints: Checkpoints,
    /// Held while the checker thread makes a checkpoint, and while the file is replaced.
    pub(super) checkpointing: Mutex<()>,
    /// Whether a sync of the journal may have failed, here or in a killed host.
    pub(super) is_journal_doubtful: AtomicBool,
    /// Whether the database is closed permanently.
    pub(super) closed: AtomicBool,
    /// Ends once both connections are closed.
    pub(super) closing: Closing,
    /// Held until both connections are closed. `None` only while this is being dropped.
    guard: Option<OpenGuard>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Files {
    pub(super) database: FileId,
    pub(super) journal: Option<FileId>,
}

impl AppDatabase {
    pub(super) fn new(folders: AppFolders, app: AppName, shared: Shared, guard: OpenGuard) -> Self {
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
            is_check_queued: AtomicBool::new(false),
            is_rescue_queued: AtomicBool::new(false),
            checkpoints: Checkpoints::default(),
            checkpointing: Mutex::new(()),
            is_journal_doubtful: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            closing: guard.closing(),
            guard: Some(guard),
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
        let (of_app, of_all) = self.permits().await?;
        let (reply, outcome) = oneshot::channel();
        let (path, note) = (self.path.clone(), self.note(Call::Read));
        let read: Read = Box::new(move |connection| {
            let _permit = of_app;
            let read = |connection| caught(|| work(connection))?.map_err(|error| error.explain(&path));
            // The caller may have been cancelled.
            let outcome = connection.and_then(read);
            note(outcome.as_ref().map(drop));
            let _ = reply.send(outcome.map_err(for_caller));
        });
        if self.reads.put(read, of_all) {
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
        let (of_app, of_all) = self.permits().await?;
        let note = self.note(Call::Write);
        let (job, outcome) = group::job(&self.path, work);
        let write: Job = Box::new(move |transaction| job(transaction).noting(note).then(move || drop(of_app)));
        if self.writes.put((durability, write), of_all) {
            self.queue_writes();
        }
        drop(self);
        outcome.await.map_err(|_| StoreError::Closed)?.map_err(for_caller)
    }

    /// Waits for a permit of the app, and then for a host-wide permit. A call holds the app's
    /// permit until it completes, even if its caller was cancelled. It holds the host-wide permit
    /// only while it is queued.
    async fn permits(&self) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), StoreError> {
        let of_app = self.calls.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        Ok((of_app, self.shared.workers.permit().await?))
    }

    /// Returns a function that records the result of a call. If an error reports damage, the store
    /// replaces the database before its next call. The function must be called during the call's
    /// turn, because a new database may replace the damaged one afterwards.
    fn note(self: &Arc<Self>, call: Call) -> impl Fn(Result<(), &StoreError>) + Send + use<> {
        let database = Arc::downgrade(self);
        move |result| {
            // The turn holds a reference to the database, so this succeeds.
            let Some(database) = database.upgrade() else { return };
            let health = &database.shared.health;
            let Err(error) = result else { return health.note_succeeded(&database.app, call) };
            health.note_failed(&database.app, call, error);
            let StoreError::Damaged { detail } = error else { return };
            health.suspect(&database.app, detail);
            if database.needs_rescue() {
                database.queue_rescue();
            }
        }
    }

    fn queue_reads(self: &Arc<Self>) {
        let database = Arc::clone(self);
        self.shared.workers.push(move || {
            if caught(|| database.read_turn()).is_err() {
                database.reads.abandon_turn();
            }
        });
    }

    fn queue_writes(self: &Arc<Self>) {
        let database = Arc::clone(self);
        self.shared.workers.push(move || {
            if caught(|| database.write_turn()).is_err() {
                database.writes.abandon_turn();
            }
        });
    }

    /// Runs some of the queued reads; further reads are queued behind the calls of other apps.
    fn read_turn(self: &Arc<Self>) {
        if !self.begin_turn(&self.reads) {
            return;
        }
        let mut slot = locked(&self.reads.connection);
        for _ in 0..READS_PER_TURN {
            let Some(read) = self.reads.take() else { break };
            read(self.opened(&mut slot).map(|connection| &**connection));
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
    fn write_turn(self: &Arc<Self>) {
        if !self.begin_turn(&self.writes) {
            return;
        }
        let mut slot = locked(&self.writes.connection);
        let mut is_checkpointed = true;
        if let Some((durability, first)) = self.writes.first() {
            let opened = self.opened(&mut slot).and_then(|connection| {
                self.rewrite_doubtful_journal(connection)?;
                let set = connection.set_durability(durability);
                set.map_err(|error| StoreError::sqlite(&self.path, &error))?;
                Ok(connection)
            });
            match opened {
                Ok(connection) => {
                    let begin = Instant::now();
                    let may_continue = || begin.elapsed() < WRITE_TURN_MAX && !self.is_suspect();
                    let next = || if may_continue() { self.writes.next(durability) } else { None };
                    match group::commit_group(connection, &self.path, first, next) {
                        GroupEnd::Committed if !self.checkpoints.are_postponed(Instant::now()) => {
                            is_checkpointed = self.note_checkpoint(checkpoint_if_long(connection));
                        }
                        GroupEnd::Committed | GroupEnd::RolledBack => {}
                        GroupEnd::DiskFailed => self.is_journal_doubtful.store(true, Ordering::SeqCst),
                    }
                }
                Err(error) => group::refuse(first, error),
            }
        }
        drop(slot);
        if !is_checkpointed {
            self.close_unsynced();
        }
        if self.writes.end_turn() {
            self.queue_writes();
        }
    }

    /// Writes the journal again before the next commit, if a sync may have failed.
    fn rewrite_doubtful_journal(&self, connection: &Connection) -> Result<(), StoreError> {
        if self.is_journal_doubtful.load(Ordering::SeqCst) {
            rewrite_journal(connection, &self.path)?;
            self.is_journal_doubtful.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Closes the database permanently, once running calls complete. Later calls are refused.
    /// Blocks.
    pub(super) fn close(self: &Arc<Self>) {
        self.closed.store(true, Ordering::SeqCst);
        for connection in [&self.reads.connection, &self.writes.connection] {
            drop(locked(connection).take());
        }
        // The path may soon contain the file of another app with this name.
        *locked(&self.file) = None;
        self.resume();
    }

    /// Opens a connection for the calls of a turn, if none is open. Ignores a failure: the first
    /// call reports it. Returns false if the turn must not run: the file may be damaged or is lost,
    /// so the lane is paused until a rescue thread has replaced or closed it.
    fn begin_turn<J>(self: &Arc<Self>, lane: &Lane<J>) -> bool {
        if !lane.begin_turn() {
            return false;
        }
        let is_lost = self.is_lost();
        let may_run = !is_lost && !self.needs_rescue() && {
            let _ = self.opened(&mut locked(&lane.connection));
            !self.needs_rescue()
        };
        if !may_run {
            lane.pause_turn();
            // The file may have been replaced before the pause.
            if is_lost || self.needs_rescue() {
                self.queue_rescue();
            } else {
                self.resume();
            }
        }
        may_run
    }

    /// Schedules the lanes that are paused.
    pub(super) fn resume(self: &Arc<Self>) {
        if self.reads.resume() {
            self.queue_reads();
        }
        if self.writes.resume() {
            self.queue_writes();
        }
    }

    #[expect(clippy::expect_used, reason = "it was filled above")]
    fn opened<'c>(self: &Arc<Self>, slot: &'c mut Option<OpenConnection>) -> Result<&'c OpenConnection, StoreError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        if slot.is_none() {
            // The lane's turn must end normally, even if this panics.
            *slot = Some(OpenConnection::new(caught(|| self.open())??));
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
            // A killed host may have left the journal, or the checkpoint on close may have failed.
            self.is_journal_doubtful.store(true, Ordering::SeqCst);
        }
        let opened = self.connect();
        self.shared.health.note_opened(&self.app, opened.as_ref().map(drop));
        if let Err(StoreError::Damaged { detail }) = &opened {
            self.shared.health.suspect(&self.app, detail);
        }
        if matches!(&opened, Err(StoreError::DiskFailed { .. } | StoreError::ReadOnly { .. })) {
            // A migration writes the journal.
            self.is_journal_doubtful.store(true, Ordering::SeqCst);
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
        self.shared.health.set_journal_checked(&self.app);
        if !self.shared.health.is_checked(&self.app) {
            self.check(&connection)?;
        }
        disable_automatic(&connection).map_err(|error| StoreError::sqlite(&self.path, &error))?;
        schema::make(&connection).map_err(|error| error.explain(&self.path))?;
        Ok(connection)
    }

    /// Refuses a damaged file at its first use in a run of the host, before anything is written to
    /// it. Queues the check of a large file instead.
    fn check(self: &Arc<Self>, connection: &Connection) -> Result<(), StoreError> {
        let bytes = fs::metadata(&self.path).map_or(0, |found| found.len());
        if bytes > CHECKED_BYTES_MAX {
            self.queue_check();
            return Ok(());
        }
        if let Some(found) = damage::check(connection).map_err(|error| error.explain(&self.path))? {
            disable_checkpoints(connection);
            return Err(StoreError::damaged(format_args!("{}: {found}", self.path.display())));
        }
        self.shared.health.set_checked(&self.app);
        Ok(())
    }
}

impl Drop for AppDatabase {
    /// Closes the database on the closer thread: the current thread may be serving requests.
    fn drop(&mut self) {
        let [reader, writer] = [&self.reads.connection, &self.writes.connection].map(|slot| locked(slot).take());
        if self.is_journal_doubtful.load(Ordering::SeqCst) {
            // SQLite must not copy the journal into the file. The next connection writes the
            // journal again.
            [&reader, &writer].into_iter().flatten().for_each(|connection| disable_checkpoints(connection));
        }
        if let Some(guard) = self.guard.take() {
            self.shared.closer.close(ClosingFiles { reader, writer, guard });
        }
    }
}

/// Converts an error to the one that the caller of an app's database receives.
fn for_caller(error: StoreError) -> StoreError {
    match error {
        StoreError::Damaged { detail } => StoreError::AppDataDamaged { detail },
        error => error,
    }
}
