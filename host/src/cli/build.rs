//! Implements `isopod build`: builds a project's component, packs the bundle, and shows its
//! contents. Never uploads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use isopod_engine::{ComponentInfo, HttpAbi};
use isopod_policy::{Grants, Manifest};
use serde_json::{Value, json};

use super::archive::{self, Effort};
use super::assets::{self, Assets};
use super::failure::Failure;
use super::guest::{Builder, Cancel};
use super::output;
use super::progress::Step;
use super::project::{Project, shown};
use super::terminal;

#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where to write the bundle [default: .isopod/NAME.tar.gz in the project's folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A built project with its component.
pub(crate) struct Finished {
    pub(crate) project: Project,
    pub(crate) component: Vec<u8>,
    pub(crate) info: ComponentInfo,
    pub(crate) assets: Assets,
    took: Option<Duration>,
}

pub(crate) fn run(args: &BuildArgs) -> Result<(), Failure> {
    let finished = build(&args.folder)?;
    let bundle = finished.pack()?;
    let target = match &args.output {
        Some(path) => path.clone(),
        None => finished.project.folder.join(".isopod").join(format!("{}.tar.gz", finished.project.manifest.name)),
    };
    write(&target, &bundle)?;
    if args.json {
        output::json(&as_json(&finished, &target, bundle.len()));
    } else {
        output::emit(&report(&finished, &target, bundle.len()));
    }
    Ok(())
}

/// Runs the project's build command, if it has one, and reads the component.
pub(crate) fn build(folder: &Path) -> Result<Finished, Failure> {
    let project = Project::open(folder)?;
    let mut took = None;
    if let Some(command) = &project.manifest.build {
        took = Some(run_command(&project, command)?);
    }
    inspect(project, took)
}

/// Reads the existing component without building.
pub(crate) fn as_is(folder: &Path) -> Result<Finished, Failure> {
    inspect(Project::open(folder)?, None)
}

fn run_command(project: &Project, command: &str) -> Result<Duration, Failure> {
    let builder = Builder::new(command)?;
    let step = Step::spinner(&format!("building {}", project.manifest.name));
    let display = step.handle();
    let built = builder.run(project, command, &Cancel::default(), |line| display.detail(line));
    let is_printed = !step.is_interactive();
    step.finish();
    match built {
        Ok(built) => Ok(built.took),
        Err(failed) => {
            // Without a progress display, each line was already printed.
            if !is_printed && !failed.output.trim().is_empty() {
                output::note(&terminal::with_colours(failed.output.trim_end()));
            }
            Err(Failure::new("the build failed").why(&failed.how).next(failed.next()))
        }
    }
}

fn inspect(project: Project, took: Option<Duration>) -> Result<Finished, Failure> {
    let component = project.read_component()?;
    let info = isopod_engine::inspect(&component).map_err(|rejected| {
        let path = project.component_path().map(|path| shown(&path)).unwrap_or_default();
        Failure::new(format!("no host would accept {path}")).why(rejected)
    })?;
    let assets = assets::of(&project)?;
    Ok(Finished { project, component, info, assets, took })
}

impl Finished {
    /// Packs the bundle for the upload.
    pub(crate) fn pack(&self) -> Result<Vec<u8>, Failure> {
        archive::pack(&self.project.manifest_text, &self.component, &self.assets, Effort::Small)
    }
}

fn write(path: &Path, bundle: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, bundle));
    written.map_err(|error| {
        Failure::new(format!("cannot write the bundle to {}", shown(path)))
            .why(error)
            .next("choose another file with --output")
    })
}

/// Returns what an app serves, or the version of a plugin.
fn offers(manifest: &Manifest, info: &ComponentInfo) -> String {
    match &manifest.plugin {
        Some(plugin) => format!("version {}", plugin.version),
        None => serves(info),
    }
}

fn serves(info: &ComponentInfo) -> String {
    let http = info.entries.http.map(|abi| match abi {
        HttpAbi::Flat => "HTTP (flat interface)",
        HttpAbi::Wasi02 => "HTTP (wasi:http 0.2)",
        HttpAbi::Wasi03 => "HTTP (wasi:http 0.3)",
    });
    let entries = &info.entries;
    let rest = [(entries.events, "events"), (entries.command, "command"), (entries.health, "health")];
    let rest = rest.iter().filter(|(is, _)| *is).map(|(_, name)| *name);
    http.into_iter().chain(rest).collect::<Vec<_>>().join(", ")
}

/// Returns one line for each grant.
pub(crate) fn grants(grants: &Grants) -> Vec<String> {
    let mut lines: Vec<String> = grants.http.iter().map(|grant| format!("HTTP to {grant}")).collect();
    lines.extend(grants.files.iter().map(|(folder, access)| format!("files in {folder} ({access:?})")));
    lines.extend(grants.events.iter().map(|app| format!("events to {app}")));
    lines.extend(grants.interfaces.iter().map(|(interface, provider)| format!("{interface} of {provider}")));
    if grants.keyvalue {
        lines.push("key-value store".to_owned());
    }
    lines
}

fn report(finished: &Finished, bundle: &Path, bundle_bytes: usize) -> String {
    let info = &finished.info;
    let took = finished.took.map(|took| format!(" in {:.1} s", took.as_secs_f64())).unwrap_or_default();
    let size = output::size(info.size_bytes);
    let manifest = &finished.project.manifest;
    let grants = grants(&manifest.grants);
    let static_files = if finished.assets.is_empty() { "none".to_owned() } else { assets::described(&finished.assets) };
    let list = |lines: &[String]| if lines.is_empty() { "none".to_owned() } else { lines.join("\n         ") };
    let rows = [
        ("bundle", format!("{} ({})", shown(bundle), output::size(bundle_bytes as u64))),
        ("size", format!("{size} component")),
        ("digest", info.digest.clone()),
        ("static", static_files),
        (if manifest.kind.is_app() { "serves" } else { "plugin" }, offers(manifest, info)),
        ("sdk", info.sdk_version.clone().unwrap_or_else(|| "none, plain WASI".to_owned())),
        ("grants", list(&grants)),
        ("imports", list(&info.imports)),
        ("exports", list(&info.exports)),
    ];
    format!("{}\n{}", output::done(&format!("built {}{took}", finished.project.manifest.name)), output::pairs(&rows))
}

fn as_json(finished: &Finished, bundle: &Path, bundle_bytes: usize) -> Value {
    let info = &finished.info;
    json!({
        "name": finished.project.manifest.name,
        "kind": finished.project.manifest.kind,
        "version": finished.project.manifest.plugin.as_ref().map(|plugin| plugin.version.to_string()),
        "bundle": bundle,
        "bundle_bytes": bundle_bytes,
        "size_bytes": info.size_bytes,
        "digest": info.digest,
        "imports": info.imports,
        "exports": info.exports,
        "sdk_version": info.sdk_version,
        "entries": info.entries,
        "grants": finished.project.manifest.grants,
        "assets": finished.assets.len(),
        "asset_bytes": finished.assets.values().map(Vec::len).sum::<usize>(),
        "build_ms": finished.took.map(|took| took.as_millis() as u64),
    })
}
