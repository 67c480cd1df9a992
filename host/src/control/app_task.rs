//! The task of one app: the only writer of its state. Receives commands over a bounded channel,
//! makes each decision with the pure step function of the policy crate, performs the actions, and
//! publishes the new fields. Never waits for a build, a load or a watch: that work runs on other
//! tasks and reports back. The folder of this name contains the handling of each command.
//!
//! ```text
//!   API, jobs ──command──▶ AppTask ──step (policy)──▶ store, then actions ──▶ fields
//!                             ▲                            │
//!                             └──── loads, watches ◀───────┘
//! ```

mod activate;
mod automatic_rollback;
mod commit;
mod destroy;
mod pushes;
mod requests;
mod resting;
mod unfit_plugins;

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use isopod_policy::{
    AppAction, AppCommand, AppMachine, AppState, BaseState, ChangeId, Cores, Decision, Denied, Durable, Lifecycle,
    LoadId, Refusal, ReleaseNumber,
};
use isopod_store::{Store, StoreError};
use jiff::Timestamp;
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::{AbortHandle, Id, JoinError, JoinSet},
};
use tokio_util::task::TaskTracker;

use self::automatic_rollback::Replacing;
use crate::control::{
    app::{AppRecord, Fields},
    app_command::{AppHandle, ChangePermit, Command, Reply},
    app_table::AppTable,
    background::{activity_log::ActivityLog, scheduler::Schedules},
    error::{DeployError, Failure},
    events::Events,
    limits,
    plugins::CommitGuard,
    push::pushes::Pushes,
    push_runner::PushRunner,
    release::{
        last_good::{LastGood, LastGoodSearch},
        load::Loaded,
        releases::Releases,
        watch::Watched,
    },
    shutdown::Shutdown,
};
use crate::{
    observe::{logs::Logs, metrics::Metrics},
    runtime::{ActiveRelease, CrashReport, Directory},
};

/// The result of work that the task started.
enum Done {
    Loaded(LoadId, ReleaseNumber, Box<Result<Loaded, Failure>>),
    Watched(Arc<ActiveRelease>, Watched),
    /// A release must be replaced, under the commit lock.
    Locked(Box<Replacing>, CommitGuard),
    ReplacementLoaded(ReleaseNumber, LastGoodSearch, Result<Option<LastGood>, Failure>, CommitGuard),
    /// The host shuts down.
    Cancelled,
}

/// A release that a command puts in service.
enum Incoming {
    /// The former release, or `beside` if none serves, stays on standby during the rollout watch.
    /// An upgrade of a plugin serves one app first.
    New { running: Arc<ActiveRelease>, beside: Option<Arc<ActiveRelease>>, is_upgrade: bool },
    /// The release in service is wound down.
    Return { running: Arc<ActiveRelease>, is_loaded: bool },
}

impl Incoming {
    fn running(&self) -> &Arc<ActiveRelease> {
        let (Self::New { running, .. } | Self::Return { running, .. }) = self;
        running
    }
}

/// The load in progress.
struct Load {
    id: LoadId,
    work: AbortHandle,
    /// Whether the release served before the host's start.
    is_restored: bool,
    /// Dropped once the result of the first attempt is known.
    done: Option<oneshot::Sender<()>>,
}

/// The services and settings that the tasks of all apps share.
pub(in crate::control) struct Services {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) store: Store,
    pub(in crate::control) releases: Releases,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) schedules: Schedules,
    pub(in crate::control) events: Events,
    pub(in crate::control) directory: Arc<Directory>,
    pub(in crate::control) logs: Logs,
    pub(in crate::control) metrics: Metrics,
    pub(in crate::control) pushes: Pushes,
    pub(in crate::control) push_runner: PushRunner,
    /// The cores of an app without an override.
    pub(in crate::control) cores: Cores,
    /// The queue of reports about process types that fail repeatedly.
    pub(in crate::control) crash_reports: mpsc::Sender<CrashReport>,
    /// The running tasks of the apps.
    pub(in crate::control) tasks: TaskTracker,
    pub(in crate::control) shutdown: Shutdown,
}

