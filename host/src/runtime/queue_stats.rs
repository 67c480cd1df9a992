//! What is measured of one queue of an app: how long its jobs took, and how many ended. Keeps the last minute, and no
//! more than some kilobytes for it. Never has a clock: the time is an argument.

use crate::limits;
use hdrhistogram::Histogram;
use isopod_policy::ServiceRate;
use std::time::{Duration, Instant};

/// The measurements of one queue. It holds nothing until a job has ended or has to wait.
#[derive(Default)]
pub(super) struct QueueStats(Option<Box<Window>>);

/// The present part of the time that is kept, and the part before it.
struct Window {
    begun: Instant,
    now: Histogram<u32>,
    before: Histogram<u32>,
    /// How many jobs ended in each of the last seconds.
    ended: [u32; SECONDS],
    second: u64,
    epoch: Instant,
    /// How many ended in all, and since when some wait, with how many had ended then.
    total: u64,
    waiting: Option<(Instant, u64)>,
}

/// The seconds over which the throughput is taken; the present one is not over, so there is one more.
const SECONDS: usize = limits::THROUGHPUT_SECONDS + 1;

/// What people see of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Measured {
    /// None where no job ended in the last minute.
    pub(crate) latency: Option<Latency>,
    pub(crate) throughput_per_s: f64,
}

/// How long jobs took, from their arrival to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p95: Duration,
    pub(crate) p99: Duration,
}

impl QueueStats {
    /// Takes in a job that ended now.
    pub(super) fn note(&mut self, now: Instant, took: Duration) {
        let window = self.0.get_or_insert_with(|| Box::new(Window::new(now)));
        window.move_on(now);
        window.now.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        window.ended[window.slot()] += 1;
        window.total += 1;
    }

    /// Takes in that a job has to wait, now that none did before.
    pub(super) fn jobs_wait(&mut self, now: Instant) {
        let window = self.0.get_or_insert_with(|| Box::new(Window::new(now)));
        window.waiting = Some((now, window.total));
    }

    pub(super) fn read(&mut self, now: Instant) -> Measured {
        let Some(window) = &mut self.0 else { return Measured::default() };
        window.move_on(now);
        Measured { latency: window.latency(), throughput_per_s: window.throughput_per_s(now) }
    }

    /// How fast jobs have ended since some wait; where that is long ago, in the seconds of the throughput.
    pub(super) fn drain(&mut self, now: Instant) -> ServiceRate {
        let Some(window) = &mut self.0 else { return ServiceRate::default() };
        window.move_on(now);
        let Some((since, total_then)) = window.waiting else { return ServiceRate::default() };
        let within = now.saturating_duration_since(since);
        let lately = Duration::from_secs(limits::THROUGHPUT_SECONDS as u64);
        match window.ended_lately() {
            // None has ended for so long.
            0 if within > lately => ServiceRate { jobs: 0, within },
            jobs if within > lately => ServiceRate { jobs: jobs.into(), within: lately },
            _ => ServiceRate { jobs: window.total - total_then, within },
        }
    }

    /// Forgets all, and gives its memory back.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        let (now_part, before) = (histogram(), histogram());
        Self { begun: now, now: now_part, before, ended: [0; SECONDS], second: 0, epoch: now, total: 0, waiting: None }
    }

    fn slot(&self) -> usize {
        (self.second % SECONDS as u64) as usize
    }

    /// Forgets what is too old at this time.
    fn move_on(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.epoch).as_secs();
        if second != self.second {
            let passed = second.saturating_sub(self.second).min(SECONDS as u64);
            for _ in 0..passed {
                self.second += 1;
                let slot = self.slot();
                self.ended[slot] = 0;
            }
            self.second = second;
        }
        let age = now.saturating_duration_since(self.begun);
        if age < limits::LATENCY_WINDOW {
            return;
        }
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.reset();
        if age >= 2 * limits::LATENCY_WINDOW {
            self.before.reset();
        }
        self.begun = now;
    }

    fn throughput_per_s(&self, now: Instant) -> f64 {
        // Two seconds after the first job a rate over ten would be too low by far.
        let measured_for = now.saturating_duration_since(self.epoch).as_secs();
        let cancellation = measured_for.clamp(1, limits::THROUGHPUT_SECONDS as u64);
        let ended: u32 = match measured_for {
            0 => self.ended.iter().sum(),
            _ => self.ended_lately(),
        };
        f64::from(ended) / cancellation as f64
    }

    /// How many ended in the seconds that are over.
    fn ended_lately(&self) -> u32 {
        self.ended.iter().enumerate().filter(|(slot, _)| *slot != self.slot()).map(|(_, ended)| ended).sum()
    }

    fn latency(&self) -> Option<Latency> {
        let mut both = self.now.clone();
        both.add(&self.before).ok()?;
        if both.is_empty() {
            return None;
        }
        let at = |quantile| Duration::from_micros(both.value_at_quantile(quantile));
        Some(Latency { p50: at(0.5), p95: at(0.95), p99: at(0.99) })
    }
}

