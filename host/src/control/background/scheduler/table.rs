//! The table of all schedules, with their due runs and the runs of commands. Never starts a run,
//! and never decides which times are due: the policy crate does.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use isopod_policy::{AppName, Entry, Manifest, ProcessName, ReleaseNumber, Timetable, counted_since};
use isopod_store::Store;
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::control::{AppRecord, limits};

/// The schedules of all apps with a release, including apps that are stopped or in error. Cheap to
/// clone.
#[derive(Clone, Default)]
pub(in crate::control) struct Schedules(Arc<Table>);

#[derive(Default)]
struct Table {
    apps: Mutex<HashMap<AppName, Vec<Scheduled>>>,
    changed: Notify,
}

struct Scheduled {
    process: ProcessName,
    entry: Entry,
    timetable: Timetable,
    /// The last firing, or the registration of the schedule.
    last: Timestamp,
    /// Missed runs in a row.
    missed: u32,
    /// The last time at which a run was started or stored, if the host knows it.
    last_run: Option<Timestamp>,
    /// The runs of a command since the start of the host, newest first.
    commands: VecDeque<CommandRun>,
    waiting: FiringQueue,
}

/// The firings of one command that wait for the previous one, in the order of their times.
struct FiringQueue {
    /// One permit, held by the firing whose runs are in progress.
    start: Arc<Semaphore>,
    /// A slot for each firing that waits or whose runs are in progress.
    slots: Arc<Semaphore>,
    /// The end of the last firing that got a slot.
    last: Arc<FiringEnd>,
}

impl Default for FiringQueue {
    fn default() -> Self {
        let slots = limits::SCHEDULED_RUNS_WAITING_MAX + 1;
        Self { start: Arc::new(Semaphore::new(1)), slots: Arc::new(Semaphore::new(slots)), last: Arc::default() }
    }
}

impl FiringQueue {
    /// Takes a slot for a firing at `at`. Returns `None` if the queue is full. The last waiting
    /// firing then also stores the times of this one.
    fn join(&mut self, at: Timestamp) -> Option<Slot> {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.last.extend(at);
            return None;
        };
        self.last = Arc::new(FiringEnd::new(at));
        Some(Slot { start: Arc::clone(&self.start), slot, end: Arc::clone(&self.last) })
    }
}

/// A firing's slot in the queue.
struct Slot {
    start: Arc<Semaphore>,
    slot: OwnedSemaphorePermit,
    end: Arc<FiringEnd>,
}

/// The time up to which the scheduled times are stored as fired when the last run of a firing
/// starts. Includes firings that were refused meanwhile, so that they are not stored before the
/// runs that wait. Empty once the last run has started. A firing is refused only while others wait,
/// and the end of a waiting firing is not empty.
#[derive(Default)]
struct FiringEnd(Mutex<Option<Timestamp>>);

impl FiringEnd {
    fn new(at: Timestamp) -> Self {
        Self(Mutex::new(Some(at)))
    }

    /// Moves the end to the time of a refused firing, if that is later.
    fn extend(&self, at: Timestamp) {
        let mut end = self.lock();
        *end = end.map(|end| end.max(at));
    }

