//! The queue of one app's reads or writes, with the connection that runs them. Owns their order,
//! and which writes share a commit. Never runs a call.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::OwnedSemaphorePermit;

use super::open_connection::OpenConnection;
use crate::StoreError;
use crate::group::Job;
use crate::sql::Durability;

/// Runs a read and replies to its caller, or replies with an error.
pub(super) type Read = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

/// A permit to queue a call.
type Permit = OwnedSemaphorePermit;

/// Queued calls and their connection.
pub(super) struct Lane<J> {
    waiting: Mutex<Waiting<J>>,
    turn_ended: Condvar,
    pub(super) connection: Mutex<Option<OpenConnection>>,
}

struct Waiting<J> {
    /// Each job, with its host-wide permit. A pause of the lane releases the permits: while the
    /// database of one app is replaced, its calls must not delay those of other apps.
    jobs: VecDeque<(J, Option<Permit>)>,
    /// Whether a thread runs the lane or is scheduled to run it.
    is_scheduled: bool,
    /// Whether calls wait for the rescue thread, which resumes the lane.
    is_paused: bool,
}

impl<J> Waiting<J> {
    fn pause(&mut self) {
        self.is_paused = true;
        self.jobs.iter_mut().for_each(|(_, permit)| *permit = None);
    }

    fn take(&mut self) -> Option<J> {
        self.jobs.pop_front().map(|(job, _)| job)
    }
}

