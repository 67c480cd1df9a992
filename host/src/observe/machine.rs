//! Measures the machine and this process: processors, CPU time, memory. Never decides anything
//! based on them.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

/// The machine as this process uses it.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub(crate) struct Machine {
    cores: usize,
    /// Percent of one processor, between the last two samples.
    cpu_percent: f64,
    /// Resident.
    memory_bytes: u64,
}

impl Machine {
    /// Returns the CPU use in percent of all processors.
    pub(crate) fn cpu_share_percent(&self) -> f64 {
        self.cpu_percent / self.cores as f64
    }
}

/// The last sample: its time, the CPU time until then, and the percentage since the sample before.
#[derive(Debug, Default)]
pub(crate) struct CpuSampler(Mutex<Option<(Instant, Duration, f64)>>);

impl CpuSampler {
    /// Samples the CPU time. Called when the CPU times of apps are sampled, so that both refer to
    /// the same interval.
    pub(crate) fn sample(&self, now: Instant) {
        self.store(now, cpu_time());
    }

    fn store(&self, now: Instant, cpu: Duration) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = last.map_or(0.0, |(then, before, _)| {
            let passed = now.saturating_duration_since(then).as_secs_f64();
            (cpu.saturating_sub(before).as_secs_f64() / passed * 1_000.0).round() / 10.0
        });
        *last = Some((now, cpu, percent));
    }

    /// Returns the values of the last sample.
    pub(crate) fn latest(&self) -> Machine {
        let cores = processors();
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Machine { cores, cpu_percent: last.map_or(0.0, |(_, _, percent)| percent), memory_bytes: resident_bytes() }
    }
}

/// Returns the number of processors that this process may use.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the CPU time of this process.
pub(super) fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value of ours that outlives the call, which writes nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) } != 0;
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    match (failed, seconds, nanoseconds) {
        (false, Ok(seconds), Ok(nanoseconds)) => Duration::new(seconds, nanoseconds),
        _ => Duration::ZERO,
    }
}

/// Returns the resident memory of this process; 0 if the system doesn't report it.
pub(super) fn resident_bytes() -> u64 {
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
    fn the_cpu_rate_covers_the_last_two_samples() {
        let (sampler, start) = (CpuSampler::default(), Instant::now());
        let seconds = Duration::from_secs;
        assert_eq!(sampler.latest().cpu_percent, 0.0);
        sampler.store(start, seconds(5));
        assert_eq!(sampler.latest().cpu_percent, 0.0);
        sampler.store(start + seconds(2), seconds(8));
        assert_eq!(sampler.latest().cpu_percent, 150.0);
        sampler.store(start + seconds(4), seconds(8));
        assert_eq!(sampler.latest().cpu_percent, 0.0);
    }

    #[test]
    fn memory_and_cpu_time_of_this_process_are_measured() {
        let before = cpu_time();
        while cpu_time() == before {}
        assert!(resident_bytes() > 1 << 20);
        assert!(CpuSampler::default().latest().cores >= 1);
    }
}
