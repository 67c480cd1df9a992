//! What one app has of the machine, whichever of its releases runs: its account of CPU time, its cores, and what is
//! measured of its two queues. Never queues or runs anything itself.

use super::{
    cancellation::Cancellation,
    guest_runtime::{AppFiles, Guests, OnGuests},
    pool::Pool,
    queue_stats::{Measured, QueueStats},
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

/// Where shares come from: the machine as far as apps divide it among them.
#[derive(Clone)]
pub(crate) struct HostResources(Arc<Parts>);

struct Parts {
    executor: Executor,
    guests: Guests,
    /// What all jobs hold that wait, and all bodies that are being read, of all apps.
    waiting_bytes: ByteBudget,
    arriving_bytes: ByteBudget,
    /// All pools, for when there is no room for another instance.
    pools: Mutex<Vec<Weak<Pool>>>,
    /// Whether jobs that wait are refused, because the host stops.
    refuses_waiting: AtomicBool,
}

/// What an app does in one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) cores: u32,
    /// How many of them are taken.
    pub(crate) active: u32,
    pub(crate) waiting: u32,
}

/// Why a body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyBudgetExceeded {
    #[error("the bodies that are on their way to the app come to {} MiB, and more are not read at one time",
        limits::TRAFFIC_BODIES_BYTES >> 20)]
    OfApp,
    #[error("the bodies that are on their way to this host come to {} MiB, and more are not read at one time",
        limits::TRAFFIC_BODIES_BYTES_ALL >> 20)]
    OfAll,
}

/// A body that is being read: what has come of it counts until this is dropped.
pub(crate) struct IncomingBody<'a>(Growing<'a>);

impl IncomingBody<'_> {
    /// Counts so many bytes of it from now on.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), BodyBudgetExceeded> {
        self.0.grow_to(bytes).map_err(BodyBudgetExceeded::from)
    }
}

impl From<Crossed> for BodyBudgetExceeded {
    fn from(crossed: Crossed) -> Self {
        match crossed {
            Crossed::Own => Self::OfApp,
            Crossed::All => Self::OfAll,
        }
    }
}

/// One app's share.
pub(crate) struct AppResources {
    account: Account,
    host: HostResources,
    cores: [AtomicU32; 2],
    /// How many of them are taken, and how many jobs wait.
    busy: [AtomicU32; 2],
    waiting: [AtomicUsize; 2],
    /// What the app's bodies hold that are being read.
    arriving_bytes: ByteBudget,
    /// The app's own pools, of whichever release.
    pools: Mutex<Vec<Weak<Pool>>>,
    stats: [Mutex<QueueStats>; 2],
    /// How many events were given to a handler.
    events: [AtomicU64; 2],
    /// Tenths of a percent of one processor that the app's guests used when it was last looked at.
    cpu_permille: AtomicU32,
    looked: Mutex<Option<(Instant, Duration)>>,
    is_dev: AtomicBool,
    cancellation: Cancellation,
    files: AppFiles,
}

impl HostResources {
    /// `guests` has the runtimes of guests that don't use an I/O thread's.
    pub(crate) fn new(executor: Executor, guests: Guests) -> Self {
        let waiting_bytes = ByteBudget::of(limits::QUEUED_BYTES_ALL);
        let arriving_bytes = ByteBudget::of(limits::TRAFFIC_BODIES_BYTES_ALL);
        let (pools, refuses_waiting) = Default::default();
        Self(Arc::new(Parts { executor, guests, waiting_bytes, arriving_bytes, pools, refuses_waiting }))
    }

    /// Refuses the jobs that still wait shortly before `drain` has passed, so that their clients get a response before
    /// their connections are cut off. Jobs that run are not affected.
    pub(crate) async fn refuse_waiting_after(self, drain: Duration) {
        tokio::time::sleep(drain.saturating_sub(limits::LAST_RESPONSES_TIME)).await;
        self.0.refuses_waiting.store(true, Ordering::SeqCst);
        let pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pools.iter().filter_map(Weak::upgrade).for_each(|pool| pool.refuse_waiting());
    }

    pub(super) fn refuses_waiting(&self) -> bool {
        self.0.refuses_waiting.load(Ordering::SeqCst)
    }

