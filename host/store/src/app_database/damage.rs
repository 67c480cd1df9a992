//! Sets the damaged database of an app aside: moves its files to `lost+found/`, and replaces it by
//! a new database with the rows that can be read. Never removes a damaged file, and never runs
//! while the database is open.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use isopod_policy::AppName;
use jiff::Timestamp;
use rusqlite::Connection;

use super::journal::{index_of, journal_of};
use super::rescue::{open_damaged, remove};
use crate::StoreError;
use crate::app_folders::AppFolders;
use crate::failed_reads::Reads;
use crate::files::{exists, names, sync_folder};
use crate::limits::{DAMAGED_DATABASES_KEPT, RESCUE_SPARE_BYTES};
use crate::loss::{KEY_VALUE, Rescued};
use crate::row_copy::is_damage;
use crate::sql::Sql;

/// The name of the new database while rows are copied into it.
const INCOMPLETE: &str = "kv.db.rescuing";
/// The name of the complete new database until it replaces the damaged one.
const NEW: &str = "kv.db.rescued";

const MEBIBYTE: u64 = 1 << 20;

/// The result of examining a database that may be damaged.
#[derive(Debug)]
pub(super) enum Examined {
    /// It is not damaged, and stays in use.
    Intact,
    /// A new database has replaced it.
    Replaced(SetAside),
    /// The examination completed an earlier replacement that had failed after it moved the damaged
    /// file.
    Completed,
}

/// A damaged database that was set aside.
#[derive(Debug)]
pub(super) struct SetAside {
    /// The path of the damaged file.
    pub(super) to: PathBuf,
    pub(super) rescued: Rescued,
}

/// Checks the pages of a database. Returns SQLite's description of the damage, if there is any.
/// Takes long for a large file.
pub(super) fn check(connection: &Connection) -> Sql<Option<String>> {
    first_problem(connection, "PRAGMA quick_check(1)")
}

/// Checks the pages like [`check`], and also checks that each index matches its table. After a lost
/// write, an intact page has old content, which a check of the pages doesn't detect.
fn check_indexes(connection: &Connection) -> Sql<Option<String>> {
    first_problem(connection, "PRAGMA integrity_check(1)")
}

fn first_problem(connection: &Connection, pragma: &str) -> Sql<Option<String>> {
    let reads = Reads::begin();
    let found: Result<String, _> = connection.query_row(pragma, [], |row| row.get(0));
    // SQLite counts a page that can't be read as damage.
    reads.check()?;
    match found.map_err(Into::into) {
        Ok(found) if found == "ok" => Ok(None),
        Ok(found) => Ok(Some(found)),
        Err(error) if is_damage(&error) => Ok(Some("it is not a database that can be read".to_owned())),
        Err(error) => Err(error),
    }
}

/// Sets the database aside, unless it is intact: no page is damaged, each index matches its table,
/// and every row can be read. If the rows of a file with intact pages can't be copied, for example
/// because the disk has no space, the file stays in use too. Then only the calls that need an
/// unreadable row fail. After a disk error the state of the file is unknown, and a later call
/// examines it again.
///
/// `free` is the free space of the disk. `rescue` copies the rows of the first file into the second
/// one.
///
/// If the host ends before the new database is complete, the damaged one remains unchanged. If it
/// ends later, [`finish`] completes the replacement at the next start.
pub(super) fn set_aside(
    folders: &AppFolders,
    app: &AppName,
    is_journal_damaged: bool,
    free: Option<u64>,
    rescue: impl FnOnce(&Path, &Path) -> Result<Rescued, StoreError>,
) -> Result<Examined, StoreError> {
    if finish(folders, app)? {
        return Ok(Examined::Completed);
    }
    let folder = folders.folder(app);
    let (path, new) = (folder.join(KEY_VALUE), folder.join(NEW));
    let aside = format!("{app}-{KEY_VALUE}.damaged");
    let found = open_damaged(&path).and_then(|connection| check_indexes(&connection));
    let is_damaged = match found {
        Ok(found) => found.is_some() || is_journal_damaged,
        Err(error) if is_damage(&error) => true,
        Err(error) => return Err(error.explain(&path)),
    };
    if is_damaged {
        check_kept(folders, &aside)?;
    }
    let incomplete = folder.join(INCOMPLETE);
    let copied = check_space(&path, free).and_then(|()| rescue(&path, &incomplete));
    let mut rescued = match copied {
        Ok(rescued) if !is_damaged && rescued.is_complete => {
            remove(&incomplete)?;
            return Ok(Examined::Intact);
        }
        Ok(rescued) => rescued,
        Err(error @ StoreError::DiskFailed { .. }) => return Err(error),
        Err(error) if !is_damaged => {
            tracing::warn!(%app, %error, "the rows of a database with intact pages can't be checked");
            return Ok(Examined::Intact);
        }
        Err(error) => return Err(error),
    };
    if let Err(refusal) = check_kept(folders, &aside) {
        return remove(&incomplete).and(Err(refusal));
    }
    rescued.is_complete &= !is_journal_damaged;
    let aside = folders.lost_folder(&aside, Timestamp::now())?;
    let to = aside.join(KEY_VALUE);
    rename(&incomplete, &new)?;
    sync_folder(&folder)?;
    if let Err(error) = rename(&path, &to) {
        // For example, the app's folder is a link to another disk. The database stays at its path.
        let _ = (remove(&new), fs::remove_dir(&aside));
        return Err(error);
    }
    rename_if_any(&journal_of(&path), &journal_of(&to))?;
    remove(&index_of(&path))?;
    rename(&new, &path)?;
    sync_folder(&aside)?;
    sync_folder(&folder)?;
    Ok(Examined::Replaced(SetAside { to, rescued }))
}

