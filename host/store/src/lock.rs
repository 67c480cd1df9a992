//! The lock that keeps two hosts from working with one data folder. Owns the file `lock`. The kernel lets go of it when the
//! process ends, however it ends, so a crash never leaves it behind.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;

use crate::StoreError;
use crate::files::private_file;

/// The name of the file.
const LOCK: &str = "lock";

/// The data folder is ours as long as this lives.
#[derive(Debug)]
pub(crate) struct FolderLock {
    /// Kept open, since closing it would unlock it.
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
        // The number only helps people, so a full disk must not keep a host from starting.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// Whether a host works with the folder.
pub(crate) fn is_locked(folder: &Path) -> Result<bool, StoreError> {
    let path = folder.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::file(&path, &error)),
    };
    // Unlocked again as the file is closed.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(StoreError::file(&path, &error)),
    }
}

/// The process that wrote its number into the lock file, if it has done so yet.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
