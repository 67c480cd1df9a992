//! One release at work: what runs of each of its process types. Made ready by whoever deploys; it keeps itself going
//! from then on, and ends what it runs when it is dropped.

use super::{
    command::Command,
    frozen::{Frozen, FrozenProcess},
    pool::{Pool, PoolContext, PoolCounters},
    resources::AppResources,
    scale_window::ScaleChange,
    slot::Seen,
    supervisor::{self, CrashReport},
};
use crate::limits;
use isopod_engine::{Instance, Patience, Program};
use isopod_policy::{Entry, InstanceId, Isolation, Process, ProcessName, ReleaseNumber, Scale};
use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A process type that is about to run.
pub(crate) struct ProcessPlan {
    pub(crate) name: ProcessName,
    pub(crate) process: Process,
    pub(crate) scale: Scale,
    pub(crate) program: Program,
    /// Instances that were started to see whether they are well.
    #[expect(clippy::vec_box, reason = "instances are handed on in their boxes")]
    pub(crate) warm: Vec<Box<Instance>>,
}

/// One release at work.
pub(crate) struct ActiveRelease {
    release: Option<ReleaseNumber>,
    program: Program,
    isolation: Isolation,
    /// When it was last seen at work.
    last_work: Mutex<(PoolCounters, Instant)>,
    pools: Vec<Arc<Pool>>,
    commands: Vec<Arc<Command>>,
    /// Which of the pools takes the app's requests, and which its events.
    pub(super) http: Option<Arc<Pool>>,
    pub(super) events: Option<Arc<Pool>>,
    /// When it was put in service as a new release; none if it serves again.
    fresh_since: OnceLock<Instant>,
    stop: CancellationToken,
    on_standby: Arc<AtomicBool>,
    _stop_at_drop: DropGuard,
}

/// An instance as people see it.
pub(crate) struct LiveInstance {
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) process: ProcessName,
    pub(crate) seen: Seen,
}

