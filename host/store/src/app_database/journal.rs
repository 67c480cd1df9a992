//! Reads the journal of an app's database: SQLite's write-ahead log and its index. Finds damage
//! that SQLite ignores: SQLite applies the changes before the damaged part and drops the rest
//! without an error. Never changes a file.

use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::files::refuse_link;

/// Bytes of the journal's header.
const HEADER: usize = 32;
/// Bytes of the header of a frame. A frame is one changed page.
const FRAME_HEADER: usize = 24;
/// Bytes of the index's header, which the file contains twice.
const INDEX_HEADER: usize = 48;
/// The journal's first bytes, without the bit for the byte order of its checksums.
const MAGIC: u32 = 0x377f_0682;

/// Returns the path of a database's journal.
pub(crate) fn journal_of(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

/// Returns the path of the index of a database's journal.
pub(super) fn index_of(database: &Path) -> PathBuf {
    beside(database, "-shm")
}

fn beside(database: &Path, end: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(end);
    PathBuf::from(path)
}

/// Refuses a database if its file, its journal or its index is a symbolic link.
pub(super) fn refuse_links(database: &Path) -> Result<(), StoreError> {
    [database, &journal_of(database), &index_of(database)].into_iter().try_for_each(refuse_link)
}

/// Returns a description of the damage if the journal that a killed host left is damaged. Must be
/// called before the database is opened, since opening it creates a new index.
pub(crate) fn damage_of(database: &Path) -> Result<Option<String>, StoreError> {
    let (journal, index) = (journal_of(database), index_of(database));
    let found = match File::open(&journal) {
        Ok(file) => {
            let bytes = unless_missing(fs::read(&index)).map_err(|error| StoreError::file(&index, &error))?;
            examine_file(file, bytes.and_then(|bytes| Index::read(&bytes)))
        }
        Err(error) => unless_missing(Err(error)),
    };
    let found = found.map_err(|error| StoreError::file(&journal, &error))?;
    Ok(found.map(|what| format!("{}: {what}", journal.display())))
}

fn unless_missing<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn examine_file(journal: File, index: Option<Index>) -> io::Result<Option<String>> {
    let bytes = journal.metadata()?.len();
    examine(&mut BufReader::with_capacity(1 << 20, journal), bytes, index)
}

/// The index's record of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Index {
    /// The number of frames of complete commits.
    frames: u32,
    /// The number of frames that were also written to the database.
    checkpointed: u32,
    salt: [u8; 8],
}

impl Index {
    /// Reads the header of an index, which is in the machine's byte order.
    fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..INDEX_HEADER)?;
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let sum = checksum((0, 0), header.get(..40)?, u32::from_ne_bytes);
        let is_valid = header.get(12) == Some(&1) && (word(40)?, word(44)?) == sum;
        let salt = header.get(32..40)?.try_into().ok()?;
        if is_valid { Some(Self { frames: word(16)?, checkpointed: word(2 * INDEX_HEADER)?, salt }) } else { None }
    }

    /// Returns whether some changes are only in the journal.
    fn has_changes(self) -> bool {
        self.checkpointed < self.frames
    }
}

