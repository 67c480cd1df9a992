//! Checkpoints: copies the changes in the journal of an app's database to its file. Owns when this
//! happens while the database is open. Never ignores a failure, unlike SQLite's own checkpoints.

use rusqlite::{Connection, ErrorCode};

use crate::limits::JOURNAL_PAGES_MAX;

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
