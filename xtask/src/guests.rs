//! `cargo xtask guests`: builds the examples and the shipped plugins into
//! `target/guests/NAME.wasm`, for tests, demo and benchmarks. Skips one that is up to date. Reads
//! only the name and the build of a manifest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use isopod_toolchain::{Toolchain, guest_file};

use crate::{host, setup, step};

/// The source of the linker, for machines without a suitable linker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Linker {
    BuildIt,
    BuiltWithTheWorkspace,
}

/// The folders of guests: each is a separate workspace.
const FOLDERS: [&str; 2] = ["examples", "plugins"];

/// An example or a shipped plugin: a folder below one of `FOLDERS`.
pub struct Example {
    pub name: String,
    pub folder: PathBuf,
    build: String,
    component: PathBuf,
}

impl Example {
    /// Returns the package manager that its build needs: npm or Python's pip, which download
    /// packages.
    fn packager(&self) -> Option<&'static str> {
        ["npm", "python3"].into_iter().find(|program| self.build.starts_with(program))
    }
}

pub fn run(names: &[String]) -> Result<()> {
    setup::run()?;
    build(names, Linker::BuildIt)?;
    Ok(())
}

/// Builds the examples and shipped plugins with these names, or all. Returns those that are built.
/// Skips an example that needs npm or Python if that is not installed.
pub fn build(names: &[String], linker: Linker) -> Result<Vec<Example>> {
    let mut examples = find_all()?;
    if let Some(unknown) = names.iter().find(|name| !examples.iter().any(|example| example.name == **name)) {
        let known: Vec<&str> = examples.iter().map(|example| example.name.as_str()).collect();
        bail!("unknown example {unknown:?}; the examples are {}", known.join(", "));
    }
    examples.retain(|example| names.is_empty() || names.contains(&example.name));
    build_each(examples, !names.is_empty(), linker)
}

/// Builds some examples and shipped plugins, and returns those that are built. Skips an example if
/// its packages can't be downloaded.
pub fn build_available(examples: Vec<Example>, linker: Linker) -> Result<Vec<Example>> {
    build_each(examples, false, linker)
}

fn build_each(examples: Vec<Example>, are_required: bool, linker: Linker) -> Result<Vec<Example>> {
    let mut toolchain = None;
    let (mut built, mut up_to_date) = (Vec::new(), Vec::new());
    for example in examples {
        let output = guest_file(&step::root(), &example.name);
        if is_up_to_date(&example, &output)? {
            up_to_date.push(example.name.clone());
            built.push(example);
            continue;
        }
        if let Some(program) = example.packager().filter(|program| !is_installed(program)) {
            step::announce(&format!("skipping {}: it needs {program}, which is not installed", example.name));
            continue;
        }
        let toolchain = match &toolchain {
            Some(found) => found,
            None => toolchain.insert(find_toolchain(linker)?),
        };
        match build_one(&example, toolchain, &output) {
            Ok(()) => built.push(example),
            // Packages are downloaded, and no other part of the project needs these examples. So a
            // failed download skips the example, unless the caller asked for it by name.
            Err(error) if example.packager().is_some() && !are_required => {
                let _ = fs::remove_file(&output);
                step::announce(&format!("skipping {}: {error:#}", example.name));
            }
            Err(error) => return Err(error),
        }
    }
    if !up_to_date.is_empty() {
        step::announce(&format!("examples that are up to date: {}", up_to_date.join(", ")));
    }
    Ok(built)
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn find_toolchain(linker: Linker) -> Result<Toolchain> {
    let program = || match linker {
        Linker::BuildIt => host::build_linker().map_err(std::io::Error::other),
        Linker::BuiltWithTheWorkspace => host::linker().map_err(std::io::Error::other),
    };
    Ok(Toolchain::detect_with(program)?)
}

fn build_one(example: &Example, toolchain: &Toolchain, output: &Path) -> Result<()> {
    let began = SystemTime::now();
    step::announce(&format!("building {}", example.name));
    let result = toolchain.build(&example.folder, &example.build, |line| println!("         {line}"));
    result.with_context(|| {
        format!("cannot build the example {}; its build command runs in {}", example.name, example.folder.display())
    })?;
    let component = example.folder.join(&example.component);
    let bytes = fs::read(&component)
        .with_context(|| format!("the build of {} succeeded but left no {}", example.name, component.display()))?;
    fs::create_dir_all(output.parent().context("the output has no parent folder")?)?;
    // Written to a temporary file and renamed, so that a concurrent test reads either the old or
    // the new file. Its time is the start of the build, so that a source saved during the build
    // counts as newer.
    let fresh = output.with_extension(format!("{}.part", std::process::id()));
    fs::write(&fresh, bytes)?;
    fs::File::options().append(true).open(&fresh)?.set_modified(began)?;
    fs::rename(&fresh, output).with_context(|| format!("cannot write {}", output.display()))
}

/// Returns all examples and shipped plugins.
pub fn find_all() -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    for folder in FOLDERS {
        examples.extend(find(&step::root().join(folder))?);
    }
    Ok(examples)
}

