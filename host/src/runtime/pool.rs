//! The places of one process type of one release, the instances in them, and the jobs that wait for one, in a queue for
//! each class. Grows at once: a job that finds no free instance gets a new one while there is a core for it. What is kept
//! afterwards is decided by the policy crate.
//!
//! ```text
//!   pull: requests, events with a reply ──> [ waiting ] ─┐ its cores at once   ┌─> place web-7f3k2: instance
//!                                                        ├──── lease ──────────┼─> place web-m2x9q: instance
//!   push: schedules, broadcasts, events ──> [ waiting ] ─┘ its cores at once   └─> place web-p4t8z: (started when leased)
//! ```
//!
//! The queues share the instances but not the cores, so that neither waits for the other. The lock is held for a push or
//! a pop, never while a guest runs. Whoever frees a place hands it to the next job in the queue, so that a waiting job
//! costs no wake-up of anybody else.

mod admission;

pub(crate) use admission::QueueFull;

use super::{
    deadline::Deadline,
    invoke::InvokeError,
    lease::{Lease, ReleasedLease},
    pool_state::PoolState,
    resources::{AppResources, CLASSES, at},
    scale_window::ScaleChange,
    slot::Seen,
};
use crate::limits;
use isopod_engine::{Instance, Patience, Program};
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

/// What all pools of one release have in common.
#[derive(Clone)]
pub(super) struct PoolContext {
    pub(super) release: Option<ReleaseNumber>,
    pub(super) isolation: Isolation,
    pub(super) resources: Arc<AppResources>,
    /// Cancelled once the release only finishes what it accepted.
    pub(super) stop: CancellationToken,
    /// Whether another release took its place, to which it may have to come back.
    pub(super) on_standby: Arc<AtomicBool>,
}

/// A process type that answers somebody: HTTP requests or events.
pub(crate) struct Pool {
    common: PoolContext,
    process: ProcessName,
    definition: Process,
    program: Program,
    scale: Scale,
    queue_max: u32,
    failures: AtomicU64,
    state: Mutex<PoolState>,
    /// Whether jobs wait that somebody waits for, to be seen without the lock.
    is_crowded: Arc<AtomicBool>,
    /// Told whenever the last lease is back.
    idle: Notify,
    /// Told whenever an instance is gone, for whoever keeps some warm.
    pub(super) ended: Notify,
}

/// What a pool has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolCounters {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

impl Pool {
    pub(super) fn new(
        common: PoolContext,
        process: ProcessName,
        definition: Process,
        program: Program,
        scale: Scale,
    ) -> Self {
        Self {
            common,
            process,
            definition,
            scale: Scale { min: scale.min, max: scale.max.max(1) },
            queue_max: program.sandbox().limits.queue_max,
            program,
            failures: AtomicU64::new(0),
            state: Mutex::new(PoolState::new(scale.min)),
            is_crowded: Arc::default(),
            idle: Notify::new(),
            ended: Notify::new(),
        }
    }

    pub(crate) fn process(&self) -> &ProcessName {
        &self.process
    }

    pub(crate) fn definition(&self) -> &Process {
        &self.definition
    }

    pub(super) fn entry(&self) -> Entry {
        self.definition.entry
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// How long a client may keep a guest waiting: at most so long while others wait for the guest's place.
    pub(super) fn patience(&self, crowded: Duration) -> Patience {
        let timeout = self.program.sandbox().limits.request_timeout;
        // Before the whole time is over, so that the client is told what was slow.
        let usual = limits::TRAFFIC_BODY_TIMEOUT.min(timeout / 2);
        Patience { usual, crowded: crowded.min(usual), is_crowded: Arc::clone(&self.is_crowded) }
    }

    /// Until when a job that comes now has to be done.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.program.sandbox().limits.request_timeout)
    }

    /// Whether a guest that was given so much of a job's time had enough of it.
    pub(super) fn had_its_time(&self, had: Duration) -> bool {
        had_enough_time(had, self.program.sandbox().limits.request_timeout)
    }

    pub(super) fn resources(&self) -> &Arc<AppResources> {
        &self.common.resources
    }

    pub(super) fn release(&self) -> Option<ReleaseNumber> {
        self.common.release
    }

    /// Takes one of the app's cores for a job, if there is one and the pool may have another instance at work. `is_there`
    /// says whether an instance waits for the job, or one is to be started.
    fn take_core(&self, state: &PoolState, class: Class, is_there: bool) -> bool {
        state.busy[at(class)] < self.scale.max
            && (is_there || state.may_start_one())
            && self.resources().take_core(class)
    }

    /// How many instances are kept even when nobody asks, while its release serves.
    pub(super) fn kept_min(&self) -> u32 {
        match self.common.isolation {
            Isolation::Reuse => self.scale.min,
            Isolation::Request => 0,
        }
    }