/// Continues SQLite's checksum with bytes. Their number must be a multiple of eight.
fn checksum((mut one, mut two): (u32, u32), bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> (u32, u32) {
    for pair in bytes.as_chunks::<4>().0.as_chunks::<2>().0 {
        one = one.wrapping_add(word(pair[0])).wrapping_add(two);
        two = two.wrapping_add(word(pair[1])).wrapping_add(one);
    }
    (one, two)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The frames of a journal, in their order.
struct Frames<'a, R> {
    journal: &'a mut R,
    salt: [u8; 8],
    /// Converts a word of the checksum.
    word: fn([u8; 4]) -> u32,
    /// The checksum up to the last frame.
    sum: (u32, u32),
    /// Whether the checksums of all frames so far are valid.
    is_valid: bool,
    /// The header and the page of the last frame.
    frame: Vec<u8>,
}

impl<'a, R: Read> Frames<'a, R> {
    /// Reads the header of a journal. Returns `None` if it is invalid.
    fn after(header: &[u8; HEADER], journal: &'a mut R) -> Option<Self> {
        let word = if number(header, 0) & 1 == 1 { u32::from_be_bytes } else { u32::from_le_bytes };
        let sum = checksum((0, 0), &header[..24], word);
        let page = number(header, 8) as usize;
        let is_header = number(header, 0) & !1 == MAGIC
            && (512..=65_536).contains(&page)
            && sum == (number(header, 24), number(header, 28));
        let salt = header[16..24].try_into().ok()?;
        is_header.then(|| Self { journal, salt, word, sum, is_valid: true, frame: vec![0; FRAME_HEADER + page] })
    }

    /// Reads the next frame. Returns false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        if !is_read(self.journal, &mut self.frame)? {
            return Ok(false);
        }
        let (header, page) = self.frame.split_at(FRAME_HEADER);
        let next = checksum(checksum(self.sum, &header[..8], self.word), page, self.word);
        self.is_valid &= header[8..16] == self.salt && next == (number(header, 16), number(header, 20));
        self.sum = next;
        Ok(true)
    }

    /// Returns whether the frame is the last one of a commit.
    fn is_commit(&self) -> bool {
        self.frame[8..16] == self.salt && number(&self.frame, 4) != 0
    }

    /// Returns the frame's page if it is the first page of the database.
    fn first_page(&self) -> Option<&[u8]> {
        (number(&self.frame, 0) == 1).then(|| &self.frame[FRAME_HEADER..])
    }
}

/// Returns the first page of a database as written by the last complete commit in the journal.
/// `None` if the journal doesn't contain this page or can't be read.
pub(super) fn first_page(database: &Path) -> Option<Vec<u8>> {
    let mut journal = BufReader::with_capacity(1 << 20, File::open(journal_of(database)).ok()?);
    let mut header = [0; HEADER];
    if !is_read(&mut journal, &mut header).ok()? {
        return None;
    }
    let mut frames = Frames::after(&header, &mut journal)?;
    let (mut written, mut committed) = (None, None);
    while frames.advance().ok()? && frames.is_valid {
        written = frames.first_page().map(<[u8]>::to_vec).or(written);
        if frames.is_commit() {
            committed = written.take().or(committed);
        }
    }
    committed
}

/// Reads a journal to its end, and returns a description of its damage. The journal must have been
/// written since the start of the machine: a power failure may remove the frames of unsynced
/// commits, and such a journal is not damaged. The index has the number of complete frames. Without
/// the index, the journal counts as damaged only if two commits follow the first unreadable frame,
/// since the last commit may be incomplete.
fn examine(journal: &mut impl Read, bytes: u64, index: Option<Index>) -> io::Result<Option<String>> {
    let is_needed = index.is_none_or(Index::has_changes);
    let mut header = [0; HEADER];
    if !is_read(journal, &mut header)? {
        let is_lost = is_needed && index.is_some();
        return Ok(is_lost.then(|| "it was truncated, so its changes are lost".to_owned()));
    }
    let Some(mut frames) = Frames::after(&header, journal) else {
        let is_lost = is_needed && bytes > (HEADER + FRAME_HEADER) as u64;
        return Ok(is_lost.then(|| "its header can't be read, so its changes are lost".to_owned()));
    };
    let (mut count, mut complete, mut unread) = (0, 0, 0);
    while frames.advance()? {
        count += 1;
        match (frames.is_commit(), frames.is_valid) {
            (true, true) => complete = count,
            (true, false) => unread += 1,
            (false, _) => {}
        }
    }
    let of_journal = index.filter(|index| index.salt == frames.salt);
    let is_lost = of_journal.map_or(unread > 1, |index| index.frames > complete && index.has_changes());
    if !is_lost {
        return Ok(None);
    }
    Ok(Some(format!("the changes after its frame {complete} can't be read, and are lost")))
}

