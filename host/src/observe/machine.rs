//! Owns what is seen of the machine and of this process from outside: processors, CPU time, memory. Never decides
//! anything from it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

/// The machine as this process uses it.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub(crate) struct Machine {
    cores: usize,
    /// Of one processor, in the second before the last look.
    cpu_percent: f64,
    /// Resident.
    memory_bytes: u64,
}

/// What is known of it from one look to the next: when the last was, the CPU time used until then, and what that came to.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Option<(Instant, Duration, f64)>>);

impl Watch {
    /// Looks at the CPU time once more. Done when the apps' is looked at, so that what they have used and what the host
    /// has used are of the same time.
    pub(crate) fn look(&self, now: Instant) {
        self.note(now, cpu_time());
    }

    fn note(&self, now: Instant, cpu: Duration) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = last.map_or(0.0, |(then, before, _)| {
            let passed = now.saturating_duration_since(then).as_secs_f64();
            (cpu.saturating_sub(before).as_secs_f64() / passed * 1_000.0).round() / 10.0
        });
        *last = Some((now, cpu, percent));
    }

    /// The machine as it was at the last look.
    pub(crate) fn seen(&self) -> Machine {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Machine { cores, cpu_percent: last.map_or(0.0, |(_, _, percent)| percent), memory_bytes: resident_bytes() }
    }
}

fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value of ours that outlives the call, which writes nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) } != 0;
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    match (failed, seconds, nanoseconds) {
        (false, Ok(seconds), Ok(nanoseconds)) => Duration::new(seconds, nanoseconds),
        _ => Duration::ZERO,
    }
}

/// Where the system doesn't tell, nothing is shown rather than a guess.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| {
        let resident = text.split_whitespace().nth(1)?;
        resident.parse::<u64>().ok()
    });
    // SAFETY: `sysconf` takes a plain number and changes nothing.
    let page_bytes = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    pages.unwrap_or(0).saturating_mul(page_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_between_the_last_two_looks() {
        let (watch, start) = (Watch::default(), Instant::now());
        let seconds = Duration::from_secs;
        assert_eq!(watch.seen().cpu_percent, 0.0);
        watch.note(start, seconds(5));
        assert_eq!(watch.seen().cpu_percent, 0.0);
        watch.note(start + seconds(2), seconds(8));
        assert_eq!(watch.seen().cpu_percent, 150.0);
        watch.note(start + seconds(4), seconds(8));
        assert_eq!(watch.seen().cpu_percent, 0.0);
    }

    #[test]
    fn this_process_has_memory_and_uses_cpu_time() {
        let before = cpu_time();
        while cpu_time() == before {}
        assert!(resident_bytes() > 1 << 20);
        assert!(Watch::default().seen().cores >= 1);
    }
}
