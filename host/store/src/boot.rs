//! Records the boot of the machine in which files were last written. Killing the host preserves all
//! writes in the system's memory; a power failure loses those that were not synced. Never names a
//! database.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::files::write_whole;

/// The file with the id of the boot in which the host last started. The first start in a boot
/// writes it.
const NAME: &str = "boot.id";
/// The system's id of its boot.
const SYSTEM: &str = "/proc/sys/kernel/random/boot_id";

/// The current boot, with the time of the host's first start in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boot {
    /// `None` if the time is unknown.
    since: Option<SystemTime>,
}

impl Boot {
    /// Reads the record in a data folder, and replaces it after a restart of the machine.
    pub(crate) fn open(folder: &Path) -> Self {
        let path = folder.join(NAME);
        let since = || {
            let id = fs::read_to_string(SYSTEM).ok()?;
            if fs::read_to_string(&path).ok().as_ref() != Some(&id) {
                write_whole(&path, &path.with_extension("new"), id.as_bytes()).ok()?;
            }
            fs::metadata(&path).ok()?.modified().ok()
        };
        Self { since: since() }
    }

    /// Returns whether the file was last written in this boot. False if that is unknown.
    pub(crate) fn has_written(self, file: &Path) -> bool {
        let modified = fs::metadata(file).and_then(|found| found.modified()).ok();
        self.since.is_some_and(|since| modified.is_some_and(|modified| modified >= since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_since_the_first_start_of_a_boot_were_written_in_it() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let file = folder.path().join("file");
        fs::write(&file, "text").expect("it is written");
        let old = SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(old)).expect("it is aged");
        let boot = Boot::open(folder.path());
        assert!(!boot.has_written(&file) && !boot.has_written(&folder.path().join("missing")));
        fs::write(&file, "again").expect("it is written");
        assert!(boot.has_written(&file) && Boot::open(folder.path()).has_written(&file));
        fs::write(folder.path().join(NAME), "another boot").expect("it is written");
        fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(old)).expect("it is aged");
        assert!(!Boot::open(folder.path()).has_written(&file));
    }
}