    /// The share of a new app.
    pub(crate) fn resources(&self, app_type: AppType, cores: Cores) -> Arc<AppResources> {
        let resources = AppResources {
            account: self.0.executor.account(weight(app_type), widest(cores)),
            host: self.clone(),
            cores: [AtomicU32::new(cores.pull), AtomicU32::new(cores.push)],
            busy: Default::default(),
            waiting: Default::default(),
            arriving_bytes: ByteBudget::of(limits::TRAFFIC_BODIES_BYTES),
            pools: Mutex::default(),
            stats: Default::default(),
            events: Default::default(),
            cpu_permille: AtomicU32::new(0),
            looked: Mutex::default(),
            is_dev: AtomicBool::new(app_type == AppType::Dev),
            cancellation: Cancellation::default(),
            files: AppFiles::default(),
        };
        Arc::new(resources)
    }

    /// Ends an instance that has nothing to do, to make room for one of `wanting`; false if there is none. It begins
    /// somewhere else each time, so that no app always gives way.
    fn evict_any(&self, room: Room, wanting: &Program, from: usize) -> bool {
        let pools = || self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let count = pools().len();
        // One at a time, so that nobody waits for the list while an instance ends.
        let mut others = (0..count).filter_map(|step| pools().get((from + step) % count).and_then(Weak::upgrade));
        others.any(|pool| frees_room(&pool, room, wanting) && pool.evict_spare())
    }

    /// Makes room for a job that waits; false if the queues of all apps hold too much already.
    pub(super) fn reserve_bytes(&self, bytes: u64) -> bool {
        self.0.waiting_bytes.take(bytes)
    }

    pub(super) fn release_bytes(&self, bytes: u64) {
        self.0.waiting_bytes.give_back(bytes);
    }
}

