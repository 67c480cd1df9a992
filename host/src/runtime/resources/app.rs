//! The resources of one app, shared by all its releases: its CPU account, its cores, its pools, its
//! body budgets, and the statistics of its two queues. Never queues or runs a job itself.

use super::{
    assets::AppAssets,
    bodies::{AppBodies, BodyBudgetExceeded, IncomingBody},
    cores::{AppCores, CoreLoad},
    cpu::AppCpu,
    guest_runtime::{AppFiles, InGuestRuntime},
    host::HostResources,
    instances,
    pools::{Pools, ResourceUser},
    stats::{AppStats, QueueMetrics},
    stored_events::{LastRead, StoredEvents},
};
use crate::runtime::{cancellation::Cancellation, class::CLASSES, plugin_use::PluginCalls};
use isopod_engine::{Fault, Instance, Program};
use isopod_executor::{Class, Run};
use isopod_policy::{AppName, AppType, Cores, DurationCounts, ServiceRate};
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// The resources of one app.
pub(crate) struct AppResources {
    host: HostResources,
    cpu: AppCpu,
    cores: AppCores,
    bodies: AppBodies,
    assets: Arc<AppAssets>,
    /// The pools of all the app's releases.
    pools: Pools,
    stats: AppStats,
    is_dev: AtomicBool,
    cancellation: Cancellation,
    files: AppFiles,
    /// The number of ready events that wait on disk, outside the pools.
    stored_work: AtomicU32,
    stored_events: LastRead,
    /// The calls of each plugin that a release of the app in memory uses.
    plugins: Mutex<Vec<Arc<PluginCalls>>>,
}

impl HostResources {
    /// Returns the resources of a new app.
    pub(crate) fn app_resources(&self, app_type: AppType, cores: Cores) -> Arc<AppResources> {
        let resources = AppResources {
            host: self.clone(),
            cpu: AppCpu::new(self.executor(), app_type, cores),
            cores: AppCores::new(cores),
            bodies: AppBodies::default(),
            assets: AppAssets::new(Arc::clone(self.assets())),
            pools: Pools::default(),
            stats: AppStats::default(),
            is_dev: AtomicBool::new(app_type == AppType::Dev),
            cancellation: Cancellation::default(),
            files: AppFiles::default(),
            stored_work: AtomicU32::new(0),
            stored_events: LastRead::default(),
            plugins: Mutex::default(),
        };
        Arc::new(resources)
    }
}

