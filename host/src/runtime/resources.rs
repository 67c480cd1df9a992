//! The resources of one app, shared by all its releases: its CPU account, its cores, its pools, its
//! body budget, and the statistics of its two queues. Never queues or runs a job itself.

use super::{
    cancellation::Cancellation,
    guest_runtime::{AppFiles, GuestRuntimes, InGuestRuntime},
    pool::Pool,
    queue_stats::{QueueMetrics, QueueStats},
};
use crate::{
    http::byte_budget::{ByteBudget, Crossed, Growing},
    limits,
};
use isopod_engine::{Fault, Instance, Program, Room};
use isopod_executor::{Account, Class, Executor, Run, Weight};
use isopod_policy::{AppType, Cores, Entry, ServiceRate};
use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// The resources that all apps share.
#[derive(Clone)]
pub(crate) struct HostResources(Arc<Inner>);

struct Inner {
    executor: Executor,
    guests: GuestRuntimes,
    /// Budgets for the bodies of queued jobs and for bodies that are being received, of all apps.
    queued_bytes: ByteBudget,
    incoming_bytes: ByteBudget,
    /// The pools of all apps, to evict instances from when the host has no room.
    pools: Mutex<Vec<Weak<Pool>>>,
    /// Whether queued jobs are refused because the host stops.
    refuses_waiting: AtomicBool,
}

/// The current load of an app in one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) cores: u32,
    /// Cores in use.
    pub(crate) active: u32,
    pub(crate) waiting: u32,
}

/// Which budget has no room for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyBudgetExceeded {
    #[error("request bodies being received for the app would use more than {} MiB; try again later",
        limits::TRAFFIC_BODIES_BYTES >> 20)]
    App,
    #[error("request bodies being received by this host would use more than {} MiB; try again later",
        limits::TRAFFIC_BODIES_BYTES_ALL >> 20)]
    Host,
}

/// A body that is being received. Its received bytes count until this is dropped.
pub(crate) struct IncomingBody<'a>(Growing<'a>);

impl IncomingBody<'_> {
    /// Raises the body's charge to `bytes`.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), BodyBudgetExceeded> {
        self.0.grow_to(bytes).map_err(BodyBudgetExceeded::from)
    }
}

impl From<Crossed> for BodyBudgetExceeded {
    fn from(crossed: Crossed) -> Self {
        match crossed {
            Crossed::Own => Self::App,
            Crossed::All => Self::Host,
        }
    }
}

/// The resources of one app.
pub(crate) struct AppResources {
    account: Account,
    host: HostResources,
    cores: [AtomicU32; 2],
    /// Cores in use, and queued jobs.
    busy: [AtomicU32; 2],
    waiting: [AtomicUsize; 2],
    /// The app's budget for bodies that are being received.
    incoming_bytes: ByteBudget,
    /// The pools of all the app's releases.
    pools: Mutex<Vec<Weak<Pool>>>,
    stats: [Mutex<QueueStats>; 2],
    /// Events delivered to a handler.
    events: [AtomicU64; 2],
    /// CPU use between the last two samples, in tenths of a percent of one processor.
    cpu_permille: AtomicU32,
    cpu_sample: Mutex<Option<(Instant, Duration)>>,
    is_dev: AtomicBool,
    cancellation: Cancellation,
    files: AppFiles,
}

impl HostResources {
    /// `guests` owns the runtimes of guests that don't use that of an I/O thread.
    pub(crate) fn new(executor: Executor, guests: GuestRuntimes) -> Self {
        let queued_bytes = ByteBudget::of(limits::QUEUED_BYTES_ALL);
        let incoming_bytes = ByteBudget::of(limits::TRAFFIC_BODIES_BYTES_ALL);
        let (pools, refuses_waiting) = Default::default();
        Self(Arc::new(Inner { executor, guests, queued_bytes, incoming_bytes, pools, refuses_waiting }))
    }

    /// Refuses the queued jobs shortly before `drain` has passed, so that their clients get a
    /// response before their connections are cut off. Running jobs are not affected.
    pub(crate) async fn refuse_waiting_after(self, drain: Duration) {
        tokio::time::sleep(drain.saturating_sub(limits::LAST_RESPONSES_TIME)).await;
        self.0.refuses_waiting.store(true, Ordering::SeqCst);
        let pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pools.iter().filter_map(Weak::upgrade).for_each(|pool| pool.refuse_waiting());
    }

    pub(super) fn refuses_waiting(&self) -> bool {
        self.0.refuses_waiting.load(Ordering::SeqCst)
    }

