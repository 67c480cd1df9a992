//! Watches a project: tells changes of its sources, of its manifest and of its compiled component apart, and stays
//! silent about everything else. It decides nothing about what a change leads to.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::ignore::Ignore;
use crate::cli::failure::Failure;
use crate::cli::limits;
use crate::cli::project::MANIFEST;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Source(PathBuf),
    Manifest,
    /// `closed` when the writer is known to be done.
    Component {
        closed: bool,
    },
}

/// The folders watched, and what the files in them held when last seen.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    root: PathBuf,
    component: Option<PathBuf>,
    component_folder: Option<PathBuf>,
    ignore: Ignore,
    folders: usize,
    seen: HashMap<PathBuf, u64>,
}

impl Watch {
    /// Watches the sources below `root`. Raw events go to `on_event`, which hands them back to [`Watch::changes`].
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
            seen: HashMap::new(),
        };
        watch.add(root)?;
        Ok(watch)
    }

    /// Says which file is the component, and watches its folder once it is there.
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

    /// Reads what an event says about this project.
    pub(crate) fn changes(&mut self, event: &notify::Event) -> Vec<Change> {
        // Reading is no change. A file that was opened for writing and closed is the surest sign of one.
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
        Some(if relative == Path::new(MANIFEST) { Change::Manifest } else { Change::Source(relative.to_owned()) })
    }

    /// Watches a folder and those below it, and notes what their files hold.
    fn add(&mut self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let mut files = Vec::new();
        let mut waiting = vec![folder.to_owned()];
        while let Some(folder) = waiting.pop() {
            if self.folders >= limits::WATCHED_FOLDERS_MAX {
                crate::cli::output::note(&format!(
                    "! only the first {} folders are watched; name folders without sources in .gitignore",
                    limits::WATCHED_FOLDERS_MAX
                ));
                break;
            }
            self.watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(|error| cannot_watch(&folder, &error))?;
            self.folders += 1;
            // A folder may vanish while it is being read; then there is nothing in it to watch.
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

    /// A folder that appears while we watch may hold files already, whose events we have missed.
    fn add_late(&mut self, folder: &Path) -> Vec<Change> {
        let Ok(relative) = folder.strip_prefix(&self.root) else { return Vec::new() };
        if relative.as_os_str().is_empty() || self.ignore.folder(relative) {
            return Vec::new();
        }
        let files = self.add(folder).unwrap_or_default();
        files.into_iter().map(Change::Source).collect()
    }

    /// Builds write files into source folders, and editors touch files: only other content is a change.
    fn is_new_content(&mut self, path: &Path) -> bool {
        let digest = match std::fs::metadata(path) {
            Err(_) => return self.seen.remove(path).is_some(),
            Ok(file) if file.len() > limits::COMPARED_BYTES_MAX => return true,
            Ok(_) => match std::fs::read(path) {
                Ok(content) => digest(&content),
                Err(_) => return false,
            },
        };
        self.seen.insert(path.to_owned(), digest) != Some(digest)
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

        /// Waits for the first change; the file `last` is written after the fact to bound the wait when none comes.
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
    fn sources_and_the_manifest_are_told_apart() {
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
    fn a_finished_component_is_known_as_finished() {
        let mut project = Project::new();
        project.write("target/release/app.wasm", "wasm");
        assert!(project.changes_until("last.rs").contains(&Change::Component { closed: true }));
    }

    #[test]
    fn what_is_rewritten_with_the_same_content_has_not_changed() {
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
