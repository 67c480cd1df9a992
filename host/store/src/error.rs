//! What can go wrong in the store, as one closed enum. Owns the words, and the one place that tells a full disk from
//! other trouble of SQLite and of the file system. Never logs: an error is logged where it is handled.

use std::io;
use std::path::{Path, PathBuf};

use isopod_policy::{AppName, PushId, Refused, ReleaseNumber};

use crate::control_file::Change;
use crate::limits::{
    APP_BYTES_MAX, BUCKET_BYTES_MAX, GIVEN_CHARS_SHOWN, IDEMPOTENCY_KEY_BYTES_MAX, KEY_BYTES_MAX, TOKENS_MAX,
    USAGE_SKETCH_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::secrets::KEY_FILE_BYTES;

/// What separates the finding from the remedy in errors about a data folder.
const UNCHANGED: &str = "; nothing was changed. ";

/// What can go wrong in the store. It is `Clone`, since one failed commit answers several callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another host works with the same folder.
    #[error(
        "the data folder {} is in use by {}; stop that one first, or choose another folder with --data",
        folder.display(), process(*pid)
    )]
    InUse { folder: PathBuf, pid: Option<u32> },
    /// A file or folder cannot be made, read or written.
    #[error("{}: {detail}", path.display())]
    File { path: PathBuf, detail: String },
    /// The disk has no room left. Nothing is damaged, and writing works again once there is room.
    #[error("the disk is full, so nothing was written; free some space below {} and try again", folder.display())]
    DiskFull { folder: PathBuf },
    /// The folder was written by a newer version.
    #[error("the database has format {found}, and this isopod knows up to {known}; run the newer isopod again")]
    TooNew { found: i64, known: i64 },
    /// The database lists no app, but the folder contains app folders.
    #[error(
        "{} holds the data of apps ({apps}), but control.db lists no app: it is new, empty or older than the apps\
         {UNCHANGED}Restore control.db from a backup, or choose another folder with --data, or start once with \
         --adopt, which moves folders without an app to lost+found/", folder.display()
    )]
    AppsWithoutDatabase { folder: PathBuf, apps: String },
    /// The database has another id than the folder it is in.
    #[error(
        "control.db does not belong to {}: its id is not that in data.id, so it comes from another data folder or from \
         before the folder had an id{UNCHANGED}Restore control.db from a backup of this folder, or choose \
         another folder with --data, or start once with --adopt, which accepts the id of control.db and moves folders \
         without an app to lost+found/", folder.display()
    )]
    OtherDatabase { folder: PathBuf },
    /// The database lists apps, and none of them has a folder.
    #[error(
        "control.db lists apps ({apps}), but none of them has a folder in {}/apps: the folder is half a copy, or its \
         apps/ was lost{UNCHANGED}Restore apps/ from a backup, or choose another folder with --data, or \
         start once with --adopt: the apps then start without data", folder.display()
    )]
    DatabaseWithoutApps { folder: PathBuf, apps: String },
    /// Beside the database are changes to another one.
    #[error(
        "control.db in {} is not the one that control.db-wal beside it belongs to: it was removed or replaced, and both \
         together would be a mix{UNCHANGED}To start with this control.db, move control.db-wal and control.db-shm away: \
         the changes in them are then left out. To keep the changes, put the earlier control.db back, or a copy of it \
         from lost+found/. Or start once with --adopt, which moves both files to lost+found/", folder.display()
    )]
    JournalOfOther { folder: PathBuf },
    /// The file of the database is no longer the one that the running host opened.
    #[error(
        "{} was {change} while the host runs: {}, and what is changed now, such as deploys, config vars and tokens, is lost \
         when the host stops. {}",
        path.display(), control_state(*change), control_remedy(path, saved.as_deref())
    )]
    ControlChanged { path: PathBuf, change: Change, saved: Option<PathBuf> },
    /// The file with the folder's id is invalid.
    #[error("{} has no valid id{UNCHANGED}Restore the file from a backup, or remove it: the host then writes it from control.db", path.display())]
    BadFolderId { path: PathBuf },
    /// A new app's folder already exists and has no tombstone.
    #[error(
        "{} already exists and belongs to no app; move it away, or restart the host, which moves it to lost+found/",
        path.display()
    )]
    FolderInTheWay { path: PathBuf },
    /// The folder of an app that is to be destroyed is a link.
    #[error(
        "{} is a symbolic link, and destroying an app never deletes what a link points to{UNCHANGED}Remove the link, and \
         destroy the app again: the data at {} is kept then, and can be removed by hand", path.display(), target.display()
    )]
    LinkedFolder { path: PathBuf, target: PathBuf },
    /// SQLite reports something that should not happen.
    #[error("the database failed: {detail}; if this repeats, restore the data folder from a backup")]
    Database { detail: String },
    /// Something stored cannot be read back.
    #[error("what is stored is damaged: {detail}; restore the data folder from a backup")]
    Damaged { detail: String },
    /// A store task panicked. Its changes were rolled back; other tasks continue.
    #[error("internal error of the store: {detail}; the change was not written. Please report it")]
    Panicked { detail: String },
    /// The store has been closed.
    #[error("the store is closed, since the host is stopping; try again when it is back")]
    Closed,
    /// An app of this name exists already.
    #[error("an app called {name} exists already; choose another name, or deploy to it")]
    AppExists { name: AppName },
    /// There is no such app.
    #[error("there is no app called {name}; `isopod apps` lists those there are")]
    UnknownApp { name: AppName },
    /// There is no such push.
    #[error("there is no push {id}; it may have been removed together with its app")]
    UnknownPush { id: PushId },
    /// A push of this id exists already.
    #[error("a push {id} exists already; make another id")]
    PushExists { id: PushId },
    /// There is no such release.
    #[error("{app} has no release {number}; `isopod releases` lists those there are")]
    UnknownRelease { app: AppName, number: ReleaseNumber },
    /// No further release number can be given.
    #[error("{app} has used up all release numbers; create the app anew under another name")]
    NoMoreReleases { app: AppName },
    /// The release that serves can neither be removed nor retired by itself.
    #[error("{app} is served by {number}, so it stays; make another release the current one first")]
    ReleaseServes { app: AppName, number: ReleaseNumber },
    /// Only the current release can do this.
    #[error("{number} is not the current release of {app}, which is the only one that can do this")]
    NotCurrent { app: AppName, number: ReleaseNumber },
    /// The state machine does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A key for telling pushes apart that is longer than allowed, or empty.
    #[error("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, and this one has {bytes}; send a UUID")]
    BadIdempotencyKey { bytes: usize },
    /// A sketch of users that is larger than allowed.
    #[error("a sketch of users has at most {USAGE_SKETCH_BYTES_MAX} bytes, and this one has {bytes}")]
    SketchTooLarge { bytes: usize },
    /// A cursor that no list has given out.
    #[error("{cursor:?} is no cursor of this list; begin again without one")]
    BadCursor { cursor: String },
    /// A token of this name exists already.
    #[error("a token called {name:?} exists already; remove it first, or choose another name")]
    TokenExists { name: String },
    /// There is no such token.
    #[error("there is no token called {name:?}")]
    UnknownToken { name: String },
    /// There are as many tokens as there may be.
    #[error("there are {TOKENS_MAX} tokens, which is the most; remove some that are no longer used")]
    TooManyTokens,
    /// The key file can be read by others.
    #[error(
        "{} can be read by others (mode {mode:04o}), so the secrets may be known to them; run `chmod 600 {}`, \
         and set the secrets again if somebody else uses this machine", path.display(), path.display()
    )]
    KeyFileOpen { path: PathBuf, mode: u32 },
    /// The key file is not what was written.
    #[error(
        "{} has {bytes} bytes, and a key has {KEY_FILE_BYTES}; put the file back from a backup, or remove it to begin \
         with a new key and then set every secret again", path.display()
    )]
    KeyFileSize { path: PathBuf, bytes: u64 },
    /// A secret that was sealed with a key that is no longer there.
    #[error(
        "the secret {key} of {app} was sealed with another key: the file secrets.key was lost or replaced; stop the \
         host and put it back from a backup, or set the secret again with `isopod config set {key}=… --secret --app {app}`"
    )]
    SecretOfOtherKey { app: AppName, key: String },
    /// A secret that was changed since it was sealed, or that belongs elsewhere.
    #[error(
        "the secret {key} of {app} is not what was sealed for it: it was changed, or moved from another place; set it \
         again with `isopod config set {key}=… --secret --app {app}`"
    )]
    SecretChanged { app: AppName, key: String },
    /// A text that is no digest.
    #[error("{given:?} is no digest: expected 64 hexadecimal digits of SHA-256")]
    BadDigest { given: String },
    /// There is no such blob.
    #[error(
        "there is no blob {digest}: its file is missing from blobs/ in the data folder; restore it from a backup, or \
         deploy the app again"
    )]
    UnknownBlob { digest: String },
    /// A key that is longer than allowed, or empty.
    #[error("a key has 1 to {KEY_BYTES_MAX} bytes, and this one has {bytes}; keep long data in the value")]
    BadKey { bytes: usize },
    /// A bucket name that is longer than allowed.
    #[error("a bucket's name has at most {BUCKET_BYTES_MAX} bytes, and this one has {bytes}")]
    BadBucket { bytes: usize },
    /// A value that is larger than allowed.
    #[error("a value has at most {VALUE_BYTES_MAX} bytes, and this one has {bytes}; split it over several keys")]
    ValueTooLarge { bytes: usize },
    /// The app's key-value store is full.
    #[error("the app's key-value store holds {APP_BYTES_MAX} bytes, which is the most; delete keys to make room")]
    KeyValueFull,
    /// A value that cannot be counted up.
    #[error(
        "the value of {key:?} is no whole number, or would leave the range of 64 bits, so it cannot be incremented"
    )]
    NotANumber { key: String },
}

