//! When an instance that ended is started again, and when that is given up. Owns the back-off. Never has a clock or a
//! random source, and never starts anything: how long it ran and a random number are arguments.

use std::time::Duration;

use crate::limits::{CRASH_LOOP_ENDS, RESTART_AFTER, RESTART_QUICK, RESTART_WELL};

/// The ends of one instance so far, as far as they count for its next start.
///
/// ```text
///   ended after   under 5 s      5 s to 10 s      10 s or more
///   back-off      twice as long  twice as long    from the least again
///   quick ends    one more       from 0 again     from 0 again      the fifth in a row: a crash loop
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restarts {
    /// How many ends there were since it last ran well.
    ends: u32,
    /// How many ends in a row were quick.
    quick_ends: u32,
}

/// What becomes of an instance that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is started again after this time.
    Restart {
        /// How long to wait.
        after: Duration,
    },
    /// Starting it again doesn't help: so often in a row it ended so soon after its start.
    CrashLoop {
        /// How many quick ends in a row there were.
        crashes: u32,
        /// How soon after its start an end is quick.
        within: Duration,
    },
}

impl Restarts {
    /// Counts one end. `ran_for` is how long it is since the instance started; `random` is any number, each as likely, and
    /// keeps instances that end together from starting together.
    pub fn ended(&mut self, ran_for: Duration, random: u32) -> Next {
        if ran_for >= RESTART_WELL {
            self.ends = 0;
        }
        self.ends = self.ends.saturating_add(1);
        self.quick_ends = if ran_for < RESTART_QUICK { self.quick_ends.saturating_add(1) } else { 0 };
        if self.quick_ends >= CRASH_LOOP_ENDS {
            return Next::CrashLoop { crashes: self.quick_ends, within: RESTART_QUICK };
        }
        Next::Restart { after: back_off(self.ends, random) }
    }
}

/// The wait after the given number of ends in a row: between half of the full wait and all of it.
fn back_off(ends: u32, random: u32) -> Duration {
    let (least, most) = (*RESTART_AFTER.start(), *RESTART_AFTER.end());
    let factor = 2u32.checked_pow(ends.saturating_sub(1)).unwrap_or(u32::MAX);
    let full = least.saturating_mul(factor).min(most);
    full / 2 + full / 2 * (random >> 16) / (u32::MAX >> 16)
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
    fn the_wait_doubles_up_to_its_most() {
        let mut restarts = Restarts::default();
        let ran_for = Duration::from_secs(6);
        let waits: Vec<_> = (0..11).filter_map(|_| milliseconds(restarts.ended(ran_for, u32::MAX))).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn chance_takes_up_to_half_of_the_wait() {
        let wait = |random| milliseconds(Restarts::default().ended(Duration::ZERO, random));
        assert_eq!((wait(0), wait(u32::MAX / 2), wait(u32::MAX)), (Some(50), Some(74), Some(100)));
    }

    #[test]
    fn running_well_starts_the_back_off_anew() {
        let mut restarts = Restarts::default();
        for _ in 0..6 {
            restarts.ended(Duration::from_secs(9), 0);
        }
        assert_eq!(milliseconds(restarts.ended(Duration::from_secs(10), u32::MAX)), Some(100));
        assert_eq!(milliseconds(restarts.ended(Duration::MAX, u32::MAX)), Some(100));
    }

    #[test]
    fn five_quick_ends_in_a_row_are_a_crash_loop() {
        let mut restarts = Restarts::default();
        let quick = Duration::from_millis(4_999);
        for _ in 0..4 {
            assert!(milliseconds(restarts.ended(quick, 0)).is_some());
        }
        assert!(milliseconds(restarts.ended(Duration::from_secs(5), 0)).is_some(), "this one ran long enough");
        for _ in 0..4 {
            assert!(milliseconds(restarts.ended(quick, 0)).is_some());
        }
        assert_eq!(restarts.ended(quick, 0), Next::CrashLoop { crashes: 5, within: Duration::from_secs(5) });
    }

    proptest! {
        #[test]
        fn a_wait_is_never_out_of_range_and_a_crash_loop_needs_its_quick_ends(
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
