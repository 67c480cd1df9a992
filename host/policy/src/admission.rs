//! Decides whether a queued job still has enough time left to start. Owns the recent durations of a
//! process type's jobs, and the minimum time that a job must have left. Never reads a clock, and
//! never starts or refuses a job itself.
//!
//! ```text
//!   arrival               a slot is free           deadline
//!      ├──────── waits ────────┼───────── left ─────────┤
//!      │                       ├─ typical duration ─┤           enough: the job starts
//!      │                                                │
//!      ├──────── waits ───────────────────────┼── left ─┤
//!      │                                      ├─ typical duration ─┤   too little: refused,
//!      │                                                           and the next job gets the slot
//! ```

use std::time::Duration;

use crate::limits::{ADMISSION_JOBS_ENOUGH, ADMISSION_JOBS_SEEN, ADMISSION_PART_MAX, ADMISSION_PART_MIN};

/// The durations of a process type's recent jobs, from start to completion.
#[derive(Debug, Clone, Copy, Default)]
pub struct JobDurations {
    took_us: [u32; ADMISSION_JOBS_SEEN],
    noted: usize,
}

impl JobDurations {
    /// Records a completed job.
    pub fn note(&mut self, took: Duration) {
        self.took_us[self.noted % ADMISSION_JOBS_SEEN] = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.noted = self.noted.wrapping_add(1);
    }

    /// Returns the median duration; zero if too few jobs have completed.
    fn typical(&self) -> Duration {
        let mut took_us = self.took_us;
        let known = &mut took_us[..self.noted.min(ADMISSION_JOBS_SEEN)];
        let middle = known.len() / 2;
        let is_known = known.len() >= ADMISSION_JOBS_ENOUGH;
        let typical_us = if is_known { *known.select_nth_unstable(middle).1 } else { 0 };
        Duration::from_micros(typical_us.into())
    }

    /// Returns the time that a queued job must have left of its `limit` to be started: the typical
    /// duration of such jobs. At least a twentieth of the limit, the minimum in which a guest can
    /// be observed at work. At most half, so that a few long jobs don't lock out short jobs.
    /// While few jobs have completed, a twentieth suffices: one long job after a thaw says nothing
    /// about the jobs behind it.
    pub fn time_required(&self, limit: Duration) -> Duration {
        self.typical().clamp(limit / ADMISSION_PART_MIN, limit / ADMISSION_PART_MAX)
    }
}

/// Returns whether too little time is left to start a job although a slot was granted in time: on a
/// busy host the waiting task may notice the grant late. The threshold is half of the minimum for a
/// grant, so that a job that was just within the minimum still starts.
pub fn is_nearly_expired(left: Duration, limit: Duration) -> bool {
    left < limit / (2 * ADMISSION_PART_MIN)
}

