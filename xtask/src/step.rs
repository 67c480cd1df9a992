//! Owns how steps are announced and run: a line with the seconds gone by, then the program's own output. Never decides
//! which steps there are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The features of every development build. Always the same ones, so that nothing is compiled twice: the linker for
/// guests, and the places where a test may stop the host.
pub const FEATURES: &str = "isopod-toolchain/linker,isopod/failpoints";

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Says what is done next. Plain text, so that it reads the same in a terminal and in a log.
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

/// Runs a program in the foreground; where it fails, the error says so and then what to do.
pub fn run(command: &mut Command, advice: &str) -> Result<()> {
    let mut child = spawn(command)?;
    end_of(&mut child, command, advice)
}

/// Runs a program whose words matter only where it fails; then they come first.
pub fn run_quietly(command: &mut Command, advice: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    judged(output.status, command, advice)
}

/// Starts a program.
pub fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("cannot start `{}`", shown(command)))
}

/// Waits for a program to end; where it fails, the error says so and then what to do.
pub fn end_of(child: &mut Child, command: &Command, advice: &str) -> Result<()> {
    judged(child.wait().with_context(|| format!("cannot wait for `{}`", shown(command)))?, command, advice)
}

fn judged(status: ExitStatus, command: &Command, advice: &str) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})\n  {advice}", shown(command));
    }
    Ok(())
}

/// Whether a program runs and succeeds, whatever it says.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The cargo that started us, so that a `cargo +version xtask` stays with that version.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Our own `cargo run` described this package to us in variables. Some build scripts watch those: passed on, they
    // would have half of the dependencies compiled again whenever a contributor types cargo without xtask.
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

/// The repository that cargo was called in; a copy of this program may serve several of its worktrees.
pub fn root() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().expect("a package is a folder of the repository").to_owned()
}

/// Where cargo builds the workspace.
pub fn target() -> Result<PathBuf> {
    let output =
        cargo().args(["metadata", "--format-version=1", "--no-deps"]).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("`cargo metadata` is no JSON")?;
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
    fn what_describes_this_package_is_not_passed_on() {
        assert!(describes_a_package(OsStr::new("CARGO_PKG_NAME")));
        assert!(describes_a_package(OsStr::new("CARGO_MANIFEST_DIR")));
        assert!(!describes_a_package(OsStr::new("CARGO_TARGET_DIR")));
        assert!(!describes_a_package(OsStr::new("CARGO_HOME")));
        assert!(!describes_a_package(OsStr::new("PATH")));
    }
}
