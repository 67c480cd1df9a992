//! The errors of the store, as one closed enum. Owns their texts, and the distinction of a full
//! disk from other failures of SQLite and the file system. Never logs: an error is logged where it
//! is handled.

use std::io;
use std::path::{Path, PathBuf};

use isopod_policy::{AppName, PushId, Refused, ReleaseNumber};
use jiff::Timestamp;

use crate::limits::{
    APP_BYTES_MAX, BUCKET_BYTES_MAX, EVENT_BATCH_BYTES_MAX, EVENT_BYTES_MAX, EVENT_BYTES_PER_APP_MAX,
    EVENTS_PER_APP_MAX, EVENTS_PER_BATCH_MAX, GIVEN_CHARS_SHOWN, IDEMPOTENCY_KEY_BYTES_MAX, KEY_BYTES_MAX,
    KEY_FILE_BYTES, TOKENS_MAX, USAGE_SKETCH_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::probe::{is_full, is_read_only};

/// Separates the finding from the remedy in errors about a data folder.
const UNCHANGED: &str = "; nothing was changed. ";

/// How a `control.db` that a host has open was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Removed,
    Replaced,
    Overwritten,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Removed => "removed",
            Self::Replaced => "replaced",
            Self::Overwritten => "overwritten",
        })
    }
}