impl<J> std::fmt::Debug for Lane<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = locked(&self.waiting);
        f.debug_struct("Lane").field("jobs", &waiting.jobs.len()).field("is_scheduled", &waiting.is_scheduled).finish()
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<J> Lane<J> {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting { jobs: VecDeque::new(), is_scheduled: false, is_paused: false }),
            turn_ended: Condvar::new(),
            connection: Mutex::default(),
        }
    }

    /// Adds a job with its host-wide permit. The lane releases the permit when a thread takes the
    /// job, or while the lane is paused. Returns whether the lane must be scheduled.
    pub(super) fn put(&self, job: J, permit: Permit) -> bool {
        let mut waiting = locked(&self.waiting);
        let permit = (!waiting.is_paused).then_some(permit);
        waiting.jobs.push_back((job, permit));
        !waiting.is_paused && !std::mem::replace(&mut waiting.is_scheduled, true)
    }

    /// Begins a scheduled turn. Returns false if the lane is paused: the turn must not run.
    pub(super) fn begin_turn(&self) -> bool {
        let mut waiting = locked(&self.waiting);
        if waiting.is_paused {
            self.set_ended(&mut waiting);
        }
        waiting.is_scheduled
    }

    /// Ends a turn. Returns whether the lane must be scheduled again.
    pub(super) fn end_turn(&self) -> bool {
        let mut waiting = locked(&self.waiting);
        if waiting.jobs.is_empty() || waiting.is_paused {
            self.set_ended(&mut waiting);
        }
        waiting.is_scheduled
    }

    /// Ends a turn that panicked. The next call schedules the lane.
    pub(super) fn abandon_turn(&self) {
        self.set_ended(&mut locked(&self.waiting));
    }

    /// Ends a turn, and pauses the lane until [`Lane::resume`].
    pub(super) fn pause_turn(&self) {
        let mut waiting = locked(&self.waiting);
        waiting.pause();
        self.set_ended(&mut waiting);
    }

    /// Pauses the lane until [`Lane::resume`], and waits until no turn runs. Blocks.
    pub(super) fn pause(&self) {
        let mut waiting = locked(&self.waiting);
        waiting.pause();
        while waiting.is_scheduled {
            waiting = self.turn_ended.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a pause. Returns whether the lane must be scheduled.
    pub(super) fn resume(&self) -> bool {
        let mut waiting = locked(&self.waiting);
        waiting.is_paused = false;
        !waiting.jobs.is_empty() && !std::mem::replace(&mut waiting.is_scheduled, true)
    }

    fn set_ended(&self, waiting: &mut Waiting<J>) {
        waiting.is_scheduled = false;
        self.turn_ended.notify_all();
    }
}

impl Lane<Read> {
    pub(super) fn take(&self) -> Option<Read> {
        locked(&self.waiting).take()
    }
}

impl Lane<(Durability, Job)> {
    /// Takes the first write of a group, and returns what the group's commit must survive: a power
    /// failure, if any queued write must.
    pub(super) fn first(&self) -> Option<(Durability, Job)> {
        let mut waiting = locked(&self.waiting);
        let durability = waiting.jobs.iter().map(|((durability, _), _)| *durability).max()?;
        waiting.take().map(|(_, job)| (durability, job))
    }

    /// Takes the next write of a group whose commit has this durability. Ends the group if a queued
    /// write needs a synced commit and this one is not: both are decided under one lock, so that no
    /// synced write joins an unsynced commit.
    pub(super) fn next(&self, durability: Durability) -> Option<Job> {
        let mut waiting = locked(&self.waiting);
        let is_synced = durability == Durability::Synced;
        if !is_synced && waiting.jobs.iter().any(|((needed, _), _)| *needed == Durability::Synced) {
            return None;
        }
        waiting.take().map(|(_, job)| job)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::group;

    fn permit(permits: &Arc<Semaphore>) -> Permit {
        Arc::clone(permits).try_acquire_owned().expect("a permit is free")
    }

    fn write(lane: &Lane<(Durability, Job)>, durability: Durability) {
        let permits = Arc::new(Semaphore::new(1));
        lane.put((durability, group::job(Path::new("kv.db"), |_| Ok(())).0), permit(&permits));
    }

    #[test]
    fn a_paused_lane_holds_no_permit_of_all_apps() {
        let (lane, permits) = (Lane::new(), Arc::new(Semaphore::new(2)));
        lane.put(1, permit(&permits));
        lane.put(2, permit(&permits));
        assert_eq!(permits.available_permits(), 0);
        lane.begin_turn();
        lane.pause_turn();
        assert_eq!(permits.available_permits(), 2);
        lane.put(3, permit(&permits));
        assert_eq!(permits.available_permits(), 2);
        assert!(lane.resume());
        lane.put(4, permit(&permits));
        assert_eq!(permits.available_permits(), 1);
    }

    #[test]
    fn a_paused_lane_is_scheduled_once_it_is_resumed() {
        let (lane, permits) = (Lane::new(), Arc::new(Semaphore::new(4)));
        let put = |job| lane.put(job, permit(&permits));
        assert!(put(1) && lane.begin_turn());
        lane.pause_turn();
        assert!(!put(2), "it is paused");
        lane.pause();
        assert!(lane.resume() && !put(3), "it is scheduled");
        let ended = std::thread::scope(|scope| {
            let pausing = scope.spawn(|| lane.pause());
            while !locked(&lane.waiting).is_paused {
                std::thread::yield_now();
            }
            assert!(!pausing.is_finished(), "a turn is scheduled");
            let began = lane.begin_turn();
            (began, pausing.join().is_ok())
        });
        assert_eq!(ended, (false, true), "a turn doesn't run while the lane is paused");
        assert!(lane.resume() && lane.begin_turn() && lane.end_turn(), "jobs wait");
        lane.abandon_turn();
        assert!(put(4));
    }

    #[test]
    fn no_synced_write_joins_an_unsynced_commit() {
        let lane = Lane::new();
        write(&lane, Durability::Unsynced);
        let (group, _) = lane.first().expect("a write is queued");
        assert_eq!(group, Durability::Unsynced);
        write(&lane, Durability::Synced);
        write(&lane, Durability::Unsynced);
        assert!(lane.next(group).is_none(), "the synced write came after the group began");
        let (group, _) = lane.first().expect("the synced write is queued");
        assert_eq!(group, Durability::Synced);
        assert!(lane.next(group).is_some() && lane.next(group).is_none());
    }
}
