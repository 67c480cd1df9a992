//! The places of one process type of one release, the instances in them, and the jobs that wait for one. Decides
//! nothing about scale: it makes a place when a job finds none free and the maximum allows one more.
//!
//! The lock is held for a push or a pop, never while a guest runs. Whoever frees a place hands it to the next job in
//! the queue, so that a waiting job costs no wake-up of anybody else.

use super::place::{Place, Seen};
use isopod_engine::{Fault, Instance, Program};
use isopod_policy::{Entry, InstanceId, Isolation, Process, ProcessName, Scale};
use slab::Slab;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// A process type that answers somebody: HTTP requests or events.
pub(crate) struct Pool {
    process: ProcessName,
    definition: Process,
    program: Program,
    isolation: Isolation,
    scale: Scale,
    queue_max: u32,
    failures: AtomicU64,
    state: Mutex<State>,
    /// Told whenever the last lease is back.
    idle: Notify,
    /// Told whenever an instance is gone, for whoever keeps some warm.
    pub(super) ended: Notify,
}

#[derive(Default)]
struct State {
    places: Slab<Place>,
    /// Places that nobody leases. Those with an instance are taken from the back, those without stand in front.
    free: VecDeque<usize>,
    /// Leases given out.
    busy: u32,
    waiting: VecDeque<oneshot::Sender<Lease>>,
    requests: u64,
}

/// Why a job got no instance.
#[derive(Debug, thiserror::Error)]
#[error("all {instances} instances are busy and {waiting} more jobs wait already")]
pub(crate) struct QueueFull {
    instances: u32,
    waiting: u32,
}

/// What a pool has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

