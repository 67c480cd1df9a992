//! Statistics of an app's queues: latencies, throughput and service rate. Covers the last minute in
//! a few kilobytes, and the time since the start in a coarser histogram. Never reads a clock: the
//! time is an argument.

use crate::{runtime::class::class_index, runtime::limits};
use hdrhistogram::Histogram;
use isopod_executor::Class;
use isopod_policy::{DurationCounts, ServiceRate};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The statistics of one app, per class.
#[derive(Default)]
pub(super) struct AppStats {
    queues: [Mutex<QueueStats>; 2],
    /// Events delivered to a handler.
    events: [AtomicU64; 2],
}

/// The statistics of one queue. Allocates nothing until a job completes or has to wait.
#[derive(Default)]
struct QueueStats {
    window: Option<Box<Window>>,
    /// The latencies of the jobs that the window no longer covers.
    earlier: DurationCounts,
}

/// The measured window, in a current and a previous part.
struct Window {
    current_since: Instant,
    current: Histogram<u32>,
    previous: Histogram<u32>,
    /// Jobs completed in each of the last seconds.
    completed: [u32; SECONDS],
    second: u64,
    epoch: Instant,
    /// The next full second after `epoch`, at which the window moves.
    advance_at: Instant,
    /// Jobs completed in total.
    total: u64,
    /// When the backlog started, and `total` at that time.
    backlog_since: Option<(Instant, u64)>,
}

/// The seconds that are counted: those of the throughput, and the current one, which isn't over.
const SECONDS: usize = limits::THROUGHPUT_SECONDS + 1;

/// The statistics, as shown to users.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct QueueMetrics {
    /// `None` if no job has completed in the last minute.
    pub(crate) latency: Option<Latency>,
    pub(crate) throughput_per_s: f64,
}

/// Percentiles of the time from a job's arrival to its completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p95: Duration,
    pub(crate) p99: Duration,
}

impl AppStats {
    /// Records a job that has completed now.
    pub(super) fn note(&self, class: Class, now: Instant, took: Duration) {
        self.queue(class).note(now, took);
    }

    /// Records that a job has to wait now, and none did before.
    pub(super) fn note_backlog(&self, class: Class, now: Instant) {
        self.queue(class).note_backlog(now);
    }

