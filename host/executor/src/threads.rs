//! The executor and its worker threads. Each worker takes work, runs one slice and settles it,
//! until the executor is closed and the last call is gone. Owns the threads' start and niceness.
//! Never decides which work runs next.

use crate::{
    account::{Account, Job},
    class::{Class, Weight},
    clock::{nanoseconds, thread_cpu_ns},
    ledger::{AccountId, Ledger},
    limits,
    pool::{FinishedSlice, Pool},
    pulse::Pulse,
    scheduler::Scheduler,
    slice,
    sync::{AtomicU64, Ordering},
    task,
};
use std::{
    io,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// Wraps a worker thread's loop. Receives the thread's number and the loop, which it must call
/// once. The embedder uses it to enter a runtime, so that guests find its timers and sockets.
pub type AroundThread = Arc<dyn Fn(usize, &mut dyn FnMut()) + Send + Sync>;

/// Settings of an executor.
#[derive(Clone)]
pub struct Config {
    /// Number of worker threads: one per core.
    pub workers: NonZeroUsize,
    /// Niceness of the worker threads relative to other threads.
    pub niceness: i32,
    /// Length of a slice. The engine's ticks should be as long.
    pub slice: Duration,
    /// Minimum share of the CPU for push work while pull work waits, in percent.
    pub push_minimum_percent: u32,
    /// Wraps each thread's loop.
    pub around_thread: AroundThread,
}

impl Config {
    /// Returns the default settings for `workers` worker threads.
    pub fn new(workers: NonZeroUsize) -> Self {
        Self {
            workers,
            niceness: limits::NICENESS,
            slice: limits::SLICE,
            push_minimum_percent: limits::PUSH_MINIMUM_PERCENT,
            around_thread: Arc::new(|_, work| work()),
        }
    }
}

/// Why an executor can't be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "invalid slice: {slice:?} is not between {:?} and {:?}",
        limits::SLICE_RANGE.start(),
        limits::SLICE_RANGE.end()
    )]
    Slice { slice: Duration },
    #[error(
        "invalid minimum share for push work: {percent} % is not between {} and {} %",
        limits::PUSH_MINIMUM_PERCENT_RANGE.start(),
        limits::PUSH_MINIMUM_PERCENT_RANGE.end()
    )]
    PushMinimum { percent: u32 },
    #[error("too many worker threads: {workers}, the maximum is {}", limits::WORKERS_MAX)]
    Workers { workers: usize },
    #[error("can't start a worker thread")]
    Thread(#[source] io::Error),
}

/// The worker threads and their queue. When it is dropped, calls that were moved run to completion;
/// later calls stay on their I/O threads.
pub struct Executor {
    pool: Arc<Pool<Job>>,
    threads: Vec<JoinHandle<()>>,
    slice_ns: u64,
    next_account: AtomicU64,
    pulse: Pulse,
}

/// The current load of the executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Worker threads without work.
    pub idle_workers: usize,
    /// Pull calls waiting for a slice.
    pub waiting_pull: u32,
    /// Push calls waiting for a slice.
    pub waiting_push: u32,
    /// Accounts with pull work waiting or running on worker threads.
    pub active_pull: u32,
    /// Accounts with push work waiting or running on worker threads.
    pub active_push: u32,
}

impl Executor {
    /// Starts the worker threads.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let &Config { workers, slice, push_minimum_percent: percent, .. } = config;
        if !limits::SLICE_RANGE.contains(&slice) {
            return Err(Error::Slice { slice });
        }
        if !limits::PUSH_MINIMUM_PERCENT_RANGE.contains(&percent) {
            return Err(Error::PushMinimum { percent });
        }
        if workers.get() > limits::WORKERS_MAX {
            return Err(Error::Workers { workers: workers.get() });
        }
        let slice_ns = nanoseconds(slice);
        let pool = Arc::new(Pool::new(Scheduler::new(slice_ns, percent)));
        // Created before its threads: if one fails to start, dropping the executor makes the others
        // leave.
        let pulse = Pulse::new(workers.get());
        let mut executor = Self { pool, threads: Vec::new(), slice_ns, next_account: AtomicU64::new(0), pulse };
        for number in 0..workers.get() {
            executor.threads.push(executor.start(config, number).map_err(Error::Thread)?);
        }
        Ok(executor)
    }

    /// Opens an account.
    pub fn account(&self, weight: Weight, cores: NonZeroU32) -> Account {
        let id = AccountId(self.next_account.fetch_add(1, Ordering::Relaxed));
        Account::new(Ledger::new(id, weight, cores), Arc::clone(&self.pool), self.slice_ns)
    }

    /// Returns the current load.
    pub fn load(&self) -> Load {
        let published = self.pool.published();
        Load {
            idle_workers: self.pool.sleeping(),
            waiting_pull: published.waiting(Class::Pull),
            waiting_push: published.waiting(Class::Push),
            active_pull: published.active(Class::Pull),
            active_push: published.active(Class::Push),
        }
    }

    /// Returns the liveness counters of the worker threads.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Closes the executor and waits until all moved calls have completed or were dropped.
    pub fn stop(mut self) {
        self.pool.close();
        for thread in self.threads.drain(..) {
            // A panic was already reported when it occurred.
            let _ = thread.join();
        }
    }

    fn start(&self, config: &Config, number: usize) -> io::Result<JoinHandle<()>> {
        let pool = Arc::clone(&self.pool);
        let around = Arc::clone(&config.around_thread);
        let (niceness, slice_ns, pulse) = (config.niceness, self.slice_ns, self.pulse.clone());
        thread::Builder::new().name(format!("isopod-work-{number}")).spawn(move || {
            // SAFETY: `setpriority` takes plain numbers; 0 is the calling thread on Linux. A
            // failure changes nothing.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
            around(number, &mut || work(&pool, slice_ns, || pulse.count(number)));
        })
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.pool.close();
    }
}

/// The loop of a worker thread.
fn work(pool: &Pool<Job>, slice_ns: u64, count: impl Fn()) {
    let mut finished = None;
    // One clock reading ends a slice and starts the next.
    let mut now_ns = thread_cpu_ns();
    while let Some((slice, job)) = pool.next(finished.take()) {
        count();
        let guard = slice::begin_on_worker(slice_ns, now_ns);
        let runnable = task::poll(job);
        let usage = guard.end();
        now_ns = usage.ended_ns;
        finished = Some(FinishedSlice { slice, cpu_ns: usage.cpu_ns, runnable });
        count();
    }
}
