//! The jobs that wait for a place of a pool: how one joins, whose turn is next, and what is said to whom none comes. A job
//! for which too little of its time is left has no turn any more, so that no guest begins what it can't end. Never starts
//! or ends an instance.

use super::{
    super::{
        deadline::{Deadline, Late},
        invoke::InvokeError,
        lease::Lease,
        pool_state::PoolState,
        queue::{LeaseReceiver, Queue},
        resources::{CLASSES, at, class_name},
    },
    Pool,
};
use crate::limits;
use isopod_executor::Class;
use isopod_policy::{InstanceId, retry_after};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Why a job got no instance.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{busy}, and {waiting} more wait already: at most {limit}")]
pub(crate) struct QueueFull {
    busy: String,
    waiting: u32,
    limit: String,
    /// When there should be room again, as fast as jobs end now.
    pub(crate) retry_after: Duration,
}

impl Pool {
    /// The right to run one job in the place of this instance, once the app has a core for it; none if there is no such
    /// place.
    pub(in super::super) async fn lease_of(
        self: &Arc<Self>,
        id: &InstanceId,
        bytes: u64,
        deadline: Deadline,
    ) -> Option<Result<Lease, InvokeError>> {
        let class = Class::Pull;
        let turn = {
            let mut state = self.lock();
            let (index, _) = state.slots.iter().find(|(_, slot)| slot.id == *id)?;
            if let Some(at) = state.free.iter().position(|&free| free == index)
                && self.take_core(&state, class, true)
            {
                state.free.remove(at);
                return Some(Ok(self.take(&mut state, index, class, deadline.begun(), deadline.begun()).begin()));
            }
            match self.wait(&mut state.slots[index].waiting, class, bytes, deadline) {
                Ok(turn) => turn,
                Err(full) => return Some(Err(full.into())),
            }
        };
        // A core that another of the app's pools gave back meanwhile told nobody of it.
        self.admit();
        Some(self.turn(turn, class, deadline).await)
    }

    pub(super) fn wait(
        &self,
        queue: &mut Queue,
        class: Class,
        bytes: u64,
        deadline: Deadline,
    ) -> Result<LeaseReceiver, QueueFull> {
        queue
            .join(self.queue_max, (self.resources(), class), bytes, deadline)
            .map_err(|limit| self.full(class, queue.len(), limit))
    }

    /// Gives a place back for whose instance the host had no room. Its job waits for one of those that are at work; where none
    /// is, it has nothing to wait for.
    pub(in super::super) fn requeue(
        self: &Arc<Self>,
        lease: Lease,
        bytes: u64,
        deadline: Deadline,
    ) -> Option<Result<LeaseReceiver, QueueFull>> {
        let class = lease.class;
        let mut state = self.lock();
        // The job itself is one of them.
        if state.busy.iter().sum::<u32>() <= 1 {
            return None;
        }
        state.full_until = Some(Instant::now() + limits::NO_ROOM_PAUSE);
        let queue = &mut state.queues[at(class)];
        let turn = self.wait(queue, class, bytes, deadline);
        if turn.is_ok() {
            queue.put_last_in_order();
        }
        drop(state);
        drop(lease);
        Some(turn)
    }

    /// Waits for a turn. It is given up where so little time is left by then that it would be of no use.
    pub(in super::super) async fn turn(
        &self,
        turn: LeaseReceiver,
        class: Class,
        deadline: Deadline,
    ) -> Result<Lease, InvokeError> {
        if self.resources().host().refuses_waiting() {
            return Err(InvokeError::Stopping);
        }
        match deadline.before(self.resources().cancellation().run_until_cancelled(turn)).await {
            Some(None) => return Err(InvokeError::Gone),
            Some(Some(Ok(lease))) if deadline.is_hardly_left() => drop(lease),
            Some(Some(Ok(lease))) => return Ok(lease.begin()),
            Some(Some(Err(_))) if self.resources().host().refuses_waiting() => return Err(InvokeError::Stopping),
            // Its turn would have come too late.
            Some(Some(Err(_))) | None => {}
        }
        let retry_after = self.retry_after(class, self.waiting(class));
        Err(Late { waited: deadline.waited(), limit: deadline.limit(), retry_after }.into())
    }

    /// Refuses all jobs that wait. One that joins later sees that the host refuses them.
    pub(in super::super) fn refuse_waiting(&self) {
        self.lock().clear_queues(self.resources());
    }

