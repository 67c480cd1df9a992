//! How large a pool is to be: the peak of its load over the stable window, and what was told of it last. Never starts or
//! ends an instance.

use crate::limits;
use isopod_policy::{Peaks, ProcessName, Scale};
use std::time::{Duration, Instant};

/// How many parts a window of the peaks has.
const PARTS: u32 = isopod_policy::limits::SCALE_WINDOW_PARTS as u32;

/// What is known of a pool's load.
#[derive(Clone, Copy)]
pub(super) struct ScaleWindow {
    peaks: Peaks,
    /// The most jobs that ran at one time since the last look.
    lately: u32,
    /// When the present part of the peaks' window began.
    part_begun: Instant,
    /// How many instances were told of last.
    told: u32,
    told_at: Option<Instant>,
}

/// A pool that has another size than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScaleChange {
    pub(crate) process: ProcessName,
    pub(crate) scale: Scale,
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// How many the load lately has need of.
    pub(crate) needed: u32,
    /// The most jobs that ran at one time in the stable window.
    pub(crate) peak: u32,
    pub(crate) waiting: u32,
}

impl ScaleWindow {
    pub(super) fn new(live: u32) -> Self {
        Self { peaks: Peaks::default(), lately: 0, part_begun: Instant::now(), told: live, told_at: None }
    }

    /// The same load, which another pool with so many instances takes over.
    pub(super) fn taken_over(self, live: u32) -> Self {
        Self { told: live, told_at: None, ..self }
    }

    /// How many instances were told of last.
    pub(super) fn told(&self) -> u32 {
        self.told
    }

    /// Takes in how many jobs run now.
    pub(super) fn note(&mut self, jobs: u32) {
        self.peaks.note(jobs);
        self.lately = self.lately.max(jobs);
    }

    /// How many instances the load of the window has need of.
    pub(super) fn needed(&self, scale: Scale) -> u32 {
        scale.kept(&self.peaks)
    }

    /// Lets the window go on to `now`, when so many jobs run. Of the parts that have begun since the last look any may be the
    /// one in which the most ran since then.
    pub(super) fn go_on(&mut self, jobs: u32, now: Instant, window: Duration) {
        let lately = std::mem::replace(&mut self.lately, jobs).max(jobs);
        let part = window / PARTS;
        let passed = now.saturating_duration_since(self.part_begun).as_nanos() / part.as_nanos().max(1);
        let turns = u32::try_from(passed).unwrap_or(u32::MAX).min(PARTS);
        (0..turns).for_each(|_| self.peaks.turn(lately));
        self.part_begun = if turns < PARTS { self.part_begun + turns * part } else { now };
    }

    /// How many instances were told of before, and the peak, if there are others now and it is time to tell.
    pub(super) fn tell(&mut self, live: u32, now: Instant, window: Duration) -> Option<(u32, u32)> {
        let least = limits::SCALE_TOLD_EVERY.min(window);
        let is_early = self.told_at.is_some_and(|at| now.saturating_duration_since(at) < least);
        if live == self.told || is_early {
            return None;
        }
        self.told_at = Some(now);
        Some((std::mem::replace(&mut self.told, live), self.peaks.highest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCALE: Scale = Scale { min: 0, max: 100 };

    proptest! {
        /// Whatever the window and however often it is looked: a peak is kept for all of the window but the part in which it
        /// was, and no longer than that and the time between two looks.
        #[test]
        fn what_was_needed_is_kept_for_a_window(
            window_ms in 1_000..600_000u64, look_ms in 100..3_000u64, peak_at_ms in 0..100_000u64, jobs in 1..100u32,
        ) {
            let (window, look) = (Duration::from_millis(window_ms), Duration::from_millis(look_ms.min(window_ms / 4)));
            let mut size = ScaleWindow::new(0);
            let start = size.part_begun;
            let peak_at = start + Duration::from_millis(peak_at_ms);
            let (mut now, mut is_noted) = (start, false);
            while now < peak_at + 2 * window + 4 * look {
                now += look;
                if !is_noted && now > peak_at {
                    size.note(jobs);
                    is_noted = true;
                }
                size.go_on(0, now, window);
                let since = now.saturating_duration_since(peak_at);
                let kept = size.needed(SCALE);
                if is_noted && since < window - window / PARTS {
                    prop_assert_eq!(kept, jobs, "{:?} after it", since);
                }
                if since > window + 2 * look {
                    prop_assert_eq!(kept, 0, "{:?} after it", since);
                }
            }
        }
    }

    /// As the looks at a window of 2 s are.
    #[test]
    fn a_short_window_is_kept_though_several_of_its_parts_pass_between_two_looks() {
        let (window, look) = (Duration::from_secs(2), Duration::from_millis(500));
        let mut size = ScaleWindow::new(0);
        let start = size.part_begun;
        size.note(3);
        let mut kept_at = |looks| {
            size.go_on(0, start + looks * look, window);
            size.needed(SCALE)
        };
        let kept: Vec<u32> = (1..=6).map(&mut kept_at).collect();
        assert_eq!(kept, [3, 3, 3, 3, 0, 0]);
    }
}
