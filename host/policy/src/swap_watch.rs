//! The rollout watch: decides whether a new release is clearly worse than its predecessor. Owns the
//! comparison and its wording. Never counts requests and never rolls back a release.

use std::fmt;
use std::time::Duration;

use crate::limits::{
    CANARY_CALLS, CANARY_WATCH, SWAP_FAILURES_MIN, SWAP_SIZE_BYTES, SWAP_SIZE_PART, SWAP_WATCH, SWAP_WORSE_FACTOR,
    SWAP_WORSE_MORE, SWAP_WORSE_UNKNOWN,
};

/// The number of a release's requests, and of its own failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of requests.
    pub requests: u64,
    /// Number of failures.
    pub failures: u64,
}

/// The verdict on a new release so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// No significant failures yet: continue watching.
    Watching,
    /// The watch has ended.
    Passed,
    /// The release fails clearly more often than its predecessor.
    Worse(Worse),
}

/// The numbers that show a new release to be worse. Displayed as a sentence for the activity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worse {
    /// The requests of the new release since the swap.
    pub new: Counts,
    /// The requests of the release before, in its last minutes.
    pub old: Counts,
    /// The failure rate above which a release is clearly worse, from 0 to 1 and above.
    pub bound: f64,
}

impl Counts {
    /// Returns the failure rate, from 0 to 1.
    pub fn failure_rate(self) -> f64 {
        // A failure may be counted before its request.
        let requests = self.requests.max(self.failures);
        if requests == 0 { 0.0 } else { self.failures as f64 / requests as f64 }
    }
}

/// Judges a new release by its counts since the swap, `elapsed` ago, and by the counts of its
/// predecessor in the last minutes.
pub fn judge(old: &Counts, new: &Counts, elapsed: Duration) -> Verdict {
    let bound = bound(old);
    if new.failures >= SWAP_FAILURES_MIN && new.failure_rate() > bound {
        return Verdict::Worse(Worse { new: *new, old: *old, bound });
    }
    if elapsed >= SWAP_WATCH { Verdict::Passed } else { Verdict::Watching }
}

/// Returns whether the canary phase of a plugin's upgrade, in which only a few apps use the new
/// release, has ended. `new` counts the calls of that release since the swap, `elapsed` ago.
pub fn is_canary_complete(new: &Counts, elapsed: Duration) -> bool {
    new.requests >= CANARY_CALLS || elapsed >= CANARY_WATCH
}

/// Returns the counts with which a new release is compared: those of its predecessor. In the canary
/// phase of a plugin, its failures may be those of one app, such as one whose key server is down.
/// `first` are the calls of the predecessor by the first app of that phase. They count instead if
/// they failed more often.
pub fn reference(old: Counts, first: Option<Counts>) -> Counts {
    let fails_more = |first: &Counts| first.failures >= SWAP_FAILURES_MIN && first.failure_rate() > old.failure_rate();
    first.filter(fails_more).unwrap_or(old)
}

/// The calls of a plugin by one app, of all its releases together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallerCounts {
    /// The calls before the swap.
    pub before: Counts,
    /// The calls of the new release.
    pub new: Counts,
}

impl CallerCounts {
    /// Returns whether the app's calls fail above this rate.
    fn fails(&self, bound_of_all: f64) -> bool {
        self.new.failures > 0 && self.new.failure_rate() > bound_of_all
    }

    /// Returns whether the app's calls fail clearly more often than before.
    fn fails_more(&self) -> bool {
        self.before.requests == 0 || self.new.failure_rate() > bound(&self.before)
    }
}

/// Whether the calls of a plugin show that its new release itself is worse. The calls of one app
/// don't: the app may cause the failures, even on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The calls of several apps fail, or no second app called the release for long enough.
    Sufficient,
    /// Only one app has called the release so far.
    OfOnlyCaller,
    /// No other app's calls fail more often than before. The index is that of the app.
    OfOneApp(usize),
}

