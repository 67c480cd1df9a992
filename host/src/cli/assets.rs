//! Reads the assets of a project: the files below `static/` beside its manifest. Follows no links.
//! Refuses, before packing, the files that the host would refuse.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use isopod_policy::bundle::ASSETS_FOLDER;
use isopod_policy::limits::{ASSET_BYTES_MAX, ASSET_ENTRIES_MAX};

use super::failure::Failure;
use super::output;
use super::project::{Project, shown};

/// The assets of a project, by their paths below `static/`.
pub(crate) type Assets = BTreeMap<String, Vec<u8>>;

/// Reads the assets of a project. A plugin has none.
pub(crate) fn of(project: &Project) -> Result<Assets, Failure> {
    if project.manifest.kind.is_app() { read(&project.folder) } else { Ok(Assets::new()) }
}

/// Reads the assets of the project in a folder; none without `static/`.
fn read(project: &Path) -> Result<Assets, Failure> {
    let root = project.join(ASSETS_FOLDER);
    let mut assets = Assets::new();
    if root.is_symlink() {
        let why = "it is a link, and a bundle contains only plain files";
        return Err(refused(&root, why).next("replace it with a folder, which the build can fill"));
    }
    if !root.is_dir() {
        return Ok(assets);
    }
    let (mut entries, mut bytes) = (0, 0);
    let mut waiting = vec![(root, String::new())];
    while let Some((folder, prefix)) = waiting.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| unreadable(&folder, error))? {
            let entry = entry.map_err(|error| unreadable(&folder, error))?;
            let path = entry.path();
            let name = entry.file_name().into_string();
            let name = name.map_err(|_| refused(&path, "its name is not UTF-8").next("rename it"))?;
            // Files that macOS creates, which the host ignores.
            if name == ".DS_Store" || name.starts_with("._") {
                continue;
            }
            entries += 1;
            if entries > ASSET_ENTRIES_MAX {
                let why = format!("it has more than {ASSET_ENTRIES_MAX} files and folders, which is the maximum");
                return Err(refused(&project.join(ASSETS_FOLDER), why).next("keep only files to serve in static/"));
            }
            let kind = entry.file_type().map_err(|error| unreadable(&path, error))?;
            if kind.is_dir() {
                waiting.push((path, format!("{prefix}{name}/")));
                continue;
            }
            if !kind.is_file() {
                let why = "it is a link or a special file, and a bundle contains only plain files";
                return Err(refused(&path, why).next("copy the file into static/"));
            }
            let content = fs::read(&path).map_err(|error| unreadable(&path, error))?;
            bytes += content.len();
            if bytes > ASSET_BYTES_MAX {
                let why = format!("its files exceed the maximum of {}", output::size(ASSET_BYTES_MAX as u64));
                let next = "keep only files to serve in static/, and large files in an object store";
                return Err(refused(&project.join(ASSETS_FOLDER), why).next(next));
            }
            assets.insert(format!("{prefix}{name}"), content);
        }
    }
    Ok(assets)
}

/// Describes assets in one line: `12 files, 340 KiB`.
pub(crate) fn described(assets: &Assets) -> String {
    let bytes = assets.values().map(|content| content.len() as u64).sum();
    let files = if assets.len() == 1 { "1 file".to_owned() } else { format!("{} files", assets.len()) };
    format!("{files}, {}", output::size(bytes))
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}", shown(path))).why(error)
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot pack {}", shown(path))).why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    #[test]
    fn all_files_below_static_are_read_with_their_paths() {
        let folder = project(&["static/index.html", "static/css/a/site.css", "static/.DS_Store", "src/lib.rs"]);
        fs::create_dir(folder.path().join("static/empty")).unwrap();
        let assets = read(folder.path()).unwrap();
        assert_eq!(assets.keys().collect::<Vec<_>>(), ["css/a/site.css", "index.html"]);
        assert_eq!(
            (assets["css/a/site.css"].as_slice(), described(&assets)),
            (&b"static/css/a/site.css"[..], "2 files, 38 B".to_owned())
        );
    }

    #[test]
    fn a_project_without_static_has_no_assets() {
        assert!(read(project(&["src/lib.rs"]).path()).unwrap().is_empty());
        // A file of that name is not a folder of assets.
        assert!(read(project(&["static"]).path()).unwrap().is_empty());
    }

    #[test]
    fn a_link_below_static_is_refused() {
        let folder = project(&["static/a", "secret"]);
        std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join("static/b")).unwrap();
        let refused = read(folder.path()).unwrap_err().text();
        assert!(refused.contains("static/b") && refused.contains("link"), "{refused}");
    }

    #[test]
    fn a_static_folder_that_is_a_link_is_refused() {
        let folder = project(&["dist/index.html"]);
        std::os::unix::fs::symlink(folder.path().join("dist"), folder.path().join("static")).unwrap();
        let refused = read(folder.path()).unwrap_err().text();
        assert!(refused.contains("static") && refused.contains("link"), "{refused}");
    }
}
