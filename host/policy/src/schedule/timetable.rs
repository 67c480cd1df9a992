//! When a schedule fires: its local times in a time zone, and what happens to times that have
//! passed or that come while a run is in progress. Never reads a clock: the current time is an
//! argument.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::{Schedule, TimeZone};
use crate::limits::{CLOCK_BACK_MAX, MISSED_RUNS_COUNTED, MISSED_RUNS_MAX, SCHEDULE_LATE};
use crate::setting_word::setting_word;

/// A schedule with its time zone and its settings.
///
/// A run is due at the first instant at which the local clock reads its time or a later one. If the
/// clock skips the time, the run is due at the first instant after the gap, together with all other
/// times in the gap. If the clock repeats the time, the run is due the first time only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// The local times.
    pub schedule: Schedule,
    /// The time zone of the local times.
    pub time_zone: TimeZone,
    /// What happens to times that passed while the host was down.
    pub missed: Missed,
    /// What happens to a time that is due while the previous run is in progress.
    pub overlap: Overlap,
}

setting_word! {
    /// What happens to scheduled times that passed while the host was down or its clock jumped.
    Missed, "setting for missed runs", "\"once\", \"skip\" or \"all\"" {
        /// One run makes up for all of them.
        Once = "once",
        /// None of them runs.
        Skip = "skip",
        /// Each of them runs, one after another, up to a limit.
        All = "all",
    }
}

setting_word! {
    /// What happens to a scheduled time that is due while the previous run is in progress.
    Overlap, "setting for overlapping runs", "\"skip\", \"queue\" or \"allow\"" {
        /// The new run is skipped.
        Skip = "skip",
        /// The new run starts when the previous one has ended.
        Queue = "queue",
        /// The new run starts immediately.
        Allow = "allow",
    }
}

/// What a timetable requires at a given time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The scheduled times of the runs to start now, oldest first.
    pub runs: Vec<Timestamp>,
    /// The number of passed times that don't run, at most [`MISSED_RUNS_COUNTED`].
    pub dropped: u32,
    /// When to check again: the first time after now that hasn't fired yet.
    pub next: Option<Timestamp>,
}

/// Returns the time from which a schedule's times count, if it last fired at `last`. If `last` is
/// far in the future, a wrong clock wrote it; then this is `now`, since the schedule would
/// otherwise be silent until the clock catches up.
pub fn counted_since(last: Timestamp, now: Timestamp) -> Timestamp {
    let is_far_ahead = SignedDuration::try_from(CLOCK_BACK_MAX).is_ok_and(|max| last.duration_since(now) > max);
    if is_far_ahead { now } else { last }
}

impl Timetable {
    /// Returns a timetable with the default settings.
    pub fn new(schedule: Schedule, time_zone: TimeZone) -> Self {
        Self { schedule, time_zone, missed: Missed::default(), overlap: Overlap::default() }
    }

    /// Returns whether another timetable has the same times, whatever its other settings.
    pub fn has_times_of(&self, other: &Self) -> bool {
        self.schedule == other.schedule && self.time_zone == other.time_zone
    }

    /// Returns the first time after `after` at which a run is due. `None` only at the ends of
    /// representable time, in the years -9999 and 9999.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut local = self.time_zone.reading(after);
        loop {
            local = self.schedule.next_local(local)?;
            let instant = self.time_zone.first_instant_at(local)?;
            // While the clock repeats times, it has reached them before.
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// Returns which runs are due at `now`. `last` is the time of the previous call that returned
    /// something to run or to drop, or of the schedule's creation; after such a call, the caller
    /// stores `now` as the next `last`.
    ///
    /// If the clock went back behind `last`, nothing is due until the clock has passed `last`
    /// again, so no time fires twice. If it went back far, [`counted_since`] returns another
    /// `last`.
    pub fn due(&self, last: Timestamp, now: Timestamp) -> Due {
        let next = self.next_after(last.max(now));
        if self.next_after(last).is_none_or(|first| first > now) {
            return Due { runs: Vec::new(), dropped: 0, next };
        }
        let runs = match self.missed {
            Missed::Skip => {
                let late = SignedDuration::try_from(SCHEDULE_LATE).unwrap_or(SignedDuration::MAX);
                self.latest(last.max(now.checked_sub(late).unwrap_or(last)), now, 1)
            }
            Missed::Once => self.latest(last, now, 1),
            Missed::All => self.latest(last, now, MISSED_RUNS_MAX),
        };
        let passed = self.times(last, now).take(MISSED_RUNS_COUNTED).count();
        let dropped = u32::try_from(passed.saturating_sub(runs.len())).unwrap_or(u32::MAX);
        Due { runs, dropped, next }
    }

    /// Returns the times after `from` and up to `to`, oldest first.
    fn times(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next_after(from), |time| self.next_after(*time)).take_while(move |time| *time <= to)
    }

    /// Returns the last `max` times after `from` and up to `to`, oldest first. The number of steps
    /// grows with the logarithm of the interval, since years of times may have passed.
    fn latest(&self, from: Timestamp, to: Timestamp, max: usize) -> Vec<Timestamp> {
        let fits = |from| self.times(from, to).take(max + 1).count() <= max;
        if fits(from) {
            return self.times(from, to).collect();
        }
        let (mut too_early, mut start) = (from, to);
        while start.duration_since(too_early) > SignedDuration::from_secs(1) {
            let middle = too_early + start.duration_since(too_early) / 2;
            if fits(middle) {
                start = middle;
            } else {
                too_early = middle;
            }
        }
        self.times(start, to).collect()
    }
}

impl fmt::Display for Timetable {
    /// Shows the schedule, and its time zone unless that is UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedule, time_zone, .. } = self;
        if *time_zone == TimeZone::default() { write!(f, "{schedule}") } else { write!(f, "{schedule} {time_zone}") }
    }
}
