//! The file of `control.db` and SQLite's journal beside it. Owns the number of the host's start,
//! which ties both together: it is in the file's header and in `control.session`. Never opens the
//! database and never changes it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Change, StoreError};
use crate::files::{FileId, write_whole};

/// The name of the database file.
pub(crate) const CONTROL: &str = "control.db";
/// The file with the number of the current or last start, and the id of the file `control.db` at
/// that time.
const SESSION: &str = "control.session";
/// The number of a copy that a host saved. The copy contains all changes, so no journal belongs to
/// it.
pub(crate) const SAVED: u32 = 0x6973_6f70;
/// The position of SQLite's application id in a database file.
const APPLICATION_ID_AT: u64 = 68;

/// Returns the paths of the journal, with changes that are not in `control.db` yet, and its index.
pub(crate) fn journal(folder: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|end| folder.join(format!("{CONTROL}{end}")))
}

/// Returns whether changes remain that the last host didn't move into `control.db` because it was
/// killed.
pub(crate) fn has_journal(folder: &Path) -> Result<bool, StoreError> {
    let [changes, _] = journal(folder);
    Ok(length(&changes)? > 0)
}

/// Returns whether the database doesn't exist yet or is empty.
pub(crate) fn is_new(folder: &Path) -> Result<bool, StoreError> {
    Ok(length(&folder.join(CONTROL))? == 0)
}

/// Returns the length of a file; 0 if it doesn't exist.
fn length(path: &Path) -> Result<u64, StoreError> {
    Ok(if_any(path, fs::metadata(path))?.map_or(0, |found| found.len()))
}

/// Returns `None` for a file that doesn't exist.
fn if_any<T>(path: &Path, found: io::Result<T>) -> Result<Option<T>, StoreError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::file(path, &error)),
    }
}

/// The record of the last start.
#[derive(Debug, PartialEq, Eq)]
struct Session {
    start: u32,
    file: String,
}

/// Returns `None` for a folder of a version without such records, and for an invalid file.
fn session(folder: &Path) -> Result<Option<Session>, StoreError> {
    let path = folder.join(SESSION);
    let bytes = if_any(&path, fs::read(&path))?.unwrap_or_default();
    let parsed = || {
        let (start, file) = str::from_utf8(&bytes).ok()?.trim().split_once(' ')?;
        Some(Session { start: start.parse().ok()?, file: file.to_owned() })
    };
    Ok(parsed())
}

/// Returns the number in a database's header; `None` for a file without a header.
fn number_in(file: &File) -> io::Result<Option<u32>> {
    let mut bytes = [0; 4];
    match file.read_exact_at(&mut bytes, APPLICATION_ID_AT) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(u32::from_be_bytes(bytes))),
    }
}

fn number_at(path: &Path) -> Result<Option<u32>, StoreError> {
    let number = File::open(path).and_then(|file| number_in(&file));
    Ok(if_any(path, number)?.flatten())
}

/// Returns whether a journal of another database must be moved away: with `adopt`, and beside a
/// saved copy. Without `adopt`, any other `control.db` beside such a journal is refused. Must be
/// called before the database is opened, since SQLite would apply the journal.
pub(crate) fn must_leave_journal(folder: &Path, adopt: bool) -> Result<bool, StoreError> {
    let Some(noted) = session(folder)? else { return Ok(false) };
    if !has_journal(folder)? {
        return Ok(false);
    }
    match number_at(&folder.join(CONTROL))? {
        // The header is one ahead if the host ended during its start.
        Some(found) if found == noted.start || found == noted.start.wrapping_add(1) => Ok(false),
        found if adopt || found == Some(SAVED) => Ok(true),
        _ => Err(StoreError::JournalOfOther { folder: folder.to_owned() }),
    }
}

/// Returns the number of the next start. It is larger than the numbers of the file and of the
/// previous start.
pub(crate) fn next_start(folder: &Path) -> Result<u32, StoreError> {
    let found = number_at(&folder.join(CONTROL))?.filter(|&found| found != SAVED).unwrap_or(0);
    let noted = session(folder)?.map_or(0, |noted| noted.start);
    // A start that could not write its record has changed only the header.
    let last = if found == noted.wrapping_add(1) { noted } else { found.max(noted) };
    // SQLite's number is signed.
    Ok(if last < i32::MAX.unsigned_abs() { last + 1 } else { 1 })
}

/// Records the start with the number in the header of `control.db`.
pub(crate) fn note_start(folder: &Path, start: u32) -> Result<(), StoreError> {
    let Some(file) = FileId::of(&folder.join(CONTROL)) else { return Ok(()) };
    let path = folder.join(SESSION);
    write_whole(&path, &path.with_extension("unfinished"), format!("{start} {file}\n").as_bytes())
}

/// Detects, from another process, that `control.db` is not the file that the running host opened.
pub(crate) fn changed_meanwhile(folder: &Path) -> Result<Option<StoreError>, StoreError> {
    let (path, Some(noted)) = (folder.join(CONTROL), session(folder)?) else { return Ok(None) };
    let change = match FileId::find(&path).map_err(|error| StoreError::file(&path, &error))? {
        None => Change::Removed,
        Some(found) if found.to_string() != noted.file => Change::Replaced,
        Some(_) => match number_at(&path)? {
            Some(found) if found == noted.start || found == noted.start.wrapping_add(1) => return Ok(None),
            _ => Change::Overwritten,
        },
    };
    Ok(Some(StoreError::ControlChanged { path, change, saved: None }))
}