/// The state of the task of one app.
pub(in crate::control) struct AppTask {
    services: Arc<Services>,
    app: Arc<AppRecord>,
    /// The app's own handle, for its push jobs.
    pub(in crate::control) handle: AppHandle,
    commands: mpsc::Receiver<Box<Command>>,
    machine: AppMachine,
    /// Permits of the app's push jobs.
    pushes: Arc<Semaphore>,
    /// Standby releases during a rollout watch. The first is the last release that passed its
    /// watch.
    standby: Vec<Arc<ActiveRelease>>,
    changes: u64,
    /// The changes that wait for the permit. The caller of a change drops the receiver to withdraw
    /// it.
    waiting: HashMap<ChangeId, oneshot::Sender<ChangePermit>>,
    /// The change that holds the permit. Its sender is dropped when the change ends.
    permit_holder: Option<(ChangeId, oneshot::Receiver<()>)>,
    work: JoinSet<Done>,
    load: Option<Load>,
    watch: Option<AbortHandle>,
    /// The reason for which the release in service is being replaced.
    replacing: Option<Replacing>,
    /// The search for the release that replaces it.
    search: Option<AbortHandle>,
    /// The releases of a destroyed app that may still run accepted work.
    at_work: Vec<Arc<ActiveRelease>>,
    /// The request that destroyed the app.
    destroyed_by: Option<(String, Reply<()>)>,
}

/// An input of the task.
enum Input {
    Command(Box<Command>),
    PermitReleased(ChangeId),
    Done(Result<(Id, Done), JoinError>),
}

impl AppTask {
    pub(in crate::control) fn new(
        services: Arc<Services>,
        handle: AppHandle,
        commands: mpsc::Receiver<Box<Command>>,
    ) -> Self {
        let app = Arc::clone(&handle.record);
        let fields = app.fields();
        Self {
            machine: AppMachine::new(fields.app_type, fields.intended, fields.release),
            services,
            app,
            handle,
            commands,
            pushes: Arc::new(Semaphore::new(limits::PUSHES_QUEUED_PER_APP)),
            standby: Vec::new(),
            changes: 0,
            waiting: HashMap::new(),
            permit_holder: None,
            work: JoinSet::new(),
            load: None,
            watch: None,
            replacing: None,
            search: None,
            at_work: Vec::new(),
            destroyed_by: None,
        }
    }

    /// Restores an app that served before the host's start and serves again immediately.
    pub(in crate::control) fn restore_running(&mut self) {
        let machine = self.machine.clone().restored_running();
        self.adopt(machine, "the host has started");
    }

    /// Restores an app whose release the host must load first.
    pub(in crate::control) fn restore_starting(&mut self) {
        let cause = "the host has started";
        let machine = self.machine.clone().restored_starting();
        self.record_state(self.machine.lifecycle(), machine.lifecycle(), cause);
        self.adopt(machine, cause);
    }

    /// Runs the task until it rests, the app is destroyed or the host ends.
    pub(in crate::control) fn spawn(self) {
        let tasks = self.services.tasks.clone();
        tasks.spawn(Box::new(self).run());
    }

    /// `self` is boxed, since a future stores each argument twice.
    async fn run(mut self: Box<Self>) {
        let ended = self.services.shutdown.ended.clone();
        while !self.machine.is_destroyed() {
            if self.is_idle() && self.handle.mailbox().rest(&self.commands, || self.resting()) {
                return;
            }
            let input = tokio::select! {
                Some(command) = self.commands.recv() => Input::Command(command),
                change = permit_released(&mut self.permit_holder) => Input::PermitReleased(change),
                Some(done) = self.work.join_next_with_id() => Input::Done(done),
                () = ended.cancelled() => return,
            };
            // Boxed, so that an idle app takes little memory. A panic ends the command, not the
            // task.
            let handling = AssertUnwindSafe(self.handle_input(input)).catch_unwind();
            if Box::pin(handling).await.is_err() {
                tracing::error!(app = %self.app.name, "a command to an app panicked");
            }
        }
        // From here on the app is destroyed: the commands in the queue get no reply.
        self.app.set_destroyed();
        self.handle.mailbox().close();
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        self.waiting.clear();
        // Also drops the results that have arrived. They may hold the lock of a commit, for which
        // the change in progress waits.
        drop(std::mem::take(&mut self.work));
        Box::pin(self.remove()).await;
    }

    async fn handle_input(&mut self, input: Input) {
        match input {
            Input::Command(command) => self.receive(*command).await,
            Input::PermitReleased(change) => {
                self.permit_holder = None;
                self.release_permit(change);
            }
            Input::Done(done) => self.work_ended(done).await,
        }
    }

