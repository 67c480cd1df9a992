//! Decides the outcome of a failed delivery: a retry at a certain time, or a dead letter. Never
//! uses a clock or a random source, and never changes the queue.

use std::time::Duration;

use isopod_engine::{EventFailure, Fault, ProviderErrorKind};
use isopod_policy::RetryPolicy;
use isopod_store::{LastError, Outcome, StoreError};
use jiff::{SignedDuration, Timestamp};

use crate::{control::limits, runtime::InvokeError};

/// The failed attempt, with the inputs of the decision.
pub(super) struct Attempt<'a> {
    /// The number of the attempt, from 1.
    pub(super) number: u32,
    pub(super) last_error: Option<&'a LastError>,
    pub(super) policy: RetryPolicy,
    pub(super) accepted_at: Timestamp,
    pub(super) now: Timestamp,
    /// A uniformly distributed number.
    pub(super) random: u32,
}

/// Why a delivery failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The handler reported it.
    Handler(EventFailure),
    /// The guest failed, or could not be called.
    Invoke(InvokeError),
    /// The store refused the handler's effects; for example, a value is too large.
    Effects(String),
    /// The event can't be forwarded to another app; for example, the grant is missing.
    Forward(String),
    /// The store can't be written, for a reason that the handler didn't cause.
    Store(String),
    /// The handler was not called, because the event has expired or the host stops.
    Withdrawn,
    /// In each of its runs, other handlers changed keys that this handler had read.
    Conflicts,
    /// The delivery itself panicked, which is a bug in the host.
    Panicked,
    /// No release serves.
    NotServing(String),
    /// The app to which the event is forwarded currently takes no events.
    TargetUnavailable(String),
    /// The app to which the event is forwarded doesn't exist.
    NoTarget(String),
}

impl Failure {
    /// Waits until the backtrace of a trap has its places in the source, for a bounded time.
    pub(super) async fn places_found(&self) {
        if let Self::Invoke(InvokeError::Fault(fault)) = self {
            fault.places_found().await;
        }
    }

    /// Returns the failure of a delivery whose handler succeeded but whose effects were not
    /// committed.
    pub(super) fn of_commit(error: &StoreError) -> Self {
        use StoreError as E;
        match error {
            E::KeyValueFull
            | E::ValueTooLarge { .. }
            | E::BadKey { .. }
            | E::BadBucket { .. }
            | E::EventQueueFull
            | E::EventTooLarge { .. }
            | E::EventBatchTooLarge { .. }
            | E::NotANumber { .. } => Self::Effects(error.to_string()),
            E::InUse { .. }
            | E::File { .. }
            | E::DiskFull { .. }
            | E::ReadOnly { .. }
            | E::DiskFailed { .. }
            | E::TooNew { .. }
            | E::AppsWithoutDatabase { .. }
            | E::OtherDatabase { .. }
            | E::DatabaseWithoutApps { .. }
            | E::JournalOfOther { .. }
            | E::ControlChanged { .. }
            | E::BadFolderId { .. }
            | E::FolderInTheWay { .. }
            | E::LinkedFolder { .. }
            | E::Database { .. }
            | E::Damaged { .. }
            | E::AppDataDamaged { .. }
            | E::Panicked { .. }
            | E::Closed
            | E::AppExists { .. }
            | E::UnknownApp { .. }
            | E::UnknownPush { .. }
            | E::PushExists { .. }
            | E::UnknownRelease { .. }
            | E::NoMoreReleases { .. }
            | E::ReleaseServes { .. }
            | E::NotCurrent { .. }
            | E::Refused(_)
            | E::BadIdempotencyKey { .. }
            | E::SketchTooLarge { .. }
            | E::BadCursor { .. }
            | E::TokenExists { .. }
            | E::TokenExpired { .. }
            | E::UnknownToken { .. }
            | E::TooManyTokens
            | E::KeyFileOpen { .. }
            | E::KeyFileSize { .. }
            | E::SecretOfOtherKey { .. }
            | E::SecretChanged { .. }
            | E::BadDigest { .. }
            | E::UnknownBlob { .. } => Self::Store(error.to_string()),
        }
    }
}