    fn take(&self) -> Option<Timestamp> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permission of a firing to start its runs. Dropping it allows the next firing to start.
pub(super) struct StartPermit {
    _start: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
    end: Arc<FiringEnd>,
}

impl StartPermit {
    /// Ends the firing with its last run. Returns the time up to which it counts as fired, if it
    /// hasn't ended before.
    pub(super) fn end_firing(&self) -> Option<Timestamp> {
        self.end.take()
    }
}

/// The result of waiting for the previous runs of a command.
pub(super) enum Queued {
    Permitted(StartPermit),
    /// Too many firings wait. The last one also stores the times of this firing.
    Refused,
    /// The schedule was removed.
    Removed,
}

/// One run of a command.
#[derive(Debug, Clone)]
pub(super) struct CommandRun {
    pub(super) started_at: Timestamp,
    /// The end of the run, with the error of a failed run.
    pub(super) ended: Option<(Timestamp, Result<(), String>)>,
}

/// The due runs of a process type.
pub(super) struct Firing {
    pub(super) app: AppName,
    pub(super) process: ProcessName,
    pub(super) entry: Entry,
    pub(super) timetable: Timetable,
    /// The scheduled times of the runs, oldest first.
    pub(super) runs: Vec<Timestamp>,
    /// The previous firing, and the number of scheduled times since then that don't run.
    pub(super) since: Timestamp,
    pub(super) dropped: u32,
}

/// A schedule as lists show it.
pub(super) struct ListedSchedule {
    pub(super) process: ProcessName,
    pub(super) entry: Entry,
    pub(super) timetable: Timetable,
    pub(super) last_run: Option<Timestamp>,
    pub(super) next_run: Option<Timestamp>,
    pub(super) commands: Vec<CommandRun>,
}

impl Schedules {
    fn lock(&self) -> MutexGuard<'_, HashMap<AppName, Vec<Scheduled>>> {
        self.0.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when a schedule is registered.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Takes the due runs, and returns the time until the next check.
    pub(super) fn take_due(&self, now: Timestamp) -> (Vec<Firing>, Duration) {
        let (mut firings, mut soonest) = (Vec::new(), limits::SCHEDULE_CHECK_INTERVAL_MAX);
        for (app, scheduled) in self.lock().iter_mut() {
            for scheduled in scheduled {
                scheduled.last = counted_since(scheduled.last, now);
                let due = scheduled.timetable.due(scheduled.last, now);
                if !due.runs.is_empty() || due.dropped > 0 {
                    firings.push(Firing {
                        app: app.clone(),
                        process: scheduled.process.clone(),
                        entry: scheduled.entry,
                        timetable: scheduled.timetable.clone(),
                        runs: due.runs,
                        since: std::mem::replace(&mut scheduled.last, now),
                        dropped: due.dropped,
                    });
                }
                if let Some(next) = due.next {
                    soonest = soonest.min(Duration::try_from(now.until(next).unwrap_or_default()).unwrap_or_default());
                }
            }
        }
        (firings, soonest.max(limits::SCHEDULE_CHECK_INTERVAL_MIN))
    }

    /// Counts a missed run of a process type. Returns the number of missed runs in a row.
    pub(super) fn miss(&self, app: &AppName, process: &ProcessName) -> u32 {
        let missed = self.with(app, process, |scheduled| {
            scheduled.missed = scheduled.missed.saturating_add(1);
            scheduled.missed
        });
        missed.unwrap_or_default()
    }

    /// Records that a run was stored or started. Returns the number of missed runs before it.
    pub(super) fn run(&self, app: &AppName, process: &ProcessName, now: Timestamp) -> u32 {
        let missed = self.with(app, process, |scheduled| {
            scheduled.last_run = Some(now);
            std::mem::take(&mut scheduled.missed)
        });
        missed.unwrap_or_default()
    }

    /// Records the start of a command's run.
    pub(super) fn begin_command(&self, app: &AppName, process: &ProcessName, now: Timestamp) {
        self.with(app, process, |scheduled| {
            scheduled.commands.push_front(CommandRun { started_at: now, ended: None });
            scheduled.commands.truncate(limits::SCHEDULE_HISTORY_RUNS);
        });
    }

    /// Records the end of the run that began at `started_at`.
    pub(super) fn end_command(
        &self,
        app: &AppName,
        process: &ProcessName,
        started_at: Timestamp,
        outcome: Result<(), String>,
    ) {
        self.with(app, process, |scheduled| {
            let mut running = scheduled.commands.iter_mut().filter(|run| run.ended.is_none());
            if let Some(run) = running.find(|run| run.started_at == started_at) {
                run.ended = Some((Timestamp::now(), outcome));
            }
        });
    }

    /// Waits for the end of the previous runs of a command, for its firing at `at`.
    pub(super) async fn start_permit(&self, app: &AppName, process: &ProcessName, at: Timestamp) -> Queued {
        let Slot { start, slot, end } = match self.with(app, process, |scheduled| scheduled.waiting.join(at)) {
            Some(Some(slot)) => slot,
            Some(None) => return Queued::Refused,
            None => return Queued::Removed,
        };
        match start.acquire_owned().await {
            Ok(start) => Queued::Permitted(StartPermit { _start: start, _slot: slot, end }),
            // The semaphore is never closed.
            Err(_) => Queued::Removed,
        }
    }