/// Refuses to copy a database that may not fit on the disk: a partial copy would use up the disk
/// space that all other apps need.
fn check_space(path: &Path, free: Option<u64>) -> Result<(), StoreError> {
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let needed = bytes(path) + bytes(&journal_of(path)) + RESCUE_SPARE_BYTES;
    let Some(free) = free.filter(|free| *free < needed) else { return Ok(()) };
    let detail = format!(
        "copying the readable rows needs {} MiB of free space, but only {} MiB are free; free some space; the \
         host tries again at the first call after a minute",
        needed.div_ceil(MEBIBYTE),
        free / MEBIBYTE
    );
    Err(StoreError::File { path: path.parent().unwrap_or(path).to_owned(), detail })
}

/// Refuses to set a further database of the app aside if the limit is reached.
fn check_kept(folders: &AppFolders, aside: &str) -> Result<(), StoreError> {
    let lost = folders.lost();
    let kept = if exists(lost)? { names(lost)? } else { Vec::new() };
    let kept = kept.iter().filter(|name| name.strip_prefix(aside).is_some_and(|end| end.starts_with('-'))).count();
    if kept < DAMAGED_DATABASES_KEPT {
        return Ok(());
    }
    Err(StoreError::damaged(format_args!(
        "{} contains {kept} damaged databases of the app already; move them elsewhere, and check the disk",
        lost.display()
    )))
}

/// Completes a replacement that was interrupted after the damaged file had been moved. If it was
/// interrupted earlier, removes the incomplete new database instead. Returns whether a replacement
/// was completed.
pub(crate) fn finish(folders: &AppFolders, app: &AppName) -> Result<bool, StoreError> {
    let folder = folders.folder(app);
    let (path, new) = (folder.join(KEY_VALUE), folder.join(NEW));
    remove(&folder.join(INCOMPLETE))?;
    if !exists(&new)? {
        return Ok(false);
    }
    if exists(&path)? {
        return remove(&new).map(|()| false);
    }
    let journal = journal_of(&path);
    if exists(&journal)? {
        // SQLite would apply this journal to the new database.
        folders.move_aside(&journal, &format!("{app}-{KEY_VALUE}-wal"), Timestamp::now())?;
    }
    remove(&index_of(&path))?;
    rename(&new, &path)?;
    sync_folder(&folder)?;
    Ok(true)
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| StoreError::file(from, &error))
}

