//! Owns what depends on the system: what this machine is, how busy it is, and how a process is asked to end.

use std::fs;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result};

/// In which Linux tells processes' times to programs, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a figure was measured on, in one line. A part that the system does not tell is left out.
pub(super) fn description() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut parts = vec![format!("{cores} cores")];
    let cpu = fs::read_to_string("/proc/cpuinfo").ok();
    parts.extend(cpu.as_deref().and_then(cpu_model).map(str::to_owned));
    let memory = fs::read_to_string("/proc/meminfo").ok();
    parts.extend(memory.as_deref().and_then(memory_gib).map(|gib| format!("{gib:.1} GiB")));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    parts.extend(kernel.map(|release| format!("{} {}", std::env::consts::OS, release.trim())));
    parts.join(", ")
}

/// How many processes wanted to run, on average over the last minute.
pub(super) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The processor time that a process has used so far, all its threads together.
pub(super) fn processor_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(Duration::from_secs_f64(ticks(&stat)? / TICKS_PER_SECOND))
}

/// In user and in kernel mode: the 14th and 15th field. The second, a name, may hold anything but ends with the last `)`.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    cpuinfo.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()))
}

fn memory_gib(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / f64::from(1 << 20))
}

/// Sends SIGTERM, unless the process has ended already.
#[cfg(unix)]
pub(super) fn ask_to_end(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let id = i32::try_from(child.id()).context("a process id is a small number")?;
    // SAFETY: a signal to our own child, which has not been waited for, so the id is still its own.
    unsafe { libc::kill(id, libc::SIGTERM) };
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn ask_to_end(child: &mut Child) -> Result<()> {
    child.kill().context("cannot end a server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_its_parts() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), Some("Some CPU @ 2 GHz"));
        assert_eq!(ticks("7 (a (b) c) S 1 7 7 0 -1 4 500 0 0 0 120 30 9 9 20"), Some(150.0));
        assert_eq!(memory_gib("MemTotal:        4194304 kB\nMemFree: 1 kB\n"), Some(4.0));
    }
}
