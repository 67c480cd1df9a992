//! The instances of one process type of one release, and the jobs that wait for them. Decides nothing about scale:
//! it starts an instance when a job finds none free and the maximum allows one more.
//!
//! The lock is held for a push or a pop, never while a guest runs. Whoever frees an instance hands it to the next
//! job in the queue, so that a waiting job costs no wake-up of anybody else.

use isopod_engine::{Fault, Instance, Program};
use isopod_policy::Isolation;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, oneshot};

pub(super) struct Pool {
    isolation: Isolation,
    instances_max: u32,
    queue_max: u32,
    state: Mutex<State>,
    idle: Notify,
}

#[derive(Default)]
struct State {
    /// Boxed, since an instance is moved on every request.
    #[expect(clippy::vec_box, reason = "instances are handed on in their boxes")]
    free: Vec<Box<Instance>>,
    /// Leases given out.
    busy: u32,
    waiting: VecDeque<oneshot::Sender<Lease>>,
}

/// Why a job got no instance.
#[derive(Debug, thiserror::Error)]
#[error("all {instances} instances are busy and {waiting} more jobs wait already")]
pub(crate) struct QueueFull {
    instances: u32,
    waiting: u32,
}

impl Pool {
    pub(super) fn new(isolation: Isolation, instances_max: u32, queue_max: u32) -> Self {
        Self { isolation, instances_max, queue_max, state: Mutex::default(), idle: Notify::new() }
    }

    /// Takes in an instance that nobody leased.
    pub(super) fn add(&self, instance: Box<Instance>) {
        self.lock().free.push(instance);
    }

    /// The right to run one job, at once or when its turn comes. Dropping the future gives the turn to the next.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, QueueFull> {
        let turn = {
            let mut state = self.lock();
            if state.busy < self.instances_max {
                state.busy += 1;
                let instance = state.free.pop();
                return Ok(Lease { pool: Some(Arc::clone(self)), instance });
            }
            state.waiting.retain(|waiter| !waiter.is_closed());
            if state.waiting.len() >= self.queue_max as usize {
                return Err(QueueFull { instances: self.instances_max, waiting: self.queue_max });
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.push_back(sender);
            turn
        };
        // The sender is dropped unused only with the pool, which this future keeps.
        turn.await.map_err(|_| QueueFull { instances: self.instances_max, waiting: 0 })
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

    fn give_back(self: &Arc<Self>, instance: Option<Box<Instance>>) {
        let instance = instance.filter(|_| self.isolation == Isolation::Reuse);
        let mut lease = Lease { pool: Some(Arc::clone(self)), instance };
        let mut state = self.lock();
        while let Some(waiter) = state.waiting.pop_front() {
            match waiter.send(lease) {
                Ok(()) => return,
                Err(unwanted) => lease = unwanted,
            }
        }
        state.busy -= 1;
        lease.pool = None;
        state.free.extend(lease.instance.take());
        if state.busy == 0 {
            self.idle.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of a pool's places, with the instance in it if there is one. The place is free again once this is dropped.
pub(super) struct Lease {
    /// None once the place was given back.
    pool: Option<Arc<Pool>>,
    instance: Option<Box<Instance>>,
}

impl Lease {
    /// The instance of this place, started now if it has none.
    pub(super) async fn instance(&mut self, program: &Program) -> Result<Instance, Fault> {
        match self.instance.take() {
            Some(instance) => Ok(*instance),
            None => program.start().await,
        }
    }

    /// Puts an instance back for the next job.
    pub(super) fn put(&mut self, instance: Option<Box<Instance>>) {
        self.instance = instance;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back(self.instance.take());
        }
    }
}
