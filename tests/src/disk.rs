//! Mounts a small disk that a test can fill without harm to other tests.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A small disk, unmounted on drop.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts the disk. Returns `None` without the right to mount, which only root has. The store's
    /// own tests fill a database up to a limit instead, on every machine.
    pub fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("isopod-disk-").tempdir().expect("a folder can be made");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            _ => {
                println!("note: skipped, since only root can mount a small disk");
                None
            }
        }
    }

    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills the disk to the last byte, and returns the filler file.
    ///
    /// # Panics
    /// If no file can be created.
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
        // Lazily, because a failed test may leave the host running.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
