//! The load of a pool over the stable window, and the size that was last reported. Never starts or
//! ends an instance.

use crate::runtime::limits;
use isopod_policy::{Peaks, ProcessName, Scale};
use std::time::{Duration, Instant};

/// Number of parts of the window.
const PARTS: u32 = isopod_policy::limits::SCALE_WINDOW_PARTS as u32;

/// The peaks of a pool's load.
#[derive(Clone, Copy)]
pub(super) struct ScaleWindow {
    peaks: Peaks,
    /// The most jobs that ran concurrently since the last call of [`ScaleWindow::advance`].
    recent_peak: u32,
    /// When the current part of the window started.
    part_started: Instant,
    /// The number of instances that was last reported.
    reported: u32,
    reported_at: Option<Instant>,
}

/// A change of a pool's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScaleChange {
    pub(crate) process: ProcessName,
    pub(crate) scale: Scale,
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// The number of instances that the recent load needs.
    pub(crate) needed: u32,
    /// The most jobs that ran concurrently in the stable window.
    pub(crate) peak: u32,
    pub(crate) waiting: u32,
}

impl ScaleWindow {
    pub(super) fn new(live: u32) -> Self {
        Self {
            peaks: Peaks::default(),
            recent_peak: 0,
            part_started: Instant::now(),
            reported: live,
            reported_at: None,
        }
    }

    /// Returns the same load for the replacement of this pool, with `live` as its reported size.
    pub(super) fn inherited(self, live: u32) -> Self {
        Self { reported: live, reported_at: None, ..self }
    }

    /// Returns the number of instances that was last reported.
    pub(super) fn reported(&self) -> u32 {
        self.reported
    }

    /// Records the current number of running jobs.
    pub(super) fn note(&mut self, jobs: u32) {
        self.peaks.note(jobs);
        self.recent_peak = self.recent_peak.max(jobs);
    }

    /// Returns the number of instances that the load of the window needs.
    pub(super) fn needed(&self, scale: Scale) -> u32 {
        scale.kept(&self.peaks)
    }

    /// Moves the window to `now`, with the current number of running jobs. Every part that has
    /// started since the last call gets the peak since then, which may have occurred in any of
    /// these parts.
    pub(super) fn advance(&mut self, jobs: u32, now: Instant, window: Duration) {
        let recent_peak = std::mem::replace(&mut self.recent_peak, jobs).max(jobs);
        let part = window / PARTS;
        let passed = now.saturating_duration_since(self.part_started).as_nanos() / part.as_nanos().max(1);
        let parts = u32::try_from(passed).unwrap_or(u32::MAX).min(PARTS);
        (0..parts).for_each(|_| self.peaks.turn(recent_peak));
        self.part_started = if parts < PARTS { self.part_started + parts * part } else { now };
    }

    /// Returns the previously reported size and the peak, if the size has changed and a report is
    /// due.
    pub(super) fn report(&mut self, live: u32, now: Instant, window: Duration) -> Option<(u32, u32)> {
        let min_interval = limits::SCALE_RECORD_INTERVAL.min(window);
        let is_early = self.reported_at.is_some_and(|at| now.saturating_duration_since(at) < min_interval);
        if live == self.reported || is_early {
            return None;
        }
        self.reported_at = Some(now);
        Some((std::mem::replace(&mut self.reported, live), self.peaks.highest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCALE: Scale = Scale { min: 0, max: 100 };

    proptest! {
        /// For any window and interval, a peak lasts for the window less the part in which it
        /// occurred, and at most for the window and two intervals.
        #[test]
        fn a_peak_is_kept_for_one_window(
            window_ms in 1_000..600_000u64, interval_ms in 100..3_000u64,
            peak_at_ms in 0..100_000u64, jobs in 1..100u32,
        ) {
            let window = Duration::from_millis(window_ms);
            let interval = Duration::from_millis(interval_ms.min(window_ms / 4));
            let mut size = ScaleWindow::new(0);
            let start = size.part_started;
            let peak_at = start + Duration::from_millis(peak_at_ms);
            let (mut now, mut is_noted) = (start, false);
            while now < peak_at + 2 * window + 4 * interval {
                now += interval;
                if !is_noted && now > peak_at {
                    size.note(jobs);
                    is_noted = true;
                }
                size.advance(0, now, window);
                let since = now.saturating_duration_since(peak_at);
                let needed = size.needed(SCALE);
                if is_noted && since < window - window / PARTS {
                    prop_assert_eq!(needed, jobs, "{:?} after the peak", since);
                }
                if since > window + 2 * interval {
                    prop_assert_eq!(needed, 0, "{:?} after the peak", since);
                }
            }
        }
    }

    /// The scaler's interval with a window of 2 s.
    #[test]
    fn a_peak_is_kept_if_several_parts_pass_in_one_interval() {
        let (window, interval) = (Duration::from_secs(2), Duration::from_millis(500));
        let mut size = ScaleWindow::new(0);
        let start = size.part_started;
        size.note(3);
        let mut needed_after = |intervals| {
            size.advance(0, start + intervals * interval, window);
            size.needed(SCALE)
        };
        let needed: Vec<u32> = (1..=6).map(&mut needed_after).collect();
        assert_eq!(needed, [3, 3, 3, 3, 0, 0]);
    }
}