impl Attempt<'_> {
    /// Returns a sentence about the failed attempt, for the app's log.
    pub(super) fn describe(&self, event: &str, outcome: &Outcome) -> String {
        let (number, most) = (self.number, self.policy.attempts);
        match outcome {
            Outcome::Done { .. } => format!("event `{event}`: attempt {number} succeeded"),
            Outcome::Retry { at, error, is_counted: true } => {
                format!("event `{event}`: attempt {number} of {most} failed, the next is at {at}: {error}")
            }
            Outcome::Retry { at, error, is_counted: false } => {
                format!("event `{event}`: postponed to {at} without counting the attempt: {error}")
            }
            Outcome::Dead { error } => {
                format!("event `{event}`: attempt {number} of {most} failed, the event is a dead letter: {error}")
            }
        }
    }

    /// Returns whether the failure needs no line in the app's log. An event may be postponed many
    /// times for the same reason, which is logged once. A withdrawn delivery isn't logged.
    pub(super) fn omits_line(&self, failure: &Failure, outcome: &Outcome) -> bool {
        if matches!(failure, Failure::Withdrawn) {
            return true;
        }
        let Outcome::Retry { error, is_counted: false, .. } = outcome else { return false };
        self.last_error.is_some_and(|last| last.is_of(error))
    }

    /// Returns the outcome of the attempt.
    pub(super) fn fails_with(&self, failure: &Failure) -> Outcome {
        match failure {
            Failure::Handler(EventFailure::Permanent { message }) => Outcome::Dead { error: message.clone() },
            Failure::Handler(EventFailure::Retry { message }) => self.retry(Duration::ZERO, message.clone()),
            Failure::Handler(EventFailure::RetryAfter { message, after }) => self.retry(*after, message.clone()),
            Failure::Handler(EventFailure::Snooze { message, after }) => self.postpone(*after, message.clone()),
            Failure::Invoke(refused) if !refused.has_run() => {
                self.postpone(limits::DELIVERY_POSTPONED, refused.to_string())
            }
            Failure::Invoke(InvokeError::Fault(
                fault @ Fault::Provider {
                    kind: ProviderErrorKind::Missing | ProviderErrorKind::Unavailable | ProviderErrorKind::Busy,
                    ..
                },
            )) => self.postpone(self.outage_delay(), fault.to_string()),
            Failure::Invoke(InvokeError::Fault(fault)) => self.after_fault(fault),
            Failure::Invoke(refused) => self.retry(Duration::ZERO, refused.to_string()),
            Failure::Effects(error) | Failure::Forward(error) => self.retry(Duration::ZERO, error.clone()),
            Failure::Panicked => self
                .retry(Duration::ZERO, "the host failed unexpectedly; see the host's own log for details".to_owned()),
            // Due immediately, and the error of the previous attempt remains.
            Failure::Withdrawn => Outcome::Retry { at: self.now, error: String::new(), is_counted: false },
            Failure::Conflicts => self.postpone(
                limits::DELIVERY_POSTPONED,
                "other handlers changed the keys that this handler read, each time it ran".to_owned(),
            ),
            Failure::NotServing(reason) | Failure::Store(reason) => {
                self.postpone(limits::DELIVERY_POSTPONED, reason.clone())
            }
            Failure::TargetUnavailable(reason) => self.postpone(self.outage_delay(), reason.clone()),
            Failure::NoTarget(reason) => Outcome::Dead { error: reason.clone() },
        }
    }

    /// Returns the outcome of a guest's fault. A trap that has occurred several times in a row is
    /// not retried, since it would occur again.
    fn after_fault(&self, fault: &Fault) -> Outcome {
        let text = fault.report();
        // The places in the source may have been found in one of the attempts only.
        let same = self.last_error.filter(|last| last.is_of(&text) || fault.is_of(&last.text));
        let same_before = same.map_or(0, |last| last.repeats);
        let is_deterministic = matches!(fault, Fault::Trap { .. } | Fault::Exited { .. });
        if is_deterministic && same_before + 1 >= limits::SAME_TRAPS_MAX {
            return Outcome::Dead { error: text };
        }
        // The queue counts attempts with an equal text.
        self.retry(Duration::ZERO, same.map_or(text, |last| last.text.clone()))
    }

    /// Returns the outcome of a failure that counts as an attempt.
    fn retry(&self, at_least: Duration, error: String) -> Outcome {
        if self.policy.is_last(self.number) {
            return Outcome::Dead { error };
        }
        let delay = self.policy.delay(self.number, self.random).max(at_least);
        Outcome::Retry { at: self.after(delay), error, is_counted: true }
    }

    /// Returns the delay until an event is delivered again whose target or provider was
    /// unavailable: about as long as the event has waited so far. This is an exponential back-off
    /// that needs no count of the attempts.
    fn outage_delay(&self) -> Duration {
        let waited = Duration::try_from(self.now.duration_since(self.accepted_at)).unwrap_or_default();
        let full = waited.clamp(limits::DELIVERY_POSTPONED, limits::OUTAGE_POSTPONED_MAX);
        RetryPolicy { first: full, max: full, ..self.policy }.delay(1, self.random)
    }

    /// Returns the outcome of a failure that doesn't count as an attempt.
    fn postpone(&self, delay: Duration, error: String) -> Outcome {
        let at = self.after(delay.max(limits::DELIVERY_POSTPONED_MIN));
        Outcome::Retry { at, error, is_counted: false }
    }

    fn after(&self, delay: Duration) -> Timestamp {
        let delay = SignedDuration::try_from(delay.min(limits::DELIVERY_DELAY_MAX)).unwrap_or(SignedDuration::ZERO);
        self.now.saturating_add(delay).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn attempt(number: u32, last_error: Option<&LastError>) -> Attempt<'_> {
        Attempt { number, last_error, policy: RetryPolicy::default(), accepted_at: NOW, now: NOW, random: u32::MAX }
    }

    fn trap(message: &str) -> Failure {
        let (message, backtrace) = (message.to_owned(), ["app::on_event".to_owned()].into_iter().collect());
        Failure::Invoke(Fault::Trap { message, output: String::new(), backtrace }.into())
    }

    fn is_dead(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Dead { .. })
    }

    fn delay(outcome: &Outcome) -> (Duration, bool) {
        let Outcome::Retry { at, is_counted, .. } = outcome else { panic!("{outcome:?} is not a retry") };
        (Duration::try_from(at.duration_since(NOW)).expect("a retry is later"), *is_counted)
    }

    #[test]
    fn a_permanent_failure_is_a_dead_letter_immediately() {
        let failure = Failure::Handler(EventFailure::Permanent { message: "no such order".to_owned() });
        assert_eq!(attempt(1, None).fails_with(&failure), Outcome::Dead { error: "no such order".to_owned() });
    }

    #[test]
    fn the_last_attempt_is_followed_by_a_dead_letter() {
        let failure = Failure::Handler(EventFailure::Retry { message: "shop closed".to_owned() });
        assert!(!is_dead(&attempt(RetryPolicy::default().attempts - 1, None).fails_with(&failure)));
        assert!(is_dead(&attempt(RetryPolicy::default().attempts, None).fails_with(&failure)));
    }

    #[test]
    fn a_handler_that_names_a_delay_is_not_called_earlier() {
        let after = Duration::from_secs(90);
        let failure = Failure::Handler(EventFailure::RetryAfter { message: "busy".to_owned(), after });
        assert_eq!(delay(&attempt(1, None).fails_with(&failure)), (after, true));
    }

    #[test]
    fn a_snoozed_event_is_not_counted_and_never_becomes_a_dead_letter() {
        let failure = |after| Failure::Handler(EventFailure::Snooze { message: "not yet".to_owned(), after });
        let hour = Duration::from_secs(3600);
        assert_eq!(delay(&attempt(1000, None).fails_with(&failure(hour))), (hour, false));
        let soon = delay(&attempt(1, None).fails_with(&failure(Duration::ZERO)));
        assert_eq!(soon, (limits::DELIVERY_POSTPONED_MIN, false));
    }

    #[test]
    fn the_same_trap_several_times_in_a_row_is_a_dead_letter() {
        let Outcome::Retry { error, .. } = attempt(1, None).fails_with(&trap("unreachable")) else {
            panic!("the first trap is retried")
        };
        let last = |repeats| LastError { text: error.clone(), repeats };
        let (once, twice) = (last(1), last(limits::SAME_TRAPS_MAX - 1));
        assert!(!is_dead(&attempt(2, Some(&once)).fails_with(&trap("unreachable"))));
        assert!(is_dead(&attempt(3, Some(&twice)).fails_with(&trap("unreachable"))));
        assert!(!is_dead(&attempt(3, Some(&twice)).fails_with(&trap("out of bounds"))), "another trap");
        let timeout = Failure::Invoke(Fault::Timeout { limit: Duration::from_secs(1) }.into());
        let Outcome::Retry { error: text, .. } = attempt(1, None).fails_with(&timeout) else { panic!("retried") };
        let timeouts = LastError { text, repeats: 5 };
        assert!(!is_dead(&attempt(6, Some(&timeouts)).fails_with(&timeout)), "a timeout may pass");
    }

    #[test]
    fn a_repeated_trap_is_recognised_with_and_without_places_in_the_source() {
        let Outcome::Retry { error, .. } = attempt(1, None).fails_with(&trap("unreachable")) else {
            panic!("the first trap is retried")
        };
        let with_places = error.replace("    at ", "    at app::inlined (lib.rs:7:3)\n    at ") + " (lib.rs:9)";
        assert!(with_places.ends_with("at app::on_event (lib.rs:9)"), "{with_places}");
        let last = |repeats| LastError { text: with_places.clone(), repeats };
        let Outcome::Retry { error, .. } = attempt(2, Some(&last(1))).fails_with(&trap("unreachable")) else {
            panic!("the second trap is retried")
        };
        assert_eq!(error, with_places, "the queue counts equal texts");
        let most = last(limits::SAME_TRAPS_MAX - 1);
        assert!(is_dead(&attempt(3, Some(&most)).fails_with(&trap("unreachable"))));
        assert!(!is_dead(&attempt(3, Some(&most)).fails_with(&trap("out of bounds"))), "another trap");
    }

    #[test]
    fn a_delivery_that_did_not_reach_the_guest_is_not_counted() {
        for refused in [InvokeError::Stopping, InvokeError::NoProcess("events")] {
            assert!(!delay(&attempt(99, None).fails_with(&Failure::Invoke(refused))).1);
        }
        assert!(!delay(&attempt(99, None).fails_with(&Failure::NotServing("stopped".to_owned()))).1);
    }

    #[test]
    fn a_withdrawn_delivery_is_due_immediately_and_is_neither_counted_nor_logged() {
        let last = LastError { text: "shop closed".to_owned(), repeats: 1 };
        let attempt = attempt(99, Some(&last));
        let outcome = attempt.fails_with(&Failure::Withdrawn);
        assert_eq!(outcome, Outcome::Retry { at: NOW, error: String::new(), is_counted: false });
        assert!(attempt.omits_line(&Failure::Withdrawn, &outcome));
    }

    #[test]
    fn an_event_waits_for_an_app_that_takes_none_with_a_growing_delay() {
        let unavailable = Failure::TargetUnavailable("`billing` is stopped".to_owned());
        let delay_after = |waited: i64| {
            let accepted_at = NOW - SignedDuration::from_secs(waited);
            let (delay, is_counted) = delay(&Attempt { accepted_at, ..attempt(99, None) }.fails_with(&unavailable));
            assert!(!is_counted);
            delay
        };
        assert_eq!(delay_after(0), limits::DELIVERY_POSTPONED);
        assert_eq!(delay_after(-5), limits::DELIVERY_POSTPONED, "the clock was set back");
        assert_eq!(delay_after(8), Duration::from_secs(8));
        assert_eq!(delay_after(100_000), limits::OUTAGE_POSTPONED_MAX);
        let destroyed = Failure::NoTarget("there is no app `billing`".to_owned());
        assert!(is_dead(&attempt(1, None).fails_with(&destroyed)));
    }

    #[test]
    fn an_outage_of_a_provider_is_not_counted_and_a_failure_of_a_provider_is() {
        let failure = |kind| {
            Failure::Invoke(Fault::Provider { provider: "mail".to_owned(), why: "as tested".to_owned(), kind }.into())
        };
        let last = RetryPolicy::default().attempts;
        for kind in [ProviderErrorKind::Missing, ProviderErrorKind::Unavailable, ProviderErrorKind::Busy] {
            assert_eq!(delay(&attempt(last, None).fails_with(&failure(kind))), (limits::DELIVERY_POSTPONED, false));
        }
        assert!(is_dead(&attempt(last, None).fails_with(&failure(ProviderErrorKind::Failed))));
    }

    #[test]
    fn a_postponed_event_is_logged_once_for_each_reason() {
        let is_omitted = |failure: &Failure, last_error: Option<&LastError>| {
            let attempt = attempt(1, last_error);
            attempt.omits_line(failure, &attempt.fails_with(failure))
        };
        let text_of = |failure: &Failure| match attempt(1, None).fails_with(failure) {
            Outcome::Retry { error, .. } => error,
            outcome => panic!("{outcome:?} is not a retry"),
        };
        let snooze = EventFailure::Snooze { message: "not yet".to_owned(), after: Duration::ZERO };
        for postponed in [
            Failure::TargetUnavailable("`billing` is stopped".to_owned()),
            Failure::NotServing("stopped".to_owned()),
            Failure::Store("the disk is full".to_owned()),
            Failure::Conflicts,
            Failure::Invoke(InvokeError::NoProcess("events")),
            Failure::Handler(snooze),
        ] {
            let same = LastError { text: text_of(&postponed), repeats: 0 };
            let other = LastError { text: "another reason".to_owned(), repeats: 0 };
            assert!(!is_omitted(&postponed, None) && !is_omitted(&postponed, Some(&other)), "{postponed:?}");
            assert!(is_omitted(&postponed, Some(&same)), "{postponed:?}");
        }
        // Each counted attempt is logged.
        let failure = trap("unreachable");
        let same = LastError { text: text_of(&failure), repeats: 1 };
        assert!(!is_omitted(&failure, Some(&same)));
    }

    #[test]
    fn a_repeated_trap_with_a_long_text_is_recognised() {
        let trap = trap(&"é".repeat(isopod_store::limits::EVENT_ERROR_BYTES_MAX));
        let Outcome::Retry { mut error, .. } = attempt(1, None).fails_with(&trap) else { panic!("it is retried") };
        // The store truncates the text.
        error.truncate(error.floor_char_boundary(isopod_store::limits::EVENT_ERROR_BYTES_MAX));
        let twice = LastError { text: error, repeats: limits::SAME_TRAPS_MAX - 1 };
        assert!(is_dead(&attempt(3, Some(&twice)).fails_with(&trap)));
    }

    #[test]
    fn effects_that_the_store_refuses_count_as_an_attempt() {
        for refused in [
            StoreError::EventBatchTooLarge { events: 1_000, bytes: 9 << 20 },
            StoreError::EventTooLarge { bytes: 3 << 20 },
            StoreError::KeyValueFull,
        ] {
            assert!(delay(&attempt(1, None).fails_with(&Failure::of_commit(&refused))).1, "{refused}");
        }
        for passing in [StoreError::Closed, StoreError::DiskFull { folder: "/data".into() }] {
            assert!(!delay(&attempt(1, None).fails_with(&Failure::of_commit(&passing))).1, "{passing}");
        }
    }

    proptest! {
        #[test]
        fn every_retry_is_later_and_within_the_bound(number in 1_u32..10, random: u32, after: u64) {
            let attempt = Attempt { random, ..attempt(number, None) };
            let after = Duration::from_millis(after);
            for failure in [
                EventFailure::RetryAfter { message: String::new(), after },
                EventFailure::Snooze { message: String::new(), after },
            ] {
                let outcome = attempt.fails_with(&Failure::Handler(failure));
                if !is_dead(&outcome) {
                    let (delay, _) = delay(&outcome);
                    prop_assert!(delay > Duration::ZERO && delay <= limits::DELIVERY_DELAY_MAX);
                }
            }
        }
    }
}