    async fn receive(&mut self, command: Command) {
        match command {
            Command::Start { by, reply } => send_reply(reply, self.start(&by).await),
            Command::Stop { by, reply } => send_reply(reply, self.stop(&by).await),
            Command::SetType { change, by, reply } => send_reply(reply, self.set_type(change, &by).await),
            Command::SetCeiling { change, by, reply } => send_reply(reply, self.set_ceiling(&change, &by).await),
            Command::SetCores { change, by, reply } => send_reply(reply, self.set_cores(&change, &by).await),
            Command::SetBuildError { message, reply } => send_reply(reply, self.set_build_error(message)),
            Command::SetConfig { config, keys, by, reply } => {
                send_reply(reply, self.set_config(config, &keys, &by).await)
            }
            // The lock is released once the deletion is stored.
            Command::Destroy { by, unused: _unused, reply } => match self.delete_stored(&by).await {
                Ok(()) => self.destroyed_by = Some((by, reply)),
                Err(error) => send_reply(reply, Err(error)),
            },
            Command::Push { request, reply } => send_reply(reply, self.accept(request).await),
            Command::CancelPush { id, by, reply } => send_reply(reply, self.cancel_push(&id, &by).await),
            Command::AcquireChange { reply } => self.enqueue(reply),
            Command::DeployBegins { change, cause, reply } => {
                let begun = self.step(AppCommand::DeployBegins(change), &cause, None);
                send_reply(reply, begun.map_err(|denied| Failure::Internal(denied.to_string())));
            }
            Command::DeployEnds { change, cause, reply } => {
                self.step_or_warn(AppCommand::DeployEnds(change), &cause);
                send_reply(reply, ());
            }
            Command::Commit { change, booted, reply } => send_reply(reply, self.commit(change, *booted).await),
            Command::Load { done } => {
                // Denied if the app was stopped meanwhile, or loads already.
                if self.step(AppCommand::Load, "the host has started", None).is_ok()
                    && let Some(load) = &mut self.load
                {
                    (load.is_restored, load.done) = (true, Some(done));
                }
            }
            Command::ColdLoaded { running, reply } => send_reply(reply, self.cold_loaded(&running)),
            Command::ColdFailed { release, failure, reply } => {
                let command = AppCommand::CannotServe(release, failure.cause());
                self.cannot_serve(command, release, &failure).await;
                send_reply(reply, ());
            }
            Command::Crashed(report) => self.crashed(report).await,
        }
    }

    /// Handles a command whose decision stores nothing: decides, and performs the decision.
    fn step(&mut self, command: AppCommand, cause: &str, incoming: Option<Incoming>) -> Result<(), Denied> {
        let decision = self.decide(command)?;
        debug_assert!(decision.store.is_none(), "{command:?} must be stored first");
        self.perform(decision, cause, incoming);
        Ok(())
    }

    /// Handles a command like [`Self::step`], and logs a denied command.
    fn step_or_warn(&mut self, command: AppCommand, cause: &str) {
        if let Err(denied) = self.step(command, cause, None) {
            tracing::warn!(app = %self.app.name, ?command, %denied, "the app's state changed meanwhile");
        }
    }

    /// Returns the decision about a command. Changes nothing.
    fn decide(&self, command: AppCommand) -> Result<Decision, Denied> {
        self.machine.step(command)
    }

    /// Handles a command: decides, stores the decision, and performs it.
    async fn change(&mut self, command: AppCommand, cause: &str) -> Result<Changed, DeployError> {
        let decision = self.decide(command).map_err(|denied| self.denied(denied))?;
        let (store, name, at) = (&self.services.store, &self.app.name, Timestamp::now());
        match decision.store {
            None => {}
            Some(Durable::Intended(intended)) => drop(store.set_intended(name, intended, at).await?),
            Some(Durable::Type(app_type)) => drop(store.set_app_type(name, app_type, at).await?),
            // Both store more than this decision.
            Some(Durable::Deletion | Durable::Commit(_)) => return Err(StoreError::Closed.into()),
        }
        let changed = Changed {
            is_stored: decision.store.is_some(),
            base: decision.next.lifecycle().base != self.machine.lifecycle().base,
        };
        self.perform(decision, cause, None);
        Ok(changed)
    }

    fn denied(&self, denied: Denied) -> DeployError {
        let name = || self.app.name.clone();
        match denied {
            Denied::NoRelease => DeployError::NothingToStart(name()),
            Denied::NotStopped(state) => DeployError::NotStopped { app: name(), state },
            Denied::Busy | Denied::NoPermit | Denied::Superseded => DeployError::Busy(name()),
            Denied::Refused(refused) => DeployError::Refused { app: name(), refused },
            Denied::Destroyed => DeployError::UnknownApp(name()),
        }
    }

