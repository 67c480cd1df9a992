//! The folders of apps below `apps/`. Owns tombstones and `lost+found/`: decides which folder is
//! deleted, moved aside or reported as missing. Never deletes a folder that has content and no
//! tombstone, except the copies of a destroyed app's database in `lost+found/`.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use isopod_policy::AppName;
use jiff::Timestamp;

use crate::StoreError;
use crate::files::{empty_folder, exists, names, private_file, private_folder, remove_folder, sync_folder};
use crate::loss::{KEY_VALUE, LostData};

/// The folder in the data folder with a folder for each app.
const APPS: &str = "apps";
/// The folder in the data folder for entries that no app owns.
const LOST: &str = "lost+found";
/// The file that marks its folder as that of a destroyed app. Guests reach only folders below their
/// app's folder.
const TOMBSTONE: &str = ".destroyed";

/// The result of checking app folders when a data folder is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderReport {
    /// Folders that no app owned, with their new paths.
    pub moved: Vec<MovedFolder>,
    /// The journal of another `control.db`, with its new path.
    pub journal: Vec<MovedFolder>,
    /// Folders that no app owns and that could not be moved.
    pub stuck: Vec<StoreError>,
    /// Apps without a folder; an empty folder was created for each.
    pub missing: Vec<AppName>,
    /// Destroyed apps, with the remains of their folders removed.
    pub removed: Vec<AppName>,
    /// App data that was recorded and is missing, in folders that exist.
    pub lost: Vec<LostData>,
    /// The number of release bundles without a file in `blobs/`.
    pub missing_bundles: usize,
    /// Apps that were not destroyed although their folder had a tombstone: the destroy was
    /// interrupted. They are kept.
    pub spared: Vec<AppName>,
}

/// A folder, or a file in place of a folder, that was moved to `lost+found/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedFolder {
    pub from: PathBuf,
    pub to: PathBuf,
}

/// The differences between the entries of `apps/` and the apps in the database. A survey changes
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Listed apps with a tombstone in their folder.
    spared: Vec<AppName>,
    /// Listed apps without a folder.
    missing: Vec<AppName>,
    /// Names of folders and files that no app owns and that are not empty.
    unknown: Vec<String>,
    /// Empty folders of unlisted apps.
    empty: Vec<AppName>,
    /// Unlisted apps with a tombstone in their folder.
    destroyed: Vec<AppName>,
    /// Unlisted apps with a folder that an interrupted removal left.
    remains: Vec<AppName>,
    /// Listed apps with such a folder of an earlier app.
    replaced: Vec<AppName>,
}

/// The folder `apps/` of one data folder.
#[derive(Debug, Clone)]
pub(crate) struct AppFolders {
    apps: PathBuf,
    lost: PathBuf,
}

impl AppFolders {
    pub(crate) fn of(data_folder: &Path) -> Self {
        Self { apps: data_folder.join(APPS), lost: data_folder.join(LOST) }
    }

    /// Creates `apps/` if it is missing.
    pub(crate) fn open(&self) -> Result<(), StoreError> {
        private_folder(&self.apps)
    }

    /// Returns the names of all app folders.
    pub(crate) fn apps(&self) -> Result<Vec<AppName>, StoreError> {
        Ok(names(&self.apps)?.into_iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Returns the destination of blobs that are unknown to the database.
    pub(crate) fn lost_blobs(&self) -> PathBuf {
        self.lost.join("blobs")
    }

    pub(crate) fn folder(&self, app: &AppName) -> PathBuf {
        self.apps.join(app.as_str())
    }

    /// Durably creates the folder of a new app, so that its loss is detected later. First removes
    /// the remains of a destroyed app of the same name. Refuses any other content.
    pub(crate) fn make(&self, app: &AppName) -> Result<(), StoreError> {
        let folder = self.folder(app);
        if is_marked(&folder) {
            self.remove(app)?;
        } else if fs::symlink_metadata(&folder).is_ok() && !is_empty(&folder) {
            return Err(StoreError::FolderInTheWay { path: folder });
        }
        private_folder(&folder)?;
        sync_folder(&self.apps)
    }

    /// Durably writes the tombstone of an app before it is destroyed. Refuses a folder that is a
    /// symbolic link: the host never deletes the link's target.
    pub(crate) fn mark_destroyed(&self, app: &AppName) -> Result<(), StoreError> {
        let folder = self.folder(app);
        if let Ok(target) = fs::read_link(&folder) {
            return Err(StoreError::LinkedFolder { target: self.apps.join(target), path: folder });
        }
        private_folder(&folder)?;
        let path = folder.join(TOMBSTONE);
        private_file(&path)?.sync_all().map_err(|error| StoreError::file(&path, &error))?;
        sync_folder(&folder)?;
        sync_folder(&self.apps)
    }

    /// Removes the tombstone: the app was not destroyed.
    pub(crate) fn unmark(&self, app: &AppName) -> Result<(), StoreError> {
        let folder = self.folder(app);
        let path = folder.join(TOMBSTONE);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(&folder),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::file(&path, &error)),
        }
    }

