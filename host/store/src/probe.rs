//! Probes for a read-only file system and for a full disk, where SQLite has no error code of its
//! own, and reads the free space of a disk. Never leaves a file with content behind.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The name of the file that the probe creates and removes.
const NAME: &str = ".write-probe";

/// Returns whether the file system of a folder is read-only: tries to create a file.
pub(crate) fn is_read_only(folder: &Path) -> bool {
    let probe = folder.join(NAME);
    match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&probe) {
        Ok(_) => {
            // If the file can't be removed, it is empty, and the next probe removes it.
            let _ = fs::remove_file(&probe);
            false
        }
        Err(error) => error.kind() == ErrorKind::ReadOnlyFilesystem,
    }
}

/// Bytes that the probe for a full disk writes: the size of a new index of a journal.
const INDEX_BYTES: usize = 32 << 10;

/// Returns whether a folder has no space for the index of a journal: tries to write as many bytes.
pub(crate) fn is_full(folder: &Path) -> bool {
    let probe = folder.join(NAME);
    let Ok(mut file) = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe) else {
        return false;
    };
    let written = file.write_all(&[0; INDEX_BYTES]);
    let _ = (file.set_len(0), fs::remove_file(&probe));
    written.is_err_and(|error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// Returns the free space of a path's file system, or `None` if it can't be read.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: both pointers are valid for the call; the structure is read only after a successful
    // call has filled it.
    let answer = unsafe {
        if libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) != 0 {
            return None;
        }
        answer.assume_init()
    };
    Some(answer.f_bavail.saturating_mul(answer.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_of_a_writable_folder_leaves_no_file() {
        let folder = tempfile::tempdir().expect("the folder is created");
        assert!(!is_read_only(folder.path()) && !is_read_only(&folder.path().join("missing")));
        assert!(!is_full(folder.path()) && !is_full(&folder.path().join("missing")));
        assert_eq!(fs::read_dir(folder.path()).expect("it is read").count(), 0);
    }

    #[test]
    fn the_free_space_of_a_folder_is_known() {
        let folder = tempfile::tempdir().expect("the folder is created");
        assert!(free_bytes(folder.path()).is_some_and(|bytes| bytes > 0));
        assert_eq!(free_bytes(&folder.path().join("missing")), None);
    }
}
