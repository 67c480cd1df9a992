//! Decides the `Retry-After` of a full queue from the rate at which its jobs complete. Never reads
//! a clock.

use std::time::Duration;

use crate::limits::RETRY_AFTER;

/// The rate at which jobs complete while others wait. Jobs that completed without a backlog don't
/// indicate the rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceRate {
    /// Number of completed jobs.
    pub jobs: u64,
    /// The time in which they completed, while others waited.
    pub within: Duration,
}

/// Returns when a client should retry if its job found the queue full: after half of the queue has
/// completed at the current rate. If no job has completed yet, the delay is the time that the queue
/// has waited so far. A queue that just filled may drain soon; a queue that has been stuck for a
/// long time will probably remain stuck. The delay is at most `longest`, the time limit of a job,
/// since one job has ended by then.
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

    const LONG: Duration = Duration::from_secs(3600);

    fn drain(jobs: u64, ms: u64) -> ServiceRate {
        ServiceRate { jobs, within: Duration::from_millis(ms) }
    }

    #[test]
    fn retry_after_is_the_time_for_half_of_the_queue() {
        assert_eq!(retry_after(1_000, drain(1_000, 10_000), LONG), Duration::from_secs(5));
        assert_eq!(
            retry_after(1_000, drain(10, 100), LONG),
            Duration::from_secs(5),
            "the length of the measurement doesn't matter"
        );
        assert_eq!(retry_after(10, drain(1_000, 1_000), LONG), Duration::from_secs(1));
        assert_eq!(retry_after(0, drain(1, 1_000), LONG), Duration::from_secs(1));
        assert_eq!(retry_after(1_000, drain(1, 1_000), LONG), Duration::from_secs(60));
        assert_eq!(retry_after(1_000, drain(1, 1_000), Duration::from_secs(5)), Duration::from_secs(5));
    }

    #[test]
    fn without_completed_jobs_retry_after_is_the_time_waited_so_far() {
        assert_eq!(retry_after(1_000, drain(0, 0), LONG), Duration::from_secs(1));
        assert_eq!(retry_after(1_000, drain(0, 6_500), LONG), Duration::from_secs(7));
        assert_eq!(retry_after(1_000, drain(0, 600_000), LONG), Duration::from_secs(60));
        assert_eq!(retry_after(1_000, drain(0, 600_000), Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(retry_after(10, drain(0, 600_000), Duration::from_millis(50)), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn any_rate_gives_a_retry_after_in_range(waiting: u32, jobs: u64, within: Duration) {
            let wait = retry_after(waiting, ServiceRate { jobs, within }, LONG);
            prop_assert!(RETRY_AFTER.contains(&wait));
        }

        #[test]
        fn about_half_of_the_queue_has_completed_at_a_retry(
            waiting in 2..5_000u32, jobs in 1..100_000u64, ms in 1..10_000u64,
        ) {
            let wait = retry_after(waiting, drain(jobs, ms), LONG).as_secs_f64();
            let half = f64::from(waiting) / 2.0 * (ms as f64 / 1e3) / jobs as f64;
            let clamped = wait == 1.0 && half < 1.0 || wait == 60.0 && half > 60.0;
            prop_assert!((half..half + 1.0).contains(&wait) || clamped);
        }
    }
}