    /// Lets in those who wait, as far as there are cores for them: after there have become more of these.
    pub(in super::super) fn admit(self: &Arc<Self>) {
        for class in CLASSES {
            while self.admit_one(class) {}
        }
    }

    /// Lets in the one who has waited longest; false if there is none, or no core.
    pub(in super::super) fn admit_one(self: &Arc<Self>, class: Class) -> bool {
        if !self.resources().has_core(class) {
            return false;
        }
        let mut state = self.lock();
        let Some((_, slot)) = state.oldest(class) else { return false };
        if !self.take_core(&state, class, slot.is_some() || state.has_idle()) {
            return false;
        }
        let (least_left, now) = (self.least_left(&state), Instant::now());
        let waiting = match slot {
            Some(index) => &mut state.slots[index].waiting,
            None => &mut state.queues[at(class)],
        };
        let Some((turn, begun)) = waiting.next(self.resources(), class, least_left, now) else {
            self.resources().give_core_back(class);
            // All of them have left, or have no time left.
            return true;
        };
        let index = match slot {
            Some(index) => {
                state.free.retain(|&free| free != index);
                index
            }
            None => state.any_free(&self.process),
        };
        let lease = self.take(&mut state, index, class, begun, now);
        drop(state);
        // One that nobody wants any more gives its place back, for which it needs the lock.
        drop(turn.send(lease).err());
        true
    }

    /// Since when the one who has waited longest does so, of those for whom there is a place.
    pub(in super::super) fn oldest(&self, class: Class) -> Option<Instant> {
        self.lock().oldest(class).map(|(since, _)| since)
    }

    /// Gives a place to who is next, or makes it free. A lease that nobody wanted any more comes back to the caller, who
    /// drops it without the lock.
    pub(super) fn hand_on(self: &Arc<Self>, state: &mut PoolState, index: usize) -> Option<Lease> {
        let mut next = None;
        for class in CLASSES {
            // Where others of the app wait too, the core goes to who has waited longest.
            let is_alone = self.resources().waiting(class) == state.queues[at(class)].len() as usize;
            let is_there = state.slots[index].instance.is_some();
            let is_wanted = next.is_none() && is_alone && !state.queues[at(class)].is_empty();
            if is_wanted && self.take_core(state, class, is_there) {
                let (least_left, now) = (self.least_left(state), Instant::now());
                let turn = state.queues[at(class)].next(self.resources(), class, least_left, now);
                next = turn.map(|(turn, begun)| (turn, begun, class, now));
                if next.is_none() {
                    self.resources().give_core_back(class);
                }
            }
        }
        if state.queues[at(Class::Pull)].is_empty() && self.is_crowded.load(Ordering::Relaxed) {
            self.is_crowded.store(false, Ordering::Relaxed);
        }
        let Some((turn, begun, class, now)) = next else {
            match &state.slots[index] {
                slot if slot.instance.is_some() => state.free.push_back(index),
                // An id that nothing ever had stands for nothing.
                slot if !slot.has_run && slot.waiting.is_empty() => drop(state.slots.remove(index)),
                _ => state.free.push_front(index),
            }
            return None;
        };
        let lease = self.take(state, index, class, begun, now);
        turn.send(lease).err()
    }

    fn full(&self, class: Class, waiting: u32, limit: String) -> QueueFull {
        let queue = class_name(class);
        let busy = match (self.scale.max, self.resources().cores(class)) {
            (1, _) => format!("the only instance of {} is busy", self.process),
            (max, cores) if max < cores => format!("all {max} instances of {} are busy", self.process),
            (_, 1) => format!("the only core of the {queue} queue is busy"),
            (_, cores) => format!("all {cores} cores of the {queue} queue are busy"),
        };
        QueueFull { busy, waiting, limit, retry_after: self.retry_after(class, waiting) }
    }

    /// What a job that has waited must have left of its time to be begun.
    fn least_left(&self, state: &PoolState) -> Duration {
        state.work.time_required(self.program.sandbox().limits.request_timeout)
    }

    /// When there should be room behind so many who wait.
    fn retry_after(&self, class: Class, waiting: u32) -> Duration {
        retry_after(waiting, self.resources().drain(class), self.program.sandbox().limits.request_timeout)
    }
}
