//! Recovers after the file of an open database was lost, replaced or damaged. Owns the order in
//! which connections are closed and files are moved. Never runs a call.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::checker::{Checked, Running};
use super::checkpoint::{checkpoint, is_disk_failure};
use super::damage::{self, Examined};
use super::database::{AppDatabase, Shared};
use super::journal::journal_of;
use super::lane::locked;
use super::rescue::rescue;
use crate::StoreError;
use crate::data_record::loss_of;
use crate::files::FileId;
use crate::loss::KEY_VALUE;
use crate::probe::free_bytes;
use crate::sql::{disable_checkpoints, look_into, save};
use crate::workers::caught;

impl AppDatabase {
    /// Returns whether the database is to be replaced before its next call.
    pub(super) fn is_suspect(&self) -> bool {
        self.shared.health.suspicion(&self.app).is_some()
    }

    /// Returns whether calls must wait until the database is replaced. False once it is closed
    /// permanently: its calls are refused.
    pub(super) fn needs_rescue(&self) -> bool {
        !self.closed.load(Ordering::SeqCst) && self.is_suspect()
    }

    /// Queues a rescue, unless one is queued: it replaces a database that may be damaged, or closes
    /// a lost file. It then resumes both lanes.
    pub(super) fn queue_rescue(self: &Arc<Self>) {
        if !self.is_rescue_queued.swap(true, Ordering::SeqCst) {
            let database = Arc::clone(self);
            // The size of a lost file is unknown.
            let size = if self.is_lost() { None } else { fs::metadata(&self.path).ok() };
            self.shared.rescuer.queue(size.map_or(u64::MAX, |found| found.len()), move || database.rescue());
        }
    }

    /// Closes a lost file, and replaces the database if it may be damaged. Runs on a rescue thread,
    /// so that no turn waits for it on a worker thread. Blocks.
    fn rescue(self: &Arc<Self>) {
        // A turn that pauses its lane after this point queues the next rescue.
        self.is_rescue_queued.store(false, Ordering::SeqCst);
        let is_lost = !self.closed.load(Ordering::SeqCst) && self.is_lost();
        if is_lost || self.needs_rescue() {
            self.reads.pause();
            self.writes.pause();
        }
        if is_lost && caught(|| self.close_lost_file()).is_err() {
            // Otherwise, each turn would try to close the file again.
            self.close_unsynced();
            *locked(&self.file) = None;
        }
        if self.needs_rescue()
            && let Err(error) = caught(|| self.replace_damaged_file())
        {
            self.shared.health.refuse(&self.app, error);
        }
        self.resume();
    }

    /// Replaces a database that may be damaged, after closing both connections.
    fn replace_damaged_file(&self) {
        let _no_checkpoint_runs = locked(&self.checkpointing);
        let health = &self.shared.health;
        let (mut reader, mut writer) = (locked(&self.reads.connection), locked(&self.writes.connection));
        let Some(suspicion) = health.suspicion(&self.app) else { return };
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        [&*reader, &*writer].into_iter().flatten().for_each(|connection| disable_checkpoints(connection));
        drop((reader.take(), writer.take()));
        *locked(&self.file) = None;
        let Shared { pages_max, copy_rows, .. } = self.shared;
        let is_of_journal = suspicion.is_of_journal;
        let set_aside = caught(|| {
            let free = free_bytes(&self.folders.folder(&self.app));
            damage::set_aside(&self.folders, &self.app, is_of_journal, free, |from, to| {
                rescue(from, to, pages_max, copy_rows)
            })
        });
        match set_aside.and_then(|outcome| outcome) {
            Ok(Examined::Replaced(aside)) => {
                health.set_replaced(&self.app);
                let record = &self.shared.record;
                record.report_rescued_database(&self.app, &suspicion.detail, aside.to, aside.rescued);
            }
            Ok(Examined::Completed) => {
                health.set_replaced(&self.app);
                self.shared.record.note_repaired(&self.app);
                let app = &self.app;
                tracing::warn!(%app, "a damaged database was replaced; the damaged one is in lost+found");
            }
            Ok(Examined::Intact) => {
                health.set_intact(&self.app);
                self.shared.record.note_repaired(&self.app);
                let (app, detail) = (&self.app, &suspicion.detail);
                tracing::warn!(
                    %app,
                    detail,
                    "a database seemed to be damaged, but its pages and indexes are intact, so it stays in use; if \
                     this repeats, check the disk and the memory of the machine"
                );
            }
            // A disk error says nothing about the rows. A copy would lack the rows that can't be
            // read now.
            Err(StoreError::DiskFailed { detail }) => {
                let detail = format!("{detail}, so a database that may be damaged ({}) is kept", suspicion.detail);
                let error = StoreError::DiskFailed { detail };
                tracing::error!(app = %self.app, %error, "a database can't be replaced");
                health.refuse(&self.app, error);
            }
            Err(error) => {
                let detail = format!("{}; it can't be replaced: {error}", suspicion.detail);
                self.shared.record.report_damaged_database(&self.app, &detail);
                health.refuse(&self.app, StoreError::Damaged { detail });
            }
        }
    }

