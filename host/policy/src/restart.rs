//! Decides whether an ended instance is restarted, and after which back-off. Never starts an
//! instance, and never reads a clock or generates a random number: the caller passes the instance's
//! running time and a random number.

use std::time::Duration;

use crate::back_off::back_off;
use crate::limits::{CRASH_LOOP_ENDS, RESTART_AFTER, RESTART_QUICK, RESTART_WELL};

/// The recent ends of an instance, as far as they affect its next start.
///
/// ```text
///   ended after   under 5 s      5 s to 10 s      10 s or more
///   back-off      doubled        doubled          reset to the minimum
///   quick ends    one more       reset to 0       reset to 0     (five: a crash loop)
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restarts {
    /// Number of ends since the instance was last stable.
    ends: u32,
    /// Number of consecutive quick ends.
    quick_ends: u32,
}

/// The decision about an instance that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Restart it after a back-off.
    Restart {
        /// The back-off.
        after: Duration,
    },
    /// Don't restart it: it ended too often too soon after its start.
    CrashLoop {
        /// Number of consecutive quick ends.
        crashes: u32,
        /// The running time below which an end is quick.
        within: Duration,
    },
}

impl Restarts {
    /// Records an end. `ran_for` is the time since the instance's start. `random` is a uniformly
    /// distributed number; it spreads the restarts of instances that end together.
    pub fn ended(&mut self, ran_for: Duration, random: u32) -> Next {
        if ran_for >= RESTART_WELL {
            self.ends = 0;
        }
        self.ends = self.ends.saturating_add(1);
        self.quick_ends = if ran_for < RESTART_QUICK { self.quick_ends.saturating_add(1) } else { 0 };
        if self.quick_ends >= CRASH_LOOP_ENDS {
            return Next::CrashLoop { crashes: self.quick_ends, within: RESTART_QUICK };
        }
        Next::Restart { after: back_off(*RESTART_AFTER.start(), *RESTART_AFTER.end(), self.ends, random) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn milliseconds(next: Next) -> Option<u128> {
        match next {
            Next::Restart { after } => Some(after.as_millis()),
            Next::CrashLoop { .. } => None,
        }
    }

    #[test]
    fn the_back_off_doubles_up_to_its_maximum() {
        let mut restarts = Restarts::default();
        let ran_for = Duration::from_secs(6);
        let waits: Vec<_> = (0..11).filter_map(|_| milliseconds(restarts.ended(ran_for, u32::MAX))).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn randomness_removes_up_to_half_of_the_back_off() {
        let wait = |random| milliseconds(Restarts::default().ended(Duration::ZERO, random));
        assert_eq!((wait(0), wait(u32::MAX / 2), wait(u32::MAX)), (Some(50), Some(75), Some(100)));
    }

    #[test]
    fn a_stable_run_resets_the_back_off() {
        let mut restarts = Restarts::default();
        for _ in 0..6 {
            restarts.ended(Duration::from_secs(9), 0);
        }
        assert_eq!(milliseconds(restarts.ended(Duration::from_secs(10), u32::MAX)), Some(100));
        assert_eq!(milliseconds(restarts.ended(Duration::MAX, u32::MAX)), Some(100));
    }

    #[test]
    fn five_consecutive_quick_ends_are_a_crash_loop() {
        let mut restarts = Restarts::default();
        let quick = Duration::from_millis(4_999);
        for _ in 0..4 {
            assert!(milliseconds(restarts.ended(quick, 0)).is_some());
        }
        assert!(
            milliseconds(restarts.ended(Duration::from_secs(5), 0)).is_some(),
            "an instance that ran long enough is restarted"
        );
        for _ in 0..4 {
            assert!(milliseconds(restarts.ended(quick, 0)).is_some());
        }
        assert_eq!(restarts.ended(quick, 0), Next::CrashLoop { crashes: 5, within: Duration::from_secs(5) });
    }

    proptest! {
        #[test]
        fn a_back_off_is_in_range_and_a_crash_loop_needs_enough_quick_ends(
            ends in proptest::collection::vec((0..20_000u64, any::<u32>()), 0..60),
        ) {
            let mut restarts = Restarts::default();
            let mut quick_in_a_row = 0;
            for (ran_for, random) in ends {
                let ran_for = Duration::from_millis(ran_for);
                quick_in_a_row = if ran_for < RESTART_QUICK { quick_in_a_row + 1 } else { 0 };
                match restarts.ended(ran_for, random) {
                    Next::Restart { after } => {
                        prop_assert!(after >= *RESTART_AFTER.start() / 2 && after <= *RESTART_AFTER.end());
                        prop_assert!(quick_in_a_row < CRASH_LOOP_ENDS);
                    }
                    Next::CrashLoop { crashes, .. } => prop_assert_eq!(crashes, quick_in_a_row),
                }
            }
        }

        #[test]
        fn many_ends_never_overflow(ends in any::<u32>(), random in any::<u32>()) {
            let mut restarts = Restarts { ends, quick_ends: ends };
            restarts.ended(Duration::from_secs(7), random);
            restarts.ended(Duration::ZERO, random);
        }
    }
}
