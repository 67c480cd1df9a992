//! Admission of jobs to a pool's slots: enqueues jobs, admits them in order of arrival, and refuses
//! those that can't start in time. A job with too little time left isn't admitted, so that no guest
//! starts work that it can't complete. Never starts or ends an instance.

use super::{
    lease::Lease,
    pool::Pool,
    queue::{LeaseReceiver, Queue},
    state::PoolState,
};
use crate::{
    runtime::limits,
    runtime::{
        class::{CLASSES, class_index, class_name},
        deadline::Deadline,
        error::{InvokeError, QueueFull, QueueTimeout},
        resources::{Admit, SlotId},
    },
};
use isopod_executor::Class;
use isopod_policy::{InstanceId, retry_after};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

impl Pool {
    /// Leases the slot of a given instance for one job, once the app has a core for it. `None` if
    /// there is no such instance.
    pub(crate) async fn lease_instance(
        self: &Arc<Self>,
        id: &InstanceId,
        bytes: u64,
        deadline: Deadline,
    ) -> Option<Result<Lease, InvokeError>> {
        let class = Class::Pull;
        let receiver = {
            let mut state = self.lock();
            let (index, _) = state.slots.iter().find(|(_, slot)| slot.record.id == *id)?;
            if let Some(position) = state.free.iter().position(|&free| free == index)
                && self.acquire_core(&state, class, true)
            {
                state.free.remove(position);
                let arrived = deadline.arrived();
                return Some(Ok(self.lease_slot(&mut state, index, class, arrived, arrived).start()));
            }
            match self.enqueue(&mut state.slots[index].waiting, class, bytes, deadline) {
                Ok(receiver) => receiver,
                Err(full) => return Some(Err(full.into())),
            }
        };
        // Another pool of the app may have released a core just before this job was enqueued, when
        // it had no job to admit.
        self.admit();
        Some(self.wait_for_lease(receiver, class, deadline).await)
    }

    pub(super) fn enqueue(
        &self,
        queue: &mut Queue,
        class: Class,
        bytes: u64,
        deadline: Deadline,
    ) -> Result<LeaseReceiver, QueueFull> {
        queue
            .enqueue(self.queue_max, (self.resources(), class), bytes, deadline)
            .map_err(|limit| self.queue_full(class, queue.len(), limit))
    }

    /// Enqueues a job again, in order of arrival, after the host had no room for its instance, and
    /// returns its slot. `None` if no instance of the pool can become free: the job would never
    /// start. `caller` is the slot of the call that waits for the job.
    pub(crate) fn requeue(
        self: &Arc<Self>,
        lease: Lease,
        caller: Option<SlotId>,
        bytes: u64,
        deadline: Deadline,
    ) -> Option<Result<LeaseReceiver, QueueFull>> {
        let class = lease.class;
        self.lock().no_room_until = Some(Instant::now() + limits::NO_ROOM_PAUSE);
        // The slot is returned before the search. Otherwise, several jobs that find no room at the
        // same time would count each other's slots as slots that can become free.
        drop(lease);
        if self.resources().host().waits().wait_for_instance(caller, Arc::<Self>::clone(self)).is_err() {
            // The next queued job may have to fail for the same reason.
            self.lock().no_room_until = None;
            self.admit();
            return None;
        }
        let mut state = self.lock();
        let queue = &mut state.queues[class_index(class)];
        let receiver = self.enqueue(queue, class, bytes, deadline);
        if receiver.is_ok() {
            queue.sort_last();
        }
        drop(state);
        // An instance may have become free before this job was enqueued.
        self.admit();
        Some(receiver)
    }

    /// Waits until the job gets its lease. Fails if the deadline expires, the app is destroyed, the
    /// host stops, or the lease arrives with too little time left.
    pub(crate) async fn wait_for_lease(
        &self,
        receiver: LeaseReceiver,
        class: Class,
        deadline: Deadline,
    ) -> Result<Lease, InvokeError> {
        if self.resources().host().refuses_waiting() {
            return Err(InvokeError::Stopping);
        }
        match deadline.wait_for(self.resources().cancellation().run_until_cancelled(receiver)).await {
            Some(None) => return Err(InvokeError::Destroyed),
            Some(Some(Ok(lease))) if deadline.is_nearly_expired() => drop(lease),
            Some(Some(Ok(lease))) => return Ok(lease.start()),
            Some(Some(Err(_))) if self.resources().host().refuses_waiting() => return Err(InvokeError::Stopping),
            // The job was dequeued with too little time left, or its deadline expired.
            Some(Some(Err(_))) | None => {}
        }
        let retry_after = self.retry_after(class, self.waiting(class));
        Err(QueueTimeout { waited: deadline.waited(), limit: deadline.limit(), retry_after }.into())
    }

