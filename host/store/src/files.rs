//! Files and folders that only their owner may read. Owns the modes, the fsync of a folder, how a file comes to be
//! there whole or not at all, and how files that nobody needs are swept up. Never reads content.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::StoreError;

/// Makes the folder with all above it, closed to everybody but its owner, or closes it if it is there.
pub(crate) fn private_folder(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::file(path, &error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)
}

/// Opens or makes a file that only its owner may read. SQLite gives its journal the same mode.
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

/// Writes a file that is there whole or not at all, whenever the machine stops. It is written as `unfinished`, in the
/// same folder, and renamed once it is on disk; a crash may leave the unfinished one behind, and the next writer
/// replaces it.
pub(crate) fn write_whole(path: &Path, unfinished: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let written = write(unfinished, bytes).and_then(|()| {
        fs::rename(unfinished, path).map_err(|error| StoreError::file(path, &error))?;
        path.parent().map_or(Ok(()), sync_folder)
    });
    if written.is_err() {
        // The room it took is needed most now; should this fail too, whoever writes next replaces the file.
        let _ = fs::remove_file(unfinished);
    }
    written
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = private_file(path)?;
    let written = file.set_len(0).and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
    written.map_err(|error| StoreError::file(path, &error))
}

/// Tells a file from every other that exists at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file at this path, if there is one.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|found| Self { device: found.dev(), inode: found.ino() })
    }

    /// Whether the file is at this path and has content; also where the path can't be looked at.
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

/// Makes the names in a folder last: without it a crash may lose a file that was just renamed into place.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| StoreError::file(path, &error))
}

/// Removes a folder with all below it; that it is not there is fine.
pub(crate) fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::file(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The names in a folder that are text; no others are ours.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |error| StoreError::file(folder, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

/// Removes the files right in the folder that `keep` does not want by their name and that nobody has written for
/// `idle`, and returns how many they were. For folders of what can be made again, such as compiled code.
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

/// Whether it is a file that nobody wrote for so long. If its age cannot be told, as after a change of the clock, it is
/// not.
pub(crate) fn was_idle(path: &Path, idle: Duration) -> bool {
    let file = fs::metadata(path).ok().filter(Metadata::is_file);
    let modified = file.and_then(|file| file.modified().ok());
    modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= idle)
}

/// Runs what waits for the disk on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}
