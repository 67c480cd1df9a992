//! Whether a job whose turn comes is still begun: work for which there is no time left is not. Owns what jobs lately took,
//! and how much of its time a job must have left. Never has a clock, and never begins or refuses anything.
//!
//! ```text
//!   arrival                     turn                   deadline
//!      ├───────── waits ─────────┼───────── left ─────────┤
//!      │                         ├── usual work ──┤            enough: begun
//!      │                               turn ┼──── left ───┤
//!      │                                    ├── usual work ──┤ too little: told at once, and the next one has the turn
//! ```

use std::time::Duration;

use crate::limits::{ADMISSION_JOBS_ENOUGH, ADMISSION_JOBS_SEEN, ADMISSION_PART_LEAST, ADMISSION_PART_MOST};

/// How long the last jobs of a process type took, from their turn to their answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    took_us: [u32; ADMISSION_JOBS_SEEN],
    noted: usize,
}

impl Work {
    /// Takes in a job that ended.
    pub fn note(&mut self, took: Duration) {
        self.took_us[self.noted % ADMISSION_JOBS_SEEN] = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.noted = self.noted.wrapping_add(1);
    }

    /// As long as about half of them took; nothing where too few have ended to say.
    fn usual(&self) -> Duration {
        let mut took_us = self.took_us;
        let known = &mut took_us[..self.noted.min(ADMISSION_JOBS_SEEN)];
        let middle = known.len() / 2;
        let is_known = known.len() >= ADMISSION_JOBS_ENOUGH;
        let usual_us = if is_known { *known.select_nth_unstable(middle).1 } else { 0 };
        Duration::from_micros(usual_us.into())
    }

    /// What a job that has waited must have left of its time, of which it had `limit`, to be begun: as long as such jobs
    /// usually take. Never less than a twentieth, in which a guest is at least known to be at work, and never more than a
    /// half, so that a few long jobs do not shut out the short ones. The twentieth is enough while few jobs have ended: one
    /// long job after a thaw says nothing of those behind it.
    pub fn least_left(&self, limit: Duration) -> Duration {
        self.usual().clamp(limit / ADMISSION_PART_LEAST, limit / ADMISSION_PART_MOST)
    }
}

/// Whether so little is left that the job is not begun though its turn was given to it in time: on a busy host it may
/// take a while to hear of that. It is half of the least for which a turn is given, so that those who were given theirs
/// with just enough have it.
pub fn is_hardly_left(left: Duration, limit: Duration) -> bool {
    left < limit / (2 * ADMISSION_PART_LEAST)
}

