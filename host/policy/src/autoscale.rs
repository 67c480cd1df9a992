//! How many instances of a process type there should be, from what it had to do lately. Owns the peak of the stable
//! window, and the answer to a client for whom there is no room. Never has a clock, and never starts or ends anything.
//!
//! ```text
//!  jobs at once │        ╭─╮
//!               │  ╭╮   ╭╯ │                 grow: at once, for the job that finds no free instance
//!               │ ╭╯╰───╯  ╰──╮╭╮            shrink: to the highest point of the last minute,
//!               └─┴───────────┴┴┴─> time     so that load which comes and goes starts nothing anew
//!                 │<─ window ─>│
//! ```

use std::time::Duration;

use crate::Scale;
use crate::limits::{RETRY_AFTER, SCALE_WINDOW_PARTS};

/// The most jobs that ran at one time, in each part of the stable window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peaks {
    parts: [u32; SCALE_WINDOW_PARTS],
    at: usize,
}

impl Peaks {
    /// Takes in how many jobs run now.
    pub fn note(&mut self, jobs: u32) {
        let part = &mut self.parts[self.at];
        *part = (*part).max(jobs);
    }

    /// Begins the next part of the window, in which so many jobs run already; the oldest part is forgotten.
    pub fn turn(&mut self, jobs: u32) {
        self.at = (self.at + 1) % SCALE_WINDOW_PARTS;
        self.parts[self.at] = jobs;
    }

    /// The most in the whole window.
    pub fn highest(&self) -> u32 {
        self.parts.iter().copied().max().unwrap_or(0)
    }
}

impl Scale {
    /// How many instances are kept after such a window.
    pub fn kept(self, peaks: &Peaks) -> u32 {
        peaks.highest().clamp(self.min, self.max)
    }

    /// Whether load changes how many instances there are. That an app of one instance sleeps is no change of its size.
    pub fn is_fixed(self) -> bool {
        self.max <= self.min.max(1)
    }
}

/// How fast jobs end while others wait, which says more than how many ended while there were few.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceRate {
    /// How many ended.
    pub jobs: u64,
    /// In how much time, of that in which others have waited.
    pub within: Duration,
}

/// When a job that finds its queue full should come again: once half of those before it are done, as fast as jobs end
/// now. Where none has ended yet, after as much time again: a queue that has just filled may be empty in a moment, and one
/// that has stood for long will stand for longer. Never later than a job may take: by then one has ended.
pub fn retry_after(waiting: u32, drain: ServiceRate, longest: Duration) -> Duration {
    let (least, most) = (*RETRY_AFTER.start(), *RETRY_AFTER.end().min(&longest.max(*RETRY_AFTER.start())));
    let seconds = match drain.jobs {
        0 => drain.within.as_secs_f64(),
        jobs => f64::from(waiting) / 2.0 * drain.within.as_secs_f64() / jobs as f64,
    };
    Duration::try_from_secs_f64(seconds.ceil()).map_or(most, |wait| wait.clamp(least, most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCALE: Scale = Scale { min: 1, max: 10 };
    const LONG: Duration = Duration::from_secs(3600);

    fn drain(jobs: u64, ms: u64) -> ServiceRate {
        ServiceRate { jobs, within: Duration::from_millis(ms) }
    }

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
    fn what_runs_while_the_window_turns_is_not_forgotten() {
        let mut peaks = Peaks::default();
        peaks.note(4);
        (0..3 * SCALE_WINDOW_PARTS).for_each(|_| peaks.turn(4));
        assert_eq!(SCALE.kept(&peaks), 4);
    }

    #[test]
    fn a_client_is_told_how_long_half_of_the_queue_takes() {
        assert_eq!(retry_after(1_000, drain(1_000, 10_000), LONG), Duration::from_secs(5));
        assert_eq!(retry_after(1_000, drain(10, 100), LONG), Duration::from_secs(5), "however short it was seen");
        assert_eq!(retry_after(10, drain(1_000, 1_000), LONG), Duration::from_secs(1));
        assert_eq!(retry_after(0, drain(1, 1_000), LONG), Duration::from_secs(1));
        assert_eq!(retry_after(1_000, drain(1, 1_000), LONG), Duration::from_secs(60));
        assert_eq!(retry_after(1_000, drain(1, 1_000), Duration::from_secs(5)), Duration::from_secs(5));
    }

    #[test]
    fn a_client_of_a_queue_that_has_not_moved_yet_is_told_to_wait_as_long_again() {
        assert_eq!(retry_after(1_000, drain(0, 0), LONG), Duration::from_secs(1));
        assert_eq!(retry_after(1_000, drain(0, 6_500), LONG), Duration::from_secs(7));
        assert_eq!(retry_after(1_000, drain(0, 600_000), LONG), Duration::from_secs(60));
        assert_eq!(retry_after(1_000, drain(0, 600_000), Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(retry_after(10, drain(0, 600_000), Duration::from_millis(50)), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_within_the_scale_and_enough_for_what_runs(
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

        #[test]
        fn any_rate_gives_a_time_that_can_be_said(waiting: u32, jobs: u64, within: Duration) {
            let told = retry_after(waiting, ServiceRate { jobs, within }, LONG);
            prop_assert!(RETRY_AFTER.contains(&told));
        }

        #[test]
        fn who_comes_again_as_told_finds_half_of_the_queue_gone_and_not_much_more(
            waiting in 2..5_000u32, jobs in 1..100_000u64, ms in 1..10_000u64,
        ) {
            let told = retry_after(waiting, drain(jobs, ms), LONG).as_secs_f64();
            let half = f64::from(waiting) / 2.0 * (ms as f64 / 1e3) / jobs as f64;
            prop_assert!((half..half + 1.0).contains(&told) || told == 1.0 && half < 1.0 || told == 60.0 && half > 60.0);
        }
    }
}
