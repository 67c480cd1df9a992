//! The fair threads: each takes a turn, gives the slice and settles it, until the executor is closed and the last call is
//! gone. Owns their start and their niceness. Never decides whose turn it is.

use crate::{
    account::Account,
    class::{Class, Weight},
    clock::{nanoseconds, thread_cpu_ns},
    fair::Fair,
    ledger::{AccountId, Ledger},
    limits,
    pool::{Over, Pool},
    pulse::Pulse,
    slice,
    sync::{AtomicU64, Ordering},
    task::{self, Job},
};
use std::{
    io,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// What runs around a fair thread's work: it is given the thread's number and its work, which it must call once. Here a
/// runtime is entered, so that guests find its timers and sockets.
pub type AroundThread = Arc<dyn Fn(usize, &mut dyn FnMut()) + Send + Sync>;

/// What an executor is told by its embedder.
#[derive(Clone)]
pub struct Config {
    /// How many fair threads there are: one for each core.
    pub workers: NonZeroUsize,
    /// How far they stand behind other threads in the kernel's eyes.
    pub niceness: i32,
    /// How long a guest runs before others have their turn. The engine's ticks should be as long.
    pub slice: Duration,
    /// The part of the CPU that push work keeps while pull work waits, in percent.
    pub push_floor_percent: u32,
    /// What runs around each thread's work.
    pub around_thread: AroundThread,
}

impl Config {
    /// The usual settings, for so many fair threads.
    pub fn new(workers: NonZeroUsize) -> Self {
        Self {
            workers,
            niceness: limits::NICENESS,
            slice: limits::SLICE,
            push_floor_percent: limits::PUSH_FLOOR_PERCENT,
            around_thread: Arc::new(|_, work| work()),
        }
    }
}

/// Why there is no executor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a slice of {slice:?} is not between {:?} and {:?}", limits::SLICE_RANGE.start(), limits::SLICE_RANGE.end())]
    Slice { slice: Duration },
    #[error(
        "a push floor of {percent} % is not between {} and {} %",
        limits::PUSH_FLOOR_PERCENT_RANGE.start(),
        limits::PUSH_FLOOR_PERCENT_RANGE.end()
    )]
    PushFloor { percent: u32 },
    #[error("{workers} fair threads are more than {}", limits::WORKERS_MAX)]
    Workers { workers: usize },
    #[error("a fair thread could not be started")]
    Thread(#[source] io::Error),
}

/// The fair threads, and the queue they work from. When it is dropped, calls that were moved run to their end; what comes
/// after stays on its I/O thread.
pub struct Executor {
    pool: Arc<Pool<Job>>,
    threads: Vec<JoinHandle<()>>,
    slice_ns: u64,
    next_account: AtomicU64,
    pulse: Pulse,
}

/// How much there is to do at a moment, in both classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Fair threads that have nothing to do.
    pub idle_workers: usize,
    /// Pull calls that wait for their turn.
    pub waiting_pull: u32,
    /// Push calls that wait for their turn.
    pub waiting_push: u32,
    /// Accounts that have pull work waiting or running there.
    pub active_pull: u32,
    /// Accounts that have push work waiting or running there.
    pub active_push: u32,
}

impl Executor {
    /// Starts the fair threads.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let &Config { workers, slice, push_floor_percent: percent, .. } = config;
        if !limits::SLICE_RANGE.contains(&slice) {
            return Err(Error::Slice { slice });
        }
        if !limits::PUSH_FLOOR_PERCENT_RANGE.contains(&percent) {
            return Err(Error::PushFloor { percent });
        }
        if workers.get() > limits::WORKERS_MAX {
            return Err(Error::Workers { workers: workers.get() });
        }
        let slice_ns = nanoseconds(slice);
        let pool = Arc::new(Pool::new(Fair::new(slice_ns, percent)));
        // Made before its threads, so that those that did start leave if one does not.
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

    /// How much there is to do.
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

    /// Liveness counters of the fair threads.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Takes no more calls, and waits until those that were moved have ended or were dropped.
    pub fn stop(mut self) {
        self.pool.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }

    fn start(&self, config: &Config, number: usize) -> io::Result<JoinHandle<()>> {
        let pool = Arc::clone(&self.pool);
        let around = Arc::clone(&config.around_thread);
        let (niceness, slice_ns, pulse) = (config.niceness, self.slice_ns, self.pulse.clone());
        thread::Builder::new().name(format!("isopod-fair-{number}")).spawn(move || {
            // SAFETY: `setpriority` takes plain numbers; 0 is the calling thread on Linux. A refusal changes nothing.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
            around(number, &mut || work(&pool, slice_ns, || pulse.beat(number)));
        })
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.pool.close();
    }
}

/// The one loop of a fair thread.
fn work(pool: &Pool<Job>, slice_ns: u64, beat: impl Fn()) {
    let mut over = None;
    // One reading of the clock ends a slice and begins the next one.
    let mut now_ns = thread_cpu_ns();
    while let Some((turn, job)) = pool.next(over.take()) {
        beat();
        let giving = slice::give_fair(slice_ns, now_ns);
        let again = task::poll(job);
        let given = giving.end();
        now_ns = given.ended_ns;
        over = Some(Over { turn, cpu_ns: given.cpu_ns, again });
        beat();
    }
}