/// Whether a guest that gave no answer in the time that its job had left is to blame: not where the job had waited for
/// most of its time. A guest that answers nothing at all is noticed all the same, by [`Work::least_left`].
pub fn had_its_time(had: Duration, limit: Duration) -> bool {
    had >= limit / ADMISSION_PART_MOST
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn after(took_ms: impl IntoIterator<Item = u64>) -> Work {
        let mut work = Work::default();
        took_ms.into_iter().for_each(|ms| work.note(Duration::from_millis(ms)));
        work
    }

    #[test]
    fn what_jobs_usually_take_must_be_left() {
        assert_eq!(after([3_000; ADMISSION_JOBS_ENOUGH]).least_left(LIMIT), Duration::from_secs(3));
        assert_eq!(after([3_000; 40]).least_left(LIMIT), Duration::from_secs(3));
        assert_eq!(after((0..16).map(|job| 1_000 * job)).least_left(LIMIT), Duration::from_secs(8));
    }

    #[test]
    fn a_twentieth_is_enough_where_jobs_are_short_or_unknown() {
        assert_eq!(Work::default().least_left(LIMIT), Duration::from_secs(1));
        assert_eq!(after([5; 20]).least_left(LIMIT), Duration::from_secs(1));
    }

    /// One job takes two of its three seconds right after a thaw, and those that waited behind it have 1.1 s left.
    #[test]
    fn a_long_job_shuts_out_nobody_while_no_more_is_known() {
        let limit = Duration::from_secs(3);
        let one = after([2_000]);
        assert_eq!(one.least_left(limit), limit / 20);
        let mut work = one;
        for _ in 0..30 {
            assert!(work.least_left(limit) <= Duration::from_millis(1_100));
            work.note(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_half_is_enough_however_long_jobs_take() {
        assert_eq!(after([15_000; ADMISSION_JOBS_ENOUGH]).least_left(LIMIT), Duration::from_secs(10));
        assert_eq!(after([u64::MAX / 2_000; ADMISSION_JOBS_ENOUGH]).least_left(LIMIT), Duration::from_secs(10));
    }

    #[test]
    fn only_the_last_jobs_count() {
        let of_another_kind =
            after([3_000; ADMISSION_JOBS_SEEN].into_iter().chain([2_000; ADMISSION_JOBS_SEEN / 2 + 1]));
        assert_eq!(of_another_kind.least_left(LIMIT), Duration::from_secs(2));
        let with_a_few_long_ones =
            after([2_000; ADMISSION_JOBS_SEEN].into_iter().chain([9_000; ADMISSION_JOBS_SEEN / 2 - 1]));
        assert_eq!(with_a_few_long_ones.least_left(LIMIT), Duration::from_secs(2));
    }

    /// Jobs that end at nothing but their deadline take all of it, so that those after them have a half: enough to be
    /// blamed.
    #[test]
    fn a_guest_that_never_answers_is_to_blame_also_under_load() {
        let hanging = after([20_000; ADMISSION_JOBS_ENOUGH]);
        assert!(had_its_time(hanging.least_left(LIMIT), LIMIT));
        assert!(had_its_time(LIMIT, LIMIT) && !had_its_time(Duration::from_secs(9), LIMIT));
    }

    proptest! {
        #[test]
        fn whoever_is_given_a_turn_has_time_to_hear_of_it(
            took_ms in proptest::collection::vec(0..100_000u64, 0..40), limit_ms in 10..3_600_000u64,
        ) {
            let limit = Duration::from_millis(limit_ms);
            let least = after(took_ms).least_left(limit);
            prop_assert!(least >= limit / 20 && least <= limit / 2);
            prop_assert!(!is_hardly_left(least / 2, limit) && !is_hardly_left(limit, limit));
            prop_assert!(is_hardly_left(Duration::ZERO, limit));
        }

        /// So many are let in behind long ones until it is clear that they all are long.
        #[test]
        fn fewer_jobs_than_are_enough_refuse_nobody_who_has_a_twentieth_left(
            took_ms in proptest::collection::vec(0..100_000u64, 0..ADMISSION_JOBS_ENOUGH), limit_ms in 10..3_600_000u64,
        ) {
            let limit = Duration::from_millis(limit_ms);
            prop_assert_eq!(after(took_ms).least_left(limit), limit / 20);
        }

        #[test]
        fn long_jobs_that_are_less_than_half_of_those_seen_refuse_nobody(
            short in 0..ADMISSION_JOBS_SEEN, long in 0..ADMISSION_JOBS_SEEN, from in 0..ADMISSION_JOBS_SEEN,
        ) {
            prop_assume!(long < short && short + long <= ADMISSION_JOBS_SEEN);
            let mut took_ms: Vec<u64> = [vec![1; short], vec![19_000; long]].concat();
            let count = took_ms.len();
            took_ms.rotate_left(from % count);
            prop_assert_eq!(after(took_ms).least_left(LIMIT), LIMIT / 20);
        }

        /// A job is only ever refused when it is no use to begin it: a job that never waited always is.
        #[test]
        fn who_comes_to_jobs_that_take_less_than_half_of_their_time_and_is_begun_is_done_in_time(
            took_ms in 0..10_000u64, left_ms in 0..20_000u64,
        ) {
            let (took, left) = (Duration::from_millis(took_ms), Duration::from_millis(left_ms));
            let is_begun = left >= after([took_ms; 5]).least_left(LIMIT);
            prop_assert!(!is_begun || took <= left);
        }
    }
}
