//! Decides which file of an archive is the manifest, which is the component and which are assets.
//! Refuses by name a file that was meant to be one of the first two but doesn't qualify. Never
//! unpacks anything.

use super::archive::{Files, normal_path};
use super::{ASSETS_FOLDER, BundleError, COMPONENT_FILE, MANIFEST_FILE};
use crate::limits::{
    ASSET_BYTES_MAX, ASSET_PATHS_BYTES_MAX, BUNDLE_COMPONENT_BYTES_MAX, BUNDLE_REST_BYTES_MAX, TEXT_NAME_BYTES_SHOWN,
};
use crate::text;

/// Common wrong names of a manifest.
const MISNAMED: [&str; 4] = ["isopod.json", "isopod.yaml", "isopod.yml", "isopod.ini"];
/// The maximum edit distance of a misspelt manifest's name.
const NEAR: usize = 2;

/// Returns whether a file was probably meant as the manifest, but isn't named `isopod.toml`.
pub fn is_misnamed_manifest(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_near = || {
        lower.starts_with(MANIFEST_FILE)
            || MISNAMED.contains(&lower.as_str())
            || strsim::damerau_levenshtein(&lower, MANIFEST_FILE) <= NEAR
    };
    name != MANIFEST_FILE && lower.len() <= 2 * MANIFEST_FILE.len() && is_near()
}

/// The files of an archive, without a single top folder that contains the whole bundle, as in
/// archives made by `tar czf app.tgz folder`.
pub(super) struct Contents {
    /// The single top folder with a slash at the end; empty without such a folder.
    top_folder: String,
    files: Files,
}

impl Contents {
    pub(super) fn of(files: Files) -> Self {
        let top = files.keys().next().and_then(|path| path.split_once('/')).map(|(folder, _)| format!("{folder}/"));
        match top {
            Some(top) if !files.contains_key(MANIFEST_FILE) && files.keys().all(|path| path.starts_with(&top)) => {
                let below = files.into_iter().map(|(path, content)| (path[top.len()..].to_owned(), content)).collect();
                Self { top_folder: top, files: below }
            }
            Some(_) | None => Self { top_folder: String::new(), files },
        }
    }

    /// Returns the path of a file as it is in the archive.
    fn in_archive(&self, path: &str) -> String {
        format!("{}{path}", self.top_folder)
    }

    /// Removes the assets from the files, and returns them by their paths below `static/`.
    pub(super) fn take_assets(&mut self) -> Result<Files, BundleError> {
        let folder = format!("{ASSETS_FOLDER}/");
        let assets: Files = self
            .files
            .extract_if(folder.clone().., |path, _| path.starts_with(&folder))
            .map(|(path, content)| (path[folder.len()..].to_owned(), content))
            .collect();
        let bytes = |files: &Files| files.values().map(Vec::len).sum::<usize>();
        if bytes(&assets) > ASSET_BYTES_MAX {
            return Err(BundleError::AssetsTooLarge { bytes_max: ASSET_BYTES_MAX });
        }
        if assets.keys().map(String::len).sum::<usize>() > ASSET_PATHS_BYTES_MAX {
            return Err(BundleError::AssetPathsTooLong { bytes_max: ASSET_PATHS_BYTES_MAX });
        }
        if bytes(&self.files) > BUNDLE_REST_BYTES_MAX {
            return Err(BundleError::UnpacksTooLarge { bytes_max: BUNDLE_REST_BYTES_MAX });
        }
        Ok(assets)
    }

    /// Removes the manifest from the files. Without a manifest, no file may look like one.
    pub(super) fn take_manifest(&mut self) -> Result<Option<Vec<u8>>, BundleError> {
        if let Some(manifest) = self.files.remove(MANIFEST_FILE) {
            return Ok(Some(manifest));
        }
        let is_misnamed = |path: &&String| !path.contains('/') && is_misnamed_manifest(path);
        if let Some(misnamed) = self.files.keys().find(is_misnamed) {
            return Err(BundleError::MisnamedManifest { path: self.in_archive(misnamed) });
        }
        let is_manifest =
            |path: &&String| path.rsplit_once('/').is_some_and(|(_, name)| name.eq_ignore_ascii_case(MANIFEST_FILE));
        let paths: Vec<String> = self.files.keys().filter(is_manifest).map(|path| self.in_archive(path)).collect();
        if paths.is_empty() { Ok(None) } else { Err(BundleError::MisplacedManifest { paths, at_top: self.at_top() }) }
    }