impl AppResources {
    /// Runs work of the program's guests on the app's CPU account. The output includes the CPU time
    /// used. The work is boxed where it is created, because passing it on would copy kilobytes.
    pub(crate) fn run<F>(&self, class: Class, program: &Program, work: Pin<Box<F>>) -> Run<InGuestRuntime<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let files = program.has_folders().then_some(&self.files);
        self.cpu.account().run_unpin(class, self.host.guests().wrap(files, work))
    }

    /// Starts an instance; call it within [`Self::run`]. If the host has no room, evicts an idle
    /// instance of any app that has more than its warm minimum.
    pub(crate) fn start(&self, program: &Program) -> impl Future<Output = Result<Box<Instance>, Fault>> {
        instances::start(self.host.pools(), program)
    }

    /// Starts an instance for a release that replaces another release of this app, and evicts the
    /// app's own instances if there is no other room.
    pub(crate) fn start_in_place(&self, program: &Program) -> impl Future<Output = Result<Box<Instance>, Fault>> {
        instances::start_in_place(self.host.pools(), &self.pools, program)
    }

    /// Makes room after a running job found none, so that a retry succeeds.
    pub(crate) fn evict_after(&self, fault: &Fault, program: &Program) {
        instances::evict_after(self.host.pools(), fault, program);
    }

    /// Adds a pool to the lists of the app and the host, where it stays until it is dropped.
    pub(crate) fn register<P: ResourceUser + 'static>(&self, pool: &Arc<P>) {
        for pools in [&self.pools, self.host.pools()] {
            let pool: Weak<P> = Arc::downgrade(pool);
            pools.register(pool);
        }
    }

    /// Returns whether a pool of any of the app's releases is in memory.
    pub(crate) fn is_resident(&self) -> bool {
        !self.pools.is_empty()
    }

    pub(crate) fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    pub(crate) fn host(&self) -> &HostResources {
        &self.host
    }

    /// Starts to receive a body of `bytes` bytes. Fails immediately if the budgets have no room for
    /// it now.
    pub(crate) fn receive(&self, bytes: u64) -> Result<IncomingBody<'_>, BodyBudgetExceeded> {
        self.bodies.receive(bytes, self.host.bodies())
    }

    /// Returns the budgets for the app's assets.
    pub(crate) fn assets(&self) -> &Arc<AppAssets> {
        &self.assets
    }

    /// Returns the app's load in one class, in all its releases. Push work on disk is included.
    pub(crate) fn load(&self, class: Class) -> CoreLoad {
        let mut load = self.cores.load(class, &self.pools);
        if class == Class::Push {
            load.waiting = load.waiting.saturating_add(self.stored_work.load(Ordering::Relaxed));
        }
        load
    }

    /// Returns the arrival time of the queued job that has waited longest in any pool of the app.
    pub(crate) fn waiting_since(&self, class: Class) -> Option<Instant> {
        self.pools.all().iter().filter_map(|pool| pool.waiting_since(class)).min()
    }

    /// Returns the last known numbers of stored events; `None` before they are read for the first
    /// time after the host's start.
    pub(crate) fn stored_events(&self) -> Option<StoredEvents> {
        self.stored_events.get()
    }

    /// Records that the app may have events of an earlier run of the host.
    pub(crate) fn set_stored_events_unknown(&self) {
        self.stored_events.set_unknown();
    }

    /// Sets the numbers of stored events.
    pub(crate) fn set_stored_events(&self, events: StoredEvents) {
        self.stored_events.set(events);
    }

    /// Sets the numbers of stored events that were read at the host's start, unless later numbers
    /// were set.
    pub(crate) fn set_first_stored_events(&self, events: StoredEvents) {
        self.stored_events.set_first(events);
    }

    /// Sets the amount of push work that waits on disk.
    pub(crate) fn set_stored_work(&self, events: u64) {
        self.stored_work.store(u32::try_from(events).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Adds to the amount of push work that waits on disk.
    pub(crate) fn add_stored_work(&self, events: usize) {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        // The next check of the queue corrects an overflow.
        self.stored_work.fetch_add(events, Ordering::Relaxed);
    }

    /// Returns the number of the app's cores.
    pub(crate) fn cores(&self, class: Class) -> u32 {
        self.cores.count(class)
    }

    /// Changes the number of the app's cores. Running jobs continue; queued jobs are immediately
    /// admitted to added cores.
    pub(crate) fn set_cores(&self, cores: Cores) {
        self.cores.set(cores);
        self.cpu.set_cores(cores);
        self.admit_all();
    }

    /// Returns whether a core is free. A caller that releases a core admits queued jobs afterwards,
    /// so no free core is missed.
    pub(crate) fn has_core(&self, class: Class) -> bool {
        self.cores.is_free(class)
    }

    /// Acquires a core. Returns false if none is free.
    pub(crate) fn acquire_core(&self, class: Class) -> bool {
        self.cores.acquire(class)
    }

    /// Acquires a core even if none is free, for a health check.
    pub(crate) fn acquire_extra_core(&self, class: Class) {
        self.cores.acquire_extra(class);
    }

    pub(crate) fn release_core(&self, class: Class) {
        self.cores.release(class);
    }

    pub(crate) fn note_enqueued(&self, class: Class) {
        if self.cores.note_enqueued(class) {
            self.stats.note_backlog(class, Instant::now());
        }
    }

    pub(crate) fn note_dequeued(&self, class: Class, jobs: usize) {
        self.cores.note_dequeued(class, jobs);
    }

    /// Returns the counters of the app's calls of a plugin. Drops those of plugins that no release
    /// in memory uses.
    pub(crate) fn plugin_calls(&self, plugin: &AppName) -> Arc<PluginCalls> {
        let mut plugins = self.lock_plugins();
        plugins.retain(|calls| calls.plugin() == plugin || calls.is_kept() || Arc::strong_count(calls) > 1);
        if let Some(calls) = plugins.iter().find(|calls| calls.plugin() == plugin) {
            return Arc::clone(calls);
        }
        let calls = Arc::new(PluginCalls::new(plugin.clone()));
        plugins.push(Arc::clone(&calls));
        calls
    }

    /// Returns the counters of the app's calls of all plugins.
    pub(crate) fn all_plugin_calls(&self) -> Vec<Arc<PluginCalls>> {
        self.lock_plugins().clone()
    }

    /// Waits until no call of a plugin for the app is in progress.
    pub(crate) async fn plugin_calls_ended(&self) {
        for calls in self.all_plugin_calls() {
            calls.ended().await;
        }
    }

    /// Drops the token buckets of plugins for the app that are full.
    pub(crate) fn drop_full_counters(&self) {
        self.lock_plugins().iter().for_each(|calls| calls.drop_full_counters());
    }

    fn lock_plugins(&self) -> MutexGuard<'_, Vec<Arc<PluginCalls>>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of queued jobs in all pools of the app.
    pub(crate) fn waiting(&self, class: Class) -> usize {
        self.cores.waiting(class)
    }

    /// Admits queued jobs of any pool of the app while there are cores and instances for them.
    pub(crate) fn admit_all(&self) {
        CLASSES.into_iter().for_each(|class| self.cores.admit(class, &self.pools));
    }

    /// Returns whether the app's type is `dev`, so that its responses may show internals.
    pub(crate) fn is_dev(&self) -> bool {
        self.is_dev.load(Ordering::Relaxed)
    }

    pub(crate) fn set_type(&self, app_type: AppType) {
        self.is_dev.store(app_type == AppType::Dev, Ordering::Relaxed);
        self.cpu.set_type(app_type);
    }

    /// Returns the CPU time that the app's guests have used since the host started.
    pub(crate) fn cpu(&self) -> Duration {
        self.cpu.time()
    }

    /// Returns the part of the CPU time that plugins used for the app. A gate pays for itself.
    pub(crate) fn plugin_cpu(&self) -> Duration {
        self.lock_plugins().iter().filter(|calls| !calls.is_kept()).map(|calls| calls.cpu()).sum()
    }

    /// Discards the CPU sample: no release of the app is in memory.
    pub(crate) fn reset_cpu_sample(&self) {
        self.cpu.reset_sample();
    }

    /// Samples the CPU time, to compute the current CPU use.
    pub(crate) fn sample_cpu(&self, now: Instant) {
        self.cpu.sample(now);
    }

    /// Returns the recent CPU use of the app's guests, in percent of one processor.
    pub(crate) fn cpu_percent(&self) -> f64 {
        self.cpu.percent()
    }

    /// Records a job that completed after `took`.
    pub(crate) fn note(&self, class: Class, now: Instant, took: Duration) {
        self.stats.note(class, now, took);
    }

    /// Counts an event that is delivered to a handler.
    pub(crate) fn note_event(&self, class: Class) {
        self.stats.note_event(class);
    }

    /// Returns the number of events delivered to a handler since the host started.
    pub(crate) fn events(&self, class: Class) -> u64 {
        self.stats.events(class)
    }

    pub(crate) fn queue_metrics(&self, class: Class) -> QueueMetrics {
        self.stats.read(class, Instant::now())
    }

    /// Returns the latencies of all jobs of a class since the host started.
    pub(crate) fn latencies(&self, class: Class) -> DurationCounts {
        self.stats.latencies(class)
    }

    /// Returns the rate at which jobs of a class complete while others are queued.
    pub(crate) fn service_rate(&self, class: Class) -> ServiceRate {
        self.stats.service_rate(class, Instant::now())
    }

    /// Frees the memory that an app without work doesn't need.
    pub(crate) fn trim(&self) {
        self.stats.clear();
        self.reset_cpu_sample();
        self.release_files();
    }

    /// Frees the memory of dropped pools.
    pub(crate) fn remove_dropped_pools(&self) {
        self.pools.remove_dropped();
    }

    /// Releases the runtime for the app's files unless it is in use.
    pub(crate) fn release_files(&self) {
        self.files.release_if_idle();
    }
}