    /// Performs the actions of a decision, and adopts the decision's state.
    fn perform(&mut self, decision: Decision, cause: &str, mut incoming: Option<Incoming>) {
        let Decision { next, actions, .. } = decision;
        let mut withdrawn = None;
        for action in actions {
            match action {
                AppAction::Serve => match incoming.take() {
                    Some(incoming) => self.serve(incoming),
                    None => debug_assert!(false, "only a command with a release serves"),
                },
                AppAction::Refuse(refusal) => self.refuse(refusal),
                AppAction::Load(load, release) => self.begin_load(load, release, false),
                AppAction::LoadLater(load, release) => self.begin_load(load, release, true),
                AppAction::CancelLoad => {
                    if let Some(load) = self.load.take() {
                        load.work.abort();
                    }
                }
                AppAction::LoadReplacement(bad) => self.begin_replacement(bad, LastGoodSearch::default()),
                AppAction::GrantPermit(change) => withdrawn = self.grant(change).err(),
            }
        }
        self.record_state(self.machine.lifecycle(), next.lifecycle(), cause);
        self.adopt(next, cause);
        if let Some(change) = withdrawn {
            self.release_permit(change);
        }
    }

    /// Adopts a state, and publishes it.
    fn adopt(&mut self, next: AppMachine, cause: &str) {
        let failed = matches!(next.lifecycle().base, BaseState::Error(_));
        let is_new = self.machine.lifecycle().base != next.lifecycle().base;
        self.machine = next;
        let machine = &self.machine;
        let (app_type, state, intended) = (machine.app_type(), machine.lifecycle().label(), machine.intended());
        let release = machine.release();
        self.publish(|fields| {
            (fields.app_type, fields.state, fields.intended, fields.release) = (app_type, state, intended, release);
            match (failed, is_new) {
                (true, true) => fields.error_detail = Some(cause.to_owned()),
                (true, false) => {}
                (false, _) => fields.error_detail = None,
            }
        });
    }

    /// Changes the published fields.
    pub(in crate::control) fn publish(&self, change: impl FnOnce(&mut Fields)) {
        let mut fields = Fields::clone(&self.app.fields());
        change(&mut fields);
        self.app.publish(fields);
    }

    /// Records a change of the state that users see, with its cause.
    fn record_state(&self, before: Lifecycle, after: Lifecycle, cause: &str) {
        let (from, to) = (before.label(), after.label());
        if from == to {
            return;
        }
        let uncovered = before.base == after.base && matches!(to, AppState::Error(_));
        let fields = self.app.fields();
        // A deployment that failed uncovers the original error.
        let cause = fields.error_detail.as_deref().filter(|_| uncovered).unwrap_or(cause);
        tracing::info!(app = %self.app.name, %from, %to, cause, "the app's state changed");
        let data = json!({ "from": from, "to": to, "error": to.cause(), "cause": cause });
        // A full queue drops the activity instead of delaying the app.
        self.services.activity.try_record(&self.app, "app-state", format!("{from} → {to}: {cause}"), data);
    }

    /// Takes all releases out of service.
    fn refuse(&mut self, refusal: Refusal) {
        self.stop_watch();
        let serving = self.app.traffic.set_stopped(refusal.as_str());
        let releases = std::mem::take(&mut self.standby).into_iter().chain(serving);
        self.publish_standby();
        match refusal {
            Refusal::Destroyed => self.at_work = releases.collect(),
            Refusal::Stopped | Refusal::Starting | Refusal::InError => {
                releases.for_each(|release| self.services.shutdown.in_background(async move { release.drain().await }));
            }
        }
    }

    fn begin_load(&mut self, id: LoadId, release: ReleaseNumber, is_later: bool) {
        let (releases, app) = (self.services.releases.clone(), Arc::clone(&self.app));
        let work = self.begin(async move {
            if is_later {
                tokio::time::sleep(limits::RESTORE_RETRY_INTERVAL).await;
            }
            Done::Loaded(id, release, Box::new(releases.load_to_serve(&app, release).await))
        });
        self.load = Some(Load { id, work, is_restored: false, done: None });
    }

    /// Begins to load the release that replaces a bad one, and ends an earlier search for one.
    fn begin_replacement(&mut self, bad: ReleaseNumber, mut search: LastGoodSearch) {
        let (releases, app) = (self.services.releases.clone(), Arc::clone(&self.app));
        let work = self.begin(async move {
            if let Some(delay) = search.delay(rand::random()) {
                tokio::time::sleep(delay).await;
            }
            let good = releases.last_good(&app, bad, &mut search).await;
            Done::ReplacementLoaded(bad, search, good, releases.plugins.lock(app.kind).await)
        });
        if let Some(earlier) = self.search.replace(work) {
            earlier.abort();
        }
    }

