//! A project on this disk: its folder, its manifest, its component, and the name of the app it makes.
//! It reads files and never writes, builds or uploads.

use std::path::{Path, PathBuf};

use clap::Args;
use isopod_policy::bundle::is_misnamed_manifest;
use isopod_policy::manifest::{self, Manifest};
use isopod_policy::{AppName, Entry};

use super::failure::Failure;
use super::new;

/// The name of the manifest in a project's folder.
pub(crate) const MANIFEST: &str = "isopod.toml";

/// Which app a command speaks of.
#[derive(Args, Debug, Clone)]
pub(crate) struct AppArgs {
    /// The app; by default the one named in isopod.toml in the working folder
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) app: Option<AppName>,
}

impl AppArgs {
    /// The app named on the command line, or else by the manifest in the working folder.
    pub(crate) fn resolve(&self) -> Result<AppName, Failure> {
        self.resolve_or(|| None)
    }

    /// The same, and where neither names one the app that is named elsewhere.
    pub(crate) fn resolve_or(&self, elsewhere: impl FnOnce() -> Option<AppName>) -> Result<AppName, Failure> {
        if let Some(name) = &self.app {
            return Ok(name.clone());
        }
        if !Path::new(MANIFEST).exists() {
            let unnamed = Failure::usage("which app?")
                .why("no app was named, and there is no isopod.toml in the working folder")
                .next("add --app NAME, or go to the project's folder; `isopod apps` lists the apps");
            return elsewhere().ok_or(unnamed);
        }
        Ok(Project::open(Path::new("."))?.manifest.name)
    }
}

/// A project whose manifest could be read.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) folder: PathBuf,
    pub(crate) manifest_text: String,
    pub(crate) manifest: Manifest,
}

impl Project {
    /// Reads the project in a folder.
    pub(crate) fn open(folder: &Path) -> Result<Project, Failure> {
        let path = if folder == Path::new(".") { PathBuf::from(MANIFEST) } else { folder.join(MANIFEST) };
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => no_manifest(folder),
            _ => Failure::new(format!("cannot read {}", shown(&path))).why(error),
        })?;
        let manifest_text = manifest::decode(&bytes)
            .map_err(|error| Failure::new(format!("{} cannot be used", shown(&path))).why(error))?
            .to_owned();
        let manifest = Manifest::parse(&manifest_text)
            .map_err(|error| Failure::new(format!("{} cannot be used", shown(&path))).why(error))?;
        // Watchers and compilers report absolute paths, which must be comparable to ours.
        let folder = std::path::absolute(folder).map_err(|error| Failure::new("cannot find the folder").why(error))?;
        let folder = folder.canonicalize().unwrap_or(folder);
        Ok(Project { folder, manifest_text, manifest })
    }

    /// Where the compiled component is, or will be.
    pub(crate) fn component_path(&self) -> Result<PathBuf, Failure> {
        if let Some(component) = &self.manifest.component {
            return Ok(self.folder.join(AsRef::<Path>::as_ref(component)));
        }
        let found = single_component(&self.folder)?;
        found.ok_or_else(|| {
            Failure::new("the project does not say where its component is")
                .why("isopod.toml has no `component`, and its folder holds not exactly one .wasm file")
                .next("add a line such as component = \"target/wasm32-wasip2/release/app.wasm\" to isopod.toml")
        })
    }

    /// Whether the project is known to serve no HTTP, judged by its process types, or else by its
    /// component.
    pub(crate) fn takes_no_http(&self) -> bool {
        if !self.manifest.processes.is_empty() {
            return self.manifest.processes.values().all(|process| process.entry != Entry::Http);
        }
        let component = self.component_path().ok().and_then(|path| std::fs::read(path).ok());
        let info = component.and_then(|component| isopod_engine::inspect(&component).ok());
        info.is_some_and(|info| info.entries.http.is_none())
    }

    /// Reads the compiled component.
    pub(crate) fn read_component(&self) -> Result<Vec<u8>, Failure> {
        let path = self.component_path()?;
        std::fs::read(&path).map_err(|error| {
            Failure::new(format!("cannot read the component {}", shown(&path)))
                .why(error)
                .next("run `isopod build`, and check `component` in isopod.toml")
        })
    }
}

/// The error about a folder without a manifest; names a file that was meant to be one.
fn no_manifest(folder: &Path) -> Failure {
    let failure = Failure::new(format!("{} is not a project", shown(folder)));
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let misnamed =
        names.filter_map(|entry| entry.file_name().into_string().ok()).find(|name| is_misnamed_manifest(name));
    match misnamed {
        Some(name) => failure
            .why(format!("its manifest must be named isopod.toml, and it holds {name}"))
            .next(format!("mv {} {}", new::quoted(&folder.join(&name)), new::quoted(&folder.join(MANIFEST)))),
        None => failure
            .why("it has no isopod.toml")
            .next("go to a project's folder, or write a new one with `isopod new NAME`"),
    }
}

fn single_component(folder: &Path) -> Result<Option<PathBuf>, Failure> {
    let entries =
        std::fs::read_dir(folder).map_err(|error| Failure::new(format!("cannot list {}", shown(folder))).why(error))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    Ok(if found.len() == 1 { found.pop() } else { None })
}

/// A path as people write it: relative to the working folder where that is shorter.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    match relative {
        Some(relative) if relative.as_os_str().is_empty() => ".".to_owned(),
        Some(relative) => relative.display().to_string(),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of a page that are marked as TOML.
    fn blocks(page: &str) -> Vec<&str> {
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
    }

    #[test]
    fn the_documented_manifests_can_be_read() {
        let [whole, health] = blocks(include_str!("../../../docs/manifest.md"))[..] else {
            panic!("blocks were added")
        };
        let manifest = Manifest::parse(whole).unwrap();
        assert_eq!((manifest.processes.len(), &manifest.limits), (3, &isopod_policy::Limits::default()));
        Manifest::parse(&format!("name = \"x\"\n[processes.web]\n{health}")).unwrap();
        let [shop, schedule] = blocks(include_str!("../../../docs/operations.md"))[..] else {
            panic!("blocks were added")
        };
        Manifest::parse(shop).unwrap();
        Manifest::parse(&format!("name = \"x\"\n{schedule}")).unwrap();
    }
}
