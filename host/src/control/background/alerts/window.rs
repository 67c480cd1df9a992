//! Counters over the last minutes: the increase of a running total, and the recent reports about an
//! app. Never reads a clock: the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::control::limits;

/// The increase of running totals during the last minute. Keeps a few points of it.
#[derive(Debug, Default)]
pub(super) struct Window<const N: usize>(VecDeque<(Duration, [u64; N])>);

impl<const N: usize> Window<N> {
    /// Adds the totals at `now`, and returns their increase. For the first totals, it is 0.
    pub(super) fn increase(&mut self, now: Duration, totals: [u64; N]) -> [u64; N] {
        let points = &mut self.0;
        let is_within = |at: Duration| now.saturating_sub(at) <= limits::ALERT_WINDOW;
        // The newest point outside of the window is the state at its start.
        while points.get(1).is_some_and(|(at, _)| !is_within(*at)) {
            points.pop_front();
        }
        let spacing = limits::ALERT_WINDOW / limits::ALERT_WINDOW_POINTS;
        if points.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= spacing) {
            if points.back().is_some_and(|(_, last)| *last == totals) && points.len() == 1 {
                // Without an increase, one point is enough.
                points.clear();
            }
            points.push_back((now, totals));
        }
        let first = points.front().map_or(totals, |(_, first)| *first);
        std::array::from_fn(|index| totals[index].saturating_sub(first[index]))
    }
}

/// The recent reports about an app.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// When a process type was reported to crash repeatedly.
    crashes: VecDeque<Duration>,
    /// The push jobs that failed since the last one that completed; `None` before the first of both
    /// since the host's start.
    failed_pushes: Option<u32>,
}

impl Reports {
    pub(super) fn note_crash_loop(&mut self, now: Duration) {
        if self.crashes.len() >= limits::ALERT_REPORTS_MAX {
            self.crashes.pop_front();
        }
        self.crashes.push_back(now);
    }

    pub(super) fn note_push(&mut self, has_failed: bool) {
        self.failed_pushes = Some(if has_failed { self.failed_pushes.unwrap_or(0).saturating_add(1) } else { 0 });
    }

    /// Returns the number of recent reports about crash loops.
    pub(super) fn crash_loops(&mut self, now: Duration) -> usize {
        while self.crashes.front().is_some_and(|at| now.saturating_sub(*at) > limits::ALERT_CRASH_WINDOW) {
            self.crashes.pop_front();
        }
        self.crashes.len()
    }

    pub(super) fn failed_pushes(&self) -> Option<u32> {
        self.failed_pushes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_counts_the_increase_of_the_last_minute() {
        let mut window = Window::default();
        assert_eq!(window.increase(seconds(0), [100]), [0]);
        assert_eq!(window.increase(seconds(10), [130]), [30]);
        assert_eq!(window.increase(seconds(60), [130]), [30]);
        assert_eq!(window.increase(seconds(75), [140]), [10], "the first 30 are older than a minute");
        assert_eq!(window.increase(seconds(200), [140]), [0]);
    }

    #[test]
    fn a_window_keeps_few_points() {
        let mut window = Window::default();
        for tenth in 0..10_000 {
            window.increase(Duration::from_millis(100 * tenth), [tenth]);
        }
        assert!(window.0.len() <= limits::ALERT_WINDOW_POINTS as usize + 2, "{}", window.0.len());
        let mut quiet = Window::default();
        for second in 0..100 {
            quiet.increase(seconds(second), [7]);
        }
        assert_eq!(quiet.0.len(), 1);
    }

    #[test]
    fn a_completed_push_ends_the_count_of_failed_ones() {
        let mut reports = Reports::default();
        assert_eq!(reports.failed_pushes(), None);
        reports.note_push(true);
        reports.note_push(true);
        assert_eq!(reports.failed_pushes(), Some(2));
        reports.note_push(false);
        assert_eq!(reports.failed_pushes(), Some(0));
    }

    #[test]
    fn reports_of_crash_loops_expire() {
        let mut reports = Reports::default();
        (0..1_000).for_each(|_| reports.note_crash_loop(seconds(1)));
        assert_eq!(reports.crash_loops(seconds(2)), limits::ALERT_REPORTS_MAX);
        assert_eq!(reports.crash_loops(seconds(2) + limits::ALERT_CRASH_WINDOW), 0);
    }
}