    /// Returns whether the open file was removed, replaced or emptied.
    pub(super) fn is_lost(&self) -> bool {
        locked(&self.file).is_some_and(|open| !open.database.is_at(&self.path))
    }

    /// Closes both connections if their file was removed or replaced, and saves the open content.
    /// They are closed before another file is opened at the path, since SQLite shares the journal's
    /// index by path. The caller must not hold the lock of either connection.
    pub(super) fn close_lost_file(&self) {
        if !self.is_lost() {
            return;
        }
        let (mut reader, mut writer) = (locked(&self.reads.connection), locked(&self.writes.connection));
        if !self.is_lost() {
            return;
        }
        let files = locked(&self.file).take();
        let open = [&*reader, &*writer].into_iter().flatten();
        open.clone().for_each(|connection| disable_checkpoints(connection));
        let saved = open.into_iter().find_map(|connection| self.save(connection));
        drop((reader.take(), writer.take()));
        // A journal that can't be inspected may be that of the lost file.
        let journal = files.and_then(|files| files.journal);
        if journal.is_some() && FileId::find(&self.journal()).map_or(true, |found| found == journal) {
            self.set_journal_aside(saved.is_some());
        }
        if loss_of(&self.path).is_some() {
            self.shared.record.report_lost_database(&self.app, saved);
        } else {
            self.shared.record.report_replaced_database(&self.app, saved);
        }
    }

    pub(super) fn journal(&self) -> PathBuf {
        journal_of(&self.path)
    }

    /// Moves the journal of the lost file away, since SQLite would apply it to the next file at the
    /// path. Removes it instead if the saved copy contains its changes.
    fn set_journal_aside(&self, is_saved: bool) {
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
    /// Makes a checkpoint after a check, while calls use the file. A check reads one state of the
    /// file, so the journal grows during it; without this, the next write would copy all changes.
    fn checkpoint(&self) {
        let _checkpointing = locked(&self.checkpointing);
        if self.is_suspect() {
            return;
        }
        let Some(connection) = self.open_for_checkpoint() else { return };
        let is_checkpointed = self.note_checkpoint(checkpoint(&connection));
        drop(connection);
        if !is_checkpointed {
            self.close_unsynced();
        }
    }

    /// Opens a connection with the journal, unless the journal is doubtful. Linux reports a failed
    /// sync once for each file handle that was open before: if the sync of a later commit fails, so
    /// does that of the checkpoint.
    fn open_for_checkpoint(&self) -> Option<Connection> {
        let _no_commit_runs = locked(&self.writes.connection);
        let is_doubtful = self.is_journal_doubtful.load(Ordering::SeqCst);
        // SQLite would copy the journal of a removed file into another file at its path.
        if is_doubtful || self.is_lost() || self.closed.load(Ordering::SeqCst) {
            return None;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).ok()?;
        disable_checkpoints(&connection);
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).ok()?;
        Some(connection)
    }