    /// Returns the top-level entries of the archive. Folders end with a slash.
    fn at_top(&self) -> Vec<String> {
        let paths = self.files.keys().map(|path| self.in_archive(path));
        let mut names: Vec<String> =
            paths.filter_map(|path| Some(path.split_inclusive('/').next()?.to_owned())).collect();
        names.dedup();
        names
    }

    /// Finds the component: by the manifest's path, by that path's file name, or by the name that
    /// `isopod build` uses. If the manifest names none, the component is the only `.wasm` file.
    pub(super) fn take_component(mut self, named: Option<&str>) -> Result<Vec<u8>, BundleError> {
        let path = match named {
            Some(named) => self.named_component(named)?,
            None => self.only_component()?,
        };
        let component = self.files.remove(&path).unwrap_or_default();
        if component.len() > BUNDLE_COMPONENT_BYTES_MAX {
            return Err(BundleError::ComponentTooLarge {
                bytes: component.len(),
                bytes_max: BUNDLE_COMPONENT_BYTES_MAX,
            });
        }
        if component.is_empty() {
            let path = self.in_archive(&path);
            return Err(BundleError::NoComponent { why: format!("{path:?} is an empty file") });
        }
        Ok(component)
    }

    fn named_component(&self, named: &str) -> Result<String, BundleError> {
        let path = normal_path(named).unwrap_or_else(|_| named.to_owned());
        let file = path.rsplit('/').next().unwrap_or(&path).to_owned();
        let known = [path, file, COMPONENT_FILE.to_owned()].into_iter().find(|path| self.files.contains_key(path));
        known.ok_or_else(|| {
            let (named, others) = (text::excerpt(named, TEXT_NAME_BYTES_SHOWN), self.listed());
            let why =
                format!("isopod.toml names {named:?}, which the archive doesn't contain; {others}; did the build run?");
            BundleError::NoComponent { why }
        })
    }

    fn only_component(&self) -> Result<String, BundleError> {
        if self.files.contains_key(COMPONENT_FILE) {
            return Ok(COMPONENT_FILE.to_owned());
        }
        let wasm: Vec<&String> = self.files.keys().filter(|path| path.ends_with(".wasm")).collect();
        match wasm.as_slice() {
            [only] => Ok((*only).clone()),
            [] => {
                let others = self.listed();
                let why = format!("there is neither {COMPONENT_FILE:?} nor another .wasm file; {others}");
                Err(BundleError::NoComponent { why })
            }
            several => {
                let names: Vec<String> = several.iter().map(|path| self.in_archive(path)).collect();
                let names = text::list(names.iter().map(String::as_str), TEXT_NAME_BYTES_SHOWN);
                Err(BundleError::SeveralComponents { count: several.len(), names })
            }
        }
    }

    fn listed(&self) -> String {
        let paths: Vec<String> = self.files.keys().map(|path| self.in_archive(path)).collect();
        match paths.is_empty() {
            true => "it contains no other file".to_owned(),
            false => format!("it contains {}", text::list(paths.iter().map(String::as_str), TEXT_NAME_BYTES_SHOWN)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_manifest_names_are_recognised() {
        let meant = [
            "Isopod.toml",
            "ISOPOD.TOML",
            "isopod.toml.txt",
            "isopod.tml",
            "isopods.toml",
            "isopod.yaml",
            "isopod.toml~",
        ];
        for name in meant {
            assert!(is_misnamed_manifest(name), "{name}");
        }
        for name in ["isopod.toml", "isopod.wasm", "isopod", "Cargo.toml", "README.md", "component.wasm"] {
            assert!(!is_misnamed_manifest(name), "{name}");
        }
    }
}
