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
    /// Open until then, since closing the file releases the lock.
    _file: File,
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
        Ok(Self { _file: file })
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
    // Released again when the file is closed.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(StoreError::file(&path, &error)),
    }
}

/// Returns the process id in the lock file, if it was already written.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
