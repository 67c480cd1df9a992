//! Owns a small disk of its own, to be filled without any harm to others.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A small disk, until it is dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where the user may not: only root can mount one; the store's own tests fill a database up to a bound instead, wherever they run.
    pub fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("isopod-disk-").tempdir().expect("a folder can be made");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            _ => {
                println!("note: passed over, since only root can mount a small disk to be filled");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it to the last byte, and gives the file that does so.
    ///
    /// # Panics
    /// Where no file can be made on it.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).expect("a file can be made");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, should the host still be there because the test failed.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
