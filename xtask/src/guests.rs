//! `cargo xtask guests`: builds the examples into `target/guests/NAME.wasm`, where tests, demo and benchmarks take them.
//! What is up to date is not built again. Never reads more of a manifest than how it is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use isopod_toolchain::{Toolchain, guest_file};

use crate::{host, setup, step};

/// Where the linker comes from, should this machine need one of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Linker {
    BuildIt,
    BuiltWithTheWorkspace,
}

/// One of the folders below `examples/`.
pub struct Example {
    pub name: String,
    pub folder: PathBuf,
    build: String,
    component: PathBuf,
}

impl Example {
    /// The program beyond Rust that builds it, which fetches packages for it.
    fn packager(&self) -> Option<&'static str> {
        ["npm", "python3"].into_iter().find(|program| self.build.starts_with(program))
    }
}

pub fn run(names: &[String]) -> Result<()> {
    setup::run()?;
    build(names, Linker::BuildIt)?;
    Ok(())
}

/// Builds the examples of these names, or all; returns those that are there now. One that needs npm or Python is passed
/// over where there is none.
pub fn build(names: &[String], linker: Linker) -> Result<Vec<Example>> {
    let mut examples = find(&step::root().join("examples"))?;
    if let Some(unknown) = names.iter().find(|name| !examples.iter().any(|example| example.name == **name)) {
        let known: Vec<&str> = examples.iter().map(|example| example.name.as_str()).collect();
        bail!("there is no example {unknown:?}; there are {}", known.join(", "));
    }
    examples.retain(|example| names.is_empty() || names.contains(&example.name));
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
            step::announce(&format!(
                "passing over {}: it is built with {program}, which is not installed",
                example.name
            ));
            continue;
        }
        let toolchain = match &toolchain {
            Some(found) => found,
            None => toolchain.insert(find_toolchain(linker)?),
        };
        match build_one(&example, toolchain, &output) {
            Ok(()) => built.push(example),
            // Packages come over the network, and no other part of the project needs these; so what can't be fetched is
            // missing here only, and whoever asks for it by name hears of it as an error.
            Err(error) if example.packager().is_some() && names.is_empty() => {
                let _ = fs::remove_file(&output);
                step::announce(&format!("passing over {}: {error:#}", example.name));
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
    step::announce(&format!("building example {}", example.name));
    let result = toolchain.build(&example.folder, &example.build, |line| println!("         {line}"));
    result.with_context(|| {
        format!("the example {} was not built; its build command runs in {}", example.name, example.folder.display())
    })?;
    let component = example.folder.join(&example.component);
    let bytes = fs::read(&component)
        .with_context(|| format!("the build of {} succeeded but left no {}", example.name, component.display()))?;
    fs::create_dir_all(output.parent().context("the folder of guests has a parent")?)?;
    // Written beside and renamed: a test that reads it now sees the old file or the new one, never half of one. Its
    // time is that of the build's begin, so that a source saved meanwhile counts as newer.
    let fresh = output.with_extension(format!("{}.part", std::process::id()));
    fs::write(&fresh, bytes)?;
    fs::File::options().append(true).open(&fresh)?.set_modified(began)?;
    fs::rename(&fresh, output).with_context(|| format!("cannot write {}", output.display()))
}

/// All examples, by name. A folder without a manifest is none.
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
        |key: &str| table.get(key).and_then(|value| value.as_str()).with_context(|| format!("it says no `{key}`"));
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
    // The workspace of the examples says how all of them are optimised.
    let mut newest = fs::metadata(root.join("examples/Cargo.toml"))
        .and_then(|file| file.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH);
    // The probes share a library.
    for input in [example.folder.clone(), root.join("sdk"), root.join("examples/probe-plan")] {
        newest = newest.max(newest_below(&input)?);
    }
    Ok(newest < built)
}

/// When the newest file below a folder was changed; what builds leave there does not count.
fn newest_below(folder: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if ["target", "node_modules", "dist", "__pycache__", "Cargo.lock", "package-lock.json"]
            .iter()
            .any(|left_out| name == *left_out)
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
    fn a_manifest_without_a_build_command_is_named() {
        let error = read(PathBuf::new(), "name = \"hello\"").err().expect("no build command");
        assert_eq!(error.to_string(), "it says no `build`");
    }
}