/// An error of the store. It is `Clone`, since one failed commit answers several callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another host uses the same folder.
    #[error(
        "the data folder {} is in use by {}; stop it first, or choose another folder with --data",
        folder.display(), process(*pid)
    )]
    InUse { folder: PathBuf, pid: Option<u32> },
    /// A file or folder can't be created, read or written.
    #[error("{}: {detail}", path.display())]
    File { path: PathBuf, detail: String },
    /// The disk is full. Nothing is damaged, and writes succeed again once space is free.
    #[error("the disk is full, so nothing was written; free some space below {} and try again", folder.display())]
    DiskFull { folder: PathBuf },
    /// The file system is read-only, as after a disk error. Nothing is damaged, and writes succeed
    /// again once it is writable.
    #[error(
        "{} is on a read-only file system; make it writable, or choose another folder with --data", folder.display()
    )]
    ReadOnly { folder: PathBuf },
    /// The disk reports an error. A change may be stored: after a failed sync, its content may be
    /// on the disk. A retry may succeed.
    #[error(
        "the disk failed: {detail}; a change may or may not be stored; try again; if it fails again, check the disk"
    )]
    DiskFailed { detail: String },
    /// A newer version has written the file, or its format number is damaged.
    #[error("the database has format {found}, {}", other_format(*found, *known))]
    TooNew { found: i64, known: i64 },
    /// The database lists no app, but the folder contains app folders.
    #[error(
        "{} contains data of apps ({apps}), but control.db lists no app: it is new, empty or older than the apps\
         {UNCHANGED}Restore control.db from a backup, or choose another folder with --data, or start once with \
         --adopt, which moves folders without an app to lost+found/", folder.display()
    )]
    AppsWithoutDatabase { folder: PathBuf, apps: String },
    /// The database's id differs from its folder's.
    #[error(
        "control.db does not belong to {}: its id differs from data.id, so it comes from another data folder or from \
         a time before the folder had an id{UNCHANGED}Restore control.db from a backup of this folder, or choose \
         another folder with --data, or start once with --adopt, which accepts the id of control.db and moves folders \
         without an app to lost+found/", folder.display()
    )]
    OtherDatabase { folder: PathBuf },
    /// The database lists apps, but none has a folder.
    #[error(
        "control.db lists apps ({apps}), but none of them has a folder in {}/apps: the folder is an incomplete \
         copy, or its apps/ was lost{UNCHANGED}Restore apps/ from a backup, or choose another folder with --data, or \
         start once with --adopt: the apps then start without data", folder.display()
    )]
    DatabaseWithoutApps { folder: PathBuf, apps: String },
    /// The journal beside the database belongs to another database.
    #[error(
        "control.db-wal in {} belongs to another control.db, which was removed or replaced; opening both would mix two \
         databases{UNCHANGED}To start with this control.db, move control.db-wal and control.db-shm away: \
         their changes are then lost. To keep the changes, put the earlier control.db back, or a copy of it \
         from lost+found/. Or start once with --adopt, which moves both files to lost+found/", folder.display()
    )]
    JournalOfOther { folder: PathBuf },
    /// The database file is not the file that the running host opened.
    #[error(
        "{} was {change} while the host runs: {}, and every change from now on, such as a deploy, a config var or a \
         token, is lost when the host stops. {}",
        path.display(), control_state(*change), control_remedy(path, saved.as_deref())
    )]
    ControlChanged { path: PathBuf, change: Change, saved: Option<PathBuf> },
    /// The file with the folder's id is invalid.
    #[error(
        "{} has no valid id{UNCHANGED}Restore the file from a backup, or remove it: the host then writes it from \
         control.db", path.display()
    )]
    BadFolderId { path: PathBuf },
    /// A new app's folder already exists and has no tombstone.
    #[error(
        "{} already exists, but no app owns it; move it away, or restart the host, which moves it to lost+found/",
        path.display()
    )]
    FolderInTheWay { path: PathBuf },
    /// The folder of an app to be destroyed is a symbolic link.
    #[error(
        "{} is a symbolic link, and destroying an app never deletes the target of a link{UNCHANGED}Remove the link, \
         and destroy the app again: the data at {} stays, and can be removed by hand", path.display(), target.display()
    )]
    LinkedFolder { path: PathBuf, target: PathBuf },
    /// SQLite reports an unexpected error.
    #[error("the database failed: {detail}; if this repeats, restore the data folder from a backup")]
    Database { detail: String },
    /// A stored record can't be read back.
    #[error("stored data is damaged: {detail}; restore the data folder from a backup")]
    Damaged { detail: String },
    /// The database of an app is damaged.
    #[error("the app's database is damaged: {detail}; the host replaces it before a later call of the app")]
    AppDataDamaged { detail: String },
    /// A store task panicked. Its changes were rolled back; other tasks continue.
    #[error("internal error of the store: {detail}; the change was not written. Please report it")]
    Panicked { detail: String },
    /// The store has been closed.
    #[error("the store is closed because the host is stopping; try again after the restart")]
    Closed,
    /// An app with this name already exists.
    #[error("an app named {name} already exists; choose another name, or deploy to it")]
    AppExists { name: AppName },
    /// The app doesn't exist.
    #[error("no app named {name}; `isopod apps` lists all apps")]
    UnknownApp { name: AppName },
    /// The push doesn't exist.
    #[error("no push {id}; it may have been removed together with its app")]
    UnknownPush { id: PushId },
    /// A push with this id already exists.
    #[error("push {id} already exists; choose another id")]
    PushExists { id: PushId },
    /// The release doesn't exist.
    #[error("{app} has no release {number}; `isopod releases` lists all releases")]
    UnknownRelease { app: AppName, number: ReleaseNumber },
    /// All release numbers are used.
    #[error("{app} has used all release numbers; create an app with another name")]
    NoMoreReleases { app: AppName },
    /// The current release can't be removed or retired.
    #[error("{number} is the current release of {app} and can't be removed; make another release current first")]
    ReleaseServes { app: AppName, number: ReleaseNumber },
    /// The operation requires the current release.
    #[error("{number} is not the current release of {app}; only the current release can do this")]
    NotCurrent { app: AppName, number: ReleaseNumber },
    /// The state machine has no such step.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// An idempotency key is empty or too long.
    #[error("an idempotency key must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, not {bytes}; send a UUID")]
    BadIdempotencyKey { bytes: usize },
    /// A sketch of users is too large.
    #[error("a sketch of users must have at most {USAGE_SKETCH_BYTES_MAX} bytes, not {bytes}")]
    SketchTooLarge { bytes: usize },
    /// A cursor that doesn't belong to the list.
    #[error("invalid cursor {cursor:?}; start again without a cursor")]
    BadCursor { cursor: String },
    /// A token with this name already exists.
    #[error("a token named {name:?} already exists; remove it first, or choose another name")]
    TokenExists { name: String },
    /// The token doesn't exist.
    #[error("no token named {name:?}")]
    UnknownToken { name: String },
    /// A rotated token would already be expired.
    #[error("the token {name:?} expired at {expired_at}; give the rotated token a later expiry")]
    TokenExpired { name: String, expired_at: Timestamp },
    /// The limit of tokens is reached.
    #[error("the limit of {TOKENS_MAX} tokens is reached; remove unused tokens")]
    TooManyTokens,
    /// Other users can read the key file.
    #[error(
        "{} can be read by other users (mode {mode:04o}), so they may know the secrets; run `chmod 600 {}`, \
         and set the secrets again if other users have access to this machine", path.display(), path.display()
    )]
    KeyFileOpen { path: PathBuf, mode: u32 },
    /// The key file has the wrong size.
    #[error(
        "{} has {bytes} bytes, but a key has {KEY_FILE_BYTES}; restore the file from a backup, or remove it to start \
         with a new key and then set every secret again", path.display()
    )]
    KeyFileSize { path: PathBuf, bytes: u64 },
    /// A secret was sealed with a key that is lost.
    #[error(
        "the secret {key} of {app} was sealed with another key: the file secrets.key was lost or replaced; stop the \
         host and restore it from a backup, or set the secret again with \
         `isopod config set {key}=… --secret --app {app}`"
    )]
    SecretOfOtherKey { app: AppName, key: String },
    /// A secret was changed after it was sealed, or belongs to another app or config var.
    #[error(
        "the secret {key} of {app} does not match its seal: it was changed, or moved from another app or key; set it \
         again with `isopod config set {key}=… --secret --app {app}`"
    )]
    SecretChanged { app: AppName, key: String },
    /// A text is not a digest.
    #[error("invalid digest {given:?}: expected 64 hexadecimal digits of SHA-256")]
    BadDigest { given: String },
    /// The blob doesn't exist.
    #[error(
        "no blob {digest}: its file is missing from blobs/ in the data folder; restore it from a backup, or \
         deploy the app again"
    )]
    UnknownBlob { digest: String },
    /// A key is empty or too long.
    #[error("a key must have 1 to {KEY_BYTES_MAX} bytes, not {bytes}; store long data in the value")]
    BadKey { bytes: usize },
    /// A bucket name is too long.
    #[error("a bucket's name must have at most {BUCKET_BYTES_MAX} bytes, not {bytes}")]
    BadBucket { bytes: usize },
    /// A value is too large.
    #[error("a value must have at most {VALUE_BYTES_MAX} bytes, not {bytes}; split it over several keys")]
    ValueTooLarge { bytes: usize },
    /// The app's key-value store is full.
    #[error("the app's key-value store is full (limit: {APP_BYTES_MAX} bytes); delete keys to free space")]
    KeyValueFull,
    /// The app has too many events that have not ended.
    #[error(
        "the app's event queue is full (limits: {EVENTS_PER_APP_MAX} events and {EVENT_BYTES_PER_APP_MAX} bytes, dead \
         letters included); send the event again after others were handled, or drop dead letters"
    )]
    EventQueueFull,
    /// An event is too large.
    #[error("an event must have at most {EVENT_BYTES_MAX} bytes, not {bytes}; store large data elsewhere")]
    EventTooLarge { bytes: u64 },
    /// A call has too many events.
    #[error(
        "a batch must have at most {EVENTS_PER_BATCH_MAX} events and {EVENT_BATCH_BYTES_MAX} bytes, not {events} \
         events and {bytes} bytes; send several batches"
    )]
    EventBatchTooLarge { events: usize, bytes: u64 },
    /// A value that can't be incremented.
    #[error("the value of {key:?} can't be incremented: it is not a whole number, or the sum exceeds 64 bits")]
    NotANumber { key: String },
}

