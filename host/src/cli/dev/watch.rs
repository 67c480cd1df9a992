//! Watches a project and reports changes of its sources, its assets, its manifest and its compiled
//! component.
//! Never decides what a change causes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use isopod_policy::bundle::ASSETS_FOLDER;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::ignore::Ignore;
use crate::cli::failure::Failure;
use crate::cli::limits;
use crate::cli::project::MANIFEST;

/// A change in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Source(PathBuf),
    /// A file below `static/`.
    Asset,
    Manifest,
    /// `closed` if the writer has closed the file.
    Component {
        closed: bool,
    },
}

/// The watched folders, and the digests of their files.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    root: PathBuf,
    component: Option<PathBuf>,
    component_folder: Option<PathBuf>,
    ignore: Ignore,
    folders: usize,
    digests: HashMap<PathBuf, u64>,
}

impl Watch {
    /// Watches the sources below `root`. Passes raw events to `on_event`, whose receiver passes
    /// them to [`Watch::changes`].
    pub(crate) fn new(root: &Path, on_event: impl Fn(notify::Event) + Send + 'static) -> Result<Watch, Failure> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Ok(event) = event {
                on_event(event);
            }
        });
        let watcher = watcher.map_err(|error| cannot_watch(root, &error))?;
        let ignore = Ignore::read(root);
        let mut watch = Watch {
            watcher,
            root: root.to_owned(),
            component: None,
            component_folder: None,
            ignore,
            folders: 0,
            digests: HashMap::new(),
        };
        watch.add(root)?;
        Ok(watch)
    }

    /// Sets the component's path, and watches its folder if it exists.
    pub(crate) fn component(&mut self, path: &Path) -> Result<(), Failure> {
        self.component = Some(path.to_owned());
        let Some(folder) = path.parent().filter(|folder| folder.is_dir()) else { return Ok(()) };
        if self.component_folder.as_deref() == Some(folder) || folder == self.root {
            return Ok(());
        }
        self.watcher.watch(folder, RecursiveMode::NonRecursive).map_err(|error| cannot_watch(folder, &error))?;
        self.component_folder = Some(folder.to_owned());
        Ok(())
    }

    /// Returns the changes of this project that an event reports.
    pub(crate) fn changes(&mut self, event: &notify::Event) -> Vec<Change> {
        // Reads are not changes. Closing a file that was open for writing is the surest sign of a
        // change.
        let closed = matches!(event.kind, EventKind::Access(AccessKind::Close(AccessMode::Write)));
        if matches!(event.kind, EventKind::Access(_)) && !closed {
            return Vec::new();
        }
        let moved_here = matches!(event.kind, EventKind::Modify(notify::event::ModifyKind::Name(_)));
        let mut changes = Vec::new();
        for path in &event.paths {
            if self.component.as_deref() == Some(path) {
                if path.exists() {
                    changes.push(Change::Component { closed: closed || moved_here });
                }
            } else if path.is_dir() {
                changes.extend(self.add_late(path));
            } else if let Some(change) = self.file_change(path) {
                changes.push(change);
            }
        }
        changes
    }

    fn file_change(&mut self, path: &Path) -> Option<Change> {
        let relative = path.strip_prefix(&self.root).ok()?;
        if self.ignore.file(relative) || !self.is_new_content(path) {
            return None;
        }
        if relative == Path::new(".gitignore") {
            self.ignore = Ignore::read(&self.root);
        }
        Some(match relative {
            path if path == Path::new(MANIFEST) => Change::Manifest,
            path if path.starts_with(ASSETS_FOLDER) => Change::Asset,
            path => Change::Source(path.to_owned()),
        })
    }

    /// Watches a folder and all folders below it, and records the digests of their files. Returns
    /// the new files.
    fn add(&mut self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let mut files = Vec::new();
        let mut waiting = vec![folder.to_owned()];
        while let Some(folder) = waiting.pop() {
            if self.folders >= limits::WATCHED_FOLDERS_MAX {
                crate::cli::output::note(&format!(
                    "! only the first {} folders are watched; list folders without sources in .gitignore",
                    limits::WATCHED_FOLDERS_MAX
                ));
                break;
            }
            self.watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(|error| cannot_watch(&folder, &error))?;
            self.folders += 1;
            // A folder may be removed while it is read; it then has no files to watch.
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                let relative = path.strip_prefix(&self.root).unwrap_or(&path);
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() && !self.ignore.folder(relative) {
                    waiting.push(path);
                } else if kind.is_file() && !self.ignore.file(relative) && self.is_new_content(&path) {
                    files.push(path);
                }
            }
        }
        Ok(files)
    }

    /// Adds a folder that appears later. It may already contain files whose events were missed.
    fn add_late(&mut self, folder: &Path) -> Vec<Change> {
        let Ok(relative) = folder.strip_prefix(&self.root) else { return Vec::new() };
        if relative.as_os_str().is_empty() || self.ignore.folder(relative) {
            return Vec::new();
        }
        let files = self.add(folder).unwrap_or_default();
        let is_asset = relative.starts_with(ASSETS_FOLDER);
        files.into_iter().map(|file| if is_asset { Change::Asset } else { Change::Source(file) }).collect()
    }

    /// Returns whether a file's content has changed. Builds and editors also rewrite or touch files
    /// without changing them.
    fn is_new_content(&mut self, path: &Path) -> bool {
        let digest = match std::fs::metadata(path) {
            Err(_) => return self.digests.remove(path).is_some(),
            Ok(file) if file.len() > limits::COMPARED_BYTES_MAX => return true,
            Ok(_) => match std::fs::read(path) {
                Ok(content) => digest(&content),
                Err(_) => return false,
            },
        };
        self.digests.insert(path.to_owned(), digest) != Some(digest)
    }
}