/// Returns whether a guest that didn't respond within the time its job had left counts as failed.
/// It doesn't if the job spent most of its time in the queue. A guest that never responds is still
/// detected, through [`JobDurations::time_required`].
pub fn had_enough_time(had: Duration, limit: Duration) -> bool {
    had >= limit / ADMISSION_PART_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn after(took_ms: impl IntoIterator<Item = u64>) -> JobDurations {
        let mut durations = JobDurations::default();
        took_ms.into_iter().for_each(|ms| durations.note(Duration::from_millis(ms)));
        durations
    }

    #[test]
    fn the_typical_duration_must_be_left() {
        assert_eq!(after([3_000; ADMISSION_JOBS_ENOUGH]).time_required(LIMIT), Duration::from_secs(3));
        assert_eq!(after([3_000; 40]).time_required(LIMIT), Duration::from_secs(3));
        assert_eq!(after((0..16).map(|job| 1_000 * job)).time_required(LIMIT), Duration::from_secs(8));
    }

    #[test]
    fn a_twentieth_is_enough_if_jobs_are_short_or_unknown() {
        assert_eq!(JobDurations::default().time_required(LIMIT), Duration::from_secs(1));
        assert_eq!(after([5; 20]).time_required(LIMIT), Duration::from_secs(1));
    }

    /// One job takes two of its three seconds right after a thaw; the jobs behind it have 1.1 s
    /// left.
    #[test]
    fn one_long_job_refuses_no_others() {
        let limit = Duration::from_secs(3);
        let one = after([2_000]);
        assert_eq!(one.time_required(limit), limit / 20);
        let mut durations = one;
        for _ in 0..30 {
            assert!(durations.time_required(limit) <= Duration::from_millis(1_100));
            durations.note(Duration::from_millis(1));
        }
    }

    #[test]
    fn half_of_the_limit_is_always_enough() {
        assert_eq!(after([15_000; ADMISSION_JOBS_ENOUGH]).time_required(LIMIT), Duration::from_secs(10));
        assert_eq!(after([u64::MAX / 2_000; ADMISSION_JOBS_ENOUGH]).time_required(LIMIT), Duration::from_secs(10));
    }

    #[test]
    fn only_the_last_jobs_count() {
        let of_another_kind =
            after([3_000; ADMISSION_JOBS_SEEN].into_iter().chain([2_000; ADMISSION_JOBS_SEEN / 2 + 1]));
        assert_eq!(of_another_kind.time_required(LIMIT), Duration::from_secs(2));
        let with_a_few_long_ones =
            after([2_000; ADMISSION_JOBS_SEEN].into_iter().chain([9_000; ADMISSION_JOBS_SEEN / 2 - 1]));
        assert_eq!(with_a_few_long_ones.time_required(LIMIT), Duration::from_secs(2));
    }

    /// Jobs that end only at their deadline use all of their time, so the jobs after them have half
    /// of their limit left: enough to count as the guest's failure.
    #[test]
    fn a_guest_that_never_responds_counts_as_failed_under_load() {
        let hanging = after([20_000; ADMISSION_JOBS_ENOUGH]);
        assert!(had_enough_time(hanging.time_required(LIMIT), LIMIT));
        assert!(had_enough_time(LIMIT, LIMIT) && !had_enough_time(Duration::from_secs(9), LIMIT));
    }

    proptest! {
        #[test]
        fn a_job_that_is_granted_a_slot_has_time_to_notice_it(
            took_ms in proptest::collection::vec(0..100_000u64, 0..40), limit_ms in 10..3_600_000u64,
        ) {
            let limit = Duration::from_millis(limit_ms);
            let least = after(took_ms).time_required(limit);
            prop_assert!(least >= limit / 20 && least <= limit / 2);
            prop_assert!(!is_nearly_expired(least / 2, limit) && !is_nearly_expired(limit, limit));
            prop_assert!(is_nearly_expired(Duration::ZERO, limit));
        }

        /// That many jobs are admitted behind long jobs before their duration counts as typical.
        #[test]
        fn too_few_completed_jobs_refuse_no_job_with_a_twentieth_left(
            took_ms in proptest::collection::vec(0..100_000u64, 0..ADMISSION_JOBS_ENOUGH), limit_ms in 10..3_600_000u64,
        ) {
            let limit = Duration::from_millis(limit_ms);
            prop_assert_eq!(after(took_ms).time_required(limit), limit / 20);
        }

        #[test]
        fn a_minority_of_long_jobs_refuses_no_others(
            short in 0..ADMISSION_JOBS_SEEN, long in 0..ADMISSION_JOBS_SEEN, from in 0..ADMISSION_JOBS_SEEN,
        ) {
            prop_assume!(long < short && short + long <= ADMISSION_JOBS_SEEN);
            let mut took_ms: Vec<u64> = [vec![1; short], vec![19_000; long]].concat();
            let count = took_ms.len();
            took_ms.rotate_left(from % count);
            prop_assert_eq!(after(took_ms).time_required(LIMIT), LIMIT / 20);
        }

        /// A job is refused only if starting it would be useless; a job that never waited is always
        /// started.
        #[test]
        fn a_job_with_enough_time_left_is_started_and_completes(
            took_ms in 0..10_000u64, left_ms in 0..20_000u64,
        ) {
            let (took, left) = (Duration::from_millis(took_ms), Duration::from_millis(left_ms));
            let is_started = left >= after([took_ms; 5]).time_required(LIMIT);
            prop_assert!(!is_started || took <= left);
        }
    }
}