    /// Returns the schedules of an app.
    pub(super) fn of(&self, app: &AppName, now: Timestamp) -> Vec<ListedSchedule> {
        let apps = self.lock();
        let scheduled = apps.get(app).into_iter().flatten();
        let listed = scheduled.map(|scheduled| ListedSchedule {
            process: scheduled.process.clone(),
            entry: scheduled.entry,
            timetable: scheduled.timetable.clone(),
            last_run: scheduled.last_run,
            next_run: scheduled.timetable.next_after(counted_since(scheduled.last, now).max(now)),
            commands: scheduled.commands.iter().cloned().collect(),
        });
        listed.collect()
    }

    fn with<T>(&self, app: &AppName, process: &ProcessName, change: impl FnOnce(&mut Scheduled) -> T) -> Option<T> {
        let mut apps = self.lock();
        apps.get_mut(app)?.iter_mut().find(|scheduled| scheduled.process == *process).map(change)
    }
}

impl Schedules {
    /// Registers the schedules of a release that now serves.
    pub(in crate::control) fn schedule(&self, app: &AppRecord, manifest: &Manifest) {
        let now = Timestamp::now();
        let mut apps = self.lock();
        let mut known = apps.remove(&app.name).unwrap_or_default();
        let scheduled = manifest.processes.iter().filter_map(|(process, definition)| {
            let (entry, timetable) = (definition.entry, definition.timetable()?);
            let before = known.iter().position(|scheduled| scheduled.process == *process);
            let Some(before) = before.map(|index| known.swap_remove(index)) else {
                let fired = app.fired.get(process).copied();
                return Some(Scheduled {
                    process: process.clone(),
                    entry,
                    timetable,
                    last: fired.unwrap_or(now),
                    missed: 0,
                    last_run: fired,
                    commands: VecDeque::new(),
                    waiting: FiringQueue::default(),
                });
            };
            // A changed schedule starts without missed runs.
            let (last, missed) =
                if before.timetable.has_times_of(&timetable) { (before.last, before.missed) } else { (now, 0) };
            Some(Scheduled { entry, timetable, last, missed, ..before })
        });
        let scheduled: Vec<Scheduled> = scheduled.collect();
        if !scheduled.is_empty() {
            apps.insert(app.name.clone(), scheduled);
        }
        drop(apps);
        self.0.changed.notify_one();
    }

    /// Registers the schedules of a release that doesn't serve, so that missed runs are recorded.
    pub(in crate::control) async fn schedule_stored(&self, store: &Store, app: &AppRecord, number: ReleaseNumber) {
        // Starting the app reports why a release can't be read.
        if let Ok(Some(release)) = store.release(&app.name, number).await {
            self.schedule(app, &release.manifest);
        }
    }

    /// Removes the schedules of a destroyed app.
    pub(in crate::control) fn unschedule(&self, app: &AppName) {
        self.lock().remove(app);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a valid time")
    }

    #[test]
    fn a_refused_firing_is_stored_with_the_last_waiting_one() {
        let mut queue = FiringQueue::default();
        let waiting = 1 + limits::SCHEDULED_RUNS_WAITING_MAX;
        let slots: Vec<Slot> = (0..waiting).map_while(|_| queue.join(at(1))).collect();
        assert_eq!(slots.len(), waiting);
        for refused in [at(5), at(7), at(6)] {
            assert!(queue.join(refused).is_none());
        }
        let ends: Vec<_> = slots.iter().map(|slot| slot.end.take()).collect();
        let (last, others) = ends.split_last().expect("firings wait");
        assert!(others.iter().all(|end| *end == Some(at(1))));
        assert_eq!(*last, Some(at(7)));
    }

    #[tokio::test]
    async fn a_removed_schedule_is_not_reported_as_refused() {
        let (app, process) = ("shop".parse().expect("a valid name"), "leap".parse().expect("a valid name"));
        assert!(matches!(Schedules::default().start_permit(&app, &process, at(1)).await, Queued::Removed));
    }
}
