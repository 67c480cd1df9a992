//! An active release: the pools and the commands of its process types. Supervises its instances
//! once the control plane has put it in service, and ends them when it is dropped. Never decides
//! which release serves.

use super::{
    assets::Assets,
    command::Command,
    frozen::{Frozen, FrozenProcess},
    plan::ProcessPlan,
    plugin_use::{Chain, ChainLink},
    pool::{Pool, PoolContext, PoolCounters, ScaleChange},
    resources::AppResources,
    status::LiveInstance,
    supervisor::{self, CrashReport},
    weak_list::WeakList,
};
use crate::runtime::limits;
use isopod_engine::{Level, Origin, OutputLine, Program, Rejected, StallTimeout, Stream};
use isopod_policy::{
    Entry, InstanceId, Isolation, MiddlewareUse, PluginSettings, Process, ProcessName, ReleaseNumber, Scale,
};
use semver::Version;
use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A release in memory that can take jobs.
pub(crate) struct ActiveRelease {
    release: Option<ReleaseNumber>,
    program: Program,
    isolation: Isolation,
    /// The counters at the last check, and when a check last found activity.
    last_work: Mutex<(PoolCounters, Instant)>,
    pools: Vec<Arc<Pool>>,
    commands: Vec<Arc<Command>>,
    /// The pools that take the app's HTTP requests and its events.
    pub(super) http: Option<Arc<Pool>>,
    pub(super) events: Option<Arc<Pool>>,
    /// The pool that serves the calls of a plugin, if this is a release of one.
    plugin: Option<Arc<Pool>>,
    /// Whether its code can find the assets of apps, as a middleware.
    finds_assets: bool,
    /// The middlewares that handle the app's requests first.
    middleware: Option<Arc<Chain>>,
    /// The assets that middlewares may respond with.
    assets: Option<Arc<Assets>>,
    /// The version, if this is a release of a plugin.
    plugin_version: Option<Arc<Version>>,
    /// When it entered service as a new release. Unset if it serves again.
    fresh_since: OnceLock<Instant>,
    stop: CancellationToken,
    on_standby: Arc<AtomicBool>,
    _stop_at_drop: DropGuard,
}

impl ActiveRelease {
    /// Creates a release from its plans. `program` is the component with the settings that all
    /// process types share.
    pub(crate) fn new(
        release: Option<ReleaseNumber>,
        program: Program,
        isolation: Isolation,
        planned: Vec<ProcessPlan>,
        resources: Arc<AppResources>,
    ) -> Self {
        let isolation = if program.info().single_use { Isolation::Request } else { isolation };
        let stop = CancellationToken::new();
        let on_standby = Arc::<AtomicBool>::default();
        let (owner, token) = (Arc::clone(&resources), stop.clone());
        let context =
            PoolContext { release, isolation, resources: owner, stop: token, on_standby: Arc::clone(&on_standby) };
        let (mut pools, mut commands) = (Vec::new(), Vec::new());
        for ProcessPlan { name, process, scale, program, warm } in planned {
            match process.entry {
                Entry::Command => {
                    commands.push(Arc::new(Command::new(name, process, scale, program, Arc::clone(&resources))))
                }
                Entry::Http | Entry::Events | Entry::Middleware | Entry::Gate | Entry::Provider | Entry::Hook => {
                    let pool = Pool::new(context.clone(), name, process, program, scale);
                    warm.into_iter().for_each(|instance| pool.add_instance(instance));
                    let pool = Arc::new(pool);
                    resources.register(&pool);
                    pools.push(pool);
                }
            }
        }
        let (http, events) = (main_pool(&pools, Entry::Http, "web"), main_pool(&pools, Entry::Events, "worker"));
        let plugin = pools.iter().find(|pool| pool.entry().plugin_kind().is_some()).map(Arc::clone);
        let last_work = Mutex::new((PoolCounters::default(), Instant::now()));
        let _stop_at_drop = stop.clone().drop_guard();
        let fresh_since = OnceLock::new();
        let finds_assets = program.info().finds_assets();
        Self {
            release,
            program,
            finds_assets,
            isolation,
            last_work,
            pools,
            commands,
            http,
            events,
            plugin,
            middleware: None,
            assets: None,
            plugin_version: None,
            fresh_since,
            _stop_at_drop,
            stop,
            on_standby,
        }
    }