    /// Removes the folder of a destroyed app, and the copies of its database in `lost+found/`.
    pub(crate) fn remove(&self, app: &AppName) -> Result<(), StoreError> {
        let (folder, doomed) = (self.folder(app), self.apps.join(doomed_name(app)));
        if fs::symlink_metadata(&folder).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return self.remove_remains(app);
        }
        if !is_marked(&folder) {
            return Err(StoreError::FolderInTheWay { path: folder });
        }
        // Renamed atomically first, so that a file that is still being written can't conflict with
        // a new app. If removal fails, the next start removes the rest, even without the tombstone.
        remove_folder(&doomed)?;
        fs::rename(&folder, &doomed).map_err(|error| StoreError::file(&folder, &error))?;
        sync_folder(&self.apps)?;
        self.remove_remains(app)
    }

    /// Removes the content of a destroyed app's renamed folder, the copies of its database, and
    /// then the folder. If the copies can't be removed, or the host ends before that, the folder
    /// remains, so that the next start tries again.
    fn remove_remains(&self, app: &AppName) -> Result<(), StoreError> {
        let doomed = self.apps.join(doomed_name(app));
        empty_folder(&doomed)?;
        if let Err(error) = self.remove_copies(app) {
            private_folder(&doomed)?;
            return Err(error);
        }
        remove_folder(&doomed)
    }

    /// Removes the copies of an app's database from `lost+found/`.
    fn remove_copies(&self, app: &AppName) -> Result<(), StoreError> {
        if !exists(&self.lost)? {
            return Ok(());
        }
        let copies: Vec<String> = names(&self.lost)?.into_iter().filter(|name| is_copy(app, name)).collect();
        for path in copies.iter().map(|name| self.lost.join(name)) {
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            match if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) } {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(StoreError::file(&path, &error)),
                Ok(()) | Err(_) => {}
            }
        }
        if copies.is_empty() { Ok(()) } else { sync_folder(&self.lost) }
    }

    /// Compares the folders with the apps that the database lists. In a data folder `without_id`,
    /// written by an earlier version, an app may not have a folder yet, and an interrupted removal
    /// left a hidden folder.
    pub(crate) fn survey(&self, listed: &[AppName], without_id: bool) -> Result<Survey, StoreError> {
        let mut survey = Survey::default();
        let is_listed: HashSet<&str> = listed.iter().map(AppName::as_str).collect();
        let mut found = HashSet::new();
        for name in if exists(&self.apps)? { names(&self.apps)? } else { Vec::new() } {
            let path = self.apps.join(&name);
            let Ok(app) = name.parse::<AppName>() else {
                match hidden_app(&name) {
                    Some(Hidden::Doomed(app)) if is_listed.contains(app.as_str()) => survey.replaced.push(app),
                    Some(Hidden::Doomed(app)) => survey.remains.push(app),
                    Some(Hidden::Earlier) if without_id => survey.unknown.push(name),
                    Some(Hidden::Earlier) | None => {}
                }
                continue;
            };
            let is_folder = match fs::metadata(&path) {
                Ok(found) => found.is_dir(),
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                // It may be the app's folder, so it stays where it is.
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "an app's folder can't be inspected");
                    found.insert(name);
                    continue;
                }
            };
            match (is_listed.contains(name.as_str()), is_folder) {
                (true, true) => {
                    if is_marked(&path) {
                        survey.spared.push(app);
                    }
                    found.insert(name);
                }
                (false, true) if is_marked(&path) => survey.destroyed.push(app),
                (false, true) if is_empty(&path) => survey.empty.push(app),
                (_, _) => survey.unknown.push(name),
            }
        }
        survey.missing = listed.iter().filter(|app| !found.contains(app.as_str())).cloned().collect();
        Ok(survey)
    }

    /// Acts on a survey. Reports a failure for one folder, and continues with the other folders.
    pub(crate) fn settle(&self, survey: Survey, now: Timestamp) -> Result<FolderReport, StoreError> {
        self.open()?;
        let mut report = FolderReport { spared: survey.spared, ..FolderReport::default() };
        for app in &report.spared {
            self.unmark(app)?;
        }
        for app in survey.remains {
            report.stuck.extend(self.remove_remains(&app).err());
        }
        for app in survey.replaced {
            // The copies may be those of the present app.
            report.stuck.extend(remove_folder(&self.apps.join(doomed_name(&app))).err());
        }
        for app in survey.destroyed {
            match self.remove(&app) {
                Ok(()) => report.removed.push(app),
                Err(error) => report.stuck.push(error),
            }
        }
        for app in survey.empty {
            let folder = self.folder(&app);
            report.stuck.extend(fs::remove_dir(&folder).err().map(|error| StoreError::file(&folder, &error)));
        }
        for name in survey.unknown {
            match self.move_aside(&self.apps.join(&name), &name, now) {
                Ok(to) => report.moved.push(MovedFolder { from: self.apps.join(name), to }),
                Err(error) => report.stuck.push(error),
            }
        }
        for app in &survey.missing {
            private_folder(&self.folder(app))?;
        }
        sync_folder(&self.apps)?;
        report.missing = survey.missing;
        Ok(report)
    }

    /// Moves an entry that no app owns to `lost+found/`, under an unused name.
    pub(crate) fn move_aside(&self, from: &Path, name: &str, now: Timestamp) -> Result<PathBuf, StoreError> {
        let to = self.lost_path_at(name, now)?;
        fs::rename(from, &to).map_err(|error| StoreError::file(from, &error))?;
        sync_folder(&self.lost).map(|()| to)
    }

    /// Returns the path of `lost+found/`, which may not exist yet.
    pub(crate) fn lost(&self) -> &Path {
        &self.lost
    }

    /// Creates a folder in `lost+found/`, under an unused name.
    pub(crate) fn lost_folder(&self, name: &str, now: Timestamp) -> Result<PathBuf, StoreError> {
        let folder = self.lost_path_at(name, now)?;
        private_folder(&folder)?;
        sync_folder(&self.lost).map(|()| folder)
    }

    /// Returns an unused path in `lost+found/`.
    pub(crate) fn lost_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        self.lost_path_at(name, Timestamp::now())
    }

    #[expect(clippy::expect_used, reason = "the numbers don't end")]
    fn lost_path_at(&self, name: &str, now: Timestamp) -> Result<PathBuf, StoreError> {
        private_folder_below(&self.lost)?;
        let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let first = std::iter::once(format!("{name}-{stamp}"));
        let free = first.chain((2..).map(|number| format!("{name}-{stamp}-{number}")));
        let mut paths = free.map(|name| self.lost.join(name));
        Ok(paths.find(|path| fs::symlink_metadata(path).is_err()).expect("the sequence of numbers is unbounded"))
    }
}