fn rename_if_any(from: &Path, to: &Path) -> Result<(), StoreError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::file(from, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::app_database::rescue::rescue;
    use crate::failed_reads::tests::fail_read;
    use crate::rescue::copy_rows;

    /// SQLite's own checks count a page that can't be read as damage.
    #[test]
    fn a_failed_read_is_not_damage_and_omits_no_row() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (path, copy) = (folder.path().join(KEY_VALUE), folder.path().join("copy"));
        let connection = Connection::open(&path).expect("it opens");
        super::super::schema::make(&connection).expect("the tables are created");
        let fill = "INSERT INTO entries SELECT 'b', value, zeroblob(3000) FROM json_each('[1,2,3,4,5,6,7,8,9]')";
        connection.execute(fill, []).expect("it is filled");
        let count = "UPDATE usage SET bytes = (SELECT sum(length(value) + 66) FROM entries)";
        connection.execute(count, []).expect("it is counted");
        drop(connection);
        let is_of_disk = |error: &StoreError| matches!(error, StoreError::DiskFailed { .. });
        for number in 1.. {
            fail_read(number);
            let found = open_damaged(&path).and_then(|connection| check_indexes(&connection));
            let is_complete = fail_read(number);
            match found.map_err(|error| error.explain(&path)) {
                Ok(None) => assert!(is_complete, "the failure of read {number} was ignored"),
                found => assert!(found.as_ref().is_err_and(is_of_disk), "{number}: {found:?}"),
            }
            match rescue(&path, &copy, None, copy_rows) {
                Ok(rescued) => assert!(rescued.is_complete && rescued.entries == 9, "{number}: {rescued:?}"),
                Err(error) => assert!(is_of_disk(&error), "{number}: {error}"),
            }
            if fail_read(0) && is_complete {
                return;
            }
        }
    }

    /// Examines a database on a disk without free space.
    fn examined(folder: &Path) -> Result<Examined, StoreError> {
        let app = "shop".parse().expect("a valid name");
        set_aside(&AppFolders::of(folder), &app, false, Some(0), |from, to| rescue(from, to, None, copy_rows))
    }

    /// Creates the database of `shop` in a data folder.
    fn shop() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("the folder is created");
        let path = folder.path().join("apps/shop").join(KEY_VALUE);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder is created");
        let connection = Connection::open(&path).expect("it opens");
        super::super::schema::set_up(&connection).expect("it is set up");
        super::super::schema::make(&connection).expect("the tables are created");
        (folder, path)
    }

    #[test]
    fn a_copy_that_the_disk_fails_leaves_the_examination_open() {
        let (folder, _) = shop();
        let (folders, app) = (AppFolders::of(folder.path()), "shop".parse().expect("a valid name"));
        let failed = StoreError::DiskFailed { detail: "a read failed".to_owned() };
        let found = set_aside(&folders, &app, false, None, |_, _| Err(failed.clone()));
        assert_eq!(found.err(), Some(failed));
    }

    #[test]
    fn a_replacement_waits_while_the_database_cannot_be_inspected() {
        let (folder, path) = shop();
        let (folders, app) = (AppFolders::of(folder.path()), "shop".parse().expect("a valid name"));
        let new = path.with_file_name(NEW);
        fs::rename(&path, &new).expect("it is moved");
        // A link to itself can't be inspected.
        symlink(&path, &path).expect("it is created");
        finish(&folders, &app).expect_err("the database may exist");
        assert!(path.is_symlink() && new.is_file());
        fs::remove_file(&path).expect("it is removed");
        symlink(journal_of(&path), journal_of(&path)).expect("it is created");
        finish(&folders, &app).expect_err("the journal may exist");
        assert!(!path.exists() && new.is_file());
        fs::remove_file(journal_of(&path)).expect("it is removed");
        assert_eq!(finish(&folders, &app), Ok(true));
        assert!(path.is_file());
    }

    #[test]
    fn only_a_damaged_database_needs_free_space() {
        let (folder, path) = shop();
        let found = examined(folder.path());
        assert!(matches!(found, Ok(Examined::Intact)), "{found:?}");
        let mut bytes = fs::read(&path).expect("it is read");
        let page = bytes.len() - 4_096;
        bytes[page..].fill(0xa5);
        fs::write(&path, bytes).expect("it is written");
        let refused = examined(folder.path()).expect_err("the page is damaged").to_string();
        assert!(refused.contains("free some space"), "{refused}");
    }

    #[test]
    fn a_copy_needs_the_space_of_the_file_and_its_journal() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let path = folder.path().join("kv.db");
        fs::write(&path, [0; 5_000]).expect("it is written");
        fs::write(journal_of(&path), [0; 700]).expect("it is written");
        let needed = 5_700 + RESCUE_SPARE_BYTES;
        assert_eq!(check_space(&path, Some(needed)), Ok(()));
        assert_eq!(check_space(&path, None), Ok(()), "the free space is unknown");
        let refused = check_space(&path, Some(needed - 1)).expect_err("the disk is too full");
        let text = refused.to_string();
        assert!(text.contains("17 MiB") && text.contains("free some space"), "{text}");
    }
}