    /// Admits queued jobs while the app has free cores for them.
    pub(crate) fn admit(self: &Arc<Self>) {
        for class in CLASSES {
            while Arc::clone(self).admit_one(class) {}
        }
    }

    /// Passes a slot directly to the next queued job, or marks it as free. Returns the lease if its
    /// job was cancelled meanwhile; the caller drops it after it has released the lock.
    pub(super) fn reassign_slot(self: &Arc<Self>, state: &mut PoolState, index: usize) -> Option<Lease> {
        let mut next = None;
        for class in CLASSES {
            // If jobs are also queued elsewhere in the app, the core goes to the job that has
            // waited longest, which `AppResources::admit_all` finds.
            let is_only_queue = self.resources().waiting(class) == state.queues[class_index(class)].len() as usize;
            let has_instance = state.slots[index].is_idle();
            let can_take = next.is_none() && is_only_queue && !state.queues[class_index(class)].is_empty();
            if can_take && self.acquire_core(state, class, has_instance) {
                let (time_required, now) = (self.time_required(state), Instant::now());
                let sender = state.queues[class_index(class)].dequeue(self.resources(), class, time_required, now);
                next = sender.map(|(sender, arrived)| (sender, arrived, class, now));
                if next.is_none() {
                    self.resources().release_core(class);
                }
            }
        }
        if state.queues[class_index(Class::Pull)].is_empty() && self.is_crowded.load(Ordering::Relaxed) {
            self.is_crowded.store(false, Ordering::Relaxed);
        }
        let Some((sender, arrived, class, now)) = next else {
            match &state.slots[index] {
                slot if slot.is_idle() => state.free.push_back(index),
                slot if !slot.was_used() && slot.waiting.is_empty() => drop(state.slots.remove(index)),
                _ => state.free.push_front(index),
            }
            return None;
        };
        let lease = self.lease_slot(state, index, class, arrived, now);
        sender.send(lease).err()
    }

    fn queue_full(&self, class: Class, waiting: u32, limit: String) -> QueueFull {
        let queue = class_name(class);
        let busy = match (self.scale.max, self.resources().cores(class)) {
            (1, _) => format!("the only instance of {} is busy", self.process),
            (max, cores) if max < cores => format!("all {max} instances of {} are busy", self.process),
            (_, 1) => format!("the only core of the {queue} queue is busy"),
            (_, cores) => format!("all {cores} cores of the {queue} queue are busy"),
        };
        QueueFull { busy, waiting, limit, retry_after: self.retry_after(class, waiting) }
    }

    /// Returns the time that a queued job must have left to be started.
    fn time_required(&self, state: &PoolState) -> Duration {
        state.durations.time_required(self.program.sandbox().limits.request_timeout)
    }

    /// Returns when a client should retry, given the number of queued jobs.
    fn retry_after(&self, class: Class, waiting: u32) -> Duration {
        retry_after(waiting, self.resources().service_rate(class), self.program.sandbox().limits.request_timeout)
    }
}

impl Admit for Pool {
    fn waiting(&self, class: Class) -> u32 {
        self.lock().waiting(class)
    }

    fn waiting_since(&self, class: Class) -> Option<Instant> {
        self.lock().waiting_since(class)
    }

    /// Returns the arrival of the job that has waited longest, except jobs that are pinned to a
    /// leased slot.
    fn oldest(&self, class: Class) -> Option<Instant> {
        self.lock().oldest(class).map(|(since, _)| since)
    }

    /// Admits the job that has waited longest. Returns false if there is no such job, or no core
    /// for it.
    fn admit_one(self: Arc<Self>, class: Class) -> bool {
        if !self.resources().has_core(class) {
            return false;
        }
        let mut state = self.lock();
        let Some((_, slot)) = state.oldest(class) else { return false };
        if !self.acquire_core(&state, class, slot.is_some() || state.has_idle()) {
            return false;
        }
        let (time_required, now) = (self.time_required(&state), Instant::now());
        let waiting = match slot {
            Some(index) => &mut state.slots[index].waiting,
            None => &mut state.queues[class_index(class)],
        };
        let Some((sender, arrived)) = waiting.dequeue(self.resources(), class, time_required, now) else {
            self.resources().release_core(class);
            // All jobs of this queue were cancelled or have too little time left.
            return true;
        };
        let index = match slot {
            Some(index) => {
                state.free.retain(|&free| free != index);
                index
            }
            None => state.take_free(&self.process),
        };
        let lease = self.lease_slot(&mut state, index, class, arrived, now);
        drop(state);
        // Dropping the lease of a cancelled job returns its slot, which takes the lock again.
        drop(sender.send(lease).err());
        true
    }

    /// Refuses all queued jobs. A job that is enqueued later sees that the host refuses it.
    fn refuse_waiting(&self) {
        self.lock().clear_queues(self.resources());
    }
}
