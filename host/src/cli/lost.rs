//! Reports the contents of a data folder's `lost+found/` for `isopod doctor`: path, size, and how
//! to restore each entry. Never moves or removes anything.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use isopod_policy::AppName;

use super::finding::{Finding, Level};
use super::{new, output};

const NAME: &str = "lost+found";

/// Returns one finding per entry; none if the folder is missing or empty.
pub(super) fn findings(data_dir: &Path) -> Vec<Finding> {
    let lost = data_dir.join(NAME);
    let entries = match fs::read_dir(&lost) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory && data_dir.is_dir() => {
            let detail = format!("{} is a file, so the host can't move folders there", lost.display());
            return vec![Finding::new(
                NAME,
                Level::Broken,
                detail,
                Some("move the file elsewhere and restart the host"),
            )];
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Vec::new(),
        Err(error) => {
            let detail = format!("can't read {}: {error}", lost.display());
            return vec![Finding::new(NAME, Level::Warning, detail, Some("run `isopod doctor` as its owner"))];
        }
    };
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.sort();
    names.iter().map(|name| finding(data_dir, &lost.join(name), &name.to_string_lossy())).collect()
}

fn finding(data_dir: &Path, path: &Path, name: &str) -> Finding {
    let size = size(path).map_or_else(|error| format!("unknown size: {error}"), output::size);
    let damaged = damaged_of(name);
    let why = if damaged.is_some() {
        "a damaged database that a host replaced by the rows that it could read"
    } else if file_of(data_dir, name).is_some() {
        "a copy that a host saved before it changed the file"
    } else {
        "no app in control.db owned it"
    };
    let detail = format!("{}, {size}: {why}", path.display());
    let fix = match app_of(name) {
        Some(app) => {
            let (home, lost) = (data_dir.join("apps").join(app.as_str()), data_dir.join(NAME));
            let [home, aside, from] =
                [home, unused(&lost.join(format!("{app}.replaced"))), path.to_owned()].map(|path| new::quoted(&path));
            format!(
                "to restore it, create or deploy {app}, stop the host and run `mv {home} {aside} && mv {from} {home}`; \
                 if it is not needed, remove it"
            )
        }
        None if damaged.is_some() => format!(
            "to look for further rows, run `sqlite3 {} .recover` with the sqlite3 of sqlite.org; if they are not \
             needed, remove it",
            new::quoted(&path.join("kv.db"))
        ),
        None if name == "blobs" => format!(
            "bundles unknown to control.db: to restore them, stop the host, restore the control.db that lists their \
             releases, and move them to {}; if they are not needed, remove them",
            new::quoted(&data_dir.join("blobs"))
        ),
        None => match file_of(data_dir, name) {
            Some(home) => {
                // A killed host leaves a journal, which SQLite would apply to the restored copy.
                let files = [home.clone(), home.with_extension("db-wal")];
                let moves: String = files.iter().map(|path| aside(&data_dir.join(NAME), path)).collect();
                let [from, to] = [path, &home].map(new::quoted);
                format!("to restore it, stop the host and run `{moves}mv {from} {to}`; if it is not needed, remove it")
            }
            None => "move it to its original folder, or remove it".to_owned(),
        },
    };
    Finding::new(NAME, Level::Warning, detail, Some(&fix))
}

/// Returns the app that owned the folder: the part before the time in `NAME-20261128T190542Z` or
/// `NAME-20261128T190542Z-2`.
fn app_of(name: &str) -> Option<AppName> {
    before_time(name)?.parse().ok()
}

/// Returns the app of a damaged database in a folder: `NAME-kv.db.damaged-20261128T190542Z`.
fn damaged_of(name: &str) -> Option<AppName> {
    before_time(name)?.strip_suffix("-kv.db.damaged")?.parse().ok()
}

/// Returns the original path of a saved database: `control.db-20261128T190542Z` or
/// `NAME-kv.db-20261128T190542Z`.
fn file_of(data_dir: &Path, name: &str) -> Option<PathBuf> {
    let name = before_time(name)?;
    if name == "control.db" {
        return Some(data_dir.join(name));
    }
    let app: AppName = name.strip_suffix("-kv.db")?.parse().ok()?;
    Some(data_dir.join("apps").join(app.as_str()).join("kv.db"))
}

fn before_time(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('-').collect();
    let is_time = |part: &str| part.len() == 16 && part.ends_with('Z') && part.as_bytes()[8] == b'T';
    let time = parts.iter().rposition(|part| is_time(part))?;
    Some(parts[..time].join("-"))
}

/// Returns the first part of a command that moves a file to `lost+found/` if it exists: a host that
/// stops removes its journal.
fn aside(lost: &Path, path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let to = unused(&lost.join(format!("{name}.replaced")));
    let [path, to] = [path, &to].map(new::quoted);
    format!("{{ [ ! -e {path} ] || mv {path} {to}; }} && ")
}

/// Returns the path, or the path with the lowest number that is unused.
#[expect(clippy::expect_used, reason = "the numbers don't end")]
fn unused(path: &Path) -> PathBuf {
    let numbered = (2..).map(|number| PathBuf::from(format!("{}-{number}", path.display())));
    let mut paths = std::iter::once(path.to_owned()).chain(numbered);
    paths.find(|path| fs::symlink_metadata(path).is_err()).expect("the numbers don't end")
}

/// Returns the total size of all files below the path, without following links.
fn size(path: &Path) -> io::Result<u64> {
    let (mut bytes, mut left) = (0, vec![path.to_owned()]);
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path)?;
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        } else {
            bytes += found.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_of_a_folder_is_read_from_its_name() {
        let app = |name: &str| app_of(name).map(|app| app.to_string());
        assert_eq!(app("shop-20261128T190542Z").as_deref(), Some("shop"));
        assert_eq!(app("my-shop-20261128T190542Z-2").as_deref(), Some("my-shop"));
        assert_eq!(app("shop"), None);
        assert_eq!(app("#12345"), None);
    }

    #[test]
    fn a_damaged_database_is_not_a_copy_to_restore() {
        let name = "my-shop-kv.db.damaged-20261128T190542Z-2";
        assert_eq!(damaged_of(name).map(|app| app.to_string()).as_deref(), Some("my-shop"));
        assert_eq!((app_of(name), file_of(Path::new("data"), name)), (None, None));
        assert_eq!(damaged_of("shop-kv.db-20261128T190542Z"), None);
    }
}