/// Returns all examples in a folder, sorted by name. Ignores a folder without a manifest.
pub fn find(folder: &Path) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let folder = entry?.path();
        let manifest = folder.join("isopod.toml");
        if manifest.is_file() {
            let text = fs::read_to_string(&manifest)?;
            examples.push(read(folder, &text).with_context(|| manifest.display().to_string())?);
        }
    }
    examples.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(examples)
}

fn read(folder: PathBuf, manifest: &str) -> Result<Example> {
    let table: toml::Table = toml::from_str(manifest)?;
    let text =
        |key: &str| table.get(key).and_then(|value| value.as_str()).with_context(|| format!("`{key}` is missing"));
    Ok(Example {
        name: text("name")?.to_owned(),
        build: text("build")?.to_owned(),
        component: PathBuf::from(text("component")?),
        folder,
    })
}

fn is_up_to_date(example: &Example, output: &Path) -> Result<bool> {
    let Ok(built) = fs::metadata(output).and_then(|metadata| metadata.modified()) else { return Ok(false) };
    let root = step::root();
    // The workspace defines the build profile.
    let workspace = example.folder.parent().context("an example is in a folder")?;
    let mut newest =
        fs::metadata(workspace.join("Cargo.toml")).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    // The probes share a library.
    for input in [example.folder.clone(), root.join("sdk"), root.join("examples/probe-plan")] {
        newest = newest.max(newest_below(&input)?);
    }
    Ok(newest < built)
}

/// Returns the time of the newest file below a folder, without the outputs of builds.
fn newest_below(folder: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if ["target", "node_modules", "dist", "__pycache__", "Cargo.lock", "package-lock.json"]
            .iter()
            .any(|ignored| name == *ignored)
        {
            continue;
        }
        let metadata = entry.metadata()?;
        let time = if metadata.is_dir() { newest_below(&entry.path())? } else { metadata.modified()? };
        newest = newest.max(time);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_read_from_its_manifest() {
        let manifest =
            "name = \"hello\"\nbuild = \"make\"\ncomponent = \"out/hello.wasm\"\n[grants]\nkeyvalue = true\n";
        let example = read(PathBuf::from("examples/hello"), manifest).expect("an example");
        assert_eq!((example.name.as_str(), example.build.as_str()), ("hello", "make"));
        assert_eq!(example.component, Path::new("out/hello.wasm"));
        assert_eq!(example.packager(), None);
    }

    #[test]
    fn a_manifest_without_a_build_command_is_an_error() {
        let error = read(PathBuf::new(), "name = \"hello\"").err().expect("no build command");
        assert_eq!(error.to_string(), "`build` is missing");
    }
}