    /// The same as of now: who only stands by has nobody to be warm for, and starts none where others may need the room.
    pub(super) fn warm_min(&self) -> u32 {
        if self.common.on_standby.load(Ordering::Relaxed) { 0 } else { self.kept_min() }
    }

    /// Takes in an instance that nobody leased, in a place of its own.
    pub(super) fn add(&self, instance: Box<Instance>) {
        let mut state = self.lock();
        let index = state.free.iter().copied().find(|&index| state.slots[index].instance.is_none());
        let index = match index {
            Some(index) => {
                state.free.retain(|&free| free != index);
                index
            }
            None => state.make_slot(&self.process),
        };
        state.slots[index].settle(instance);
        state.free.push_back(index);
    }

    pub(super) fn scale(&self) -> Scale {
        self.scale
    }

    /// How many places have an instance or a job.
    pub(super) fn live(&self) -> u32 {
        self.lock().live()
    }

    /// The right to run one job, at once or when its turn comes. `bytes` is what the job holds while it waits. Dropping
    /// the future gives the turn to the next.
    pub(super) async fn lease(
        self: &Arc<Self>,
        class: Class,
        bytes: u64,
        deadline: Deadline,
    ) -> Result<Lease, InvokeError> {
        let turn = {
            let mut state = self.lock();
            let is_next = state.queues[at(class)].is_empty();
            if is_next && self.take_core(&state, class, state.has_idle()) {
                let index = state.any_free(&self.process);
                return Ok(self.take(&mut state, index, class, deadline.begun(), deadline.begun()).begin());
            }
            let turn = self.wait(&mut state.queues[at(class)], class, bytes, deadline)?;
            if class == Class::Pull {
                self.is_crowded.store(true, Ordering::Relaxed);
            }
            turn
        };
        // A core that another of the app's pools gave back meanwhile told nobody of it.
        self.admit();
        self.turn(turn, class, deadline).await
    }

    /// The right to use an instance that has nothing to do; none if there is none.
    pub(super) fn lease_idle(self: &Arc<Self>) -> Option<Lease> {
        let mut state = self.lock();
        let at = state.free.iter().rposition(|&index| state.slots[index].instance.is_some())?;
        let index = state.free.remove(at)?;
        self.resources().take_any_core(Class::Pull);
        let now = Instant::now();
        // It counts as no request.
        Some(self.take(&mut state, index, Class::Pull, now, now))
    }

    /// Ends an instance after what it is doing; a new one takes its place and its id. False if there is none.
    pub(super) fn restart(&self, id: &InstanceId) -> bool {
        let ended = {
            let mut state = self.lock();
            let Some((index, _)) = state.slots.iter().find(|(_, slot)| slot.id == *id) else { return false };
            let slot = &mut state.slots[index];
            slot.restarts += 1;
            slot.is_recycled = slot.is_busy;
            slot.instance.take()
        };
        drop(ended);
        self.ended.notify_one();
        true
    }

    /// Ends the instances that have nothing to do, and says how many: new ones take their places and their ids.
    pub(super) fn renew_idle(&self) -> usize {
        let mut state = self.lock();
        let PoolState { slots, free, .. } = &mut *state;
        let ended: Vec<_> = free.iter().filter_map(|&index| slots[index].renew()).collect();
        drop(state);
        ended.len()
    }

    /// Notes what a new instance in a place has of memory.
    pub(super) fn started(&self, index: usize, memory_bytes: usize) {
        if let Some(slot) = self.lock().slots.get_mut(index) {
            slot.memory_bytes = memory_bytes;
        }
    }

    /// Ends one instance that has nothing to do; false if there is none.
    pub(super) fn evict_idle(&self) -> bool {
        let ended = self.lock().evict_idle();
        ended.is_some()
    }

    /// Ends one instance that has nothing to do and that is kept for nothing but the next job; false if there is none.
    pub(super) fn evict_spare(&self) -> bool {
        let mut state = self.lock();
        if state.live() <= self.warm_min() {
            return false;
        }
        let ended = state.evict_idle();
        drop(state);
        ended.is_some()
    }

