//! Functions that depend on the system: a description of the machine, its load, scheduling, limits,
//! and stopping a process. Never measures a request.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

/// The unit of process times in `/proc`, independent of the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns a description of the machine in one line. Omits values that the system doesn't provide.
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

/// Has the kernel schedule this thread soon after its response arrives, as on a separate machine,
/// so that only the server is measured. Requests the shortest time slices; without kernel support
/// nothing changes.
pub(super) fn run_soon() {
    let wish = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 100_000,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of `wish`, which outlives the call; the zeros are this
    // thread and no flags.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) };
}

/// Gives this thread the lowest priority: its work would run on another machine, so it must not
/// disturb the measurement.
pub(super) fn lower_priority() {
    // SAFETY: the arguments are numbers; 0 is this thread. An error changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

/// Raises the limit of open files to the hard limit, also for child processes. Returns the new
/// limit.
pub(super) fn raise_open_files() -> Option<u64> {
    let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes only `files`.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files) } != 0 {
        return None;
    }
    let raised = libc::rlimit { rlim_cur: files.rlim_max, ..files };
    // SAFETY: the call reads only `raised`. An error changes nothing.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0;
    Some(if is_raised { raised.rlim_cur } else { files.rlim_cur })
}

/// Returns the load average of the last minute.
pub(super) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Returns the CPU time of all threads of a process.
pub(super) fn processor_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(Duration::from_secs_f64(ticks(&stat)? / TICKS_PER_SECOND))
}

/// Reads the time in user and kernel mode: the 14th and 15th field. The second field, a name, may
/// contain any character but ends with the last `)`.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

/// The time of all processors since the system's start, in ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Processors {
    busy: f64,
    idle: f64,
}

impl Processors {
    pub(super) fn now() -> Option<Processors> {
        processors(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Returns the part of the time since `then` in which the processors were busy, 0 to 1.
    pub(super) fn busy_since(self, then: Processors) -> f64 {
        let (busy, idle) = (self.busy - then.busy, self.idle - then.idle);
        busy / (busy + idle)
    }
}

/// Parses the fields user, nice, system, idle, iowait, irq, softirq, steal, … The 4th and 5th are
/// idle time. The 8th is time of other virtual machines, neither busy nor idle. The further fields
/// are included in the first two.
fn processors(stat: &str) -> Option<Processors> {
    let ticks: Vec<f64> =
        stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, idle, waiting, interrupts, soft_interrupts, ..] = ticks[..] else { return None };
    Some(Processors { busy: user + nice + system + interrupts + soft_interrupts, idle: idle + waiting })
}

/// The resources of a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Footprint {
    pub(super) resident_mib: f64,
    pub(super) threads: u64,
    pub(super) open_files: usize,
    pub(super) memory_maps: usize,
}

impl Footprint {
    pub(super) fn of(process: u32) -> Result<Footprint> {
        let folder = Path::new("/proc").join(process.to_string());
        let status =
            fs::read_to_string(folder.join("status")).context("this system doesn't report a process's memory")?;
        let figure = |name: &str| status_figure(&status, name).with_context(|| format!("{name} is missing"));
        Ok(Footprint {
            resident_mib: figure("VmRSS:")? as f64 / 1024.0,
            threads: figure("Threads:")?,
            open_files: fs::read_dir(folder.join("fd"))?.count(),
            memory_maps: fs::read_to_string(folder.join("maps"))?.lines().count(),
        })
    }
}

/// Returns the maximum of a process's resident memory since its start, in MiB. A process that has
/// exited has none.
pub(super) fn peak_resident_mib(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    Some(status_figure(&status, "VmHWM:")? as f64 / 1024.0)
}

/// Returns the first whole second at or after the end of `time` from now.
pub(super) fn whole_second(time: Duration) -> Result<SystemTime> {
    let after_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + time;
    let is_rounded = after_1970.subsec_nanos() > 0;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(after_1970.as_secs() + u64::from(is_rounded)))
}

/// Returns a time in UTC, without the fraction of its second.
pub(super) fn rfc3339(time: SystemTime) -> Result<String> {
    let seconds = i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH)?.as_secs())?;
    let mut parts = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: the call reads `seconds` and writes only `parts`.
    if unsafe { libc::gmtime_r(&raw const seconds, parts.as_mut_ptr()) }.is_null() {
        anyhow::bail!("the year is out of range");
    }
    // SAFETY: the call succeeded, so it has written all fields.
    let libc::tm { tm_year, tm_mon, tm_mday, tm_hour, tm_min, tm_sec, .. } = unsafe { parts.assume_init() };
    let (year, month) = (tm_year + 1900, tm_mon + 1);
    Ok(format!("{year:04}-{month:02}-{tm_mday:02}T{tm_hour:02}:{tm_min:02}:{tm_sec:02}Z"))
}

fn status_figure(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    cpuinfo.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()))
}

fn memory_gib(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / f64::from(1 << 20))
}

/// Sends SIGTERM unless the process has exited.
#[cfg(unix)]
pub(super) fn terminate(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let id = i32::try_from(child.id()).context("the process id is out of range")?;
    // SAFETY: the child has not been waited for, so its id has not been reused.
    unsafe { libc::kill(id, libc::SIGTERM) };
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn terminate(child: &mut Child) -> Result<()> {
    child.kill().context("cannot stop a server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_files_are_parsed() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), Some("Some CPU @ 2 GHz"));
        assert_eq!(ticks("7 (a (b) c) S 1 7 7 0 -1 4 500 0 0 0 120 30 9 9 20"), Some(150.0));
        assert_eq!(status_figure("Name:\tx\nVmRSS:\t  2048 kB\nThreads:\t12\n", "VmRSS:"), Some(2048));
        assert_eq!(memory_gib("MemTotal:        4194304 kB\nMemFree: 1 kB\n"), Some(4.0));
    }

    #[test]
    fn a_time_is_written_in_utc() {
        let at = |seconds: u64| {
            rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1_000 + 999)).expect("a time")
        };
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(1_709_210_096), "2024-02-29T12:34:56Z");
    }

    #[test]
    fn idle_time_and_time_of_other_machines_are_not_busy() {
        let before = processors("cpu  100 0 50 800 50 0 0 10 0 0\ncpu0 1 2 3\n").expect("ticks");
        let after = processors("cpu  160 10 70 800 60 0 0 99 0 0\n").expect("ticks");
        assert_eq!(after.busy_since(before), 0.9);
        assert_eq!(processors("intr 1 2"), None);
    }
}