    /// Spawns work that runs concurrently with this task. A shutdown waits for it, and then cancels
    /// it.
    fn begin(&mut self, work: impl Future<Output = Done> + Send + 'static) -> AbortHandle {
        let cancel = self.services.shutdown.cancel.clone();
        let work = async move { cancel.run_until_cancelled(work).await.unwrap_or(Done::Cancelled) };
        self.work.spawn(self.services.shutdown.tasks.track_future(work))
    }

    /// Starts a rollout watch, and stops the previous watch. A shutdown drops it.
    fn begin_watch(&mut self, watch: impl Future<Output = Done> + Send + 'static) {
        self.stop_watch();
        let closing = self.services.shutdown.closing.clone();
        let work = async move { closing.run_until_cancelled(watch).await.unwrap_or(Done::Cancelled) };
        self.watch = Some(self.work.spawn(work));
    }

    fn stop_watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }

    async fn work_ended(&mut self, done: Result<(Id, Done), JoinError>) {
        match done {
            Ok((id, Done::Loaded(load, release, result))) => {
                // Dropped last, since the host's start waits until the result is published.
                let ended = self.load.take_if(|load| load.work.id() == id);
                if let Some(ended) = &ended {
                    self.loaded(load, release, *result, ended.is_restored).await;
                }
            }
            // The outcome of an earlier watch is void.
            Ok((id, Done::Watched(running, outcome))) => {
                if self.watch.take_if(|watch| watch.id() == id).is_some() {
                    self.watched(running, outcome).await;
                }
            }
            // The lock is released once the rollback is stored.
            Ok((_, Done::Locked(replacing, _guard))) => self.replace_locked(*replacing).await,
            Ok((_, Done::ReplacementLoaded(bad, search, good, _guard))) => {
                self.replacement_loaded(bad, search, good).await;
            }
            Ok((_, Done::Cancelled)) => {}
            Err(error) if error.is_panic() => {
                tracing::error!(app = %self.app.name, %error, "work of an app panicked");
                let (Some(load), Some(release)) =
                    (self.load.take_if(|load| load.work.id() == error.id()), self.machine.release())
                else {
                    return;
                };
                let failure = Failure::Internal("the load of a release panicked".to_owned());
                let command = AppCommand::LoadFailed(load.id, failure.cause());
                self.cannot_serve(command, release, &failure).await;
            }
            // It was aborted.
            Err(_) => {}
        }
    }

    /// Queues a change.
    fn enqueue(&mut self, reply: oneshot::Sender<ChangePermit>) {
        self.forget_withdrawn();
        self.changes += 1;
        let change = ChangeId(self.changes);
        self.waiting.insert(change, reply);
        self.step_or_warn(AppCommand::Enqueue(change), "a change waits");
    }

    /// Removes changes whose callers have stopped waiting.
    fn forget_withdrawn(&mut self) {
        let withdrawn: Vec<ChangeId> =
            self.waiting.iter().filter(|(_, reply)| reply.is_closed()).map(|(change, _)| *change).collect();
        for change in withdrawn {
            self.waiting.remove(&change);
            self.step_or_warn(AppCommand::Leave(change), "a change no longer waits");
        }
    }

    /// Grants the permit to a change. Returns the change if it no longer waits.
    fn grant(&mut self, change: ChangeId) -> Result<(), ChangeId> {
        let (permit, ended) = ChangePermit::new(change);
        let reply = self.waiting.remove(&change).ok_or(change)?;
        reply.send(permit).map_err(|_| change)?;
        self.permit_holder = Some((change, ended));
        Ok(())
    }

    fn release_permit(&mut self, change: ChangeId) {
        self.step_or_warn(AppCommand::PermitReleased(change), "the change was interrupted");
    }

    /// Waits until the change in progress has ended.
    async fn change_ended(&mut self) {
        if self.permit_holder.is_some() {
            permit_released(&mut self.permit_holder).await;
        }
    }
}

/// The effect of a decision.
struct Changed {
    is_stored: bool,
    /// Whether the base state changed.
    base: bool,
}

/// Waits until the change that holds the permit ends. Never completes if no change holds it.
async fn permit_released(permit_holder: &mut Option<(ChangeId, oneshot::Receiver<()>)>) -> ChangeId {
    match permit_holder {
        Some((change, ended)) => {
            // The sender is never used, only dropped.
            drop(ended.await);
            *change
        }
        None => std::future::pending().await,
    }
}

/// Sends a reply. The caller may have stopped waiting.
fn send_reply<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}