impl Survey {
    /// Returns the names of entries that no app owns.
    pub(crate) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Returns the listed apps without a folder.
    pub(crate) fn missing(&self) -> &[AppName] {
        &self.missing
    }
}

/// Returns whether an entry of `lost+found/` is a copy of the app's database: `NAME-kv.db-TIME`,
/// `NAME-kv.db-wal-TIME` or `NAME-kv.db.damaged-TIME`. No app's name contains a dot, so the copies
/// of an app `a-b` are not those of `a`.
fn is_copy(app: &AppName, name: &str) -> bool {
    let rest = name.strip_prefix(app.as_str()).and_then(|rest| rest.strip_prefix('-'));
    let rest = rest.and_then(|rest| rest.strip_prefix(KEY_VALUE));
    rest.is_some_and(|rest| rest.starts_with('-') || rest.starts_with(".damaged-"))
}

/// Creates `lost+found/`. A folder that the file system created keeps its mode and owner.
fn private_folder_below(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() { Ok(()) } else { private_folder(path) }
}

/// Returns the name of a folder during its removal. No app can have such a name.
fn doomed_name(app: &AppName) -> String {
    format!(".{app}{TOMBSTONE}")
}

/// Folders with names that no app can have, created by a host.
enum Hidden {
    /// Being removed, after its tombstone was written.
    Doomed(AppName),
    /// An earlier version may have been removing it, but other programs use such names too.
    Earlier,
}

fn hidden_app(name: &str) -> Option<Hidden> {
    let hidden = name.strip_prefix('.')?;
    if let Some(app) = hidden.strip_suffix(TOMBSTONE).and_then(|app| app.parse().ok()) {
        return Some(Hidden::Doomed(app));
    }
    hidden.parse::<AppName>().is_ok().then_some(Hidden::Earlier)
}

