//! The scheduler's queue under its lock, and the worker threads that sleep while it is empty. Owns
//! waking and shutdown of the workers. Never inspects the work, so that a model checker can try
//! every interleaving of its steps.

use crate::{
    class::Class,
    ledger::Ledger,
    published::PublishedStats,
    scheduler::{Queued, Scheduler, StartedSlice},
    sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering},
};
use std::sync::{Arc, PoisonError};

pub(crate) struct Pool<T> {
    state: Mutex<State<T>>,
    work: Condvar,
    published: PublishedStats,
}

struct State<T> {
    scheduler: Scheduler<T>,
    sleeping: usize,
    /// How many sleeping workers were notified and haven't woken yet.
    woken: usize,
    /// The number of calls on the worker threads, whether running, waiting, or asleep until their
    /// I/O is ready.
    live_calls: usize,
    closed: bool,
}

/// A slice that has ended.
pub(crate) struct FinishedSlice<T> {
    pub(crate) slice: StartedSlice,
    pub(crate) cpu_ns: u64,
    /// The work, if it could continue.
    pub(crate) runnable: Option<T>,
}

impl<T: Queued> Pool<T> {
    pub(crate) fn new(scheduler: Scheduler<T>) -> Self {
        let state = State { scheduler, sleeping: 0, woken: 0, live_calls: 0, closed: false };
        Self { state: Mutex::new(state), work: Condvar::new(), published: PublishedStats::default() }
    }

    pub(crate) fn published(&self) -> &PublishedStats {
        &self.published
    }

    /// Registers a call, unless the pool is closed. The caller must call [`Pool::leave`] when a
    /// registered call is gone.
    #[must_use]
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.lock();
        if !state.closed {
            state.live_calls += 1;
        }
        !state.closed
    }

    /// Deregisters a call.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        debug_assert!(state.live_calls > 0, "a call that leaves was registered");
        state.live_calls -= 1;
        if state.is_drained() {
            self.work.notify_all();
        }
    }

    /// Closes the pool: it accepts no more calls. Workers leave after the last call.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.published.close();
        if state.is_drained() {
            self.work.notify_all();
        }
    }

    pub(crate) fn enqueue(&self, ledger: &Arc<Ledger>, class: Class, work: T) {
        let mut state = self.lock();
        state.scheduler.enqueue(ledger, class, work);
        self.publish(&state);
        self.wake(&mut state);
    }

    /// Removes waiting work, unless it was already taken. The ticket is read under the lock, where
    /// it is written.
    pub(crate) fn withdraw(&self, ledger: &Ledger, class: Class, ticket: &AtomicU64) -> Option<T> {
        let mut state = self.lock();
        let work = state.scheduler.withdraw(ledger.id(), class, ticket.load(Ordering::Relaxed));
        self.publish(&state);
        work
    }

    pub(crate) fn cores_changed(&self, ledger: &Ledger) {
        let mut state = self.lock();
        state.scheduler.cores_changed(ledger.id());
        self.work.notify_all();
    }

    /// Settles a worker's last slice, if it had one, and waits for its next. Returns `None` when
    /// the worker should leave.
    pub(crate) fn next(&self, finished: Option<FinishedSlice<T>>) -> Option<(StartedSlice, T)> {
        let mut state = self.lock();
        if let Some(FinishedSlice { slice, cpu_ns, runnable }) = finished {
            state.scheduler.settle(slice, cpu_ns, runnable);
        }
        loop {
            if let Some(next) = state.scheduler.take(self.published.take_inline_pull_ns()) {
                self.publish(&state);
                self.wake(&mut state);
                return Some(next);
            }
            self.publish(&state);
            if state.is_drained() {
                return None;
            }
            state.sleeping += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            debug_assert!(state.sleeping > 0, "a worker that wakes up was counted as sleeping");
            state.sleeping -= 1;
            state.woken = state.woken.saturating_sub(1);
        }
    }

    /// Returns the number of sleeping workers.
    pub(crate) fn sleeping(&self) -> usize {
        self.lock().sleeping
    }

    /// Wakes a worker if work is ready. A worker that takes work does the same, so that none sleeps
    /// while work could run.
    fn wake(&self, state: &mut State<T>) {
        if state.sleeping > state.woken && state.scheduler.is_ready() {
            state.woken += 1;
            self.work.notify_one();
        }
    }

    fn publish(&self, state: &State<T>) {
        for class in Class::ALL {
            self.published.publish(class, state.scheduler.level(class));
        }
    }

    /// Takes the lock. Nothing under it panics unless an invariant of the queue is broken; the
    /// other workers continue even then.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn is_drained(&self) -> bool {
        self.closed && self.live_calls == 0
    }
}
