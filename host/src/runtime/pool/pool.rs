//! The slots of one process type of one release, their instances, and one queue of waiting jobs per
//! class. Grows immediately: a job that finds no idle instance gets a new one while the app has a
//! free core. Never decides how many instances to keep: that is the policy crate's part.
//!
//! ```text
//!  pull: requests, events with reply ─> [ queue ] ─┐ at most its cores ┌─> web-7f3k2: instance
//!                                                  ├──── lease ────────┼─> web-m2x9q: instance
//!  push: schedules, broadcasts ───────> [ queue ] ─┘ at most its cores └─> web-p4t8z: empty slot
//! ```
//!
//! The two queues share the instances but not the cores, so neither delays the other. The lock is
//! held to enqueue or dequeue a job, never while a guest runs. A job that returns its slot passes
//! it directly to the next queued job, so that no third task has to wake.

use super::{
    lease::{Lease, Lessor, ReleasedLease},
    scale_window::ScaleChange,
    slot::Slot,
    state::PoolState,
};
use crate::{
    runtime::limits,
    runtime::{
        class::{CLASSES, class_index},
        deadline::Deadline,
        error::InvokeError,
        resources::{AppResources, Evict, Occupied, SlotId},
        status::InstanceStatus,
    },
};
use isopod_engine::{Instance, Program, StallTimeout};
use isopod_executor::Class;
use isopod_policy::{Entry, InstanceId, Isolation, Process, ProcessName, ReleaseNumber, Scale, had_enough_time};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The properties that all pools of one release share.
#[derive(Clone)]
pub(crate) struct PoolContext {
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) isolation: Isolation,
    pub(crate) resources: Arc<AppResources>,
    /// Cancelled when the release starts to drain.
    pub(crate) stop: CancellationToken,
    /// Whether the release is on standby: another release serves, and a rollback may return to this
    /// one.
    pub(crate) on_standby: Arc<AtomicBool>,
}

/// The instances of a process type that takes HTTP requests or events.
pub(crate) struct Pool {
    context: PoolContext,
    pub(super) process: ProcessName,
    definition: Process,
    pub(super) program: Program,
    pub(super) scale: Scale,
    pub(super) queue_max: u32,
    failures: AtomicU64,
    state: Mutex<PoolState>,
    /// Whether pull jobs are queued. Readable without the lock.
    pub(super) is_crowded: Arc<AtomicBool>,
    /// Notified when the last lease is returned.
    idle: Notify,
    /// Notified when an instance has ended, for the supervisor of the warm instances.
    pub(crate) instance_ended: Notify,
}

/// Counters of a pool since its creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolCounters {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

impl PoolCounters {
    /// Returns what was counted after these earlier counters were read.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
        }
    }
}

impl Pool {
    pub(crate) fn new(
        context: PoolContext,
        process: ProcessName,
        definition: Process,
        program: Program,
        scale: Scale,
    ) -> Self {
        Self {
            context,
            process,
            definition,
            scale: Scale { min: scale.min, max: scale.max.max(1) },
            queue_max: program.sandbox().limits.queue_max,
            program,
            failures: AtomicU64::new(0),
            state: Mutex::new(PoolState::new(scale.min)),
            is_crowded: Arc::default(),
            idle: Notify::new(),
            instance_ended: Notify::new(),
        }
    }

    pub(crate) fn process(&self) -> &ProcessName {
        &self.process
    }

    pub(crate) fn definition(&self) -> &Process {
        &self.definition
    }

    pub(crate) fn entry(&self) -> Entry {
        self.definition.entry
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Returns how long a client may keep a guest waiting. `crowded` is the limit while other jobs
    /// wait for the guest's slot.
    pub(crate) fn stall_timeout(&self, crowded: Duration) -> StallTimeout {
        let timeout = self.program.sandbox().limits.request_timeout;
        // Less than the whole timeout, so that the client gets an error that names its own
        // slowness.
        let usual = limits::TRAFFIC_BODY_TIMEOUT.min(timeout / 2);
        StallTimeout { usual, crowded: crowded.min(usual), is_crowded: Arc::clone(&self.is_crowded) }
    }

    /// Returns the deadline of a job that arrives now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.program.sandbox().limits.request_timeout)
    }

    /// Returns whether `available` was enough time for a guest, so that its timeout counts as a
    /// failure.
    pub(crate) fn had_enough_time(&self, available: Duration) -> bool {
        had_enough_time(available, self.program.sandbox().limits.request_timeout)
    }

    pub(crate) fn resources(&self) -> &Arc<AppResources> {
        &self.context.resources
    }

