//! Owns the building of our own programs. Always the whole workspace in one call: cargo then chooses the same features
//! of the same dependencies each time, and the engine is compiled once instead of once for each choice.

use std::path::PathBuf;

use anyhow::Result;

use crate::step;

/// Builds the host, and the linker for guests; returns the host's file.
pub fn build() -> Result<PathBuf> {
    step::announce("building the host (the first time takes ten to twenty minutes)");
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
    step::run(&mut cargo, "the compiler's message above says why; a missing `cc` is mended by `cargo xtask setup`")?;
    program("isopod")
}

/// The linker that was built with the whole workspace.
pub fn linker() -> Result<PathBuf> {
    program("isopod-linker")
}

/// Builds only the linker for guests, where the host is not needed. The workspace is named all the same, so that a host
/// built later shares the work.
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
