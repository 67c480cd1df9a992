//! A project on disk: its folder, its manifest, its component, and its app's name. Only reads
//! files; never writes, builds or uploads.

use std::path::{Path, PathBuf};

use clap::Args;
use isopod_engine::Entries;
use isopod_policy::bundle::is_misnamed_manifest;
use isopod_policy::manifest::{self, Manifest};
use isopod_policy::{AppName, Entry};

use super::failure::Failure;
use super::new;

/// The name of the manifest in a project's folder.
pub(crate) const MANIFEST: &str = "isopod.toml";

/// The app that a command applies to.
#[derive(Args, Debug, Clone)]
pub(crate) struct AppArgs {
    /// The app [default: the one named in isopod.toml in the working folder]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) app: Option<AppName>,
}

impl AppArgs {
    /// Returns the app named on the command line, or else the one named by the manifest in the
    /// working folder.
    pub(crate) fn resolve(&self) -> Result<AppName, Failure> {
        self.resolve_or(Err)
    }

    /// Resolves like [`AppArgs::resolve`]; if neither source names an app, passes the error about
    /// the missing name to `elsewhere` and returns its result.
    pub(crate) fn resolve_or(
        &self,
        elsewhere: impl FnOnce(Failure) -> Result<AppName, Failure>,
    ) -> Result<AppName, Failure> {
        if let Some(name) = &self.app {
            return Ok(name.clone());
        }
        if !Path::new(MANIFEST).exists() {
            let unnamed = Failure::usage("which app?")
                .why("no app was named, and the working folder has no isopod.toml")
                .next("add --app NAME, or change to the project's folder; list the apps with `isopod apps`");
            return elsewhere(unnamed);
        }
        Ok(Project::open(Path::new("."))?.manifest.name)
    }
}

/// A project with a valid manifest.
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
            .map_err(|error| Failure::new(format!("invalid manifest {}", shown(&path))).why(error))?
            .to_owned();
        let manifest = Manifest::parse(&manifest_text)
            .map_err(|error| Failure::new(format!("invalid manifest {}", shown(&path))).why(error))?;
        // Watchers and compilers report absolute paths, which must be comparable to this one.
        let folder = std::path::absolute(folder).map_err(|error| Failure::new("cannot find the folder").why(error))?;
        let folder = folder.canonicalize().unwrap_or(folder);
        Ok(Project { folder, manifest_text, manifest })
    }

    /// Returns the path of the compiled component, even if it doesn't exist yet.
    pub(crate) fn component_path(&self) -> Result<PathBuf, Failure> {
        if let Some(component) = &self.manifest.component {
            return Ok(self.folder.join(AsRef::<Path>::as_ref(component)));
        }
        let found = single_component(&self.folder)?;
        found.ok_or_else(|| {
            Failure::new("the project has no component")
                .why("isopod.toml has no `component`, and its folder doesn't contain exactly one .wasm file")
                .next("add a line such as component = \"target/wasm32-wasip2/release/app.wasm\" to isopod.toml")
        })
    }

    /// Returns whether the project certainly serves no HTTP, based on its process types, or else on
    /// its component.
    pub(crate) fn takes_no_http(&self) -> bool {
        self.has_entry(Entry::Http, |entries| entries.http.is_some()) == Some(false)
    }

    /// Returns whether the app handles events, also if that is unknown before the first build.
    pub(crate) fn takes_events(&self) -> bool {
        self.has_entry(Entry::Events, |entries| entries.events) != Some(false)
    }

    /// Returns whether a process type has the entry, by the manifest or else by the component.
    fn has_entry(&self, entry: Entry, exports: impl Fn(&Entries) -> bool) -> Option<bool> {
        if !self.manifest.processes.is_empty() {
            return Some(self.manifest.processes.values().any(|process| process.entry == entry));
        }
        let component = self.component_path().ok().and_then(|path| std::fs::read(path).ok());
        let info = component.and_then(|component| isopod_engine::inspect(&component).ok());
        info.map(|info| exports(&info.entries))
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

/// Returns the error for a folder without a manifest. Names a file with a similar name.
fn no_manifest(folder: &Path) -> Failure {
    let failure = Failure::new(format!("{} is not a project", shown(folder)));
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let misnamed =
        names.filter_map(|entry| entry.file_name().into_string().ok()).find(|name| is_misnamed_manifest(name));
    match misnamed {
        Some(name) => failure
            .why(format!("its manifest must be named isopod.toml, but the folder contains {name}"))
            .next(format!("mv {} {}", new::quoted(&folder.join(&name)), new::quoted(&folder.join(MANIFEST)))),
        None => failure
            .why("it has no isopod.toml")
            .next("change to a project's folder, or create one with `isopod new NAME`"),
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

/// Formats a path relative to the working folder if it is inside.
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

    /// Returns the code blocks of a page that are marked as TOML.
    fn blocks(page: &str) -> Vec<&str> {
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
    }

    #[test]
    fn the_documented_manifests_are_valid() {
        let [whole, health] = blocks(include_str!("../../../docs/manifest.md"))[..] else {
            panic!("the number of TOML blocks has changed")
        };
        let manifest = Manifest::parse(whole).unwrap();
        assert_eq!((manifest.processes.len(), &manifest.limits), (4, &isopod_policy::Limits::default()));
        Manifest::parse(&format!("name = \"x\"\n[processes.web]\n{health}")).unwrap();
        // The second block has settings of the host.
        let [shop, _, schedule] = blocks(include_str!("../../../docs/operations.md"))[..] else {
            panic!("the number of TOML blocks has changed")
        };
        Manifest::parse(shop).unwrap();
        Manifest::parse(&format!("name = \"x\"\n{schedule}")).unwrap();
    }
}