    pub(super) fn note_event(&self, class: Class) {
        self.events[class_index(class)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn events(&self, class: Class) -> u64 {
        self.events[class_index(class)].load(Ordering::Relaxed)
    }

    pub(super) fn read(&self, class: Class, now: Instant) -> QueueMetrics {
        self.queue(class).read(now)
    }

    pub(super) fn latencies(&self, class: Class) -> DurationCounts {
        self.queue(class).latencies()
    }

    pub(super) fn service_rate(&self, class: Class, now: Instant) -> ServiceRate {
        self.queue(class).service_rate(now)
    }

    /// Discards the statistics of the last minute and frees their memory.
    pub(super) fn clear(&self) {
        self.queues.iter().for_each(|stats| stats.lock().unwrap_or_else(PoisonError::into_inner).clear());
    }

    fn queue(&self, class: Class) -> MutexGuard<'_, QueueStats> {
        self.queues[class_index(class)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueStats {
    /// Returns the window at `now`.
    fn window(&mut self, now: Instant) -> &mut Window {
        let window = self.window.get_or_insert_with(|| Box::new(Window::new(now)));
        window.advance(now, &mut self.earlier);
        window
    }

    /// Records a job that has completed now.
    fn note(&mut self, now: Instant, took: Duration) {
        let window = self.window(now);
        window.current.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        window.completed[window.slot()] += 1;
        window.total += 1;
    }

    /// Records that a job has to wait now, and none did before.
    fn note_backlog(&mut self, now: Instant) {
        let window = self.window(now);
        window.backlog_since = Some((now, window.total));
    }

    fn read(&mut self, now: Instant) -> QueueMetrics {
        if self.window.is_none() {
            return QueueMetrics::default();
        }
        let window = self.window(now);
        QueueMetrics { latency: window.latency(), throughput_per_s: window.throughput_per_s(now) }
    }

    /// Returns the latencies of all jobs since the host's start.
    fn latencies(&self) -> DurationCounts {
        let mut latencies = self.earlier.clone();
        // In the order in which the window moves them to `earlier`: sums of floats depend on it,
        // and an exported sum must not decrease.
        for part in self.window.iter().flat_map(|window| [&window.previous, &window.current]) {
            add(part, &mut latencies);
        }
        latencies
    }

    /// Returns the rate at which jobs have completed since the backlog started. A longer backlog is
    /// measured over the seconds of the throughput.
    fn service_rate(&mut self, now: Instant) -> ServiceRate {
        if self.window.is_none() {
            return ServiceRate::default();
        }
        let window = self.window(now);
        let Some((since, total_before)) = window.backlog_since else { return ServiceRate::default() };
        let within = now.saturating_duration_since(since);
        let period = Duration::from_secs(limits::THROUGHPUT_SECONDS as u64);
        match window.completed_recently() {
            // No job has completed within the period.
            0 if within > period => ServiceRate { jobs: 0, within },
            jobs if within > period => ServiceRate { jobs: jobs.into(), within: period },
            _ => ServiceRate { jobs: window.total - total_before, within },
        }
    }

    /// Discards the window and frees its memory.
    fn clear(&mut self) {
        self.earlier = self.latencies();
        self.window = None;
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        let (current, previous) = (histogram(), histogram());
        Self {
            current_since: now,
            current,
            previous,
            completed: [0; SECONDS],
            second: 0,
            epoch: now,
            advance_at: now + Duration::from_secs(1),
            total: 0,
            backlog_since: None,
        }
    }

    fn slot(&self) -> usize {
        (self.second % SECONDS as u64) as usize
    }

    /// Moves the window to `now`, and older latencies to `earlier`.
    fn advance(&mut self, now: Instant, earlier: &mut DurationCounts) {
        if now < self.advance_at {
            return;
        }
        let second = now.saturating_duration_since(self.epoch).as_secs();
        if second != self.second {
            let passed = second.saturating_sub(self.second).min(SECONDS as u64);
            for _ in 0..passed {
                self.second += 1;
                let slot = self.slot();
                self.completed[slot] = 0;
            }
            self.second = second;
        }
        self.advance_at = self.epoch + Duration::from_secs(second + 1);
        let age = now.saturating_duration_since(self.current_since);
        if age < limits::LATENCY_WINDOW {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        move_all(&mut self.current, earlier);
        if age >= 2 * limits::LATENCY_WINDOW {
            move_all(&mut self.previous, earlier);
        }
        self.current_since = now;
    }

    fn throughput_per_s(&self, now: Instant) -> f64 {
        // Shortly after the first job, a rate over all ten seconds would be far too low.
        let measured_for = now.saturating_duration_since(self.epoch).as_secs();
        let seconds = measured_for.clamp(1, limits::THROUGHPUT_SECONDS as u64);
        let completed: u32 = match measured_for {
            0 => self.completed.iter().sum(),
            _ => self.completed_recently(),
        };
        f64::from(completed) / seconds as f64
    }

    /// Returns the number of jobs completed in the past seconds, without the current one.
    fn completed_recently(&self) -> u32 {
        self.completed.iter().enumerate().filter(|(slot, _)| *slot != self.slot()).map(|(_, completed)| completed).sum()
    }

    fn latency(&self) -> Option<Latency> {
        let mut both = self.current.clone();
        both.add(&self.previous).ok()?;
        if both.is_empty() {
            return None;
        }
        let at = |quantile| Duration::from_micros(both.value_at_quantile(quantile));
        Some(Latency { p50: at(0.5), p95: at(0.95), p99: at(0.99) })
    }
}

#[expect(clippy::expect_used, reason = "the bounds are valid constants")]
fn histogram() -> Histogram<u32> {
    // Two significant digits, up to an hour in microseconds: a few kilobytes.
    Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("the bounds are valid constants")
}

/// Adds the latencies of a part of the window. Its buckets are narrower than those of `to`: the
/// middle of each, at most 0.4 % away from a latency, decides where the latency is counted.
fn add(part: &Histogram<u32>, to: &mut DurationCounts) {
    if part.is_empty() {
        return;
    }
    for bucket in part.iter_recorded() {
        let middle = part.median_equivalent(bucket.value_iterated_to());
        to.add(middle as f64 / 1e6, bucket.count_at_value().into());
    }
}

/// Moves the latencies out of a part of the window.
fn move_all(part: &mut Histogram<u32>, to: &mut DurationCounts) {
    add(part, to);
    part.reset();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    #[test]
    fn percentiles_cover_the_last_minute() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        assert_eq!(stats.read(start), QueueMetrics::default());
        (1..=100).for_each(|took| stats.note(start, ms(took)));
        let latency = stats.read(start).latency.expect("jobs have completed");
        let near = |found: Duration, wanted| found.abs_diff(ms(wanted)) <= ms(wanted / 50);
        assert!(near(latency.p50, 50) && near(latency.p95, 95) && near(latency.p99, 99), "{latency:?}");
        assert!(stats.read(start + limits::LATENCY_WINDOW).latency.is_some());
        assert_eq!(stats.read(start + 3 * limits::LATENCY_WINDOW).latency, None);
    }

    #[test]
    fn latencies_are_counted_since_the_start() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        let mut exact = DurationCounts::default();
        let took = [1, 9, 20, 300, 4_100, 50_000].map(ms);
        for round in 0..4 {
            // The window moves by a part, by both, and is discarded.
            let now = start + round * round * limits::LATENCY_WINDOW;
            took.iter().for_each(|took| stats.note(now, *took));
            took.iter().for_each(|took| exact.add(took.as_secs_f64(), 1));
            if round == 2 {
                stats.clear();
            }
            let counted = stats.latencies();
            assert!(counted.buckets().eq(exact.buckets()), "{round}: {counted:?}");
            assert!((counted.seconds() / exact.seconds() - 1.0).abs() < 0.005, "{round}: {counted:?}");
        }
        assert_eq!(stats.latencies().count(), 24);
    }

    /// Prometheus reads a smaller sum as a restart from 0.
    #[test]
    fn the_sum_of_the_latencies_never_decreases() {
        let (mut stats, mut now, mut before) = (QueueStats::default(), Instant::now(), 0.0);
        for round in 0..3_000_u64 {
            match round % 3 {
                0 => stats.note(now, Duration::from_micros(round * round % 9_973 + 1)),
                1 => drop(stats.read(now)),
                _ if round % 101 == 0 => stats.clear(),
                _ => now += limits::LATENCY_WINDOW / 7,
            }
            let sum = stats.latencies().seconds();
            assert!(sum >= before, "{round}: {sum} after {before}");
            before = sum;
        }
    }

    #[test]
    fn the_throughput_covers_the_last_seconds() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        let second = |n: u64| start + Duration::from_secs(n);
        for n in 0..20 {
            (0..30).for_each(|_| stats.note(second(n), ms(1)));
        }
        assert_eq!(stats.read(second(20)).throughput_per_s, 30.0);
        assert_eq!(stats.read(second(25)).throughput_per_s, 15.0);
        assert_eq!(stats.read(second(60)).throughput_per_s, 0.0);
    }

    /// Only the time of the backlog counts, not the quiet time before it.
    #[test]
    fn the_service_rate_counts_completions_during_a_backlog() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        assert_eq!(stats.service_rate(start), ServiceRate::default());
        stats.note(start, ms(1));
        let burst = start + Duration::from_secs(100);
        stats.note_backlog(burst);
        assert_eq!(stats.service_rate(burst + ms(5)), ServiceRate { jobs: 0, within: ms(5) });
        (0..600).for_each(|job| stats.note(burst + ms(job), ms(10)));
        assert_eq!(stats.service_rate(burst + ms(600)), ServiceRate { jobs: 600, within: ms(600) });
        // The next backlog counts only its own completions.
        let next = start + Duration::from_secs(103);
        stats.note_backlog(next);
        assert_eq!(stats.service_rate(next + ms(700)), ServiceRate { jobs: 0, within: ms(700) });
    }

    #[test]
    fn a_long_backlog_is_measured_over_the_last_seconds() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        stats.note_backlog(start);
        let second = |n: u64| start + Duration::from_secs(n);
        (0..100).for_each(|_| stats.note(second(1), ms(1)));
        for n in 20..30 {
            (0..3).for_each(|_| stats.note(second(n), ms(1)));
        }
        assert_eq!(stats.service_rate(second(30)), ServiceRate { jobs: 30, within: Duration::from_secs(10) });
        assert_eq!(stats.service_rate(second(90)), ServiceRate { jobs: 0, within: Duration::from_secs(90) });
    }

    #[test]
    fn a_throughput_is_reported_from_the_first_second() {
        let (mut stats, start) = (QueueStats::default(), Instant::now());
        (0..40).for_each(|_| stats.note(start, ms(1)));
        assert_eq!(stats.read(start + ms(500)).throughput_per_s, 40.0);
        assert_eq!(stats.read(start + ms(1500)).throughput_per_s, 40.0);
        assert_eq!(stats.read(start + ms(4500)).throughput_per_s, 10.0);
    }
}
