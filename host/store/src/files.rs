//! Files and folders that only their owner may read. Owns the modes, the fsync of a folder, and how a file comes to be
//! there whole or not at all. Never reads content.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

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

/// Writes a file that is there whole or not at all, whenever the machine stops. It is written as `unfinished`, in the same
/// folder, and renamed once it is on disk; a crash may leave the unfinished one behind, and the next writer replaces it.
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

/// Makes the names in a folder last: without it a crash may lose a file that was just renamed into place.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| StoreError::file(path, &error))
}

/// Removes a folder with all below it; that it is not there is fine.
pub(crate) fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::file(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