impl AppResources {
    /// Runs work of the program's guests on the app's account. Its output comes with the CPU time it took.
    pub(crate) fn run<F>(&self, class: Class, program: &Program, work: F) -> Run<OnGuests<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let files = program.has_folders().then_some(&self.files);
        self.account.run(class, self.host.0.guests.carry(files, work))
    }

    /// Starts an instance; to be called within [`Self::run`]. Where there is no room for it, one that has nothing to do
    /// has to go, whoever it belongs to.
    pub(crate) async fn start(&self, program: &Program) -> Result<Box<Instance>, Fault> {
        for _ in 0..limits::ROOM_ATTEMPTS {
            match program.start().await {
                Err(Fault::NoRoom { room, .. })
                    if self.host.evict_any(room, program, rand::random::<u32>() as usize) => {}
                started => return started,
            }
        }
        program.start().await
    }

    /// The same for a release that is to take the place of another one. Of that one all idle instances but one may have to
    /// go: an app that holds all there is must not for that reason keep the release it has.
    pub(crate) async fn start_in_place(&self, program: &Program) -> Result<Box<Instance>, Fault> {
        loop {
            match self.start(program).await {
                Err(Fault::NoRoom { room, .. }) if self.evict_own(room, program) => {}
                started => return started,
            }
        }
    }

    fn evict_own(&self, room: Room, wanting: &Program) -> bool {
        let own: Vec<_> = self.pools().into_iter().filter(|pool| frees_room(pool, room, wanting)).collect();
        if own.iter().map(|pool| pool.live()).sum::<u32>() < 2 {
            return false;
        }
        // Of several first; and requests, for which somebody waits, lose their last one only after events.
        let (requests, events): (Vec<_>, Vec<_>) = own.iter().partition(|pool| pool.entry() == Entry::Http);
        own.iter().any(|pool| pool.live() > 1 && pool.evict_idle())
            || events.into_iter().chain(requests).any(|pool| pool.evict_idle())
    }

    /// Makes room after a job found none in the middle of its work, so that the next attempt does.
    pub(super) fn evict_after(&self, fault: &Fault, program: &Program) {
        if let Fault::NoRoom { room, .. } = fault {
            let spare = (0..limits::ROOM_ATTEMPTS).map(|_| rand::random::<u32>() as usize);
            // Whoever has none to spare has none for the next attempt either.
            let _ended = spare.take_while(|&from| self.host.evict_any(*room, program, from)).count();
        }
    }

    /// Knows a pool of the app from now on, until it is gone.
    pub(super) fn register(&self, pool: &Arc<Pool>) {
        for pools in [&self.pools, &self.host.0.pools] {
            let mut pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
            // Only as often as the list doubles, so that it costs each pool the same however many there are.
            if pools.len() == pools.capacity() {
                pools.retain(|pool| pool.strong_count() > 0);
            }
            pools.push(Arc::downgrade(pool));
        }
    }

    /// The app's pools, also those that only finish what they accepted.
    pub(super) fn pools(&self) -> Vec<Arc<Pool>> {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pools.iter().filter_map(Weak::upgrade).collect()
    }

    /// Waits until no job of the app runs or waits.
    pub(super) async fn drained(&self) {
        while let Some(busy) = self.pools().into_iter().find(|pool| pool.is_busy()) {
            busy.drained().await;
        }
    }

    pub(super) fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    /// Whether anything of the app is there that answers somebody, of whichever release.
    pub(crate) fn is_at_work(&self) -> bool {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|pool| pool.strong_count() > 0)
    }

    /// What the app does in one class, whichever of its releases does it.
    pub(crate) fn load(&self, class: Class) -> Load {
        let waiting = self.pools().iter().map(|pool| pool.waiting(class)).sum();
        Load { cores: self.cores(class), active: self.busy[at(class)].load(Ordering::Relaxed), waiting }
    }

    /// Whether a core is free. Whoever makes one free looks for those who wait for it, so that none is missed.
    pub(super) fn has_core(&self, class: Class) -> bool {
        self.busy[at(class)].load(Ordering::SeqCst) < self.cores(class)
    }

    /// Takes a core, if one is free.
    pub(super) fn take_core(&self, class: Class) -> bool {
        let cores = self.cores(class);
        let one_more = |busy: u32| (busy < cores).then_some(busy + 1);
        self.busy[at(class)].try_update(Ordering::SeqCst, Ordering::Relaxed, one_more).is_ok()
    }

    /// Takes a core though none may be free: for a look at an instance's health.
    pub(super) fn take_any_core(&self, class: Class) {
        self.busy[at(class)].fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn give_core_back(&self, class: Class) {
        self.busy[at(class)].fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn begin_waiting(&self, class: Class) {
        if self.waiting[at(class)].fetch_add(1, Ordering::SeqCst) == 0 {
            self.stats(class).jobs_wait(Instant::now());
        }
    }

    pub(super) fn end_waiting(&self, class: Class, jobs: usize) {
        self.waiting[at(class)].fetch_sub(jobs, Ordering::SeqCst);
    }

    /// How many jobs wait, in all pools of the app.
    pub(super) fn waiting(&self, class: Class) -> usize {
        self.waiting[at(class)].load(Ordering::SeqCst)
    }

    /// Lets in jobs that wait in any pool of the app, after a core was given back: who has waited longest comes first, so
    /// that no release and no process type keeps the others waiting. Nothing is looked at where none waits, or the core was
    /// handed on already.
    pub(super) fn admit(&self, class: Class) {
        if self.waiting(class) == 0 || !self.has_core(class) {
            return;
        }
        let mut pools = self.pools();
        while let Some((at, _)) = pools
            .iter()
            .enumerate()
            .filter_map(|(at, pool)| Some((at, pool.oldest(class)?)))
            .min_by_key(|(_, since)| *since)
        {
            // A pool with as many at work as it may have leaves the core to the others.
            if !pools[at].admit_one(class) {
                pools.swap_remove(at);
            }
        }
    }

    /// Counts what comes of a body of so many bytes. What only its head has announced does not count: that costs a client
    /// nothing. It is refused at once where there is no room for it now.
    pub(crate) fn receive(&self, bytes: u64) -> Result<IncomingBody<'_>, BodyBudgetExceeded> {
        Ok(IncomingBody(Growing::up_to(bytes, &self.arriving_bytes, &self.host.0.arriving_bytes)?))
    }

    pub(super) fn host(&self) -> &HostResources {
        &self.host
    }

    pub(crate) fn cores(&self, class: Class) -> u32 {
        self.cores[at(class)].load(Ordering::Relaxed)
    }

    /// Gives the app other cores. What runs now ends in its own time, and jobs for which there are more begin at once.
    pub(super) fn set_cores(&self, cores: Cores) {
        self.cores[at(Class::Pull)].store(cores.pull, Ordering::Relaxed);
        self.cores[at(Class::Push)].store(cores.push, Ordering::Relaxed);
        self.account.set_cores(widest(cores));
        self.admit_all();
    }

    /// Lets in jobs that wait in any pool of the app, as far as there are cores and instances for them.
    pub(crate) fn admit_all(&self) {
        CLASSES.into_iter().for_each(|class| self.admit(class));
    }

    /// Whether the app's type is `dev`, so that its responses may show internals.
    pub(crate) fn is_dev(&self) -> bool {
        self.is_dev.load(Ordering::Relaxed)
    }

    pub(crate) fn set_type(&self, app_type: AppType) {
        self.is_dev.store(app_type == AppType::Dev, Ordering::Relaxed);
        self.account.set_weight(weight(app_type));
    }

    /// The CPU time that the app's guests have used since the host started.
    pub(crate) fn cpu(&self) -> Duration {
        self.account.cpu(Class::Pull) + self.account.cpu(Class::Push)
    }

    /// Forgets how much CPU time was used lately, since nothing of the app is there any more.
    pub(crate) fn reset_cpu_sample(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.cpu_permille.store(0, Ordering::Relaxed);
    }

    /// Looks at the CPU time once more, to know how much is used now.
    pub(crate) fn look(&self, now: Instant) {
        let cpu = self.cpu();
        let before = self.looked.lock().unwrap_or_else(PoisonError::into_inner).replace((now, cpu));
        let Some((then, cpu_then)) = before else { return };
        let (passed, used) = (now.saturating_duration_since(then), cpu.saturating_sub(cpu_then));
        let permille = used.as_micros().saturating_mul(1_000) / passed.as_micros().max(1);
        self.cpu_permille.store(u32::try_from(permille).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The part of one processor that the app's guests used lately, in percent.
    pub(crate) fn cpu_percent(&self) -> f64 {
        f64::from(self.cpu_permille.load(Ordering::Relaxed)) / 10.0
    }

    /// Takes in a job that ended after so long.
    pub(super) fn note(&self, class: Class, now: Instant, took: Duration) {
        self.stats(class).note(now, took);
    }

    /// Counts an event that is given to a handler.
    pub(super) fn note_event(&self, class: Class) {
        self.events[at(class)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many events were given to a handler since the host started.
    pub(crate) fn events(&self, class: Class) -> u64 {
        self.events[at(class)].load(Ordering::Relaxed)
    }

    pub(crate) fn measured(&self, class: Class) -> Measured {
        self.stats(class).read(Instant::now())
    }

    /// How fast jobs of a class end while others wait.
    pub(super) fn drain(&self, class: Class) -> ServiceRate {
        self.stats(class).drain(Instant::now())
    }

    /// Gives back what an app without work needs no memory for.
    pub(super) fn rest(&self) {
        self.stats.iter().for_each(|stats| stats.lock().unwrap_or_else(PoisonError::into_inner).clear());
        self.reset_cpu_sample();
        self.rest_files();
    }

    /// Gives back the runtime for the app's files while it isn't used.
    pub(super) fn rest_files(&self) {
        self.files.rest();
    }

    fn stats(&self, class: Class) -> MutexGuard<'_, QueueStats> {
        self.stats[at(class)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the values of a class stand among those of both.
pub(super) fn at(class: Class) -> usize {
    match class {
        Class::Pull => 0,
        Class::Push => 1,
    }
}

/// What people call the queue of a class.
pub(crate) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Pull => "pull",
        Class::Push => "push",
    }
}

/// Both classes, the more urgent one first.
pub(crate) const CLASSES: [Class; 2] = [Class::Pull, Class::Push];

/// Whether an instance less in a pool is room for one of `wanting`.
fn frees_room(pool: &Pool, room: Room, wanting: &Program) -> bool {
    match room {
        Room::Slot => pool.program().shares_slots_with(wanting),
        Room::Instance | Room::Memory => true,
    }
}

/// What people pay for is served with a larger share where the CPU is short.
fn weight(app_type: AppType) -> Weight {
    let weight = match app_type {
        AppType::Dev | AppType::Staging => limits::WEIGHT_USUAL,
        AppType::Production => limits::WEIGHT_PRODUCTION,
    };
    Weight::new(weight).unwrap_or_default()
}

/// How many fair threads the app may have at once: each queue's cores are bounded where jobs are let in.
fn widest(cores: Cores) -> NonZeroU32 {
    NonZeroU32::new(cores.pull.max(cores.push)).unwrap_or(NonZeroU32::MIN)
}