    /// Returns the resources of a new app.
    pub(crate) fn app_resources(&self, app_type: AppType, cores: Cores) -> Arc<AppResources> {
        let resources = AppResources {
            account: self.0.executor.account(weight(app_type), threads_max(cores)),
            host: self.clone(),
            cores: [AtomicU32::new(cores.pull), AtomicU32::new(cores.push)],
            busy: Default::default(),
            waiting: Default::default(),
            incoming_bytes: ByteBudget::of(limits::TRAFFIC_BODIES_BYTES),
            pools: Mutex::default(),
            stats: Default::default(),
            events: Default::default(),
            cpu_permille: AtomicU32::new(0),
            cpu_sample: Mutex::default(),
            is_dev: AtomicBool::new(app_type == AppType::Dev),
            cancellation: Cancellation::default(),
            files: AppFiles::default(),
        };
        Arc::new(resources)
    }

    /// Evicts an idle instance of any app, to make room for one of `program`. Returns false if none
    /// can be evicted. The search starts at the pool `from`, which callers choose at random, so
    /// that no app is always evicted first.
    fn evict_any(&self, room: Room, program: &Program, from: usize) -> bool {
        let pools = || self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let count = pools().len();
        // Locks the list for one pool at a time, so that other jobs don't wait while an instance
        // ends.
        let mut others = (0..count).filter_map(|step| pools().get((from + step) % count).and_then(Weak::upgrade));
        others.any(|pool| frees_room(&pool, room, program) && pool.evict_spare())
    }

    /// Charges the body of a job to the budget for queued bodies. Returns false if the queues of
    /// all apps hold too much already.
    pub(super) fn reserve_bytes(&self, bytes: u64) -> bool {
        self.0.queued_bytes.take(bytes)
    }

    pub(super) fn release_bytes(&self, bytes: u64) {
        self.0.queued_bytes.give_back(bytes);
    }
}

