//! Decides which file of an archive is the manifest and which is the component. Refuses by name a
//! file that was meant to be either but doesn't qualify. Never unpacks anything.

use super::archive::{Files, normal_path};
use super::{BundleError, COMPONENT_FILE, MANIFEST_FILE};
use crate::limits::{COMPONENT_BYTES_MAX, TEXT_NAME_BYTES_SHOWN};
use crate::text;

/// Common wrong names of a manifest.
const MISNAMED: [&str; 4] = ["isopod.json", "isopod.yaml", "isopod.yml", "isopod.ini"];
/// The most letters by which a misspelt manifest's name may differ.
const NEAR: usize = 2;

/// Whether a file was probably meant to be the manifest, but is not named `isopod.toml`.
pub fn is_misnamed_manifest(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_near = || {
        lower.starts_with(MANIFEST_FILE)
            || MISNAMED.contains(&lower.as_str())
            || strsim::damerau_levenshtein(&lower, MANIFEST_FILE) <= NEAR
    };
    name != MANIFEST_FILE && lower.len() <= 2 * MANIFEST_FILE.len() && is_near()
}

/// Strips a single top folder that contains the whole bundle, as in archives made by `tar czf
/// app.tgz folder`.
pub(super) fn without_top_folder(files: Files) -> Files {
    if files.contains_key(MANIFEST_FILE) {
        return files;
    }
    let top = files.keys().next().and_then(|path| path.split_once('/')).map(|(folder, _)| format!("{folder}/"));
    match top {
        Some(top) if files.keys().all(|path| path.starts_with(&top)) => {
            files.into_iter().map(|(path, content)| (path[top.len()..].to_owned(), content)).collect()
        }
        Some(_) | None => files,
    }
}

/// Removes the manifest from the files. If there is none, no file may look like one.
pub(super) fn take_manifest(files: &mut Files) -> Result<Option<Vec<u8>>, BundleError> {
    if let Some(manifest) = files.remove(MANIFEST_FILE) {
        return Ok(Some(manifest));
    }
    for path in files.keys() {
        let (folder, name) = path.rsplit_once('/').map_or((None, path.as_str()), |(folder, name)| (Some(folder), name));
        if folder.is_some() && name.eq_ignore_ascii_case(MANIFEST_FILE) {
            return Err(BundleError::MisplacedManifest { path: path.clone() });
        }
        if folder.is_none() && is_misnamed_manifest(name) {
            return Err(BundleError::MisnamedManifest { path: path.clone() });
        }
    }
    Ok(None)
}

/// Finds the component: by the manifest's path, by that path's file name, or by the name that `isopod build` gives it.
/// Where the manifest names none, it is the only `.wasm` file.
pub(super) fn take_component(files: &mut Files, named: Option<&str>) -> Result<Vec<u8>, BundleError> {
    let path = match named {
        Some(named) => named_component(files, named)?,
        None => only_component(files)?,
    };
    let component = files.remove(&path).unwrap_or_default();
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(BundleError::ComponentTooLarge { bytes: component.len(), bytes_max: COMPONENT_BYTES_MAX });
    }
    if component.is_empty() {
        return Err(BundleError::NoComponent { why: format!("{path:?} is an empty file") });
    }
    Ok(component)
}

fn named_component(files: &Files, named: &str) -> Result<String, BundleError> {
    let path = normal_path(named).unwrap_or_else(|_| named.to_owned());
    let file = path.rsplit('/').next().unwrap_or(&path).to_owned();
    let known = [path, file, COMPONENT_FILE.to_owned()].into_iter().find(|path| files.contains_key(path));
    known.ok_or_else(|| {
        let named = text::excerpt(named, TEXT_NAME_BYTES_SHOWN);
        let why = format!("isopod.toml names {named:?}, which isn't in it; {}; did the build run?", those_in(files));
        BundleError::NoComponent { why }
    })
}

fn only_component(files: &Files) -> Result<String, BundleError> {
    if files.contains_key(COMPONENT_FILE) {
        return Ok(COMPONENT_FILE.to_owned());
    }
    let wasm: Vec<&str> = files.keys().map(String::as_str).filter(|path| path.ends_with(".wasm")).collect();
    match wasm.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => {
            let why = format!("neither {COMPONENT_FILE:?} nor any other .wasm file is in it; {}", those_in(files));
            Err(BundleError::NoComponent { why })
        }
        several => {
            let names = text::list(several.iter().copied(), TEXT_NAME_BYTES_SHOWN);
            let count = several.len();
            let why = format!("it has {count} .wasm files ({names}); name one as `component` in isopod.toml");
            Err(BundleError::NoComponent { why })
        }
    }
}

fn those_in(files: &Files) -> String {
    match files.is_empty() {
        true => "it holds no other file".to_owned(),
        false => format!("it holds {}", text::list(files.keys().map(String::as_str), TEXT_NAME_BYTES_SHOWN)),
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
