//! Announces and runs steps: a line with the elapsed seconds, then the program's own output. Never
//! decides which steps to run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The features of every development build: the linker for guests, and the failpoints at which a
/// test stops the host. Always the same, so that no crate is compiled twice.
pub const FEATURES: &str = "isopod-toolchain/linker,isopod/failpoints";

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Prints the next step. Plain text, so that it reads the same in a terminal and in a log.
pub fn announce(what: &str) {
    println!("[{:>4} s] {what}", BEGAN.elapsed().as_secs());
}

/// Returns the exit status of a command of ours. Prints the error, if there is one.
pub fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a program in the foreground. On failure the error names the program and ends with the
/// advice.
pub fn run(command: &mut Command, advice: &str) -> Result<()> {
    let mut child = spawn(command)?;
    wait(&mut child, command, advice)
}

/// Runs a program and prints its output only on failure.
pub fn run_quietly(command: &mut Command, advice: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    check(output.status, command, advice)
}

/// Starts a program.
pub fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("cannot start `{}`", shown(command)))
}

/// Waits until a program exits. On failure the error names the program and ends with the advice.
pub fn wait(child: &mut Child, command: &Command, advice: &str) -> Result<()> {
    check(child.wait().with_context(|| format!("cannot wait for `{}`", shown(command)))?, command, advice)
}

fn check(status: ExitStatus, command: &Command, advice: &str) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})\n  {advice}", shown(command));
    }
    Ok(())
}

/// Returns whether a program runs and succeeds. Discards its output.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Returns the cargo that started this program, so that `cargo +version xtask` keeps that version.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // `cargo run` has set variables that describe this package. Some build scripts watch them:
    // inherited, they would make a later cargo without xtask compile half of the dependencies
    // again.
    for (name, _) in std::env::vars_os().filter(|(name, _)| describes_a_package(name)) {
        command.env_remove(name);
    }
    command
}

fn describes_a_package(variable: &OsStr) -> bool {
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    let name = variable.to_string_lossy();
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == "OUT_DIR"
}

/// Returns the root of the repository in which cargo was called. A copy of this program may serve
/// several of its worktrees.
#[expect(clippy::expect_used, reason = "each package is a folder below the root")]
pub fn root() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().expect("each package is a folder below the root").to_owned()
}

/// Returns cargo's target folder for the workspace.
pub fn target() -> Result<PathBuf> {
    let output =
        cargo().args(["metadata", "--format-version=1", "--no-deps"]).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("`cargo metadata` printed invalid JSON")?;
    let folder = metadata["target_directory"].as_str().context("`cargo metadata` names no target_directory")?;
    Ok(PathBuf::from(folder))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let name = |word: &OsStr| Path::new(word).file_name().unwrap_or(word).to_string_lossy().into_owned();
    words
        .enumerate()
        .map(|(at, word)| if at == 0 { name(word) } else { word.to_string_lossy().into_owned() })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_this_package_are_not_inherited() {
        assert!(describes_a_package(OsStr::new("CARGO_PKG_NAME")));
        assert!(describes_a_package(OsStr::new("CARGO_MANIFEST_DIR")));
        assert!(!describes_a_package(OsStr::new("CARGO_TARGET_DIR")));
        assert!(!describes_a_package(OsStr::new("CARGO_HOME")));
        assert!(!describes_a_package(OsStr::new("PATH")));
    }
}
