//! Records which journals of apps' databases were written in the machine's current boot. Killing
//! the host preserves all writes in the system's memory; a power failure loses those that were not
//! synced. Never compares times, since the clock may be set at any time. Never changes the content
//! of a journal.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::StoreError;
use crate::app_folders::AppFolders;
use crate::files::write_whole;
use crate::loss::KEY_VALUE;

/// The file with the id of the boot in which the host last started. The first start in a boot
/// writes it.
const NAME: &str = "boot.id";
/// The system's id of its boot.
const SYSTEM: &str = "/proc/sys/kernel/random/boot_id";
/// The modification time of a journal that was written before the current boot. Each write replaces
/// it with the system's time.
const EARLIER: SystemTime = SystemTime::UNIX_EPOCH;

/// The current boot.
#[derive(Debug, Clone)]
pub(crate) struct Boot {
    /// Whether the journals of earlier boots are marked, except `unmarked`.
    is_known: bool,
    /// The journals that can't be marked.
    unmarked: Arc<HashSet<PathBuf>>,
}

impl Boot {
    /// Reads the record in a data folder. At the first start in a boot, marks all existing
    /// journals, and replaces the record. Must be called before a database is opened.
    pub(crate) fn open(folder: &Path) -> Self {
        let path = folder.join(NAME);
        let known = |unmarked| Self { is_known: true, unmarked: Arc::new(unmarked) };
        let unknown = || Self { is_known: false, unmarked: Arc::default() };
        let Ok(id) = fs::read_to_string(SYSTEM) else { return unknown() };
        if fs::read_to_string(&path).is_ok_and(|found| found == id) {
            return known(HashSet::new());
        }
        let unmarked = match mark_journals(&AppFolders::of(folder)) {
            Ok(unmarked) => unmarked,
            Err(error) => {
                tracing::warn!(%error, "the journals of databases can't be listed, so damage to them isn't detected");
                return unknown();
            }
        };
        if unmarked.is_empty() {
            // If this fails, the next start in this boot marks the journals again.
            let _ = write_whole(&path, &path.with_extension("new"), id.as_bytes());
        }
        known(unmarked)
    }

    /// Returns whether the journal was written in this boot. False if that is unknown.
    pub(crate) fn has_written(&self, journal: &Path) -> bool {
        let modified = fs::metadata(journal).and_then(|found| found.modified());
        self.is_known && !self.unmarked.contains(journal) && modified.is_ok_and(|modified| modified != EARLIER)
    }
}

/// Marks each app's journal as written before the current boot. Returns those that can't be marked.
fn mark_journals(folders: &AppFolders) -> Result<HashSet<PathBuf>, StoreError> {
    let mut unmarked = HashSet::new();
    for app in folders.apps()? {
        let journal = folders.folder(&app).join(format!("{KEY_VALUE}-wal"));
        match mark(&journal) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                let path = journal.display();
                tracing::warn!(%app, %path, %error, "a journal can't be marked, so damage to it isn't detected");
                unmarked.insert(journal);
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(unmarked)
}

fn mark(journal: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(journal)?;
    file.set_modified(EARLIER)?;
    match file.metadata()?.modified()? {
        EARLIER => Ok(()),
        _ => Err(io::Error::other("the file system can't store the time")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns a data folder with a journal, and the path of the journal.
    fn with_journal() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("the folder is created");
        let app = folder.path().join("apps/bot");
        fs::create_dir_all(&app).expect("the folder is created");
        let journal = app.join("kv.db-wal");
        fs::write(&journal, "text").expect("it is written");
        (folder, journal)
    }

    fn set_modified(file: &Path, modified: SystemTime) {
        let file = File::options().write(true).open(file).expect("it opens");
        file.set_modified(modified).expect("the time is set");
    }

    #[test]
    fn journals_written_since_the_first_start_in_a_boot_belong_to_that_boot() {
        let (folder, journal) = with_journal();
        let boot = Boot::open(folder.path());
        assert!(!boot.has_written(&journal) && !boot.has_written(&folder.path().join("missing")));
        fs::write(&journal, "again").expect("it is written");
        assert!(boot.has_written(&journal) && Boot::open(folder.path()).has_written(&journal));
        fs::write(folder.path().join(NAME), "another boot").expect("it is written");
        assert!(!Boot::open(folder.path()).has_written(&journal));
    }

    #[test]
    fn a_change_of_the_clock_does_not_change_the_boot_of_a_journal() {
        let (folder, journal) = with_journal();
        let hour = Duration::from_secs(3_600);
        let (earlier, later) = (SystemTime::now() - hour, SystemTime::now() + hour);
        for modified in [earlier, later] {
            fs::write(folder.path().join(NAME), "another boot").expect("it is written");
            set_modified(&journal, modified);
            let boot = Boot::open(folder.path());
            assert!(!boot.has_written(&journal), "it was written in the earlier boot");
            set_modified(&journal, modified);
            assert!(boot.has_written(&journal) && Boot::open(folder.path()).has_written(&journal));
        }
    }

    #[test]
    fn a_journal_that_cannot_be_marked_affects_no_other_app() {
        let (folder, journal) = with_journal();
        let blocked = folder.path().join("apps/other/kv.db-wal");
        fs::create_dir_all(&blocked).expect("a folder blocks the path");
        let boot = Boot::open(folder.path());
        fs::write(&journal, "again").expect("it is written");
        assert!(boot.has_written(&journal) && !boot.has_written(&blocked));
        assert!(!folder.path().join(NAME).exists(), "the next start marks the journals again");
    }

    #[test]
    fn the_boot_is_known_even_if_its_id_cannot_be_written() {
        let (folder, journal) = with_journal();
        fs::create_dir(folder.path().join("boot.new")).expect("a folder blocks the path");
        let boot = Boot::open(folder.path());
        assert!(!folder.path().join(NAME).exists() && !boot.has_written(&journal));
        fs::write(&journal, "again").expect("it is written");
        assert!(boot.has_written(&journal));
    }
}
