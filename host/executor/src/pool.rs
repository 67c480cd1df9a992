//! The queue under its lock, and the workers that sleep while it is empty. Owns who is woken and when workers leave. Knows
//! nothing of what the work is, so that a model checker can try every order of its steps.

use crate::{
    class::Class,
    fair::{Fair, Turn, Waiting},
    ledger::Ledger,
    published::PublishedStats,
    sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering},
};
use std::sync::{Arc, PoisonError};

pub(crate) struct Pool<T> {
    state: Mutex<State<T>>,
    work: Condvar,
    published: PublishedStats,
}

struct State<T> {
    fair: Fair<T>,
    sleeping: usize,
    /// How many of those that sleep were woken and have not noticed yet.
    woken: usize,
    /// Calls that live on the fair threads, whether they run, wait, or sleep until their I/O is done.
    living: usize,
    closed: bool,
}

/// A turn that is over.
pub(crate) struct Over<T> {
    pub(crate) turn: Turn,
    pub(crate) cpu_ns: u64,
    /// The work, if it could go on.
    pub(crate) again: Option<T>,
}

impl<T: Waiting> Pool<T> {
    pub(crate) fn new(fair: Fair<T>) -> Self {
        let state = State { fair, sleeping: 0, woken: 0, living: 0, closed: false };
        Self { state: Mutex::new(state), work: Condvar::new(), published: PublishedStats::default() }
    }

    pub(crate) fn published(&self) -> &PublishedStats {
        &self.published
    }

    /// Asks for a call to be let in. Whoever is must say when it has left.
    #[must_use]
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.lock();
        if !state.closed {
            state.living += 1;
        }
        !state.closed
    }

    /// Says that a call which was let in is gone.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.living -= 1;
        if state.is_over() {
            self.work.notify_all();
        }
    }

    /// Lets no more calls in. Workers leave when the last one has.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.published.close();
        if state.is_over() {
            self.work.notify_all();
        }
    }

    pub(crate) fn push(&self, ledger: &Arc<Ledger>, class: Class, work: T) {
        let mut state = self.lock();
        state.fair.push(ledger, class, work);
        self.publish(&state);
        self.wake(&mut state);
    }

    /// Takes back work that waits, if it still does. The ticket is read under the lock, where it is written.
    pub(crate) fn withdraw(&self, ledger: &Ledger, class: Class, ticket: &AtomicU64) -> Option<T> {
        let mut state = self.lock();
        let work = state.fair.withdraw(ledger.id(), class, ticket.load(Ordering::Relaxed));
        self.publish(&state);
        work
    }

    pub(crate) fn cores_changed(&self, ledger: &Ledger) {
        let mut state = self.lock();
        state.fair.cores_changed(ledger.id());
        self.work.notify_all();
    }

    /// Ends a worker's turn, if it had one, and waits for its next. None: the worker may leave.
    pub(crate) fn next(&self, over: Option<Over<T>>) -> Option<(Turn, T)> {
        let mut state = self.lock();
        if let Some(Over { turn, cpu_ns, again }) = over {
            state.fair.settle(turn, cpu_ns, again);
        }
        loop {
            if let Some(next) = state.fair.take(self.published.take_inline_pull_ns()) {
                self.publish(&state);
                self.wake(&mut state);
                return Some(next);
            }
            self.publish(&state);
            if state.is_over() {
                return None;
            }
            state.sleeping += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
            state.woken = state.woken.saturating_sub(1);
        }
    }

    /// How many workers sleep.
    pub(crate) fn sleeping(&self) -> usize {
        self.lock().sleeping
    }

    /// Wakes a worker if there is a turn for it. A worker that takes a turn does the same, so that none sleeps while
    /// work could run.
    fn wake(&self, state: &mut State<T>) {
        if state.sleeping > state.woken && state.fair.is_ready() {
            state.woken += 1;
            self.work.notify_one();
        }
    }

    fn publish(&self, state: &State<T>) {
        for class in Class::ALL {
            self.published.publish(class, state.fair.level(class));
        }
    }

    /// Nothing that runs under the lock panics unless a queue's invariant is broken; the others go on then too.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn is_over(&self) -> bool {
        self.closed && self.living == 0
    }
}
