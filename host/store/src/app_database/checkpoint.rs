//! Checkpoints: copies the changes in the journal of an app's database to its file. Owns when this
//! happens while the database is open. Never ignores a failure, unlike SQLite's own checkpoints.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rusqlite::{Connection, ErrorCode};

use crate::limits::{CHECKPOINT_RETRY_AFTER, JOURNAL_PAGES_MAX};

/// Postpones the checkpoints of a database after a checkpoint failed for a reason other than a disk
/// failure. On a full disk, commits may still fit into the journal. Without the delay, a checkpoint
/// after each commit would copy pages until the file can't grow.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    failed_at: Mutex<Option<Instant>>,
}

impl Checkpoints {
    /// Returns whether checkpoints are postponed at `now`.
    pub(super) fn are_postponed(&self, now: Instant) -> bool {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_some_and(|at| now.saturating_duration_since(at) < CHECKPOINT_RETRY_AFTER)
    }

    /// Records the result of a checkpoint at `now`. Returns whether it is the first failure since a
    /// success.
    pub(super) fn note(&self, has_failed: bool, now: Instant) -> bool {
        let mut failed_at = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = has_failed && failed_at.is_none();
        *failed_at = has_failed.then_some(now);
        is_first
    }
}

/// Disables SQLite's own checkpoint after a commit: it ignores that its sync failed.
pub(super) fn disable_automatic(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

/// Makes a checkpoint if the journal is long.
pub(super) fn checkpoint_if_long(connection: &Connection) -> rusqlite::Result<()> {
    let mut look = connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
    let (pages, copied) = look.query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
    if pages >= JOURNAL_PAGES_MAX && copied < pages { checkpoint(connection) } else { Ok(()) }
}

/// Copies all changes that no reader needs in the journal, and syncs the journal before and the
/// file afterwards.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
}

/// Returns whether the disk failed, so that a sync may have failed.
pub(super) fn is_disk_failure(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_checkpoint_is_reported_once_and_postpones_the_next_one() {
        let (checkpoints, begin) = (Checkpoints::default(), Instant::now());
        assert!(!checkpoints.are_postponed(begin));
        assert!(checkpoints.note(true, begin));
        assert!(checkpoints.are_postponed(begin + CHECKPOINT_RETRY_AFTER / 2));
        let later = begin + CHECKPOINT_RETRY_AFTER;
        assert!(!checkpoints.are_postponed(later));
        assert!(!checkpoints.note(true, later) && checkpoints.are_postponed(later));
        assert!(!checkpoints.note(false, later) && !checkpoints.are_postponed(later));
        assert!(checkpoints.note(true, later));
    }

    #[test]
    fn only_a_long_journal_is_copied() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let connection = Connection::open(folder.path().join("kv.db")).expect("it opens");
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE texts (text TEXT)").expect("it is set up");
        disable_automatic(&connection).expect("it is set");
        let insert = |pages: i64| {
            let sql = "INSERT INTO texts VALUES (randomblob(?1 * 4096))";
            connection.execute(sql, [pages]).expect("it is inserted");
            checkpoint_if_long(&connection).expect("it succeeds");
            let count = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
            connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], count).expect("it is read")
        };
        let (pages, copied) = insert(JOURNAL_PAGES_MAX / 2);
        assert!(pages < JOURNAL_PAGES_MAX && copied == 0, "{copied} of {pages} pages");
        let (pages, copied) = insert(JOURNAL_PAGES_MAX / 2);
        assert!(pages >= JOURNAL_PAGES_MAX && copied == pages, "{copied} of {pages} pages");
        let (pages, copied) = insert(1);
        assert!(pages < 10 && copied == 0, "the journal restarts from its beginning: {copied} of {pages} pages");
    }
}