/// Describes a failed file system call, with a remedy.
fn explained(error: &io::Error) -> String {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the user that runs isopod can't write it; change its owner to that user, or choose another folder with \
             --data"
        }
        io::ErrorKind::NotFound => "it doesn't exist and can't be created; choose another folder with --data",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "a file exists where a folder is needed; move the file away, or choose another folder with --data"
        }
        _ => "check the disk, or choose another folder with --data",
    };
    format!("{error}; {next}")
}

/// How to repair a damaged format number.
const REPAIR: &str = "restore the file from a backup, or see \"A format that no isopod has written\" in \
                      docs/operations.md";

/// Describes a format that this version doesn't support.
fn other_format(found: i64, known: i64) -> String {
    if found > known {
        format!(
            "but this isopod supports formats up to {known}; run the newer isopod again (if no newer isopod has \
             written it, the format number is damaged: {REPAIR})"
        )
    } else {
        format!("which no isopod has written (this one writes {known}), so the format number is damaged; {REPAIR}")
    }
}

fn process(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("another isopod (process {pid})"),
        None => "another isopod".to_owned(),
    }
}

/// Returns a user's input, shortened for an error text.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(GIVEN_CHARS_SHOWN).collect()
}

/// Describes how a running host is affected by a changed `control.db`.
fn control_state(change: Change) -> &'static str {
    match change {
        Change::Removed | Change::Replaced => "the host continues with the file that it had opened",
        Change::Overwritten => "the host can't read all of its data",
    }
}

/// Describes how to repair a changed `control.db` of a running host.
fn control_remedy(path: &Path, saved: Option<&Path>) -> String {
    match saved {
        Some(saved) => format!(
            "Its content was saved as {}: stop the host, and move that file to {}, unless you want to keep \
             the file there",
            saved.display(),
            path.display()
        ),
        None => {
            "Stop the host, restore control.db from a backup or from a copy in lost+found/, and start it".to_owned()
        }
    }
}

impl StoreError {
    /// Returns the error as a finding and its remedy, if it has one.
    pub fn finding(&self) -> (String, Option<String>) {
        let text = self.to_string();
        if let Self::ControlChanged { path, saved, .. } = self {
            let remedy = control_remedy(path, saved.as_deref());
            let finding = text.strip_suffix(&remedy).unwrap_or(&text).trim_end_matches(". ");
            return (finding.to_owned(), Some(remedy));
        }
        match text.split_once(UNCHANGED) {
            Some((finding, remedy)) => (finding.to_owned(), Some(remedy.to_owned())),
            None => (text, None),
        }
    }

