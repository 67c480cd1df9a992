//! A file that holds disk space in reserve. On a full disk its space is released for an operation
//! that frees space or stops harm: an operator must be able to remove the app that filled the disk.
//! Never decides which operation that is.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::StoreError;
use crate::files::private_file;
use crate::limits::RESERVE_BYTES;

/// The file's name in the data folder.
const NAME: &str = "disk.reserve";

/// The reserved disk space.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    /// Locked while the file changes.
    changing: Mutex<()>,
}

impl Reserve {
    /// Creates the file in a data folder. On a full disk it is smaller, or is missing.
    pub(crate) fn open(folder: &Path) -> Self {
        let reserve = Self { path: folder.join(NAME), changing: Mutex::new(()) };
        reserve.restore();
        reserve
    }

    /// Grows the file to its size. On a disk without that much space, the file takes half of the
    /// space, so that the reserve itself doesn't fill the disk. Blocks.
    pub(crate) fn restore(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let length = fs::metadata(&self.path).map_or(0, |found| found.len());
        if length >= RESERVE_BYTES {
            return;
        }
        let Ok(mut file) = private_file(&self.path) else { return };
        if file.set_len(0).and_then(|()| fill(&mut file)).is_err() {
            let written = file.metadata().map_or(0, |found| found.len());
            // A failure leaves a reserve of another size.
            let _ = file.set_len(written / 2);
        }
    }

    /// Releases the space. Blocks.
    pub(crate) fn release(&self) -> Result<(), StoreError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::file(&self.path, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Fills the file with bytes that no file system can compress: zeros may take no space.
fn fill(file: &mut File) -> std::io::Result<()> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut part = Vec::with_capacity(PART_BYTES);
    for _ in 0..RESERVE_BYTES / PART_BYTES as u64 {
        part.clear();
        while part.len() < PART_BYTES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            part.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&part)?;
    }
    Ok(())
}

/// Bytes of one write.
const PART_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn length(folder: &Path) -> Option<u64> {
        fs::metadata(folder.join(NAME)).ok().map(|found| found.len())
    }

    #[test]
    fn a_released_reserve_is_restored_to_its_size() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let reserve = Reserve::open(folder.path());
        assert_eq!(length(folder.path()), Some(RESERVE_BYTES));
        reserve.release().and_then(|()| reserve.release()).expect("a missing reserve is not an error");
        assert_eq!(length(folder.path()), None);
        fs::write(folder.path().join(NAME), "small").expect("it is written");
        reserve.restore();
        assert_eq!(length(folder.path()), Some(RESERVE_BYTES));
    }
}