impl Pool {
    pub(super) fn new(
        process: ProcessName,
        definition: Process,
        program: Program,
        isolation: Isolation,
        scale: Scale,
    ) -> Self {
        Self {
            process,
            definition,
            isolation,
            scale: Scale { min: scale.min, max: scale.max.max(1) },
            queue_max: program.sandbox().limits.queue_max,
            program,
            failures: AtomicU64::new(0),
            state: Mutex::default(),
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

    /// How many instances are kept even when nobody asks.
    pub(super) fn warm_min(&self) -> u32 {
        match self.isolation {
            Isolation::Reuse => self.scale.min,
            Isolation::Request => 0,
        }
    }

    /// Takes in an instance that nobody leased, in a place of its own.
    pub(super) fn add(&self, instance: Box<Instance>) {
        let mut state = self.lock();
        let index = state.free.iter().copied().find(|&index| state.places[index].instance.is_none());
        let index = match index {
            Some(index) => {
                state.free.retain(|&free| free != index);
                index
            }
            None => state.make_place(&self.process),
        };
        state.places[index].settle(instance);
        state.free.push_back(index);
    }

    /// How many places have an instance or a job.
    pub(super) fn live(&self) -> u32 {
        let state = self.lock();
        let idle = state.free.iter().filter(|&&index| state.places[index].instance.is_some()).count();
        state.busy + u32::try_from(idle).unwrap_or(u32::MAX)
    }

    /// The right to run one job, at once or when its turn comes. Dropping the future gives the turn to the next.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, QueueFull> {
        let turn = {
            let mut state = self.lock();
            if let Some(index) = state.free.pop_back() {
                return Ok(self.take(&mut state, index));
            }
            if state.places.len() < self.scale.max as usize {
                let index = state.make_place(&self.process);
                return Ok(self.take(&mut state, index));
            }
            wait_in(&mut state.waiting, self.queue_max).ok_or_else(|| self.full())?
        };
        // The sender is dropped unused only with the pool, which this future keeps.
        turn.await.map_err(|_| self.full())
    }

    /// The right to use an instance that has nothing to do; none if there is none.
    pub(super) fn lease_idle(self: &Arc<Self>) -> Option<Lease> {
        let mut state = self.lock();
        let at = state.free.iter().rposition(|&index| state.places[index].instance.is_some())?;
        let index = state.free.remove(at)?;
        let mut lease = self.take(&mut state, index);
        lease.counts = false;
        Some(lease)
    }

    /// The right to run one job in the place of this instance; none if there is no such place.
    pub(super) async fn lease_of(self: &Arc<Self>, id: &InstanceId) -> Option<Result<Lease, QueueFull>> {
        let turn = {
            let mut state = self.lock();
            let (index, _) = state.places.iter().find(|(_, place)| place.id == *id)?;
            if let Some(at) = state.free.iter().position(|&free| free == index) {
                state.free.remove(at);
                return Some(Ok(self.take(&mut state, index)));
            }
            match wait_in(&mut state.places[index].waiting, self.queue_max) {
                Some(turn) => turn,
                None => return Some(Err(self.full())),
            }
        };
        Some(turn.await.map_err(|_| self.full()))
    }

    /// Ends an instance after what it is doing; a new one takes its place and its id. False if there is none.
    pub(super) fn restart(&self, id: &InstanceId) -> bool {
        let ended = {
            let mut state = self.lock();
            let Some((index, _)) = state.places.iter().find(|(_, place)| place.id == *id) else { return false };
            let place = &mut state.places[index];
            place.restarts += 1;
            place.is_doomed = place.is_busy;
            place.instance.take()
        };
        drop(ended);
        self.ended.notify_one();
        true
    }

    /// Ends one instance that has nothing to do; false if there is none.
    pub(super) fn end_one_idle(&self) -> bool {
        let ended = {
            let mut state = self.lock();
            let at = state.free.iter().rposition(|&index| state.places[index].instance.is_some());
            at.and_then(|at| state.free.remove(at)).map(|index| state.places.remove(index))
        };
        ended.is_some()
    }

    /// Waits until no lease is out and no job waits.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            {
                let state = self.lock();
                if state.busy == 0 && state.waiting.iter().all(oneshot::Sender::is_closed) {
                    return;
                }
            }
            idle.await;
        }
    }

    pub(super) fn has(&self, id: &InstanceId) -> bool {
        self.lock().places.iter().any(|(_, place)| place.id == *id)
    }

    /// What stands in each place.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.lock().places.iter().map(|(_, place)| place.seen()).collect()
    }

    pub(super) fn tally(&self) -> Tally {
        Tally { requests: self.lock().requests, failures: self.failures.load(Ordering::Relaxed) }
    }

    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn take(self: &Arc<Self>, state: &mut State, index: usize) -> Lease {
        state.busy += 1;
        let place = &mut state.places[index];
        place.is_busy = true;
        Lease {
            pool: Some(Arc::clone(self)),
            index,
            instance: place.instance.take(),
            spent: Duration::ZERO,
            counts: true,
        }
    }

    fn give_back(self: &Arc<Self>, index: usize, instance: Option<Box<Instance>>, spent: Duration, counts: bool) {
        let instance = instance.filter(|_| self.isolation == Isolation::Reuse);
        let mut state = self.lock();
        state.requests += u64::from(counts);
        let place = &mut state.places[index];
        place.requests += u64::from(counts);
        place.spent += spent;
        let doomed = std::mem::take(&mut place.is_doomed);
        let (instance, ended) = if doomed { (None, instance) } else { (instance, None) };
        match &instance {
            Some(instance) => place.memory_bytes = instance.memory_bytes(),
            None => place.left_empty(self.isolation),
        }
        let is_gone = instance.is_none();
        let mut lease = Lease { pool: Some(Arc::clone(self)), index, instance, spent: Duration::ZERO, counts: true };
        while let Some(waiter) = state.next_waiter(index) {
            match waiter.send(lease) {
                Ok(()) => return,
                Err(unwanted) => lease = unwanted,
            }
        }
        state.busy -= 1;
        lease.pool = None;
        state.places[index].is_busy = false;
        match lease.instance.take() {
            Some(instance) => {
                state.places[index].instance = Some(instance);
                state.free.push_back(index);
            }
            None => state.free.push_front(index),
        }
        if state.busy == 0 {
            self.idle.notify_waiters();
        }
        drop(state);
        drop(ended);
        if is_gone && self.warm_min() > 0 {
            self.ended.notify_one();
        }
    }

    fn full(&self) -> QueueFull {
        QueueFull { instances: self.scale.max, waiting: self.queue_max }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes a place with an id of its own.
    fn make_place(&mut self, process: &ProcessName) -> usize {
        loop {
            let id = InstanceId::from_random(process, rand::random());
            if self.places.iter().all(|(_, place)| place.id != id) {
                return self.places.insert(Place::new(id));
            }
        }
    }

    /// Whoever asked for this very place comes first, since no other will do.
    fn next_waiter(&mut self, index: usize) -> Option<oneshot::Sender<Lease>> {
        self.places[index].waiting.pop_front().or_else(|| self.waiting.pop_front())
    }
}

/// A turn in a queue, unless that is full of jobs that still want theirs.
fn wait_in(queue: &mut VecDeque<oneshot::Sender<Lease>>, max: u32) -> Option<oneshot::Receiver<Lease>> {
    if queue.len() >= max as usize {
        queue.retain(|waiter| !waiter.is_closed());
    }
    if queue.len() >= max as usize {
        return None;
    }
    let (sender, turn) = oneshot::channel();
    queue.push_back(sender);
    Some(turn)
}

/// One of a pool's places, with the instance in it if there is one. The place is free again once this is dropped.
pub(super) struct Lease {
    /// None once the place was given back.
    pool: Option<Arc<Pool>>,
    index: usize,
    instance: Option<Box<Instance>>,
    spent: Duration,
    /// Whether what was done counts as a request.
    counts: bool,
}

impl Lease {
    /// The instance of this place, started now if it has none.
    pub(super) async fn instance(&mut self, program: &Program) -> Result<Box<Instance>, Fault> {
        match self.instance.take() {
            Some(instance) => Ok(instance),
            None => program.start().await,
        }
    }

    /// The instance of this place, if it has one.
    pub(super) fn take(&mut self) -> Option<Box<Instance>> {
        self.instance.take()
    }

    /// Puts an instance back for the next job.
    pub(super) fn put(&mut self, instance: Option<Box<Instance>>) {
        self.instance = instance;
    }

    /// Charges the place for the time that its guest had a thread.
    pub(super) fn charge(&mut self, spent: Duration) {
        self.spent += spent;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back(self.index, self.instance.take(), self.spent, self.counts);
        }
    }
}
