//! Reads the format of an app's database from its files. Never opens the database: if a killed host
//! left a journal, SQLite would write a new index for it, and the host needs the old index to
//! detect a damaged journal.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::{journal, schema::FORMAT};
use crate::StoreError;

/// The first bytes of every SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The position of the format in the first page.
const FORMAT_AT: usize = 60;
/// The positions of the first page's kind and of its number of cells. The page is the root of the
/// list of tables.
const KIND_AT: usize = 100;
const CELLS_AT: usize = 103;
/// The kind of a page without children.
const LEAF: u8 = 0x0d;

/// Fails if the host can't use the database because a file can't be read or is a symbolic link, or
/// because no isopod up to this version has written the format. Accepts a damaged database: the
/// host replaces it at its first use. Blocks.
pub(crate) fn check_format(database: &Path) -> Result<(), StoreError> {
    journal::refuse_links(database)?;
    let in_file = beginning(database).map_err(|error| StoreError::file(database, &error))?;
    let first_page = journal::first_page(database).or(in_file);
    match first_page.as_deref().and_then(format_in) {
        None | Some(1..=FORMAT) => Ok(()),
        Some(found) => Err(StoreError::TooNew { found, known: FORMAT }),
    }
}

/// Reads the beginning of a file, or returns `None` if it is too short to contain a page.
fn beginning(database: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; CELLS_AT + 2];
    match File::open(database)?.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the format in the first page of a database. `None` if the page is damaged, or if the
/// database has no tables yet: then its format is 0.
fn format_in(page: &[u8]) -> Option<i64> {
    let bytes = page.get(FORMAT_AT..FORMAT_AT + 4).filter(|_| page.starts_with(MAGIC))?;
    let format = i32::from_be_bytes(bytes.try_into().ok()?).into();
    let is_empty = page.get(KIND_AT) == Some(&LEAF) && page.get(CELLS_AT..CELLS_AT + 2) == Some(&[0, 0]);
    (format != 0 || !is_empty).then_some(format)
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
    fn the_format_0_is_accepted_without_tables_only() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let path = folder.path().join("kv.db");
        let connection = Connection::open(&path).expect("it is created");
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL").expect("it is written");
        assert_eq!(check_format(&path), Ok(()));
        connection.execute_batch("CREATE TABLE numbers (n INTEGER)").expect("the table is created");
        assert_eq!(check_format(&path), Err(StoreError::TooNew { found: 0, known: FORMAT }), "in the journal");
        drop(connection);
        assert_eq!(check_format(&path), Err(StoreError::TooNew { found: 0, known: FORMAT }), "in the file");
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