/// Returns how much the failures of a release show, by the apps that called it. `waited` is the
/// time since they became significant. If the calls of no app fail, the failures have another
/// cause.
pub fn evidence(worse: &Worse, callers: &[CallerCounts], waited: Duration) -> Evidence {
    let bound = worse.bound;
    let failing = || callers.iter().enumerate().filter(move |(_, caller)| caller.fails(bound));
    let mut more = failing().filter(|(_, caller)| caller.fails_more()).map(|(app, _)| app);
    match (more.next(), more.next()) {
        (Some(_), Some(_)) => Evidence::Sufficient,
        (Some(_), None) if callers.len() == 1 && waited < CANARY_WATCH => Evidence::OfOnlyCaller,
        (Some(_), None) if callers.len() == 1 => Evidence::Sufficient,
        (Some(app), None) => Evidence::OfOneApp(app),
        (None, _) => failing().next().map_or(Evidence::Sufficient, |(app, _)| Evidence::OfOneApp(app)),
    }
}

/// Returns whether an out-of-memory fault on a job of this size is due to the size, and therefore
/// doesn't count against the release.
pub fn is_by_size(input_bytes: u64, memory_bytes: u64) -> bool {
    input_bytes >= memory_bytes / SWAP_SIZE_PART
}

/// Returns whether a guest that read this much of a request's body ran out of an allowance that no
/// setting changes, such as its handles, because of the body's size.
pub fn is_by_bytes_read(bytes_read: u64) -> bool {
    bytes_read > SWAP_SIZE_BYTES
}

