//! `cargo xtask dist`: builds the host for distribution, optimised for a measured load
//! (profile-guided optimisation): a first build counts what the host executes under the benchmarks,
//! and a second build uses the counts. Never changes the default build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step;

/// The load of the first build: the benchmarks with their arguments.
const LOADS: [&[&str]; 2] = [
    &["serve", "--only", "isopod", "--rounds", "1", "--seconds", "3"],
    &["events", "--alone", "--rounds", "1", "--seconds", "3", "--backlog", "100000"],
];

pub(crate) fn run() -> Result<()> {
    let merge = profdata()?;
    let target = step::target()?;
    let folder = target.join("pgo");
    let counts = folder.join("counts");
    if counts.exists() {
        fs::remove_dir_all(&counts).with_context(|| format!("cannot empty {}", counts.display()))?;
    }
    step::announce("building a host that counts what it executes (about ten minutes)");
    let counting = build(&folder, &format!("-Cprofile-generate={}", counts.display()))?;
    for load in LOADS {
        step::announce(&format!("running it under the benchmark `{}`", load[0]));
        let mut bench = step::cargo();
        bench.args(["run", "--quiet", "--profile", "xtask", "--package", "isopod-bench", "--"]);
        bench.args(load).arg("--isopod").arg(&counting);
        step::run(&mut bench, "the benchmark's message above says why")?;
    }
    let profile = folder.join("isopod.profdata");
    let mut merge = Command::new(merge);
    step::run(merge.args(["merge", "--output"]).arg(&profile).arg(&counts), "the counts can't be merged")?;
    step::announce("building the host for distribution (about ten minutes)");
    let host = build(&target, &format!("-Cprofile-use={}", profile.display()))?;
    step::announce(&format!("the host is {}", host.display()));
    Ok(())
}

/// Builds the host with a flag for its crates and their dependencies, and returns its path. With a
/// named target, build scripts and procedural macros don't get the flag.
fn build(target: &Path, flag: &str) -> Result<PathBuf> {
    let platform = platform()?;
    let mut cargo = step::cargo();
    cargo.args(["build", "--profile", "dist", "--package", "isopod", "--bins", "--target", &platform]);
    cargo.arg("--target-dir").arg(target).env("RUSTFLAGS", flag);
    step::run(&mut cargo, "the compiler's message above says why")?;
    Ok(target.join(platform).join("dist").join(format!("isopod{}", std::env::consts::EXE_SUFFIX)))
}

/// Returns what the compiler says about itself in the line with this name.
fn compiler(name: &str) -> Result<String> {
    let output = Command::new("rustc").arg("-vV").current_dir(step::root()).output().context("cannot start `rustc`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.map(str::to_owned).with_context(|| format!("`rustc -vV` names no {name}"))
}

/// Returns the platform of the compiler.
fn platform() -> Result<String> {
    compiler("host")
}

/// Returns LLVM's program that merges counts, of the same major version as the compiler's LLVM.
fn profdata() -> Result<String> {
    let version = compiler("LLVM version")?;
    let major = version.split('.').next().unwrap_or(&version);
    let named = format!("llvm-profdata-{major}");
    for program in [&named, "llvm-profdata"] {
        let output = Command::new(program).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if text.contains(&format!("version {major}.")) {
            return Ok(program.to_owned());
        }
    }
    bail!(
        "LLVM's `{named}` is missing\n  install the package `llvm-{major}` of your distribution, or run `rustup \
         component add llvm-tools` and add its folder to PATH"
    )
}
