//! Repairs the journal of a database after a failed sync. The system then discards the writes
//! before it: a later sync succeeds, and a power failure still loses them. Frames of commits that
//! were not synced would be missing before those of synced commits. Never changes the content of a
//! file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;

use super::journal::journal_of;
use crate::StoreError;

/// Bytes of one write.
const PART: usize = 256 << 10;

/// Writes the journal of a database again, with the same content, and syncs it. Holds SQLite's lock
/// for writes, so that no other connection adds to the journal meanwhile. A missing journal is not
/// an error.
pub(super) fn rewrite_journal(connection: &Connection, database: &Path) -> Result<(), StoreError> {
    let execute = |statement| connection.execute_batch(statement).map_err(|error| StoreError::sqlite(database, &error));
    execute("BEGIN IMMEDIATE")?;
    let rewritten = rewrite_locked(&journal_of(database));
    execute("ROLLBACK").and(rewritten)
}

fn rewrite_locked(journal: &Path) -> Result<(), StoreError> {
    match File::options().read(true).write(true).open(journal).and_then(|file| rewrite(&file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        rewritten => rewritten.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::file(journal, &error)
            }
            _ => StoreError::DiskFailed { detail: format!("{}: {error}", journal.display()) },
        }),
    }
}

fn rewrite(file: &File) -> io::Result<()> {
    let (mut part, mut at) = (vec![0; PART], 0);
    loop {
        let read = file.read_at(&mut part, at)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&part[..read], at)?;
        at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(database: &Path) -> Connection {
        let connection = Connection::open(database).expect("it opens");
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 0").expect("it is set up");
        connection
    }

    #[test]
    fn a_journal_keeps_its_content() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let journal = folder.path().join("kv.db-wal");
        assert_eq!(rewrite_locked(&journal), Ok(()), "there is no journal");
        let content: Vec<u8> = (0..2 * PART + 7).map(|at| (at % 251) as u8).collect();
        std::fs::write(&journal, &content).expect("it is written");
        assert_eq!(rewrite_locked(&journal), Ok(()));
        assert!(std::fs::read(&journal).expect("it is read") == content);
    }

    #[test]
    fn a_journal_is_not_rewritten_while_another_connection_writes() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let database = folder.path().join("kv.db");
        let (one, other) = (open(&database), open(&database));
        other.execute_batch("CREATE TABLE numbers (n INTEGER); BEGIN IMMEDIATE").expect("it begins to write");
        let refused = rewrite_journal(&one, &database);
        assert!(matches!(&refused, Err(StoreError::Database { detail }) if detail.contains("locked")), "{refused:?}");
        other.execute_batch("COMMIT").expect("it ends");
        assert_eq!(rewrite_journal(&one, &database), Ok(()));
        one.execute_batch("INSERT INTO numbers VALUES (1)").expect("the connection is usable");
    }
}
