//! Owns the folder of compiled code for `isopod serve` and `isopod run`: accessible only to this
//! user, and bounded. Never reads or writes the code itself.

use std::{
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Result, bail};
use isopod_engine::Folder;

use super::limits;
use crate::config;

/// Below the program's own cache folder.
const FOLDER: &str = "compiled";

/// Returns the folder if it can be trusted. Otherwise code is compiled for this run only.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = config::default_cache_dir()?.join(FOLDER);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder).and_then(|()| own(&folder));
    if let Err(error) = made.and_then(|()| prune(&folder, limits::COMPILED_BYTES_MAX)) {
        tracing::debug!(%error, folder = %folder.display(), "compiled code is not cached");
        return None;
    }
    Some(folder)
}

/// Refuses to grant a component a folder that contains the compiled code, or is inside it: code
/// loaded from there runs outside the sandbox.
pub(crate) fn check_granted(granted: &[Folder]) -> Result<()> {
    let Some(cache) = config::default_cache_dir() else { return Ok(()) };
    let cache = cache.canonicalize().unwrap_or(cache);
    for folder in granted.iter().filter(|folder| folder.writable) {
        let host = folder.host.canonicalize().unwrap_or_else(|_| folder.host.clone());
        if cache.starts_with(&host) || host.starts_with(&cache) {
            bail!(
                "{} contains or is inside {}, the cache of compiled code: a component that writes there could \
                 replace code that runs outside its sandbox. Grant a narrower folder, grant it read-only \
                 (`::ro`), or set XDG_CACHE_HOME to a \
                 folder outside it",
                folder.host.display(),
                cache.display(),
            );
        }
    }
    Ok(())
}

/// Checks that the folder belongs to this user and that no other user can access it. Code that
/// others could have written is never loaded.
fn own(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    // SAFETY: it takes nothing and can't fail.
    let user = unsafe { libc::geteuid() };
    if found.is_dir() && is_private(&found, user) {
        return Ok(());
    }
    Err(io::Error::other("not a folder of this user with the mode 0700"))
}

fn is_private(found: &Metadata, user: u32) -> bool {
    found.uid() == user && found.mode() & 0o077 == 0
}

/// Marks a component's code as used now, so that it is kept.
pub(crate) fn touch(digest: &str) {
    if let Some(cache) = config::default_cache_dir() {
        touch_in(&cache.join(FOLDER), digest);
    }
}

fn touch_in(folder: &Path, digest: &str) {
    for (path, _) in files(folder).unwrap_or_default() {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(digest)) {
            // On failure the file only seems older, which matters only when files are evicted.
            let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        }
    }
}

/// Removes the least recently used files until the rest is within `bytes_max`.
fn prune(folder: &Path, bytes_max: u64) -> io::Result<()> {
    let mut files = files(folder)?;
    let mut total: u64 = files.iter().map(|(_, found)| found.len()).sum();
    files.sort_by_key(|(_, found)| found.modified().unwrap_or(SystemTime::UNIX_EPOCH));
    for (path, found) in files {
        if total <= bytes_max {
            break;
        }
        // Another process may have removed it.
        let _ = fs::remove_file(path);
        total -= found.len();
    }
    Ok(())
}

fn files(folder: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let entries = fs::read_dir(folder)?.map(|entry| {
        let path = entry?.path();
        let found = fs::symlink_metadata(&path)?;
        Ok((path, found))
    });
    // Skips files that are removed concurrently.
    Ok(entries.filter_map(|entry: io::Result<_>| entry.ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn a_folder_that_others_may_enter_is_not_used() {
        let outer = tempfile::tempdir().expect("a folder can be made");
        let folder = outer.path().join("compiled");
        fs::create_dir(&folder).expect("a folder can be made");
        for (mode, is_fine) in [(0o700, true), (0o755, false), (0o777, false)] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("a mode can be set");
            assert_eq!(own(&folder).is_ok(), is_fine, "{mode:o}");
        }
        let link = outer.path().join("link");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("a mode can be set");
        std::os::unix::fs::symlink(&folder, &link).expect("a link can be made");
        assert!(own(&link).is_err(), "a link may lead anywhere");
        assert!(own(&outer.path().join("none")).is_err());
        let found = fs::symlink_metadata(&folder).expect("it is there");
        assert!(!is_private(&found, found.uid() + 1), "another user's");
    }

    #[test]
    fn the_least_recently_used_code_is_removed() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = |name: &str| folder.path().join(name);
        for (age, name) in ["aa-1.cwasm", "bb-1.cwasm", "cc-1.cwasm"].iter().rev().enumerate() {
            fs::write(path(name), [0; 100]).expect("a file can be written");
            let used = SystemTime::now() - Duration::from_secs(100 * (age as u64 + 1));
            let file = fs::File::open(path(name)).expect("it is there");
            file.set_modified(used).expect("a time can be set");
        }
        prune(folder.path(), 300).expect("it can be read");
        assert!(path("cc-1.cwasm").exists() && path("bb-1.cwasm").exists() && path("aa-1.cwasm").exists());
        touch_in(folder.path(), "bb");
        prune(folder.path(), 299).expect("it can be read");
        prune(folder.path(), 199).expect("it can be read");
        assert!(path("bb-1.cwasm").exists(), "it was used last");
        assert_eq!(files(folder.path()).expect("it can be read").len(), 1);
    }
}