    /// Returns whether the disk is full, so that a retry succeeds once space is free.
    pub fn is_of_full_disk(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Returns whether the disk can't be written for a while, so that a retry may succeed.
    pub fn is_of_unwritable_disk(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::ReadOnly { .. } | Self::DiskFailed { .. })
    }

    /// Returns whether the error may be temporary and says nothing about the stored data, such as
    /// too many open files or a full disk.
    pub fn is_passing(&self) -> bool {
        self.is_of_unwritable_disk() || matches!(self, Self::File { .. } | Self::Database { .. } | Self::Closed)
    }

    /// Converts a failed file system call.
    pub fn file(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { folder: path.parent().unwrap_or(path).to_owned() }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { folder: path.parent().unwrap_or(path).to_owned() },
            _ if is_disk_failure(error) => Self::DiskFailed { detail: format!("{}: {error}", path.display()) },
            _ => Self::File { path: path.to_owned(), detail: explained(error) },
        }
    }

    /// Converts a failed SQLite call; `path` is the database file.
    pub(crate) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as E;
        let folder = path.parent().unwrap_or(path);
        let detail = || format!("{}: {error}", path.display());
        match error.sqlite_error_code() {
            Some(E::DiskFull) => Self::DiskFull { folder: folder.to_owned() },
            // SQLite has no error code of its own for a read-only file system.
            Some(E::ReadOnly | E::PermissionDenied | E::SystemIoFailure | E::CannotOpen) if is_read_only(folder) => {
                Self::ReadOnly { folder: folder.to_owned() }
            }
            Some(E::ReadOnly | E::PermissionDenied) => {
                Self::File { path: path.to_owned(), detail: explained(&io::ErrorKind::PermissionDenied.into()) }
            }
            // SQLite reports a failure to enlarge the index of a journal as a disk error.
            Some(E::SystemIoFailure) if is_of_index_size(error) && is_full(folder) => {
                Self::DiskFull { folder: folder.to_owned() }
            }
            Some(E::SystemIoFailure) => Self::DiskFailed { detail: detail() },
            Some(E::DatabaseCorrupt | E::NotADatabase) => Self::Damaged { detail: detail() },
            None if is_invalid_value(error) => Self::Damaged { detail: detail() },
            _ => Self::Database { detail: detail() },
        }
    }

    pub(crate) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Damaged { detail: what.to_string() }
    }
}

/// Returns whether the disk reports an error, which says nothing about the content of a file.
fn is_disk_failure(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::ENXIO))
}

/// Returns whether the error states that the index of a journal can't be enlarged.
fn is_of_index_size(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// Returns whether a stored value is not valid for its column. All tables are strict, so the host
/// never writes such a value.
fn is_invalid_value(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    matches!(
        error,
        E::Utf8Error(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) | E::FromSqlConversionFailure(..)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_distinguish_an_unwritable_folder_from_a_missing_folder() {
        let text = |kind: io::ErrorKind| StoreError::file(Path::new("data/lock"), &kind.into()).to_string();
        assert!(text(io::ErrorKind::PermissionDenied).contains("the user that runs isopod"));
        assert!(text(io::ErrorKind::ReadOnlyFilesystem).contains("data is on a read-only file system"));
        assert!(text(io::ErrorKind::NotFound).contains("doesn't exist"));
    }

    #[test]
    fn a_failed_disk_is_not_reported_as_a_change_that_was_not_stored() {
        use rusqlite::ffi::{Error, SQLITE_IOERR_FSYNC};
        let error = rusqlite::Error::SqliteFailure(Error::new(SQLITE_IOERR_FSYNC), None);
        let error = StoreError::sqlite(Path::new("missing/kv.db"), &error);
        assert!(matches!(error, StoreError::DiskFailed { .. }));
        assert!(error.to_string().contains("may or may not be stored"), "{error}");
    }

    #[test]
    fn a_value_of_another_type_is_damage() {
        let connection = rusqlite::Connection::open_in_memory().expect("a database in memory opens");
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u32>(0)).expect_err("no number");
        for sql in ["SELECT -1", "SELECT 'one'", "SELECT NULL"] {
            let error = StoreError::sqlite(Path::new("kv.db"), &number(sql));
            assert!(matches!(error, StoreError::Damaged { .. }), "{sql}: {error}");
        }
        let text = connection.query_row("SELECT CAST(X'ff' AS TEXT)", [], |row| row.get::<_, String>(0));
        let error = StoreError::sqlite(Path::new("kv.db"), &text.expect_err("it is not UTF-8"));
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}
