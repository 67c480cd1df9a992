//! Files and folders that only their owner may read. Owns their modes, folder fsync, atomic writes
//! and the sweep of unused files. Never reads content.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::StoreError;

/// Creates the folder and its parents with access for the owner only, or sets the mode of an
/// existing folder.
pub(crate) fn private_folder(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::file(path, &error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)
}

/// Returns whether a file or folder exists. A path that can't be inspected now is an error: it may
/// exist.
pub(crate) fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|error| StoreError::file(path, &error))
}

/// Opens or creates a file that only its owner may read. SQLite gives its journal the same mode.
pub(crate) fn private_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::file(path, &error))
}

/// Refuses a symbolic link: one to the file of another app would mix the data of both. A missing
/// file is not refused.
pub(crate) fn refuse_link(path: &Path) -> Result<(), StoreError> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Ok(());
    }
    let detail = "it is a symbolic link, so another app may use the same file; stop the host, and replace it with \
                  a copy of the right file";
    Err(StoreError::File { path: path.to_owned(), detail: detail.to_owned() })
}

/// Writes a file atomically: after any crash, it is complete or unchanged. It is written as
/// `unfinished`, in the same folder, and renamed once it is on disk. A crash may leave the
/// unfinished file, which the next write replaces.
pub(crate) fn write_whole(path: &Path, unfinished: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let written = write(unfinished, bytes).and_then(|()| {
        fs::rename(unfinished, path).map_err(|error| StoreError::file(path, &error))?;
        path.parent().map_or(Ok(()), sync_folder)
    });
    if written.is_err() {
        // Free its disk space immediately. If this fails too, the next write replaces the file.
        let _ = fs::remove_file(unfinished);
    }
    written
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = private_file(path)?;
    let written = file.set_len(0).and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
    written.map_err(|error| StoreError::file(path, &error))
}

/// Identifies a file among all files that exist at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the id of the file at this path, if it exists and can be inspected.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        Self::find(path).ok().flatten()
    }

    /// Returns the id of the file at this path, if it exists.
    pub(crate) fn find(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Self { device: found.dev(), inode: found.ino() })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the file is at this path and has content; also true if the path can't be
    /// inspected.
    pub(crate) fn is_at(self, path: &Path) -> bool {
        match fs::metadata(path) {
            Ok(found) => found.dev() == self.device && found.ino() == self.inode && found.len() > 0,
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

/// Makes the entries of a folder durable: without it, a crash may lose a file that was just
/// renamed.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| StoreError::file(path, &error))
}

/// Removes a folder with all its content. A missing folder is not an error.
pub(crate) fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::file(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the content of a folder. A missing folder is not an error.
pub(crate) fn empty_folder(path: &Path) -> Result<(), StoreError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|error| StoreError::file(path, &error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| StoreError::file(path, &error))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let entry = entry.path();
        match if is_folder { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) } {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(StoreError::file(&entry, &error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Returns the names in a folder that are valid text; the host creates no others.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |error| StoreError::file(folder, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

/// Removes the files directly in the folder that `keep` rejects by name and that were not written
/// within `idle`, and returns their number. For folders with data that can be created again, such
/// as compiled code.
///
/// `idle` must be longer than it takes to write a file and record its use.
pub async fn remove_unused_files(
    folder: &Path,
    keep: impl Fn(&str) -> bool + Send + 'static,
    idle: Duration,
) -> Result<usize, StoreError> {
    let folder = folder.to_owned();
    blocking(move || {
        let mut removed = 0;
        for name in names(&folder)? {
            let path = folder.join(&name);
            if keep(&name) || !was_idle(&path, idle) {
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::file(&path, &error)),
            }
        }
        Ok(removed)
    })
    .await
}

/// Returns whether the path is a file that was not written within `idle`. False if its age is
/// unknown, as after a change of the clock.
pub(crate) fn was_idle(path: &Path, idle: Duration) -> bool {
    let file = fs::metadata(path).ok().filter(Metadata::is_file);
    let modified = file.and_then(|file| file.modified().ok());
    modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= idle)
}

/// Runs blocking disk work on a blocking thread of the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}
