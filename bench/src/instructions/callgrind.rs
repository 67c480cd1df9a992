//! Runs a server under callgrind, which counts its instructions on a simulated processor: slow, but
//! independent of the machine. Never knows the measured requests.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use xtask::step;

pub(super) struct Callgrind {
    /// The file of the counts; callgrind appends a number for each.
    file: PathBuf,
    counts: u32,
}

/// Returns whether valgrind is installed or could be installed.
pub(super) fn is_there() -> bool {
    let present = || step::succeeds(Command::new("valgrind").arg("--version"));
    if present() {
        return true;
    }
    step::announce("installing valgrind");
    let install = "apt-get update && apt-get install -y --no-install-recommends valgrind";
    step::succeeds(Command::new("sh").args(["-c", install])) && present()
}

impl Callgrind {
    pub(super) fn new(file: PathBuf) -> Callgrind {
        Callgrind { file, counts: 0 }
    }

    /// Returns the command that runs this program without counting yet, so that it starts faster.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut option = OsString::from("--callgrind-out-file=");
        option.push(&self.file);
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--instr-atstart=no"]).arg(option).arg(program);
        command
    }

    pub(super) fn begin(&self, process: u32) -> Result<()> {
        control(process, &["--instr=on"])
    }

    /// Returns the instructions that all threads of the process execute while `work` runs.
    pub(super) fn count(&mut self, process: u32, work: impl FnOnce() -> Result<()>) -> Result<u64> {
        control(process, &["--zero"])?;
        work()?;
        control(process, &["--dump"])?;
        self.counts += 1;
        let mut file = self.file.clone().into_os_string();
        file.push(format!(".{}", self.counts));
        let text = fs::read_to_string(&file).with_context(|| format!("callgrind wrote no {}", file.display()))?;
        total(&text).with_context(|| format!("{} holds no total", file.display()))
    }
}

fn control(process: u32, words: &[&str]) -> Result<()> {
    let output = Command::new("callgrind_control").args(words).arg(process.to_string()).output();
    let output = output.context("cannot start callgrind_control, which comes with valgrind")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("callgrind_control {} failed: {said}", words.join(" "));
    }
    Ok(())
}

fn total(counts: &str) -> Option<u64> {
    counts.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read() {
        assert_eq!(total("version: 1\nevents: Ir\nsummary: 12\nfn=(1)\n0 12\ntotals: 8769682\n"), Some(8_769_682));
        assert_eq!(total("events: Ir\n"), None);
    }
}
