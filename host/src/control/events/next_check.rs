//! Decides when an app's event queue is checked again, after a check of the queues of its process
//! types. Never uses a clock, and never reads a queue.

use std::time::Duration;

use isopod_store::{Claimed, QueueStats};
use jiff::Timestamp;

/// When the queue is to be checked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextCheck {
    /// When a delivery ends, or earlier at a wake-up.
    Later,
    /// At this time, or earlier at a wake-up.
    At(Timestamp),
}

/// What a check found in the queue of one process type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueState {
    /// The release lacks the process type. A release with this process type wakes the task when it
    /// starts to serve.
    Orphaned,
    /// No event was claimed, because none is due or because the app has no room for a further
    /// delivery. In the latter case, the next check follows the end of a running delivery.
    Unclaimed {
        /// When the next delayed event is due. It may be in the past.
        next_due: Option<Timestamp>,
    },
    /// Due events were claimed, but there may have been none: a delayed event that is due may have
    /// to wait for an earlier event of its subject.
    Claimed {
        /// Whether another claim may immediately return further events, and the app has room for
        /// them.
        has_more: bool,
        next_due: Option<Timestamp>,
    },
}

/// The result of the last check, and the reasons to check the queue again.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastCheck {
    pub(super) next: NextCheck,
    /// Whether the queue may have changed, because the task was woken.
    pub(super) is_outdated: bool,
    /// The earliest due time of the delayed events that were stored since. A check before that time
    /// only counts these events.
    pub(super) delayed_due: Option<Timestamp>,
    /// Whether a check is due: the time of the next check has come, or a delivery has ended whose
    /// process type has room for a further one.
    pub(super) is_due: bool,
}

impl LastCheck {
    pub(super) fn new(next: NextCheck) -> Self {
        Self { next, is_outdated: false, delayed_due: None, is_due: false }
    }

    /// Returns when to check the queue, or `None` to check it now. A check that only new events
    /// cause waits for `wait`, unless a delayed event is due earlier.
    pub(super) fn postponed(&self, now: Timestamp, wait: Duration) -> Option<NextCheck> {
        if self.is_due {
            return None;
        }
        let has_new = self.is_outdated || self.delayed_due.is_some();
        let woken = has_new.then(|| now.saturating_add(wait).unwrap_or(now));
        let next = match self.next {
            NextCheck::At(time) => Some(time),
            NextCheck::Later => None,
        };
        match [woken, self.delayed_due, next].into_iter().flatten().min() {
            Some(time) if time <= now => None,
            Some(time) => Some(NextCheck::At(time)),
            None => Some(NextCheck::Later),
        }
    }
}

impl QueueState {
    pub(super) fn unclaimed(of: &QueueStats) -> Self {
        Self::Unclaimed { next_due: of.next_due }
    }

    pub(super) fn claimed(found: &Claimed, has_room: bool) -> Self {
        Self::Claimed { has_more: found.has_more && has_room, next_due: found.next_due }
    }

    /// Returns the time of this queue's next check. `None` if only a wake-up or the end of a
    /// delivery causes the check.
    fn next_check(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Orphaned => None,
            Self::Unclaimed { next_due } => next_due.filter(|due| *due > now),
            Self::Claimed { has_more: true, .. } => Some(now),
            Self::Claimed { has_more: false, next_due } => next_due,
        }
    }
}

impl NextCheck {
    /// Returns the earliest next check of these queues, one per process type, after a check at
    /// `now`.
    pub(super) fn of(queues: impl IntoIterator<Item = QueueState>, now: Timestamp) -> Self {
        let next = queues.into_iter().filter_map(|queue| queue.next_check(now)).min();
        next.map_or(Self::Later, Self::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a valid time")
    }

    fn unclaimed(second: i64) -> QueueState {
        QueueState::Unclaimed { next_due: Some(at(second)) }
    }

    fn claimed(has_more: bool, next_due: Option<Timestamp>) -> QueueState {
        QueueState::Claimed { has_more, next_due }
    }

    #[test]
    fn a_due_event_that_must_wait_for_its_subject_does_not_delay_a_retry() {
        // The event that was due at second 10 is blocked by a retry that is due at second 3600.
        assert_eq!(NextCheck::of([claimed(false, Some(at(3_600)))], at(10)), NextCheck::At(at(3_600)));
    }

    #[test]
    fn events_of_an_absent_process_type_delay_no_others() {
        let queues = [QueueState::Orphaned, unclaimed(60), unclaimed(90)];
        assert_eq!(NextCheck::of(queues, at(10)), NextCheck::At(at(60)));
        let queues = [QueueState::Orphaned, claimed(false, Some(at(70)))];
        assert_eq!(NextCheck::of(queues, at(10)), NextCheck::At(at(70)));
        assert_eq!(NextCheck::of([QueueState::Orphaned], at(10)), NextCheck::Later);
    }

    #[test]
    fn a_due_event_without_room_waits_for_the_end_of_a_delivery() {
        assert_eq!(NextCheck::of([unclaimed(5), claimed(false, None)], at(10)), NextCheck::Later);
        assert_eq!(NextCheck::of([unclaimed(5), unclaimed(20)], at(10)), NextCheck::At(at(20)));
    }

    #[test]
    fn the_next_check_is_the_earliest_of_all_queues() {
        let queues = [unclaimed(30), claimed(false, Some(at(20))), claimed(true, Some(at(40)))];
        assert_eq!(NextCheck::of(queues, at(10)), NextCheck::At(at(10)), "one has further events");
        assert_eq!(NextCheck::of(queues[..2].iter().copied(), at(10)), NextCheck::At(at(20)));
        assert_eq!(
            NextCheck::of([claimed(false, None), QueueState::Unclaimed { next_due: None }], at(10)),
            NextCheck::Later
        );
        assert_eq!(NextCheck::of([], at(10)), NextCheck::Later);
    }

    #[test]
    fn a_check_waits_for_its_time_unless_there_is_room_or_the_task_is_woken() {
        const SECOND: Duration = Duration::from_secs(1);
        let last = LastCheck::new(NextCheck::At(at(20)));
        assert_eq!(last.postponed(at(10), Duration::ZERO), Some(NextCheck::At(at(20))));
        assert_eq!(last.postponed(at(20), SECOND), None);
        assert_eq!(LastCheck { is_due: true, ..last }.postponed(at(10), SECOND), None);
        let woken = LastCheck { is_outdated: true, ..last };
        assert_eq!(woken.postponed(at(10), Duration::ZERO), None);
        assert_eq!(woken.postponed(at(10), SECOND), Some(NextCheck::At(at(11))));
        assert_eq!(woken.postponed(at(20), SECOND), None, "the time has come");
        let idle = LastCheck::new(NextCheck::Later);
        assert_eq!(idle.postponed(at(10), SECOND), Some(NextCheck::Later));
        let delayed = |second| LastCheck { delayed_due: Some(at(second)), ..idle };
        assert_eq!(delayed(60).postponed(at(10), SECOND), Some(NextCheck::At(at(11))));
        assert_eq!(delayed(60).postponed(at(10), 90 * SECOND), Some(NextCheck::At(at(60))));
        assert_eq!(delayed(10).postponed(at(10), SECOND), None, "it is due");
        assert_eq!(LastCheck { is_outdated: true, ..idle }.postponed(at(10), SECOND), Some(NextCheck::At(at(11))));
    }
}