    pub(crate) fn release(&self) -> Option<ReleaseNumber> {
        self.context.release
    }

    /// Acquires one of the app's cores for a job. Fails if no core is free, if the class already
    /// leases the maximum number of slots, or if an instance would have to start and none may start
    /// now. `is_ready` states whether the job's slot has an instance, or may get one in any case.
    pub(super) fn acquire_core(&self, state: &PoolState, class: Class, is_ready: bool) -> bool {
        state.busy[class_index(class)] < self.scale.max
            && (is_ready || state.may_start_instance())
            && self.resources().acquire_core(class)
    }

    /// Returns the minimum number of instances while the release serves, with or without load.
    pub(crate) fn serving_min(&self) -> u32 {
        match self.context.isolation {
            Isolation::Reuse => self.scale.min,
            Isolation::Request => 0,
        }
    }

    /// Returns the current warm minimum. Zero while the release is on standby: it receives no
    /// traffic, and other apps may need the slots.
    pub(crate) fn warm_min(&self) -> u32 {
        if self.context.on_standby.load(Ordering::Relaxed) { 0 } else { self.serving_min() }
    }

    /// Adds a started instance, in an empty free slot or in a new slot.
    pub(crate) fn add_instance(&self, mut instance: Box<Instance>) {
        let mut state = self.lock();
        let index = state.free.iter().copied().find(|&index| state.slots[index].is_empty());
        let index = match index {
            Some(index) => {
                state.free.retain(|&free| free != index);
                index
            }
            None => state.create_slot(&self.process),
        };
        instance.set_id(state.slots[index].record.id.as_str());
        state.slots[index].fill(instance);
        state.free.push_back(index);
    }

    pub(crate) fn scale(&self) -> Scale {
        self.scale
    }

    /// Returns the number of slots that have an instance or a lease.
    pub(crate) fn live(&self) -> u32 {
        self.lock().live()
    }

    /// Leases a slot for one job if no job is queued and a slot is available now.
    pub(crate) fn try_lease(self: &Arc<Self>, class: Class, deadline: Deadline) -> Option<Lease> {
        let mut state = self.lock();
        let is_ready = state.has_idle();
        self.lease_now(&mut state, class, deadline, is_ready)
    }

    /// Leases a slot for the event of a waiting call. The job may try to start an instance even if
    /// the host recently had no room for one. Only a failed attempt shows whether the calls would
    /// wait for each other.
    pub(crate) fn try_lease_asked(self: &Arc<Self>, deadline: Deadline) -> Option<Lease> {
        self.lease_now(&mut self.lock(), Class::Pull, deadline, true)
    }

    fn lease_now(
        self: &Arc<Self>,
        state: &mut PoolState,
        class: Class,
        deadline: Deadline,
        is_ready: bool,
    ) -> Option<Lease> {
        let is_queue_empty = state.queues[class_index(class)].is_empty();
        if !is_queue_empty || !self.acquire_core(state, class, is_ready) {
            return None;
        }
        let index = state.take_free(&self.process);
        let arrived = deadline.arrived();
        Some(self.lease_slot(state, index, class, arrived, arrived).start())
    }

