//! Builds the components of the examples that a benchmark deploys. Never starts a host.

use std::path::PathBuf;

use anyhow::Result;
use xtask::{guests, setup, step};

/// Returns the components of these examples. Builds those that are not up to date.
pub(super) fn built<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N]> {
    let root = step::root();
    setup::run()?;
    guests::build(&names.map(str::to_owned), guests::Linker::BuildIt)?;
    Ok(names.map(|name| isopod_toolchain::guest_file(&root, name)))
}

/// Returns the component of an example that may be missing, or that may need a tool that is
/// missing.
pub(super) fn built_if_possible(name: &str) -> Option<PathBuf> {
    let root = step::root();
    if !root.join("examples").join(name).join("isopod.toml").is_file() {
        step::announce(&format!("skipping {name}: the example doesn't exist"));
        return None;
    }
    if let Err(error) = guests::build(&[name.to_owned()], guests::Linker::BuildIt) {
        step::announce(&format!("skipping {name}: {error:#}"));
        return None;
    }
    let component = isopod_toolchain::guest_file(&root, name);
    component.is_file().then_some(component)
}