    /// Returns the release with its chain of middlewares: those that the operator requires, then
    /// its own.
    pub(crate) fn with_middleware(mut self, own: &[MiddlewareUse], resources: &AppResources) -> Self {
        if self.serves_http() {
            let uses = resources.host().required_middleware().iter().chain(own);
            let links =
                uses.map(|used| ChainLink { used: used.clone(), calls: resources.plugin_calls(&used.plugin.name) });
            self.middleware = Chain::of(links.collect());
        }
        self
    }

    /// Returns the release with its assets.
    pub(crate) fn with_assets(self, assets: Option<Assets>) -> Self {
        Self { assets: assets.map(Arc::new), ..self }
    }

    /// Returns the release of a plugin with its version.
    pub(crate) fn with_plugin(self, settings: Option<&PluginSettings>) -> Self {
        Self { plugin_version: settings.map(|settings| Arc::new(settings.version.clone())), ..self }
    }

    /// Returns the version, if this is a release of a plugin.
    pub(crate) fn plugin_version(&self) -> Option<&Version> {
        self.plugin_version.as_deref()
    }

    /// Returns the assets, if the release has any.
    pub(crate) fn assets(&self) -> Option<&Arc<Assets>> {
        self.assets.as_ref()
    }

    /// Returns whether its code can find the assets of apps, as a middleware.
    pub(super) fn finds_assets(&self) -> bool {
        self.finds_assets
    }

    /// Returns whether it can receive the bodies that it asks for, as a middleware.
    pub(super) fn receives_bodies(&self) -> bool {
        self.program.receives_bodies()
    }

    /// Writes a warning to the app's log.
    pub(super) fn log_warning(&self, text: &str) {
        let line = OutputLine::new(Stream::Log(Level::Warn), "isopod", Origin::default(), text);
        self.program.sandbox().output.line(line);
    }

    /// Returns the middlewares that handle the app's requests first, if there are any.
    pub(crate) fn middleware(&self) -> Option<&Chain> {
        self.middleware.as_deref()
    }

    /// Returns the pool that checks configs, if this is a release of a plugin with a config.
    pub(super) fn checking_pool(&self) -> Option<&Arc<Pool>> {
        self.plugin_pool(Entry::Middleware).or_else(|| self.plugin_pool(Entry::Gate))
    }

    /// Returns the pool that serves the calls of a plugin with this entry, if this is a release of
    /// such a plugin.
    pub(super) fn plugin_pool(&self, entry: Entry) -> Option<&Arc<Pool>> {
        self.plugin.as_ref().filter(|pool| pool.entry() == entry)
    }

    pub(crate) fn release(&self) -> Option<ReleaseNumber> {
        self.release
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Returns whether a process type takes HTTP requests.
    pub(crate) fn serves_http(&self) -> bool {
        self.http.is_some()
    }

    /// Returns whether a process type takes events of apps and clients.
    pub(crate) fn takes_events(&self) -> bool {
        self.events.is_some()
    }

    /// Returns whether stored events are delivered to a process type. A hook takes only events of
    /// the host.
    pub(crate) fn has_deliveries(&self) -> bool {
        self.takes_events() || self.plugin_pool(Entry::Hook).is_some()
    }

    /// Returns how long the release has been idle, as far as the previous checks have seen.
    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        let counters = self.counters();
        let is_busy = self.pools.iter().any(|pool| pool.is_busy());
        let mut last_work = self.last_work.lock().unwrap_or_else(PoisonError::into_inner);
        if is_busy || last_work.0 != counters {
            *last_work = (counters, now);
        }
        now.saturating_duration_since(last_work.1)
    }