/// The open file, for detecting its removal, replacement or overwriting.
#[derive(Debug)]
pub(crate) struct ControlFile {
    path: PathBuf,
    id: Option<FileId>,
    /// The numbers that its header may have: a start changes the header only when the changes move
    /// into the file.
    numbers: Mutex<[Option<u32>; 2]>,
    /// Open as long as the database: closing a file drops SQLite's locks on it.
    file: File,
}

impl ControlFile {
    /// Opens the file of a database that is open or about to be opened.
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|error| StoreError::file(path, &error))?;
        // A new database gets a header without a number.
        let number = number_in(&file).map_err(|error| StoreError::file(path, &error))?;
        let numbers = Mutex::new([number, number.or(Some(0))]);
        Ok(Self { path: path.to_owned(), id: FileId::of(path), numbers, file })
    }

    /// Expects the number of a start from now on. The number in the header stays valid until it
    /// changes.
    pub(crate) fn expect(&self, start: u32) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        *numbers = [number_in(&self.file).unwrap_or(numbers[0]), Some(start)];
    }

    /// Returns how the file has changed since it was opened, if it has. Takes a few system calls.
    /// Returns an error if the disk can't read the file.
    pub(crate) fn change(&self) -> Result<Option<Change>, StoreError> {
        let change = || match (FileId::find(&self.path)?, self.id) {
            (None, _) => Ok(Some(Change::Removed)),
            (found, opened) if found != opened => Ok(Some(Change::Replaced)),
            (_, _) => {
                let numbers = *self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
                let is_ours = numbers.contains(&number_in(&self.file)?);
                Ok((!is_ours).then_some(Change::Overwritten))
            }
        };
        change().map_err(|error| StoreError::file(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Creates a data folder with a database file with this number, a record of a start, and a
    /// journal.
    fn folder(number: Option<u32>, noted: &str, journal: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("the folder is created");
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("it is written");
        if let Some(number) = number {
            let mut bytes = vec![0; 4096];
            bytes[68..72].copy_from_slice(&number.to_be_bytes());
            write("control.db", &bytes);
        }
        write("control.session", noted.as_bytes());
        write("control.db-wal", journal);
        folder
    }

    #[test]
    fn a_journal_belongs_to_the_database_of_the_same_start() {
        let check =
            |number, noted, journal| must_leave_journal(folder(number, noted, journal).path(), false) == Ok(false);
        assert!(check(Some(7), "7 1:2\n", b"changes") && check(Some(8), "7 1:2\n", b"changes"));
        for number in [None, Some(0), Some(6), Some(9)] {
            assert!(!check(number, "7 1:2\n", b"changes"), "{number:?}");
            assert!(check(number, "7 1:2\n", b""), "an empty journal belongs to any database");
            assert!(check(number, "nonsense", b"changes"), "an earlier version recorded nothing");
        }
        let saved = folder(Some(SAVED), "7 1:2\n", b"changes");
        assert_eq!(must_leave_journal(saved.path(), false), Ok(true));
        assert_eq!(must_leave_journal(folder(Some(3), "7 1:2\n", b"changes").path(), true), Ok(true));
    }

    #[test]
    fn files_that_cannot_be_inspected_are_not_absent() {
        let folder = tempfile::tempdir().expect("the folder is created");
        assert_eq!((is_new(folder.path()), has_journal(folder.path())), (Ok(true), Ok(false)));
        assert_eq!(session(folder.path()), Ok(None));
        for name in ["control.db", "control.db-wal", "control.session"] {
            // A link to itself can't be inspected.
            symlink(name, folder.path().join(name)).expect("it is created");
        }
        is_new(folder.path()).expect_err("it may have content");
        has_journal(folder.path()).expect_err("it may have content");
        must_leave_journal(folder.path(), false).expect_err("the journal may be of another database");
        next_start(folder.path()).expect_err("the number is unknown");
        changed_meanwhile(folder.path()).expect_err("the file may be unchanged");
    }

    #[test]
    fn each_start_has_a_larger_number_than_earlier_starts() {
        for (number, noted, next) in [
            (None, "", 1),
            (Some(7), "7 1:2", 8),
            (Some(8), "7 1:2", 8),
            (Some(3), "7 1:2", 8),
            (Some(SAVED), "7 1:2", 8),
        ] {
            assert_eq!(next_start(folder(number, noted, b"").path()), Ok(next), "{number:?} {noted}");
        }
    }

    #[test]
    fn a_removed_replaced_or_overwritten_file_is_detected() {
        let folder = folder(Some(7), "7 1:2", b"");
        let path = folder.path().join("control.db");
        let file = ControlFile::of(&path).expect("it opens");
        assert_eq!(file.change(), Ok(None));
        let bytes = fs::read(&path).expect("it is read");
        fs::write(&path, "").expect("it is written");
        assert_eq!(file.change(), Ok(Some(Change::Overwritten)));
        fs::write(&path, &bytes).expect("it is written");
        assert_eq!(file.change(), Ok(None));
        let aside = folder.path().join("aside");
        fs::rename(&path, &aside).expect("it is moved");
        assert_eq!(file.change(), Ok(Some(Change::Removed)));
        fs::write(&path, &bytes).expect("it is written");
        assert_eq!(file.change(), Ok(Some(Change::Replaced)));
        fs::rename(&aside, &path).expect("it is moved back");
        assert_eq!(file.change(), Ok(None));
    }
}