    /// Leases a slot for one job, immediately or after a wait in the queue. `bytes` is the size of
    /// the job's body, which counts against the queue's limit. Dropping the future leaves the
    /// queue: the next job gets the slot.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        class: Class,
        bytes: u64,
        deadline: Deadline,
    ) -> Result<Lease, InvokeError> {
        let receiver = {
            let mut state = self.lock();
            let is_ready = state.has_idle();
            if let Some(lease) = self.lease_now(&mut state, class, deadline, is_ready) {
                return Ok(lease);
            }
            let receiver = self.enqueue(&mut state.queues[class_index(class)], class, bytes, deadline)?;
            if class == Class::Pull {
                self.is_crowded.store(true, Ordering::Relaxed);
            }
            receiver
        };
        // Another pool of the app may have released a core just before this job was enqueued, when
        // it had no job to admit.
        self.admit();
        self.wait_for_lease(receiver, class, deadline).await
    }

    /// Leases an idle instance for a health check. `None` if no instance is idle.
    pub(crate) fn lease_idle(self: &Arc<Self>) -> Option<Lease> {
        let mut state = self.lock();
        let position = state.free.iter().rposition(|&index| state.slots[index].is_idle())?;
        let index = state.free.remove(position)?;
        self.resources().acquire_extra_core(Class::Pull);
        let now = Instant::now();
        // The lease isn't started, so it doesn't count as a request.
        Some(self.lease_slot(&mut state, index, Class::Pull, now, now))
    }

    /// Ends an instance after its current job; the next instance gets its slot and its id. Returns
    /// false if there is no such instance.
    pub(crate) fn restart(&self, id: &InstanceId) -> bool {
        let recycled = {
            let mut state = self.lock();
            let Some((index, _)) = state.slots.iter().find(|(_, slot)| slot.record.id == *id) else { return false };
            state.slots[index].restart()
        };
        drop(recycled);
        self.instance_ended.notify_one();
        true
    }

    /// Ends all idle instances and returns their number. New instances get their slots and their
    /// ids.
    pub(crate) fn recycle_idle(&self) -> usize {
        let mut state = self.lock();
        let PoolState { slots, free, .. } = &mut *state;
        let recycled: Vec<_> = free.iter().filter_map(|&index| slots[index].recycle()).collect();
        drop(state);
        recycled.len()
    }

    /// Evicts one idle instance. Returns false if no instance is idle.
    pub(crate) fn evict_idle(&self) -> bool {
        let evicted = self.lock().evict_idle();
        evicted.is_some()
    }

    /// Waits until no slot is leased and no job is queued.
    pub(crate) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if !self.is_busy() {
                return;
            }
            idle.await;
        }
    }

    /// Returns whether a job runs or is queued.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.lock();
        state.busy != [0; 2] || CLASSES.into_iter().any(|class| state.waiting(class) > 0)
    }

    /// Evicts instances that the load of the stable window doesn't need. Returns the change of the
    /// pool's size since the last report, if a report is due.
    pub(crate) fn update_scale(&self, now: Instant, window: Duration) -> Option<ScaleChange> {
        if self.scale.is_fixed() || self.context.isolation == Isolation::Request {
            return None;
        }
        let mut evicted = Vec::new();
        let mut state = self.lock();
        let busy = state.busy.iter().sum();
        state.window.advance(busy, now, window);
        let needed = state.window.needed(self.scale);
        while state.live() > needed {
            match state.evict_idle() {
                Some(slot) => evicted.push(slot),
                None => break,
            }
        }
        let to = state.live();
        let (from, peak) = state.window.report(to, now, window)?;
        let (process, waiting) = (self.process.clone(), CLASSES.into_iter().map(|class| state.waiting(class)).sum());
        Some(ScaleChange { process, scale: self.scale, from, to, needed, peak, waiting })
    }

    /// Returns the change to zero instances that a freeze causes, from the last reported size.
    /// `None` if the size is fixed, zero, or given by single-use instances.
    pub(crate) fn freeze_change(&self) -> Option<ScaleChange> {
        let from = self.lock().window.reported();
        let changes = !self.scale.is_fixed() && self.context.isolation == Isolation::Reuse && from > 0;
        let process = self.process.clone();
        changes.then_some(ScaleChange { process, scale: self.scale, from, to: 0, needed: 0, peak: 0, waiting: 0 })
    }

    /// Returns the number of instances that the recent load needs, within `scale`.
    pub(crate) fn needed(&self, scale: Scale) -> u32 {
        self.lock().window.needed(scale)
    }

    /// Takes over the measured load of the replaced pool.
    pub(crate) fn inherit_load(&self, previous: &Self) {
        let window = previous.lock().window;
        let mut state = self.lock();
        state.window = window.inherited(state.live());
    }

    /// Returns whether the holder of an idle instance must return it: jobs of any release wait, the
    /// release drains, or the instance is to be replaced. Ignores jobs whose callers have gone.
    pub(crate) fn reclaims(&self, index: usize) -> bool {
        let is_recycled = self.lock().slots.get(index).is_some_and(Slot::is_recycled);
        is_recycled || self.is_draining() || self.resources().waiting_since(Class::Pull).is_some()
    }

    /// Returns whether the release drains: it takes no further jobs.
    pub(crate) fn is_draining(&self) -> bool {
        self.context.stop.is_cancelled()
    }

    pub(crate) fn has(&self, id: &InstanceId) -> bool {
        self.lock().slots.iter().any(|(_, slot)| slot.record.id == *id)
    }

    /// Returns the status of each slot.
    pub(crate) fn statuses(&self) -> Vec<InstanceStatus> {
        let state = self.lock();
        let slots = state.slots.iter().map(|(_, slot)| slot);
        if self.is_draining() {
            let busy = slots.filter(|slot| slot.is_leased());
            return busy.map(|slot| InstanceStatus { state: "stopping", ..slot.status(false) }).collect();
        }
        let is_supervised = state.live() < self.warm_min();
        slots.map(|slot| slot.status(is_supervised)).collect()
    }

    pub(crate) fn counters(&self) -> PoolCounters {
        PoolCounters { requests: self.lock().requests, failures: self.failures.load(Ordering::Relaxed) }
    }

    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Leases a slot, from `admitted` on, to a job that arrived at `arrived` and hasn't started
    /// yet.
    pub(super) fn lease_slot(
        self: &Arc<Self>,
        state: &mut PoolState,
        index: usize,
        class: Class,
        arrived: Instant,
        admitted: Instant,
    ) -> Lease {
        state.busy[class_index(class)] += 1;
        let busy = state.busy.iter().sum();
        state.window.note(busy);
        let slot = &mut state.slots[index];
        let instance = slot.lease(class);
        let lessor = Arc::clone(self);
        Lease {
            lessor: Some(lessor),
            index,
            id: slot.record.id.clone(),
            is_unused: instance.is_none(),
            is_replaced: false,
            instance,
            class,
            arrived,
            admitted,
            cpu: slot.record.cpu.clone(),
            counts_as_request: false,
            has_responded: false,
            has_completed: false,
        }
    }

    /// Identifies a slot while it is leased.
    pub(crate) fn slot_id(&self, index: usize) -> SlotId {
        SlotId { pool: self.id(), index }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lessor for Pool {
    fn program(&self) -> &Program {
        Self::program(self)
    }

    fn resources(&self) -> &AppResources {
        Self::resources(self)
    }

    fn note_started(&self, index: usize, memory_bytes: usize) {
        if let Some(slot) = self.lock().slots.get_mut(index) {
            slot.record.memory_bytes = memory_bytes;
        }
    }

    fn note_work(&self, duration: Duration) {
        self.lock().durations.note(duration);
    }

    fn return_slot(self: Arc<Self>, returned: ReleasedLease) {
        let ReleasedLease { index, instance, class, counts_as_request, duration, is_unused, is_replaced } = returned;
        let instance = instance.filter(|_| self.context.isolation == Isolation::Reuse);
        let mut state = self.lock();
        let busy = &mut state.busy[class_index(class)];
        debug_assert!(*busy > 0, "a returned slot was leased");
        *busy -= 1;
        self.resources().release_core(class);
        state.requests += u64::from(counts_as_request);
        duration.iter().for_each(|&duration| state.durations.note(duration));
        let slot = &mut state.slots[index];
        slot.record.requests += u64::from(counts_as_request);
        let is_planned = is_replaced && !slot.is_recycled();
        let recycled = slot.end_lease(instance);
        let is_empty = slot.is_empty();
        // The slot of an unused lease had no instance, so none has ended.
        if is_empty && !is_unused {
            slot.record.note_end(self.context.isolation, is_planned);
            // The instance that ended has freed room on the host.
            state.no_room_until = None;
        }
        let undelivered = self.reassign_slot(&mut state, index);
        if state.busy == [0; 2] {
            self.idle.notify_waiters();
        }
        drop(state);
        drop(recycled);
        drop(undelivered);
        self.resources().admit_all();
        if is_empty && self.warm_min() > 0 {
            self.instance_ended.notify_one();
        }
    }
}

impl Occupied for Pool {
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn all_leased(&self) -> Option<Vec<SlotId>> {
        let state = self.lock();
        if state.busy[class_index(Class::Pull)] < self.scale.max {
            return None;
        }
        let leased = state.slots.iter().filter(|(_, slot)| slot.is_leased_by(Class::Pull));
        Some(leased.map(|(index, _)| self.slot_id(index)).collect())
    }

    fn leased_unless_idle(&self) -> Option<Vec<SlotId>> {
        let state = self.lock();
        if state.has_idle() {
            return None;
        }
        let leased = state.slots.iter().filter(|(_, slot)| slot.is_leased());
        Some(leased.map(|(index, _)| self.slot_id(index)).collect())
    }
}

impl Evict for Pool {
    fn entry(&self) -> Entry {
        Self::entry(self)
    }

    fn program(&self) -> &Program {
        Self::program(self)
    }

    fn live(&self) -> u32 {
        Self::live(self)
    }

    fn evict_idle(&self) -> bool {
        Self::evict_idle(self)
    }

    fn evict_spare(&self) -> bool {
        let mut state = self.lock();
        if state.live() <= self.warm_min() {
            return false;
        }
        let evicted = state.evict_idle();
        drop(state);
        evicted.is_some()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Cancelled jobs remain in the queues until they are dequeued: release their counts and
        // bytes.
        let (state, resources) =
            (self.state.get_mut().unwrap_or_else(PoisonError::into_inner), &self.context.resources);
        state.clear_queues(resources);
    }
}
