//! Reads the format of an app's database from its files. Never opens the database: if a killed host
//! left a journal, SQLite would write a new index for it, and the host needs the old index to
//! detect a damaged journal.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::{journal, schema::FORMAT};
use crate::StoreError;
use crate::files::refuse_link;

/// The first bytes of every SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The position of the format in the first page.
const FORMAT_AT: usize = 60;

/// Fails if the host can't use the database because the file can't be read or has a newer format.
/// Accepts a damaged database: the host replaces it at its first use. Blocks.
pub(crate) fn check_format(database: &Path) -> Result<(), StoreError> {
    refuse_link(database)?;
    let in_file = beginning(database).map_err(|error| StoreError::file(database, &error))?;
    let first_page = journal::first_page(database).or(in_file);
    let found = first_page.as_deref().and_then(format_in).unwrap_or_default();
    if (0..=FORMAT).contains(&found) { Ok(()) } else { Err(StoreError::TooNew { found, known: FORMAT }) }
}

/// Reads the beginning of a file, or returns `None` if it is too short to contain a format.
fn beginning(database: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; FORMAT_AT + 4];
    match File::open(database)?.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the format in the first page of a database.
fn format_in(page: &[u8]) -> Option<i64> {
    let bytes = page.get(FORMAT_AT..FORMAT_AT + 4).filter(|_| page.starts_with(MAGIC))?;
    Some(i32::from_be_bytes(bytes.try_into().ok()?).into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::*;

    fn set_format(connection: &Connection, format: i64) {
        connection.pragma_update(None, "user_version", format).expect("it is set");
    }

    #[test]
    fn a_newer_format_is_found_in_the_file_and_in_a_journal_that_a_killed_host_left() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (open, left) = (folder.path().join("open.db"), folder.path().join("left.db"));
        let connection = Connection::open(&open).expect("it is created");
        let setup = "CREATE TABLE numbers (n INTEGER); PRAGMA journal_mode = WAL";
        connection.execute_batch(setup).expect("the table is created");
        let is_newer = |database: &Path| match check_format(database) {
            Ok(()) => false,
            Err(StoreError::TooNew { found, known }) => (found, known) == (FORMAT + 1, FORMAT),
            Err(error) => panic!("{error}"),
        };
        let leave = || {
            for of in [|path: &Path| path.to_owned(), journal::journal_of] {
                fs::copy(of(&open), of(&left)).expect("it is copied");
            }
        };
        set_format(&connection, FORMAT);
        leave();
        assert!(!is_newer(&left));
        set_format(&connection, FORMAT + 1);
        leave();
        let files = fs::read_dir(folder.path()).expect("it is read").count();
        assert!(is_newer(&left), "the new format is in the journal");
        assert_eq!(fs::read_dir(folder.path()).expect("it is read").count(), files, "no index is created");
        fs::remove_file(journal::journal_of(&left)).expect("it exists");
        assert!(!is_newer(&left));
        drop(connection);
        assert!(is_newer(&open), "the closed file contains it");
    }

    #[test]
    fn a_damaged_file_is_accepted_and_an_unreadable_one_is_not() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let path = folder.path().join("kv.db");
        for bytes in [&b"SQLite"[..], &[0xa5; 4_096]] {
            fs::write(&path, bytes).expect("it is written");
            assert_eq!(check_format(&path), Ok(()));
        }
        assert!(matches!(check_format(folder.path()), Err(StoreError::File { .. })));
    }
}