fn is_marked(folder: &Path) -> bool {
    fs::symlink_metadata(folder.join(TOMBSTONE)).is_ok_and(|found| found.is_file())
}

/// Returns whether the path is an empty folder. An unreadable folder counts as not empty.
fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().expect("valid name")
    }

    /// Creates a data folder with these files below `apps/`.
    fn folders(files: &[&str]) -> (tempfile::TempDir, AppFolders) {
        let data = tempfile::tempdir().expect("the folder is created");
        let folders = AppFolders::of(data.path());
        private_folder(&folders.apps).expect("it is created");
        for file in files {
            let path = folders.apps.join(file);
            fs::create_dir_all(path.parent().expect("the path has a parent")).expect("it is created");
            fs::write(&path, file).expect("it is written");
        }
        (data, folders)
    }

    fn settled(folders: &AppFolders, listed: &[&str], without_id: bool) -> FolderReport {
        let listed: Vec<AppName> = listed.iter().map(|name| app(name)).collect();
        let survey = folders.survey(&listed, without_id).expect("it can be read");
        folders.settle(survey, Timestamp::UNIX_EPOCH).expect("it is settled")
    }

    #[test]
    fn only_a_folder_with_a_tombstone_is_deleted() {
        let (data, folders) =
            folders(&["kept/kv.db", "gone/kv.db", "gone/.destroyed", ".half.destroyed/kv.db", "unknown/kv.db", "file"]);
        fs::create_dir(folders.apps.join("empty")).expect("it is created");
        let report = settled(&folders, &["kept"], false);
        assert_eq!((report.removed, report.missing, report.stuck), (vec![app("gone")], vec![], vec![]));
        let mut moved: Vec<PathBuf> = report.moved.into_iter().map(|moved| moved.to).collect();
        moved.sort();
        let lost = data.path().join("lost+found");
        assert_eq!(moved, ["file", "unknown"].map(|name| lost.join(format!("{name}-19700101T000000Z"))));
        assert_eq!(fs::read(moved[1].join("kv.db")).expect("readable file"), b"unknown/kv.db");
        assert_eq!(names(&folders.apps), Ok(vec!["kept".to_owned()]));
    }

    #[test]
    fn the_folder_of_a_destroyed_app_stays_until_the_copies_of_its_database_are_removed() {
        use std::os::unix::fs::MetadataExt;
        let (data, folders) = folders(&["a/kv.db"]);
        // While it is open, no new folder has its inode.
        let opened = fs::File::open(folders.folder(&app("a"))).expect("it is opened");
        // Not a folder, so the copies can't be listed.
        fs::write(data.path().join("lost+found"), "").expect("it is written");
        folders.mark_destroyed(&app("a")).expect("it is marked");
        folders.remove(&app("a")).expect_err("the copies can't be listed");
        let doomed = folders.apps.join(doomed_name(&app("a")));
        assert_eq!(names(&doomed), Ok(vec![]));
        let inode = |found: std::io::Result<fs::Metadata>| found.expect("it exists").ino();
        assert_eq!(inode(fs::metadata(&doomed)), inode(opened.metadata()), "it was never removed");
        fs::remove_file(data.path().join("lost+found")).expect("it is removed");
        assert_eq!(settled(&folders, &[], false).stuck, vec![]);
        assert_eq!(names(&folders.apps), Ok(vec![]));
    }

    #[test]
    fn only_a_destroyed_app_loses_the_copies_of_its_database() {
        let (data, folders) = folders(&["a/kv.db", "unknown/kv.db"]);
        let (lost, stamp) = (data.path().join("lost+found"), "19700101T000000Z");
        let kept = ["a-b-kv.db", "a-kv-kv.db", "a-kv.dbs", "a", "unknown-kv.db"].map(|name| format!("{name}-{stamp}"));
        let copies = ["a-kv.db", "a-kv.db-wal"].map(|name| format!("{name}-{stamp}"));
        let damaged = lost.join(format!("a-kv.db.damaged-{stamp}"));
        fs::create_dir_all(&damaged).and_then(|()| fs::write(damaged.join("kv.db"), "")).expect("it is created");
        for name in kept.iter().chain(&copies) {
            fs::write(lost.join(name), name).expect("it is written");
        }
        let refused = folders.remove(&app("unknown"));
        assert!(matches!(refused, Err(StoreError::FolderInTheWay { .. })), "it has no tombstone");
        folders.mark_destroyed(&app("a")).expect("it is marked");
        folders.remove(&app("a")).expect("it is removed");
        let mut left = names(&lost).expect("it can be read");
        left.sort();
        let mut expected = kept.to_vec();
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn the_next_start_removes_copies_that_could_not_be_removed() {
        let (data, folders) = folders(&["a/kv.db", "b/kv.db"]);
        let lost = data.path().join("lost+found");
        // A link to itself can't be read.
        symlink(&lost, &lost).expect("it is created");
        for name in ["a", "b"] {
            folders.mark_destroyed(&app(name)).expect("it is marked");
            folders.remove(&app(name)).expect_err("the copies can't be removed");
            assert_eq!(names(&folders.apps.join(doomed_name(&app(name)))), Ok(vec![]), "the app's data is removed");
        }
        fs::remove_file(&lost).and_then(|()| fs::create_dir(&lost)).expect("it is created");
        let copies = ["a-kv.db-20260101T000000Z", "b-kv.db-20260101T000000Z"].map(|name| lost.join(name));
        copies.iter().try_for_each(|copy| fs::write(copy, "x")).expect("it is written");
        // A new app may have copies too.
        settled(&folders, &["b"], false);
        assert_eq!(copies.map(|copy| copy.exists()), [false, true]);
        assert_eq!(names(&folders.apps), Ok(vec!["b".to_owned()]));
    }

    #[test]
    fn a_folder_that_cannot_be_inspected_stays() {
        let (_data, folders) = folders(&[]);
        for name in ["listed", "other"] {
            // A link to itself can't be inspected.
            symlink(name, folders.folder(&app(name))).expect("it is created");
        }
        assert_eq!(settled(&folders, &["listed"], false), FolderReport::default());
        assert!(["listed", "other"].iter().all(|name| folders.folder(&app(name)).is_symlink()));
    }

    #[test]
    fn a_name_in_lost_and_found_is_never_reused() {
        let (data, folders) = folders(&["unknown/first"]);
        settled(&folders, &[], false);
        fs::create_dir(folders.apps.join("unknown"))
            .and_then(|()| fs::write(folders.apps.join("unknown/second"), "2"))
            .expect("it is created");
        settled(&folders, &[], false);
        let lost = data.path().join("lost+found");
        assert!(lost.join("unknown-19700101T000000Z/first").is_file());
        assert!(lost.join("unknown-19700101T000000Z-2/second").is_file());
    }

    #[test]
    fn a_listed_app_with_a_tombstone_keeps_its_folder() {
        let (_data, folders) = folders(&["kept/kv.db"]);
        folders.mark_destroyed(&app("kept")).expect("it is marked");
        let report = settled(&folders, &["kept"], false);
        assert_eq!(report, FolderReport { spared: vec![app("kept")], ..FolderReport::default() });
        assert_eq!(names(&folders.folder(&app("kept"))), Ok(vec!["kv.db".to_owned()]));
    }

    #[test]
    fn a_listed_app_without_a_folder_is_missing_even_if_a_file_has_its_name() {
        let (_data, folders) = folders(&["file"]);
        let report = settled(&folders, &["file", "none"], false);
        assert_eq!(report.missing, [app("file"), app("none")]);
        assert_eq!(report.moved.len(), 1);
        assert!(folders.folder(&app("none")).is_dir() && folders.folder(&app("file")).is_dir());
    }

    #[test]
    fn entries_that_no_app_can_own_stay() {
        let (_data, folders) = folders(&["Backup/x", "lost+found/x", ".snapshots/x"]);
        assert_eq!(settled(&folders, &[], false), FolderReport::default());
        assert_eq!(names(&folders.apps).map(|names| names.len()), Ok(3));
        let moved = settled(&folders, &[], true).moved;
        assert_eq!(moved.len(), 1, "an earlier version renamed a folder to this before removing it");
    }

    #[test]
    fn a_new_app_never_sees_the_folder_of_another() {
        let (_data, folders) = folders(&["gone/kv.db", "unknown/kv.db"]);
        folders.mark_destroyed(&app("gone")).expect("it is marked");
        folders.make(&app("gone")).expect("the remains are removed");
        assert_eq!(names(&folders.folder(&app("gone"))), Ok(vec![]));
        let refused = folders.make(&app("unknown"));
        assert_eq!(refused, Err(StoreError::FolderInTheWay { path: folders.folder(&app("unknown")) }));
        assert_eq!(folders.remove(&app("unknown")), refused);
        assert!(folders.folder(&app("unknown")).join("kv.db").is_file());
    }
}