    /// Waits until no lease is out and no job waits.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if !self.is_busy() {
                return;
            }
            idle.await;
        }
    }

    /// Whether a job runs or waits.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        state.busy != [0; 2] || CLASSES.into_iter().any(|class| state.waiting(class) > 0)
    }

    /// How many jobs of a class wait here.
    pub(super) fn waiting(&self, class: Class) -> u32 {
        self.lock().waiting(class)
    }

    /// Ends instances that the load of the last minute had no need of, and tells how its size has changed since it last
    /// told.
    pub(super) fn look(&self, now: Instant, window: Duration) -> Option<ScaleChange> {
        if self.scale.is_fixed() || self.common.isolation == Isolation::Request {
            return None;
        }
        let mut ended = Vec::new();
        let mut state = self.lock();
        let busy = state.busy.iter().sum();
        state.size.go_on(busy, now, window);
        let kept = state.size.needed(self.scale);
        while state.live() > kept {
            match state.evict_idle() {
                Some(slot) => ended.push(slot),
                None => break,
            }
        }
        let to = state.live();
        let (from, peak) = state.size.tell(to, now, window)?;
        let (process, waiting) = (self.process.clone(), CLASSES.into_iter().map(|class| state.waiting(class)).sum());
        Some(ScaleChange { process, scale: self.scale, from, to, needed: kept, peak, waiting })
    }

    /// How its size was told last, if it changes by itself and is not none.
    pub(super) fn size(&self) -> Option<ScaleChange> {
        let from = self.lock().size.told();
        let changes = !self.scale.is_fixed() && self.common.isolation == Isolation::Reuse && from > 0;
        let process = self.process.clone();
        changes.then_some(ScaleChange { process, scale: self.scale, from, to: 0, needed: 0, peak: 0, waiting: 0 })
    }

    /// How many instances its load has need of lately, where there may be as many as `scale` says.
    pub(super) fn needed(&self, scale: Scale) -> u32 {
        self.lock().size.needed(scale)
    }

    /// Takes over the load of another pool.
    pub(super) fn take_over(&self, before: &Self) {
        let size = before.lock().size;
        let mut state = self.lock();
        state.size = size.taken_over(state.live());
    }

    pub(super) fn has(&self, id: &InstanceId) -> bool {
        self.lock().slots.iter().any(|(_, slot)| slot.id == *id)
    }

    /// What stands in each place.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let state = self.lock();
        let slots = state.slots.iter().map(|(_, slot)| slot);
        if self.common.stop.is_cancelled() {
            let busy = slots.filter(|slot| slot.is_busy);
            return busy.map(|slot| Seen { state: "stopping", ..slot.seen(false) }).collect();
        }
        let is_kept = state.live() < self.warm_min();
        slots.map(|slot| slot.seen(is_kept)).collect()
    }

    pub(super) fn tally(&self) -> PoolCounters {
        PoolCounters { requests: self.lock().requests, failures: self.failures.load(Ordering::Relaxed) }
    }

    /// Notes how long a job took whose place stays taken.
    pub(super) fn note_work(&self, worked: Duration) {
        self.lock().work.note(worked);
    }

    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The right to use a place from `taken` on, for a job that came at `begun` and has not begun yet.
    fn take(
        self: &Arc<Self>,
        state: &mut PoolState,
        index: usize,
        class: Class,
        begun: Instant,
        taken: Instant,
    ) -> Lease {
        state.busy[at(class)] += 1;
        let running = state.busy.iter().sum();
        state.size.note(running);
        let slot = &mut state.slots[index];
        slot.is_busy = true;
        let instance = slot.instance.take();
        Lease {
            pool: Some(Arc::clone(self)),
            index,
            is_untouched: instance.is_none(),
            instance,
            class,
            begun,
            taken,
            spent: slot.spent.clone(),
            counts: false,
            has_answered: false,
        }
    }

    pub(super) fn give_back(self: &Arc<Self>, returned: ReleasedLease) {
        let ReleasedLease { index, instance, class, counts, worked, is_untouched } = returned;
        let instance = instance.filter(|_| self.common.isolation == Isolation::Reuse);
        let mut state = self.lock();
        state.busy[at(class)] -= 1;
        self.resources().give_core_back(class);
        state.requests += u64::from(counts);
        worked.iter().for_each(|&worked| state.work.note(worked));
        let slot = &mut state.slots[index];
        slot.is_busy = false;
        slot.requests += u64::from(counts);
        slot.has_run |= !is_untouched;
        let doomed = std::mem::take(&mut slot.is_recycled);
        let (instance, ended) = if doomed { (None, instance) } else { (instance, None) };
        match &instance {
            Some(instance) => slot.memory_bytes = instance.memory_bytes(),
            // Nothing of it has ended.
            None if is_untouched => {}
            None => slot.left_empty(self.common.isolation),
        }
        let is_gone = instance.is_none();
        slot.instance = instance;
        if is_gone && !is_untouched {
            // Where it was there is room.
            state.full_until = None;
        }
        let unwanted = self.hand_on(&mut state, index);
        if state.busy == [0; 2] {
            self.idle.notify_waiters();
        }
        drop(state);
        drop(ended);
        drop(unwanted);
        self.resources().admit_all();
        if is_gone && self.warm_min() > 0 {
            self.ended.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Those who left stand in the queues until somebody looks.
        let (state, resources) = (self.state.get_mut().unwrap_or_else(PoisonError::into_inner), &self.common.resources);
        state.clear_queues(resources);
    }
}