    /// Returns the frozen form of the release. `None` if it must stay in memory: it has a minimum
    /// of instances, a supervised command, or a job that runs.
    pub(super) fn freeze(&self) -> Option<Frozen> {
        let release = self.release?;
        let must_stay = self.pools.iter().any(|pool| pool.scale().min > 0 || pool.is_busy())
            || self.commands.iter().any(|command| command.is_supervised() || command.is_busy());
        if must_stay {
            return None;
        }
        let pools = self.pools.iter().map(|pool| FrozenProcess {
            name: pool.process().clone(),
            process: pool.definition().clone(),
            scale: pool.scale(),
            program: None,
        });
        let commands = self.commands.iter().map(|command| command.freeze());
        Some(Frozen {
            release,
            isolation: self.isolation,
            program: self.program.freeze(),
            processes: pools.chain(commands).collect(),
            middleware: self.middleware.clone(),
            assets: self.assets.as_ref().map(|assets| Arc::clone(assets.pack())),
            plugin_version: self.plugin_version.clone(),
        })
    }

    /// Returns the release that was frozen, with its code in memory again.
    pub(super) fn thaw(frozen: &Frozen, resources: &Arc<AppResources>) -> Result<Self, Rejected> {
        let (program, planned) = frozen.thaw()?;
        let release = Self::new(Some(frozen.release()), program, frozen.isolation, planned, Arc::clone(resources));
        let assets = frozen.assets.clone().map(Assets::new);
        let (middleware, plugin_version) = (frozen.middleware.clone(), frozen.plugin_version.clone());
        Ok(Self { middleware, plugin_version, ..release.with_assets(assets) })
    }

    /// Sets whether another release serves in its place.
    pub(super) fn set_standby(&self, on_standby: bool) {
        self.on_standby.store(on_standby, Ordering::Relaxed);
        if !on_standby {
            // Instances that were evicted while on standby are started again.
            self.pools.iter().for_each(|pool| pool.instance_ended.notify_one());
        }
    }

    /// Returns whether the release drains: it completes its jobs and takes no further ones.
    pub(super) fn is_draining(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Returns the number of instances of a process type that the recent load needs, within
    /// `scale`.
    pub(crate) fn needed(&self, process: &ProcessName, scale: Scale) -> u32 {
        self.pool(process).map_or(scale.min, |pool| pool.needed(scale))
    }

    /// Returns the number of slots that have an instance or a lease.
    pub(crate) fn live(&self) -> u32 {
        self.pools.iter().map(|pool| pool.live()).sum()
    }

    /// Takes over the measured load of the replaced release.
    pub(super) fn inherit_load(&self, previous: &Self) {
        for pool in &self.pools {
            if let Some(previous) = previous.pool(pool.process()) {
                pool.inherit_load(previous);
            }
        }
    }

    /// Marks the release as one that enters service for the first time.
    pub(crate) fn mark_fresh(&self) {
        self.fresh_since.get_or_init(Instant::now);
    }

    /// Returns whether the release has served only briefly, so that its crash loops are probably
    /// its own fault.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh_since.get().is_some_and(|since| since.elapsed() < limits::RELEASE_FRESH)
    }

    /// Starts the supervisors of the warm instances and of the commands. They send a report when
    /// restarts don't help.
    pub(crate) fn supervise(&self, reports: &mpsc::Sender<CrashReport>) {
        for pool in self.pools.iter().filter(|pool| pool.serving_min() > 0) {
            let supervision = supervisor::supervise(Arc::clone(pool), self.release, reports.clone());
            tokio::spawn(self.stop.clone().run_until_cancelled_owned(supervision));
        }
        for command in self.commands.iter().filter(|command| command.is_supervised()) {
            for copy in 0..command.copies() {
                let supervision = Arc::clone(command).supervise(copy, self.release, reports.clone());
                tokio::spawn(self.stop.clone().run_until_cancelled_owned(supervision));
            }
        }
    }

    /// Runs a command once, for its schedule. Returns the run, which ends early with `None` if the
    /// release is stopped. `None` while as many runs are in progress as the schedule allows.
    pub(crate) fn run_command(&self, process: &ProcessName) -> Option<JoinHandle<Option<Result<(), String>>>> {
        let command = self.commands.iter().find(|command| command.process() == process)?;
        let run = Arc::clone(command).start_scheduled()?;
        Some(tokio::spawn(self.stop.clone().run_until_cancelled_owned(run)))
    }

    /// Adds the pools of all process types to a list of pools.
    pub(super) fn register_pools(&self, pools: &WeakList<Pool>) {
        self.pools.iter().for_each(|pool| pools.register_once(pool));
    }

