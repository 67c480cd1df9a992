//! Decides the number of instances of a process type from its recent load. Owns the peaks of the
//! stable window. Never reads a clock, and never starts or stops an instance.
//!
//! ```text
//!  concurrent  │        ╭─╮
//!  jobs        │  ╭╮   ╭╯ │                 grow: immediately, for a job without a free instance
//!              │ ╭╯╰───╯  ╰──╮╭╮            shrink: to the peak of the last minute,
//!              └─┴───────────┴┴┴─> time     so that fluctuating load starts no instances again
//!                │<─ window ─>│
//! ```

use crate::Scale;
use crate::limits::SCALE_WINDOW_PARTS;

/// The peak number of concurrent jobs in each part of the stable window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peaks {
    parts: [u32; SCALE_WINDOW_PARTS],
    at: usize,
}

impl Peaks {
    /// Records the current number of concurrent jobs.
    pub fn note(&mut self, jobs: u32) {
        let part = &mut self.parts[self.at];
        *part = (*part).max(jobs);
    }

    /// Starts the next part of the window with the current number of jobs, and forgets the oldest
    /// part.
    pub fn turn(&mut self, jobs: u32) {
        self.at = (self.at + 1) % SCALE_WINDOW_PARTS;
        self.parts[self.at] = jobs;
    }

    /// Returns the peak of the whole window.
    pub fn highest(&self) -> u32 {
        self.parts.iter().copied().max().unwrap_or(0)
    }
}

impl Scale {
    /// Returns the number of instances to keep, given the window's peaks.
    pub fn kept(self, peaks: &Peaks) -> u32 {
        peaks.highest().clamp(self.min, self.max)
    }

    /// Returns whether load never changes the number of instances. Freezing an app's only instance
    /// doesn't count as a change.
    pub fn is_fixed(self) -> bool {
        self.max <= self.min.max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCALE: Scale = Scale { min: 1, max: 10 };

    #[test]
    fn a_peak_counts_for_one_whole_window() {
        let mut peaks = Peaks::default();
        peaks.note(7);
        peaks.note(2);
        for _ in 1..SCALE_WINDOW_PARTS {
            peaks.turn(1);
            assert_eq!(SCALE.kept(&peaks), 7);
        }
        peaks.turn(1);
        assert_eq!(SCALE.kept(&peaks), 1);
    }

    #[test]
    fn jobs_that_run_across_a_window_part_are_still_counted() {
        let mut peaks = Peaks::default();
        peaks.note(4);
        (0..3 * SCALE_WINDOW_PARTS).for_each(|_| peaks.turn(4));
        assert_eq!(SCALE.kept(&peaks), 4);
    }

    proptest! {
        #[test]
        fn the_instances_kept_are_within_the_scale_and_cover_running_jobs(
            jobs in proptest::collection::vec((any::<bool>(), 0..20u32), 0..60), min in 0..5u32, more in 1..10u32,
        ) {
            let scale = Scale { min, max: min + more };
            let mut peaks = Peaks::default();
            for (turns, jobs) in jobs {
                if turns { peaks.turn(jobs) } else { peaks.note(jobs) }
                let kept = scale.kept(&peaks);
                prop_assert!(kept >= scale.min && kept <= scale.max);
                prop_assert!(kept >= jobs.min(scale.max));
            }
        }
    }
}
