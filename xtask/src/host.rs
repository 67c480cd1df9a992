//! Builds the host and the linker for guests. Always builds the whole workspace in one call: cargo
//! then chooses the same features of the same dependencies each time, and compiles the engine once
//! instead of once per choice. Never starts either program.

use std::path::PathBuf;

use anyhow::Result;

use crate::step;

/// Builds the host and the linker for guests. Returns the path of the host.
pub fn build() -> Result<PathBuf> {
    step::announce("building the host (the first time takes about ten minutes)");
    let mut cargo = step::cargo();
    cargo.args([
        "build",
        "--workspace",
        "--exclude",
        "xtask",
        "--exclude",
        "isopod-bench",
        "--bins",
        "--features",
        step::FEATURES,
    ]);
    step::run(&mut cargo, "the compiler's message above says why; `cargo xtask setup` installs a missing `cc`")?;
    program("isopod")
}

/// Returns the path of the linker that was built with the whole workspace.
pub fn linker() -> Result<PathBuf> {
    program("isopod-linker")
}

/// Builds only the linker for guests, if the host is not needed. The whole workspace is still
/// selected, so that a later build of the host reuses the work.
pub fn build_linker() -> Result<PathBuf> {
    step::announce("building the linker for guests");
    let mut cargo = step::cargo();
    cargo.args(["build", "--workspace", "--exclude", "xtask", "--exclude", "isopod-bench", "--bin", "isopod-linker"]);
    step::run(cargo.args(["--features", step::FEATURES]), "the compiler's message above says why")?;
    linker()
}

fn program(name: &str) -> Result<PathBuf> {
    Ok(step::target()?.join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}