    /// Returns the pool of a process type.
    pub(super) fn pool(&self, process: &ProcessName) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| pool.process() == process)
    }

    /// Returns the settings of a process type to which stored events are delivered.
    pub(crate) fn event_process(&self, process: &ProcessName) -> Option<&Process> {
        let pool = self.pool(process).filter(|pool| matches!(pool.entry(), Entry::Events | Entry::Hook));
        pool.map(|pool| pool.definition())
    }

    /// Returns the maximum number of instances of a process type; 0 without its pool.
    pub(crate) fn instances_max(&self, process: &ProcessName) -> u32 {
        self.pool(process).map_or(0, |pool| pool.scale().max)
    }

    /// Returns the process type of events that name none, and its settings.
    pub(crate) fn main_event_process(&self) -> Option<(&ProcessName, &Process)> {
        self.events.as_ref().map(|pool| (pool.process(), pool.definition()))
    }

    /// Returns the entry point of a process type.
    pub(crate) fn entry_of(&self, process: &ProcessName) -> Option<Entry> {
        let is_command = || self.commands.iter().any(|command| command.process() == process);
        self.pool(process).map(|pool| pool.entry()).or_else(|| is_command().then_some(Entry::Command))
    }

    /// Returns the copies of the commands.
    pub(super) fn command_instances(&self) -> impl Iterator<Item = LiveInstance> {
        self.commands.iter().flat_map(|command| {
            let (release, process) = (self.release, command.process());
            let instance =
                move |status| LiveInstance { release, process: process.clone(), takes_requests: false, status };
            command.statuses().into_iter().map(instance)
        })
    }

    /// Returns whether the release has an instance with this id.
    pub(crate) fn has_instance(&self, id: &InstanceId) -> bool {
        self.pools.iter().any(|pool| pool.has(id)) || self.commands.iter().any(|command| command.has(id))
    }

    /// Returns how long a client may keep a guest waiting for its body.
    pub(crate) fn stall_timeout(&self) -> StallTimeout {
        self.http.as_ref().map_or_else(StallTimeout::endless, |pool| pool.stall_timeout(limits::TRAFFIC_BODY_CROWDED))
    }

    /// Evicts instances that the recent load doesn't need. Returns the changes of size to report.
    pub(crate) fn update_scale(&self, now: Instant, window: Duration) -> Vec<ScaleChange> {
        self.pools.iter().filter_map(|pool| pool.update_scale(now, window)).collect()
    }

    /// Returns the changes of size that a freeze causes.
    pub(crate) fn freeze_changes(&self) -> Vec<ScaleChange> {
        self.pools.iter().filter_map(|pool| pool.freeze_change()).collect()
    }

    /// Restarts a copy of a command. Returns false if there is no such copy.
    pub(super) fn restart_command(&self, id: &InstanceId) -> bool {
        self.commands.iter().any(|command| command.restart(id))
    }

    /// Returns the sum of the counters of all pools.
    pub(crate) fn counters(&self) -> PoolCounters {
        self.pools.iter().map(|pool| pool.counters()).fold(PoolCounters::default(), |sum, counters| PoolCounters {
            requests: sum.requests + counters.requests,
            failures: sum.failures + counters.failures,
        })
    }

    /// Drains the release: ends each instance once it is idle. Only useful once no new job can
    /// arrive.
    pub(crate) async fn drain(&self) {
        self.stop.cancel();
        for pool in &self.pools {
            while pool.evict_idle() {
                tokio::task::yield_now().await;
            }
            pool.drained().await;
            pool.program().close_connections();
            pool.resources().release_files();
        }
        self.program.close_connections();
    }
}

/// Returns the pool for an app's requests or events: by its usual name, else the first without a
/// schedule, else the first.
fn main_pool(pools: &[Arc<Pool>], entry: Entry, usual: &str) -> Option<Arc<Pool>> {
    let candidates = || pools.iter().filter(|pool| pool.entry() == entry);
    candidates()
        .find(|pool| pool.process().as_str() == usual)
        .or_else(|| candidates().find(|pool| pool.definition().schedule.is_none()))
        .or_else(|| candidates().next())
        .cloned()
}
