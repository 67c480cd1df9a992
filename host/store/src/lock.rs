//! The lock that prevents two hosts from using one data folder. Owns the file `lock`. The kernel
//! releases it when the process ends, however it ends, so a crash never leaves it behind. Never
//! waits for the lock.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;

use crate::StoreError;
use crate::files::private_file;

/// The name of the file.
const LOCK: &str = "lock";

/// The exclusive use of the data folder, released on drop.
#[derive(Debug)]
pub(crate) struct FolderLock {
    file: File,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        unlock(&self.file);
    }
}

impl FolderLock {
    pub(crate) fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(LOCK);
        let mut file = private_file(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { folder: folder.to_owned(), pid: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::file(&path, &error)),
        }
        // The process id only helps operators, so a full disk must not prevent a start.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}

/// Returns whether a host uses the folder.
pub(crate) fn is_locked(folder: &Path) -> Result<bool, StoreError> {
    let path = folder.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::file(&path, &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => {
            unlock(&file);
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(StoreError::file(&path, &error)),
    }
}

/// Releases the lock explicitly. Closing the file is not sufficient: a child process inherits a
/// copy of each open file when it is forked, and holds the lock until it executes its program.
fn unlock(file: &File) {
    // If this fails, the kernel releases the lock when the last copy of the file is closed.
    let _ = file.unlock();
}

/// Returns the process id in the lock file, if it was already written.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_open_file_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let lock = FolderLock::take(folder.path()).expect("the folder is not in use");
        // A child process has such a copy until it executes its program.
        let copy = lock.file.try_clone().expect("an open file can be copied");
        assert!(matches!(FolderLock::take(folder.path()), Err(StoreError::InUse { .. })));
        drop(lock);
        assert!(!is_locked(folder.path()).expect("it can be read"));
        FolderLock::take(folder.path()).expect("the folder is not in use any longer");
        drop(copy);
    }
}