/// What a failed call of the file system says, and what to do about it.
fn explained(error: &io::Error) -> String {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "it cannot be written by the user who runs isopod; make it that user's own, or choose another folder with \
             --data"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "it cannot be written, since its file system is mounted for reading only; choose another folder with --data"
        }
        io::ErrorKind::NotFound => "it is not there and cannot be made; choose another folder with --data",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "a file is in the place of a folder; move the file away, or choose another folder with --data"
        }
        _ => "check that the disk works, or choose another folder with --data",
    };
    format!("{error}; {next}")
}

fn process(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("another isopod (process {pid})"),
        None => "another isopod".to_owned(),
    }
}

/// What somebody gave, as it is shown in an error.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(GIVEN_CHARS_SHOWN).collect()
}

/// What the host can do with a `control.db` after this.
fn control_state(change: Change) -> &'static str {
    match change {
        Change::Removed | Change::Replaced => "the host still works with the file that it had opened",
        Change::Overwritten => "the host can't read all of its data any more",
    }
}

/// What to do about a `control.db` that is no longer the one of the running host.
fn control_remedy(path: &Path, saved: Option<&Path>) -> String {
    match saved {
        Some(saved) => format!(
            "Its content was saved as {}: stop the host, and move that file to {}, unless the file there is the one that \
             you want",
            saved.display(),
            path.display()
        ),
        None => {
            "Stop the host, restore control.db from a backup or from a copy in lost+found/, and start it".to_owned()
        }
    }
}