/// Fills the buffer. Returns false if the input ended before.
fn is_read(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Creates a database whose journal has several commits, as a killed host leaves it.
    fn killed() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (open, left) = (folder.path().join("open.db"), folder.path().join("left.db"));
        let connection = Connection::open(&open).expect("it is created");
        connection
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE numbers (n INTEGER)")
            .expect("the table is created");
        for number in 0..6 {
            connection.execute("INSERT INTO numbers VALUES (?1)", [number]).expect("it is inserted");
        }
        for of in [|path: &Path| path.to_owned(), journal_of, index_of] {
            fs::copy(of(&open), of(&left)).expect("it is copied");
        }
        (folder, left)
    }

    fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).expect("it is read");
        change(&mut bytes);
        fs::write(path, bytes).expect("it is written");
    }

    fn found(database: &Path) -> Option<String> {
        damage_of(database).expect("it can be read")
    }

    fn remove_index(database: &Path) {
        fs::remove_file(index_of(database)).expect("it exists");
    }

    #[test]
    fn an_intact_journal_has_no_damage() {
        let (_folder, database) = killed();
        assert_eq!(damage_of(&database), Ok(None));
        remove_index(&database);
        assert_eq!(damage_of(&database), Ok(None));
        fs::remove_file(journal_of(&database)).expect("it exists");
        assert_eq!(damage_of(&database), Ok(None));
    }

    #[test]
    fn garbage_before_two_commits_is_damage() {
        let (_folder, database) = killed();
        remove_index(&database);
        change(&journal_of(&database), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 16].fill(0xa5);
        });
        let damage = found(&database).expect("it is damaged");
        assert!(damage.contains("left.db-wal") && damage.contains("are lost"), "{damage}");
    }

    #[test]
    fn an_incomplete_last_commit_is_not_damage() {
        let (_folder, database) = killed();
        remove_index(&database);
        change(&journal_of(&database), |bytes| {
            let end = bytes.len();
            bytes[end - 64..].fill(0);
        });
        assert_eq!(damage_of(&database), Ok(None), "the caller of this commit received no response");
    }

    #[test]
    fn a_lost_commit_that_the_index_has_is_damage() {
        for cut in [64, 3 * 4_120] {
            let (_folder, database) = killed();
            change(&journal_of(&database), |bytes| bytes.truncate(bytes.len() - cut));
            assert!(found(&database).is_some(), "{cut} bytes");
        }
        let (_folder, database) = killed();
        change(&journal_of(&database), |bytes| bytes.truncate(0));
        assert!(found(&database).is_some_and(|found| found.contains("truncated")));
    }

    #[test]
    fn a_lost_journal_with_changes_in_the_database_is_not_damage() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (open, left) = (folder.path().join("open.db"), folder.path().join("left.db"));
        let connection = Connection::open(&open).expect("it is created");
        connection
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE numbers (n INTEGER); PRAGMA wal_checkpoint")
            .expect("the table is created");
        for of in [|path: &Path| path.to_owned(), journal_of, index_of] {
            fs::copy(of(&open), of(&left)).expect("it is copied");
        }
        for size in [0, 100] {
            change(&journal_of(&left), |bytes| bytes.truncate(size));
            assert_eq!(damage_of(&left), Ok(None), "{size}");
        }
    }

    #[test]
    fn a_journal_without_its_header_is_damage() {
        let (_folder, database) = killed();
        change(&journal_of(&database), |bytes| bytes[..HEADER].fill(0));
        assert!(found(&database).is_some_and(|found| found.contains("header")));
    }

    #[test]
    fn frames_of_an_earlier_use_of_the_journal_are_not_damage() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (open, left) = (folder.path().join("open.db"), folder.path().join("left.db"));
        let connection = Connection::open(&open).expect("it is created");
        let setup = "PRAGMA journal_mode = WAL; CREATE TABLE numbers (n INTEGER)";
        connection.execute_batch(setup).expect("the table is created");
        for number in 0..20 {
            connection.execute("INSERT INTO numbers VALUES (?1)", [number]).expect("it is inserted");
        }
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).expect("it is emptied");
        connection.execute("INSERT INTO numbers VALUES (21)", []).expect("it is inserted");
        for of in [|path: &Path| path.to_owned(), journal_of, index_of] {
            fs::copy(of(&open), of(&left)).expect("it is copied");
        }
        assert_eq!(damage_of(&left), Ok(None));
        remove_index(&left);
        assert_eq!(damage_of(&left), Ok(None));
    }
}