    /// Returns false if the disk failed during a checkpoint: then the journal is doubtful, and
    /// [`AppDatabase::close_unsynced`] must be called. If a checkpoint failed for another reason, a
    /// later checkpoint repeats it.
    pub(super) fn note_checkpoint(&self, outcome: rusqlite::Result<()>) -> bool {
        let is_disk_failure = outcome.as_ref().is_err_and(is_disk_failure);
        let is_first = self.checkpoints.note(outcome.is_err() && !is_disk_failure, Instant::now());
        let Err(error) = outcome else { return true };
        if is_first || is_disk_failure {
            tracing::warn!(app = %self.app, %error, "the checkpoint of a database failed");
        }
        if is_disk_failure {
            self.is_journal_doubtful.store(true, Ordering::SeqCst);
        }
        !is_disk_failure
    }

    /// Closes both connections without a checkpoint. SQLite then discards its record of the changes
    /// that it has copied to the file, and copies all of them again: after the failed sync, they
    /// may not be on the disk. The caller must not hold the lock of either connection.
    pub(super) fn close_unsynced(&self) {
        let (mut reader, mut writer) = (locked(&self.reads.connection), locked(&self.writes.connection));
        [&*reader, &*writer].into_iter().flatten().for_each(|connection| disable_checkpoints(connection));
        drop((reader.take(), writer.take()));
    }
}

impl AppDatabase {
    /// Queues the check of a large file, unless it is queued.
    pub(super) fn queue_check(self: &Arc<Self>) {
        if !self.is_check_queued.swap(true, Ordering::SeqCst) {
            let database: Weak<Self> = Arc::downgrade(self);
            if !self.shared.checker.check(database) {
                self.is_check_queued.store(false, Ordering::SeqCst);
            }
        }
    }

    /// Queues the check of an open large file again if it could not be queued, or failed.
    pub(super) fn repeat_check(self: &Arc<Self>) {
        let is_open = locked(&self.file).is_some();
        if is_open && !self.shared.health.is_checked(&self.app) && !self.is_suspect() {
            self.queue_check();
        }
    }

    /// Checks all pages while calls use the file. Returns the damage, if there is any.
    fn check_pages(&self, running: &Running) -> Result<Option<String>, StoreError> {
        let connection = look_into(&self.path, false)?;
        if !running.begin(&connection) || self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        let found = damage::check(&connection).map_err(|error| error.explain(&self.path))?;
        Ok(found.map(|found| format!("{}: {found}", self.path.display())))
    }

    /// Records the result of a check.
    fn note_check(self: &Arc<Self>, found: Option<String>) {
        let health = &self.shared.health;
        match found {
            None => {
                health.set_checked(&self.app);
                self.checkpoint();
            }
            // Otherwise the file was replaced during the check.
            Some(detail) if !health.is_checked(&self.app) => {
                health.suspect(&self.app, &detail);
                self.queue_rescue();
            }
            Some(_) => {}
        }
    }
}

impl Checked for AppDatabase {
    fn check_while_used(self: Arc<Self>, running: &Running) {
        let found = caught(|| self.check_pages(running)).and_then(|found| found);
        self.is_check_queued.store(false, Ordering::SeqCst);
        match found {
            Ok(found) => self.note_check(found),
            Err(StoreError::Damaged { detail }) => self.note_check(Some(detail)),
            Err(error @ StoreError::DiskFailed { .. }) => {
                tracing::warn!(app = %self.app, %error, "the check of a database was not completed; retrying");
            }
            // The check was interrupted, or the file can't be opened now, which later calls report.
            Err(error) => tracing::debug!(app = %self.app, %error, "the check of a database was not completed"),
        }
    }
}