fn histogram() -> Histogram<u32> {
    // Two digits, up to an hour in microseconds: some kilobytes.
    Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("the bounds are constants that fit each other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    #[test]
    fn percentiles_are_those_of_the_last_minute() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        assert_eq!(stats.read(start), Measured::default());
        (1..=100).for_each(|took| stats.note(start, ms(took)));
        let latency = stats.read(start).latency.expect("jobs ended");
        let near = |found: Duration, wanted| found.abs_diff(ms(wanted)) <= ms(wanted / 50);
        assert!(near(latency.p50, 50) && near(latency.p95, 95) && near(latency.p99, 99), "{latency:?}");
        assert!(stats.read(start + limits::LATENCY_WINDOW).latency.is_some());
        assert_eq!(stats.read(start + 3 * limits::LATENCY_WINDOW).latency, None);
    }

    #[test]
    fn the_throughput_is_that_of_the_last_seconds() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        let second = |n: u64| start + Duration::from_secs(n);
        for n in 0..20 {
            (0..30).for_each(|_| stats.note(second(n), ms(1)));
        }
        assert_eq!(stats.read(second(20)).throughput_per_s, 30.0);
        assert_eq!(stats.read(second(25)).throughput_per_s, 15.0);
        assert_eq!(stats.read(second(60)).throughput_per_s, 0.0);
    }

    /// However quiet it was before.
    #[test]
    fn a_queue_drains_as_fast_as_jobs_end_while_others_wait() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        assert_eq!(stats.drain(start), ServiceRate::default());
        stats.note(start, ms(1));
        let burst = start + Duration::from_secs(100);
        stats.jobs_wait(burst);
        assert_eq!(stats.drain(burst + ms(5)), ServiceRate { jobs: 0, within: ms(5) });
        (0..600).for_each(|job| stats.note(burst + ms(job), ms(10)));
        assert_eq!(stats.drain(burst + ms(600)), ServiceRate { jobs: 600, within: ms(600) });
        // The next one knows of its own only.
        let next = start + Duration::from_secs(103);
        stats.jobs_wait(next);
        assert_eq!(stats.drain(next + ms(700)), ServiceRate { jobs: 0, within: ms(700) });
    }

    #[test]
    fn of_a_queue_that_has_stood_for_long_only_the_last_seconds_count() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        stats.jobs_wait(start);
        let second = |n: u64| start + Duration::from_secs(n);
        (0..100).for_each(|_| stats.note(second(1), ms(1)));
        for n in 20..30 {
            (0..3).for_each(|_| stats.note(second(n), ms(1)));
        }
        assert_eq!(stats.drain(second(30)), ServiceRate { jobs: 30, within: Duration::from_secs(10) });
        assert_eq!(stats.drain(second(90)), ServiceRate { jobs: 0, within: Duration::from_secs(90) });
    }

    #[test]
    fn a_rate_is_known_from_the_first_second_on() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        (0..40).for_each(|_| stats.note(start, ms(1)));
        assert_eq!(stats.read(start + ms(500)).throughput_per_s, 40.0);
        assert_eq!(stats.read(start + ms(1500)).throughput_per_s, 40.0);
        assert_eq!(stats.read(start + ms(4500)).throughput_per_s, 10.0);
    }
}