fn digest(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

fn cannot_watch(folder: &Path, error: &notify::Error) -> Failure {
    let failure = Failure::new(format!("cannot watch {}", folder.display())).why(error);
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => failure.next("sudo sysctl -w fs.inotify.max_user_watches=524288"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;

    struct Project {
        folder: tempfile::TempDir,
        watch: Watch,
        events: Receiver<notify::Event>,
    }

    impl Project {
        fn new() -> Project {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            for name in ["src", "target/release", ".git"] {
                std::fs::create_dir_all(root.join(name)).unwrap();
            }
            std::fs::write(root.join("src/lib.rs"), "one").unwrap();
            std::fs::write(root.join(MANIFEST), "one").unwrap();
            let (sender, events) = sync_channel(1024);
            let mut watch = Watch::new(&root, move |event| drop(sender.send(event))).unwrap();
            watch.component(&root.join("target/release/app.wasm")).unwrap();
            Project { folder, watch, events }
        }

        fn write(&self, path: &str, content: &str) {
            std::fs::write(self.folder.path().join(path), content).unwrap();
        }

        /// Collects the changes until that of the file `last`, which is written now so that the
        /// wait ends.
        fn changes_until(&mut self, last: &str) -> Vec<Change> {
            self.write(last, "the last change");
            let mut all = Vec::new();
            loop {
                let event = self.events.recv_timeout(Duration::from_secs(10)).expect("an event");
                for change in self.watch.changes(&event) {
                    if change == Change::Source(last.into()) {
                        return all;
                    }
                    all.push(change);
                }
            }
        }
    }

    #[test]
    fn sources_and_the_manifest_are_distinguished() {
        let mut project = Project::new();
        project.write("src/lib.rs", "two");
        project.write(MANIFEST, "two");
        let changes = project.changes_until("last.rs");
        assert!(
            changes.contains(&Change::Source("src/lib.rs".into())) && changes.contains(&Change::Manifest),
            "{changes:?}"
        );
    }

    #[test]
    fn a_component_closed_by_its_writer_is_reported_as_closed() {
        let mut project = Project::new();
        project.write("target/release/app.wasm", "wasm");
        assert!(project.changes_until("last.rs").contains(&Change::Component { closed: true }));
    }

    #[test]
    fn a_file_rewritten_with_the_same_content_is_unchanged() {
        let mut project = Project::new();
        project.write("src/lib.rs", "one");
        assert_eq!(project.changes_until("last.rs"), []);
    }

    #[test]
    fn builds_and_version_control_are_not_sources() {
        let mut project = Project::new();
        project.write("target/release/other.wasm", "x");
        project.write(".git/index", "x");
        project.write("src/.lib.rs.swp", "x");
        assert_eq!(project.changes_until("last.rs"), []);
    }

    #[test]
    fn a_file_below_static_is_an_asset() {
        let mut project = Project::new();
        std::fs::create_dir_all(project.folder.path().join("static/css")).unwrap();
        project.write("static/css/site.css", "x");
        let changes = project.changes_until("last.rs");
        assert!(changes.contains(&Change::Asset), "{changes:?}");
        assert!(!changes.iter().any(|change| matches!(change, Change::Source(_))), "{changes:?}");
    }

    #[test]
    fn files_in_a_new_folder_are_seen() {
        let mut project = Project::new();
        std::fs::create_dir_all(project.folder.path().join("src/deep")).unwrap();
        project.write("src/deep/new.rs", "x");
        let changes = project.changes_until("last.rs");
        let found =
            changes.iter().any(|change| matches!(change, Change::Source(path) if path.ends_with("deep/new.rs")));
        assert!(found, "{changes:?}");
    }
}