fn bound(old: &Counts) -> f64 {
    if old.requests == 0 && old.failures == 0 {
        return SWAP_WORSE_UNKNOWN;
    }
    let rate = old.failure_rate();
    (rate * SWAP_WORSE_FACTOR).max(rate + SWAP_WORSE_MORE)
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |rate: f64| (rate * 1_000.0).round() / 10.0;
        let Counts { requests, failures } = self.new;
        let rate = percent(self.new.failure_rate());
        write!(f, "{failures} of {} requests failed since the swap ({rate} %)", requests.max(failures))?;
        if self.old.requests == 0 && self.old.failures == 0 {
            write!(f, "; the previous release had no requests to compare with; ")?;
        } else {
            let Counts { requests, failures } = self.old;
            let rate = percent(self.old.failure_rate());
            write!(f, ", {failures} of {} before it ({rate} %); ", requests.max(failures))?;
        }
        write!(f, "more than {} % is clearly worse", percent(self.bound))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(requests: u64, failures: u64) -> Counts {
        Counts { requests, failures }
    }

    fn is_worse(old: Counts, new: Counts) -> bool {
        matches!(judge(&old, &new, Duration::ZERO), Verdict::Worse(_))
    }

    #[test]
    fn a_release_passes_when_the_watch_ends() {
        let (old, new) = (counts(100, 0), counts(10, 0));
        assert_eq!(judge(&old, &new, Duration::from_millis(9_999)), Verdict::Watching);
        assert_eq!(judge(&old, &new, Duration::from_secs(10)), Verdict::Passed);
        assert_eq!(judge(&Counts::default(), &Counts::default(), Duration::MAX), Verdict::Passed);
    }

    #[test]
    fn the_canary_phase_ends_after_enough_calls_or_enough_time() {
        let complete = |calls, millis| is_canary_complete(&counts(calls, 0), Duration::from_millis(millis));
        assert!(!complete(49, 4_999) && complete(50, 0) && complete(0, 5_000));
    }

    #[test]
    fn a_plugin_is_compared_with_the_first_app_that_already_failed_more_often() {
        let old = counts(100, 5);
        assert_eq!(reference(old, None), old);
        assert_eq!(reference(old, Some(counts(10, 9))), counts(10, 9));
        assert_eq!(reference(old, Some(counts(4, 4))), old, "a few failures are not significant");
        assert_eq!(reference(old, Some(counts(1_000, 10))), old);
    }

    #[test]
    fn the_calls_of_one_app_do_not_show_that_a_plugin_is_worse() {
        let caller = |requests, failures| CallerCounts { new: counts(requests, failures), ..CallerCounts::default() };
        let of = |callers: &[CallerCounts]| {
            let worse = Worse { new: counts(10, 9), old: counts(100, 0), bound: 0.1 };
            evidence(&worse, callers, Duration::ZERO)
        };
        let (failing, well) = (caller(9, 9), caller(40, 1));
        assert_eq!(of(&[failing]), Evidence::OfOnlyCaller);
        assert_eq!(of(&[well, failing, well]), Evidence::OfOneApp(1));
        assert_eq!(of(&[well, failing, caller(1, 1)]), Evidence::Sufficient);
        let failed_before = CallerCounts { before: counts(100, 90), ..failing };
        assert_eq!(of(&[failed_before, failing]), Evidence::OfOneApp(1));
        assert_eq!(of(&[failed_before, well]), Evidence::OfOneApp(0));
        assert_eq!(of(&[]), Evidence::Sufficient, "no app caused the failures");
        assert_eq!(of(&[well, well]), Evidence::Sufficient);
    }

    #[test]
    fn the_calls_of_the_only_app_show_it_after_a_while() {
        let worse = Worse { new: counts(9, 9), old: counts(100, 0), bound: 0.1 };
        let caller = CallerCounts { new: counts(9, 9), ..CallerCounts::default() };
        let after = |millis| evidence(&worse, &[caller], Duration::from_millis(millis));
        assert_eq!(after(4_999), Evidence::OfOnlyCaller);
        assert_eq!(after(5_000), Evidence::Sufficient);
    }

    #[test]
    fn a_release_that_fails_much_more_often_is_worse() {
        // Ten percentage points more than zero.
        assert!(!is_worse(counts(100, 0), counts(50, 5)));
        assert!(is_worse(counts(100, 0), counts(49, 5)));
        // Three times as often, if that is more than ten percentage points.
        assert!(!is_worse(counts(100, 10), counts(100, 30)));
        assert!(is_worse(counts(100, 10), counts(100, 31)));
        // A few failures are not significant.
        assert!(!is_worse(counts(100, 0), counts(4, 4)));
        assert!(is_worse(counts(100, 0), counts(5, 5)));
    }

    #[test]
    fn running_out_of_memory_on_a_large_job_does_not_count() {
        let mib = |count: u64| count << 20;
        assert!(is_by_size(mib(20), mib(64)) && is_by_size(mib(4), mib(64)));
        assert!(!is_by_size(mib(4) - 1, mib(64)) && !is_by_size(0, mib(64)));
    }

    #[test]
    fn running_out_of_handles_on_a_large_body_does_not_count() {
        assert!(is_by_bytes_read(10 << 20) && is_by_bytes_read((1 << 20) + 1));
        assert!(!is_by_bytes_read(1 << 20) && !is_by_bytes_read(0));
    }

    #[test]
    fn without_a_comparison_most_requests_must_fail() {
        assert!(!is_worse(counts(0, 0), counts(10, 5)));
        assert!(is_worse(counts(0, 0), counts(9, 5)));
    }

    #[test]
    fn the_numbers_make_a_sentence() {
        let say = |old, new| match judge(&old, &new, Duration::ZERO) {
            Verdict::Worse(worse) => worse.to_string(),
            Verdict::Watching | Verdict::Passed => String::new(),
        };
        assert_eq!(
            say(counts(500, 1), counts(80, 12)),
            "12 of 80 requests failed since the swap (15 %), 1 of 500 before it (0.2 %); more than 10.2 % is clearly \
             worse"
        );
        assert_eq!(
            say(counts(0, 0), counts(6, 6)),
            "6 of 6 requests failed since the swap (100 %); the previous release had no requests to compare with; more \
             than 50 % is clearly worse"
        );
    }

    proptest! {
        #[test]
        fn a_release_without_failures_is_never_worse(
            old in any::<(u64, u64)>(), requests in any::<u64>(), failures in 0..5u64,
        ) {
            prop_assert!(!is_worse(counts(old.0, old.1), counts(requests, failures)));
        }

        #[test]
        fn more_failures_or_fewer_requests_never_improve_the_verdict(
            old in (0..1_000u64, 0..1_000u64), requests in 0..1_000u64, failures in 0..1_000u64,
            more in 0..1_000u64, fewer in 0..1_000u64,
        ) {
            let old = counts(old.0, old.1);
            if is_worse(old, counts(requests, failures)) {
                prop_assert!(is_worse(old, counts(requests, failures + more)));
                prop_assert!(is_worse(old, counts(requests.saturating_sub(fewer), failures)));
            }
        }

        #[test]
        fn a_release_that_fails_no_more_often_is_not_worse(
            requests in 1..1_000u64, failures in 0..1_000u64, times in 1..100u64,
        ) {
            let old = counts(requests, failures.min(requests));
            prop_assert!(!is_worse(old, counts(old.requests * times, old.failures * times)));
        }
    }
}