impl AppResources {
    /// Runs work of the program's guests on the app's CPU account. The output includes the CPU time
    /// used.
    pub(crate) fn run<F>(&self, class: Class, program: &Program, work: F) -> Run<InGuestRuntime<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let files = program.has_folders().then_some(&self.files);
        self.account.run(class, self.host.0.guests.wrap(files, work))
    }

    /// Starts an instance; call it within [`Self::run`]. If the host has no room, evicts an idle
    /// instance of any app that has more than its warm minimum.
    pub(crate) async fn start(&self, program: &Program) -> Result<Box<Instance>, Fault> {
        for _ in 0..limits::EVICTION_ATTEMPTS {
            match program.start().await {
                Err(Fault::NoRoom { room, .. })
                    if self.host.evict_any(room, program, rand::random::<u32>() as usize) => {}
                started => return started,
            }
        }
        program.start().await
    }

    /// Starts an instance for a release that replaces another release of this app. If there is no
    /// other room, evicts the app's own idle instances except the last, even below the warm
    /// minimum: an app that uses the whole host can still be updated.
    pub(crate) async fn start_in_place(&self, program: &Program) -> Result<Box<Instance>, Fault> {
        loop {
            match self.start(program).await {
                Err(Fault::NoRoom { room, .. }) if self.evict_own(room, program) => {}
                started => return started,
            }
        }
    }

    fn evict_own(&self, room: Room, program: &Program) -> bool {
        let own: Vec<_> = self.pools().into_iter().filter(|pool| frees_room(pool, room, program)).collect();
        if own.iter().map(|pool| pool.live()).sum::<u32>() < 2 {
            return false;
        }
        // Pools with several instances come first. A pool for HTTP requests loses its last instance
        // only after the pools for events, because clients wait for its responses.
        let (requests, events): (Vec<_>, Vec<_>) = own.iter().partition(|pool| pool.entry() == Entry::Http);
        own.iter().any(|pool| pool.live() > 1 && pool.evict_idle())
            || events.into_iter().chain(requests).any(|pool| pool.evict_idle())
    }

    /// Makes room after a running job found none, so that a retry succeeds.
    pub(super) fn evict_after(&self, fault: &Fault, program: &Program) {
        if let Fault::NoRoom { room, .. } = fault {
            let offsets = (0..limits::EVICTION_ATTEMPTS).map(|_| rand::random::<u32>() as usize);
            // If no instance can be evicted, further attempts would fail too.
            let _ended = offsets.take_while(|&from| self.host.evict_any(*room, program, from)).count();
        }
    }

    /// Adds a pool to the lists of the app and the host, where it stays until it is dropped.
    pub(super) fn register(&self, pool: &Arc<Pool>) {
        for pools in [&self.pools, &self.host.0.pools] {
            let mut pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
            // Dropped pools are removed only before the list would grow, so that the cost per pool
            // doesn't depend on their number.
            if pools.len() == pools.capacity() {
                pools.retain(|pool| pool.strong_count() > 0);
            }
            pools.push(Arc::downgrade(pool));
        }
    }

    /// Returns the app's pools, including those of releases that drain.
    pub(super) fn pools(&self) -> Vec<Arc<Pool>> {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pools.iter().filter_map(Weak::upgrade).collect()
    }

    /// Waits until no job of the app runs or is queued.
    pub(super) async fn drained(&self) {
        while let Some(busy) = self.pools().into_iter().find(|pool| pool.is_busy()) {
            busy.drained().await;
        }
    }

    pub(super) fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    /// Returns whether a pool of any of the app's releases is in memory.
    pub(crate) fn is_resident(&self) -> bool {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|pool| pool.strong_count() > 0)
    }

    /// Returns the app's load in one class, in all its releases.
    pub(crate) fn load(&self, class: Class) -> Load {
        let waiting = self.pools().iter().map(|pool| pool.waiting(class)).sum();
        Load { cores: self.cores(class), active: self.busy[class_index(class)].load(Ordering::Relaxed), waiting }
    }

    /// Returns whether a core is free. A caller that releases a core admits queued jobs afterwards,
    /// so no free core is missed.
    pub(super) fn has_core(&self, class: Class) -> bool {
        self.busy[class_index(class)].load(Ordering::SeqCst) < self.cores(class)
    }

    /// Acquires a core. Returns false if none is free.
    pub(super) fn acquire_core(&self, class: Class) -> bool {
        let cores = self.cores(class);
        let increment = |busy: u32| (busy < cores).then_some(busy + 1);
        self.busy[class_index(class)].try_update(Ordering::SeqCst, Ordering::Relaxed, increment).is_ok()
    }

    /// Acquires a core even if none is free, for a health check.
    pub(super) fn acquire_extra_core(&self, class: Class) {
        self.busy[class_index(class)].fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn release_core(&self, class: Class) {
        self.busy[class_index(class)].fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn note_enqueued(&self, class: Class) {
        if self.waiting[class_index(class)].fetch_add(1, Ordering::SeqCst) == 0 {
            self.stats(class).note_backlog(Instant::now());
        }
    }

    pub(super) fn note_dequeued(&self, class: Class, jobs: usize) {
        self.waiting[class_index(class)].fetch_sub(jobs, Ordering::SeqCst);
    }

    /// Returns the number of queued jobs in all pools of the app.
    pub(super) fn waiting(&self, class: Class) -> usize {
        self.waiting[class_index(class)].load(Ordering::SeqCst)
    }

    /// Admits queued jobs of any pool of the app after a core was released. The job that has waited
    /// longest comes first, so that no release or process type starves another. Returns at once if
    /// no job is queued or no core is free.
    pub(super) fn admit(&self, class: Class) {
        if self.waiting(class) == 0 || !self.has_core(class) {
            return;
        }
        let mut pools = self.pools();
        while let Some((position, _)) = pools
            .iter()
            .enumerate()
            .filter_map(|(position, pool)| Some((position, pool.oldest(class)?)))
            .min_by_key(|(_, since)| *since)
        {
            // A pool at its maximum leaves the core to the other pools.
            if !pools[position].admit_one(class) {
                pools.swap_remove(position);
            }
        }
    }

    /// Starts to receive a body of `bytes` bytes. Received bytes are charged to the budgets; the
    /// announced size isn't, because it costs the client nothing. Fails immediately if the budgets
    /// have no room for it now.
    pub(crate) fn receive(&self, bytes: u64) -> Result<IncomingBody<'_>, BodyBudgetExceeded> {
        Ok(IncomingBody(Growing::up_to(bytes, &self.incoming_bytes, &self.host.0.incoming_bytes)?))
    }

    pub(super) fn host(&self) -> &HostResources {
        &self.host
    }

    pub(crate) fn cores(&self, class: Class) -> u32 {
        self.cores[class_index(class)].load(Ordering::Relaxed)
    }

    /// Changes the number of the app's cores. Running jobs continue; queued jobs are admitted to
    /// added cores at once.
    pub(super) fn set_cores(&self, cores: Cores) {
        self.cores[class_index(Class::Pull)].store(cores.pull, Ordering::Relaxed);
        self.cores[class_index(Class::Push)].store(cores.push, Ordering::Relaxed);
        self.account.set_cores(threads_max(cores));
        self.admit_all();
    }

    /// Admits queued jobs of any pool of the app while there are cores and instances for them.
    pub(crate) fn admit_all(&self) {
        CLASSES.into_iter().for_each(|class| self.admit(class));
    }

    /// Returns whether the app's type is `dev`, so that its responses may show internals.
    pub(crate) fn is_dev(&self) -> bool {
        self.is_dev.load(Ordering::Relaxed)
    }

    pub(crate) fn set_type(&self, app_type: AppType) {
        self.is_dev.store(app_type == AppType::Dev, Ordering::Relaxed);
        self.account.set_weight(weight(app_type));
    }

    /// Returns the CPU time that the app's guests have used since the host started.
    pub(crate) fn cpu(&self) -> Duration {
        self.account.cpu(Class::Pull) + self.account.cpu(Class::Push)
    }

    /// Discards the CPU sample: no release of the app is in memory.
    pub(crate) fn reset_cpu_sample(&self) {
        *self.cpu_sample.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.cpu_permille.store(0, Ordering::Relaxed);
    }

    /// Samples the CPU time, to compute the current CPU use.
    pub(crate) fn sample_cpu(&self, now: Instant) {
        let cpu = self.cpu();
        let previous = self.cpu_sample.lock().unwrap_or_else(PoisonError::into_inner).replace((now, cpu));
        let Some((then, cpu_then)) = previous else { return };
        let (passed, used) = (now.saturating_duration_since(then), cpu.saturating_sub(cpu_then));
        let permille = used.as_micros().saturating_mul(1_000) / passed.as_micros().max(1);
        self.cpu_permille.store(u32::try_from(permille).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Returns the recent CPU use of the app's guests, in percent of one processor.
    pub(crate) fn cpu_percent(&self) -> f64 {
        f64::from(self.cpu_permille.load(Ordering::Relaxed)) / 10.0
    }

    /// Records a job that completed after `took`.
    pub(super) fn note(&self, class: Class, now: Instant, took: Duration) {
        self.stats(class).note(now, took);
    }

    /// Counts an event that is delivered to a handler.
    pub(super) fn note_event(&self, class: Class) {
        self.events[class_index(class)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of events delivered to a handler since the host started.
    pub(crate) fn events(&self, class: Class) -> u64 {
        self.events[class_index(class)].load(Ordering::Relaxed)
    }

    pub(crate) fn queue_metrics(&self, class: Class) -> QueueMetrics {
        self.stats(class).read(Instant::now())
    }

    /// Returns the rate at which jobs of a class complete while others are queued.
    pub(super) fn service_rate(&self, class: Class) -> ServiceRate {
        self.stats(class).service_rate(Instant::now())
    }

    /// Frees the memory that an app without work doesn't need.
    pub(super) fn trim(&self) {
        self.stats.iter().for_each(|stats| stats.lock().unwrap_or_else(PoisonError::into_inner).clear());
        self.reset_cpu_sample();
        self.release_files();
    }

    /// Releases the runtime for the app's files unless it is in use.
    pub(super) fn release_files(&self) {
        self.files.release_if_idle();
    }

    fn stats(&self, class: Class) -> MutexGuard<'_, QueueStats> {
        self.stats[class_index(class)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the index of a class in arrays with one value per class.
pub(super) fn class_index(class: Class) -> usize {
    match class {
        Class::Pull => 0,
        Class::Push => 1,
    }
}

/// Returns the name of a class's queue, as shown to users.
pub(crate) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Pull => "pull",
        Class::Push => "push",
    }
}

/// Both classes, the more urgent first.
pub(crate) const CLASSES: [Class; 2] = [Class::Pull, Class::Push];

/// Returns whether evicting an instance of `pool` makes room for one of `program`.
fn frees_room(pool: &Pool, room: Room, program: &Program) -> bool {
    match room {
        Room::Slot => pool.program().shares_slots_with(program),
        Room::Instance | Room::Memory => true,
    }
}

/// Production apps get a larger share of a contended CPU.
fn weight(app_type: AppType) -> Weight {
    let weight = match app_type {
        AppType::Dev | AppType::Staging => limits::WEIGHT_DEFAULT,
        AppType::Production => limits::WEIGHT_PRODUCTION,
    };
    Weight::new(weight).unwrap_or_default()
}

/// Returns the number of worker threads that the app may use at once. Admission limits the cores of
/// each queue.
fn threads_max(cores: Cores) -> NonZeroU32 {
    NonZeroU32::new(cores.pull.max(cores.push)).unwrap_or(NonZeroU32::MIN)
}