impl ActiveRelease {
    /// `program` is the component with what all its process types share.
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
        let (owner, ends) = (Arc::clone(&resources), stop.clone());
        let common =
            PoolContext { release, isolation, resources: owner, stop: ends, on_standby: Arc::clone(&on_standby) };
        let (mut pools, mut commands) = (Vec::new(), Vec::new());
        for ProcessPlan { name, process, scale, program, warm } in planned {
            match process.entry {
                Entry::Command => {
                    commands.push(Arc::new(Command::new(name, process, scale, program, Arc::clone(&resources))))
                }
                Entry::Http | Entry::Events => {
                    let pool = Pool::new(common.clone(), name, process, program, scale);
                    warm.into_iter().for_each(|instance| pool.add(instance));
                    let pool = Arc::new(pool);
                    resources.register(&pool);
                    pools.push(pool);
                }
            }
        }
        let (http, events) = (main_pool(&pools, Entry::Http, "web"), main_pool(&pools, Entry::Events, "worker"));
        let last_work = Mutex::new((PoolCounters::default(), Instant::now()));
        let _stop_at_drop = stop.clone().drop_guard();
        let fresh_since = OnceLock::new();
        Self {
            release,
            program,
            isolation,
            last_work,
            pools,
            commands,
            http,
            events,
            fresh_since,
            _stop_at_drop,
            stop,
            on_standby,
        }
    }

    pub(crate) fn release(&self) -> Option<ReleaseNumber> {
        self.release
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Whether one of its process types takes HTTP requests.
    pub(crate) fn serves_http(&self) -> bool {
        self.http.is_some()
    }

    /// Whether one of them takes events.
    pub(crate) fn takes_events(&self) -> bool {
        self.events.is_some()
    }

    /// For how long nothing was done here, by the time of the last look.
    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        let tally = self.tally();
        let is_busy = self.pools.iter().any(|pool| pool.is_busy());
        let mut last = self.last_work.lock().unwrap_or_else(PoisonError::into_inner);
        if is_busy || last.0 != tally {
            *last = (tally, now);
        }
        now.saturating_duration_since(last.1)
    }

    /// What is left of it once it is let go; none where something of it is to run without being asked.
    pub(super) fn freeze(&self) -> Option<Frozen> {
        let release = self.release?;
        let stays = self.pools.iter().any(|pool| pool.scale().min > 0 || pool.is_busy())
            || self.commands.iter().any(|command| command.is_kept_running() || command.is_busy());
        if stays {
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
        })
    }

    /// Whether another release serves in its place.
    pub(crate) fn set_standby(&self, on_standby: bool) {
        self.on_standby.store(on_standby, Ordering::Relaxed);
        if !on_standby {
            // What gave way meanwhile is started again.
            self.pools.iter().for_each(|pool| pool.ended.notify_one());
        }
    }

    /// How many instances of a process type its load has need of lately, where there may be as many as `scale` says.
    pub(crate) fn needed(&self, process: &ProcessName, scale: Scale) -> u32 {
        self.pool(process).map_or(scale.min, |pool| pool.needed(scale))
    }

    /// How many instances it has.
    pub(crate) fn live(&self) -> u32 {
        self.pools.iter().map(|pool| pool.live()).sum()
    }

    /// Takes over the load of the release in whose place it serves.
    pub(super) fn take_over(&self, before: &Self) {
        for pool in &self.pools {
            if let Some(before) = before.pool(pool.process()) {
                pool.take_over(before);
            }
        }
    }

    /// Marks it as a release that has never served before.
    pub(crate) fn mark_fresh(&self) {
        self.fresh_since.get_or_init(Instant::now);
    }

    /// Whether it is so new that its troubles are most likely its own.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh_since.get().is_some_and(|since| since.elapsed() < limits::RELEASE_FRESH)
    }

    /// Keeps the warm instances warm and the commands running, and tells what can't be mended by starting again.
    pub(crate) fn keep(&self, trouble: &mpsc::Sender<CrashReport>) {
        for pool in self.pools.iter().filter(|pool| pool.kept_min() > 0) {
            let kept = supervisor::supervise(Arc::clone(pool), self.release, trouble.clone());
            tokio::spawn(self.stop.clone().run_until_cancelled_owned(kept));
        }
        for command in self.commands.iter().filter(|command| command.is_kept_running()) {
            for copy in 0..command.copies() {
                let kept = Arc::clone(command).keep(copy, self.release, trouble.clone());
                tokio::spawn(self.stop.clone().run_until_cancelled_owned(kept));
            }
        }
    }

    /// Runs a command once, as its schedule asks for; false if it still runs from the time before.
    pub(crate) fn run_command(&self, process: &ProcessName) -> bool {
        let Some(command) = self.commands.iter().find(|command| command.process() == process) else { return false };
        let Some(run) = Arc::clone(command).once() else { return false };
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(run));
        true
    }

    /// The pool of a process type.
    pub(super) fn pool(&self, process: &ProcessName) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| pool.process() == process)
    }

    /// What a process type takes.
    pub(crate) fn entry_of(&self, process: &ProcessName) -> Option<Entry> {
        let is_command = || self.commands.iter().any(|command| command.process() == process);
        self.pool(process).map(|pool| pool.entry()).or_else(|| is_command().then_some(Entry::Command))
    }

    /// The copies of its commands.
    pub(super) fn seen_commands(&self) -> impl Iterator<Item = LiveInstance> {
        self.commands.iter().flat_map(|command| {
            let of = |seen| LiveInstance { release: self.release, process: command.process().clone(), seen };
            command.seen().into_iter().map(of)
        })
    }

    /// Whether an instance of this id runs here.
    pub(crate) fn has_instance(&self, id: &InstanceId) -> bool {
        self.pools.iter().any(|pool| pool.has(id)) || self.commands.iter().any(|command| command.has(id))
    }

    /// How long a client may keep a guest waiting for its body.
    pub(crate) fn patience(&self) -> Patience {
        self.http.as_ref().map_or_else(Patience::endless, |pool| pool.patience(limits::TRAFFIC_BODY_CROWDED))
    }

    /// Ends instances that nothing needed lately, and tells whose number has changed.
    pub(crate) fn rescaled(&self, now: Instant, window: Duration) -> Vec<ScaleChange> {
        self.pools.iter().filter_map(|pool| pool.look(now, window)).collect()
    }

    /// What of it is let go when it is frozen, of those process types that scale by themselves.
    pub(crate) fn sizes(&self) -> Vec<ScaleChange> {
        self.pools.iter().filter_map(|pool| pool.size()).collect()
    }

    /// Ends a copy of a command and starts it anew; false if there is none.
    pub(super) fn restart_command(&self, id: &InstanceId) -> bool {
        self.commands.iter().any(|command| command.restart(id))
    }

    /// What all its pools have done.
    pub(crate) fn tally(&self) -> PoolCounters {
        self.pools.iter().map(|pool| pool.tally()).fold(PoolCounters::default(), |sum, tally| PoolCounters {
            requests: sum.requests + tally.requests,
            failures: sum.failures + tally.failures,
        })
    }

    /// Ends the instances one at a time, each once it has nothing to do. Only of use once no new job can come.
    pub(crate) async fn wind_down(&self) {
        self.stop.cancel();
        for pool in &self.pools {
            while pool.evict_idle() {
                tokio::task::yield_now().await;
            }
            pool.drained().await;
            pool.program().close_connections();
            pool.resources().rest_files();
        }
        self.program.close_connections();
    }
}

/// The pool that takes an app's requests or events: the one of the usual name, else the first that waits for no
/// schedule.
fn main_pool(pools: &[Arc<Pool>], entry: Entry, usual: &str) -> Option<Arc<Pool>> {
    let able = || pools.iter().filter(|pool| pool.entry() == entry);
    able()
        .find(|pool| pool.process().as_str() == usual)
        .or_else(|| able().find(|pool| pool.definition().schedule.is_none()))
        .or_else(|| able().next())
        .cloned()
}