impl StoreError {
    /// The error as a finding and its remedy, where it has one.
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

    /// Whether there is no room on the disk, so that the same works once there is some.
    pub fn is_of_full_disk(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Whether it says nothing of what is stored, so that the same may well work in a moment: too many files were open, or
    /// the disk was full.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::File { .. } | Self::DiskFull { .. } | Self::Database { .. } | Self::Closed)
    }

    /// What a failed call of the file system means.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { folder: path.parent().unwrap_or(path).to_owned() }
            }
            _ => Self::File { path: path.to_owned(), detail: explained(error) },
        }
    }

    /// What a failed call of SQLite means; `path` is the database file.
    pub(crate) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull { folder: path.parent().unwrap_or(path).to_owned() },
            Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::PermissionDenied) => {
                Self::File { path: path.to_owned(), detail: explained(&io::ErrorKind::PermissionDenied.into()) }
            }
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged { detail: format!("{}: {error}", path.display()) }
            }
            _ => Self::Database { detail: format!("{}: {error}", path.display()) },
        }
    }

    pub(crate) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Damaged { detail: what.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_told_from_one_that_is_not_there() {
        let told = |kind: io::ErrorKind| StoreError::file(Path::new("data/lock"), &kind.into()).to_string();
        assert!(told(io::ErrorKind::PermissionDenied).contains("cannot be written by the user"));
        assert!(told(io::ErrorKind::ReadOnlyFilesystem).contains("for reading only"));
        assert!(told(io::ErrorKind::NotFound).contains("is not there"));
    }
}
