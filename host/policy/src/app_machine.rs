//! The decisions about one app: which change may run, which release is loaded or put in
//! service, and which requests are denied. Owns the app's control state and the step function.
//! Never acts: the app's task performs the actions and reports back with commands.
//!
//! ```text
//!   command ──▶ step(state) ──▶ stored first, may fail: then the state stays
//!      ▲                          │
//!      │                          ▼
//!   completions ◀── actions ◀── next state
//! ```

use std::collections::VecDeque;

use crate::{AppEvent, AppState, AppType, BaseState, ErrorCause, Intended, Lifecycle, Refused, ReleaseNumber};

/// Identifies a push or a settings change that waits for the change permit, or holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChangeId(pub u64);

/// Identifies one load of the current release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoadId(pub u64);

/// A request, or the completion of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppCommand {
    /// A start was requested.
    Start,
    /// A stop was requested.
    Stop,
    /// A change of the type was requested.
    SetType(AppType),
    /// The host has started, and the app waits for its release.
    Load,
    /// A push or a settings change waits for the change permit.
    Enqueue(ChangeId),
    /// A waiting change no longer waits.
    Leave(ChangeId),
    /// The change that held the permit has ended.
    PermitReleased(ChangeId),
    /// The change starts to deploy its release.
    DeployBegins(ChangeId),
    /// The change failed.
    DeployEnds(ChangeId),
    /// The change's release passed its checks.
    Commit(ChangeId, ReleaseNumber),
    /// The release is loaded.
    Loaded(LoadId),
    /// The release can't be loaded now, for a reason outside the release.
    LoadDeferred(LoadId),
    /// The release can't be loaded.
    LoadFailed(LoadId, ErrorCause),
    /// The current release, which was cold, can't be loaded for its first request.
    CannotServe(ReleaseNumber, ErrorCause),
    /// The current release must be replaced: by a release on standby, or by one to be loaded.
    Replace {
        /// The release that failed.
        bad: ReleaseNumber,
        /// The release on standby.
        with: Option<ReleaseNumber>,
    },
    /// The release that replaces `bad` is loaded; `None` if there is none.
    ReplacementLoaded {
        /// The release that failed.
        bad: ReleaseNumber,
        /// The loaded release.
        with: Option<ReleaseNumber>,
    },
    /// The destruction of the app was requested.
    Destroy,
}

/// A part of the decision that is stored before anything else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// The intended state.
    Intended(Intended),
    /// The app's type.
    Type(AppType),
    /// The current release, together with the end of its push.
    Commit(ReleaseNumber),
    /// The deletion of the app.
    Deletion,
}

/// Why an app refuses traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The app is stopped.
    Stopped,
    /// The app's release is being loaded.
    Starting,
    /// No release can serve.
    InError,
    /// The app is destroyed.
    Destroyed,
}

impl Refusal {
    /// Returns the reason for clients.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "the app is stopped",
            Self::Starting => "the app is starting",
            Self::InError => "the app is in error",
            Self::Destroyed => "the app is destroyed",
        }
    }
}

/// An action of the app's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppAction {
    /// Puts the release of this command in service.
    Serve,
    /// Takes all releases out of service.
    Refuse(Refusal),
    /// Loads the current release, and reports back with this id.
    Load(LoadId, ReleaseNumber),
    /// Loads it after a pause.
    LoadLater(LoadId, ReleaseNumber),
    /// Cancels the load in progress.
    CancelLoad,
    /// Loads the last good release in place of this one.
    LoadReplacement(ReleaseNumber),
    /// Grants the change permit to this change, which then runs.
    GrantPermit(ChangeId),
}

/// Why a command has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The app was destroyed.
    #[error("the app is destroyed")]
    Destroyed,
    /// A start needs a release.
    #[error("the app has no release")]
    NoRelease,
    /// The type of an app in this state can't be changed.
    #[error("the app is {0}, not stopped")]
    NotStopped(AppState),
    /// A change runs or waits.
    #[error("a change of the app is in progress")]
    Busy,
    /// The change doesn't hold the permit.
    #[error("the change doesn't hold the change permit")]
    NoPermit,
    /// The command reports about a load or a release that is no longer current.
    #[error("the load or the release is no longer current")]
    Superseded,
    /// The state machine has no such step.
    #[error("{0}")]
    Refused(Refused),
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The state once the durable part is stored.
    pub next: AppMachine,
    /// Stored first. If that fails, the state stays and no action follows.
    pub store: Option<Durable>,
    /// The actions, in order.
    pub actions: Vec<AppAction>,
}

/// The control state of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppMachine {
    lifecycle: Lifecycle,
    intended: Intended,
    release: Option<ReleaseNumber>,
    app_type: AppType,
    /// The change that holds the permit. At most one change runs at a time.
    permit_holder: Option<ChangeId>,
    /// Changes that wait for the permit, in order of arrival.
    waiting: VecDeque<ChangeId>,
    /// The load in progress.
    load: Option<LoadId>,
    loads: u64,
    /// The current release, while the release that replaces it is loaded.
    replacing: Option<ReleaseNumber>,
    is_destroyed: bool,
}

impl AppMachine {
    /// Returns the state of a stored app before its release is loaded.
    pub fn new(app_type: AppType, intended: Intended, release: Option<ReleaseNumber>) -> Self {
        Self {
            lifecycle: Lifecycle::STOPPED,
            intended,
            release,
            app_type,
            permit_holder: None,
            waiting: VecDeque::new(),
            load: None,
            loads: 0,
            replacing: None,
            is_destroyed: false,
        }
    }

    /// The app serves as before the host's start.
    #[must_use]
    pub fn restored_running(self) -> Self {
        Self { lifecycle: Lifecycle::RUNNING, ..self }
    }

    /// The app waits for its release after the host's start.
    #[must_use]
    pub fn restored_starting(self) -> Self {
        Self { lifecycle: Lifecycle { base: BaseState::Starting, ..Lifecycle::STOPPED }, ..self }
    }

    /// Returns the base state and the deployment.
    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle
    }

    /// Returns whether the app is intended to run.
    pub fn intended(&self) -> Intended {
        self.intended
    }

    /// Returns the current release.
    pub fn release(&self) -> Option<ReleaseNumber> {
        self.release
    }

    /// Returns the app's type.
    pub fn app_type(&self) -> AppType {
        self.app_type
    }

    /// Returns whether the app is destroyed.
    pub fn is_destroyed(&self) -> bool {
        self.is_destroyed
    }

    /// Returns the state after `command`, with the actions that lead to it, or why the command has
    /// no effect.
    pub fn step(&self, command: AppCommand) -> Result<Decision, Denied> {
        use AppCommand as C;
        if self.is_destroyed {
            return Err(Denied::Destroyed);
        }
        match command {
            C::Start => self.start(),
            C::Stop => Ok(self.stop()),
            C::SetType(app_type) => self.set_type(app_type),
            C::Load if self.lifecycle.base == BaseState::Starting && self.load.is_none() => {
                Ok(self.clone().begin_load(None))
            }
            C::Load => Err(Denied::Superseded),
            C::Enqueue(change) => Ok(self.enqueue(change)),
            C::Leave(change) => {
                let mut next = self.clone();
                next.waiting.retain(|waiting| *waiting != change);
                Ok(next.decided(None, Vec::new()))
            }
            C::PermitReleased(change) => self.permit_released(change),
            C::DeployBegins(change) => self.with_permit(change, AppEvent::DeployBegins),
            C::DeployEnds(change) => self.with_permit(change, AppEvent::DeployEnds),
            C::Commit(change, release) => self.commit(change, release),
            C::Loaded(load) => {
                let next = self.load_ended(load, AppEvent::Serving)?;
                Ok(next.decided(None, vec![AppAction::Serve]))
            }
            C::LoadDeferred(load) => {
                let release = self.release.filter(|_| self.load == Some(load)).ok_or(Denied::Superseded)?;
                Ok(self.clone().decided(None, vec![AppAction::LoadLater(load, release)]))
            }
            C::LoadFailed(load, cause) => {
                let next = self.load_ended(load, AppEvent::Failed(cause))?;
                Ok(next.decided(None, vec![AppAction::Refuse(Refusal::InError)]))
            }
            C::CannotServe(release, cause) => self.failed(release, cause),
            C::Replace { bad, with } => self.replace(bad, with),
            C::ReplacementLoaded { bad, with } => match with {
                _ if self.replacing != Some(bad) => Err(Denied::Superseded),
                Some(_) => self.replace(bad, with),
                None => self.failed(bad, ErrorCause::HealthCheck),
            },
            C::Destroy => Ok(self.destroy()),
        }
    }

    fn start(&self) -> Result<Decision, Denied> {
        if self.release.is_none() {
            return Err(Denied::NoRelease);
        }
        let store = self.intend(Intended::Running);
        let mut next = Self { intended: Intended::Running, ..self.clone() };
        match self.lifecycle.step(AppEvent::Start) {
            Ok(lifecycle) => {
                next.lifecycle = lifecycle;
                Ok(next.begin_load(store))
            }
            // It is running or starting already.
            Err(_) => Ok(next.decided(store, Vec::new())),
        }
    }

    fn stop(&self) -> Decision {
        let store = self.intend(Intended::Stopped);
        let mut next = Self { intended: Intended::Stopped, replacing: None, ..self.clone() };
        let mut actions = next.cancel_load();
        match self.lifecycle.step(AppEvent::Stop) {
            Ok(lifecycle) => next.lifecycle = lifecycle,
            // It is already stopped. The reason for clients may change.
            Err(_) if store.is_none() => return next.decided(None, Vec::new()),
            Err(_) => {}
        }
        actions.push(AppAction::Refuse(Refusal::Stopped));
        next.decided(store, actions)
    }

    fn set_type(&self, app_type: AppType) -> Result<Decision, Denied> {
        let state = self.lifecycle.label();
        if state != AppState::Stopped {
            return Err(Denied::NotStopped(state));
        }
        // A change may be in progress even if the state is `stopped`.
        if self.permit_holder.is_some() || !self.waiting.is_empty() {
            return Err(Denied::Busy);
        }
        let store = (app_type != self.app_type).then_some(Durable::Type(app_type));
        Ok(Self { app_type, ..self.clone() }.decided(store, Vec::new()))
    }

    fn enqueue(&self, change: ChangeId) -> Decision {
        let mut next = self.clone();
        next.waiting.push_back(change);
        let granted = next.grant();
        next.decided(None, granted)
    }

    fn permit_released(&self, change: ChangeId) -> Result<Decision, Denied> {
        let mut decision = self.with_permit(change, AppEvent::DeployEnds)?;
        decision.next.permit_holder = None;
        decision.actions = decision.next.grant();
        Ok(decision)
    }

    /// Lets the next change run, if none does.
    fn grant(&mut self) -> Vec<AppAction> {
        if self.permit_holder.is_none() {
            self.permit_holder = self.waiting.pop_front();
            self.permit_holder.map(AppAction::GrantPermit).into_iter().collect()
        } else {
            Vec::new()
        }
    }

    fn with_permit(&self, change: ChangeId, event: AppEvent) -> Result<Decision, Denied> {
        if self.permit_holder != Some(change) {
            return Err(Denied::NoPermit);
        }
        let lifecycle = self.lifecycle.step(event).map_err(Denied::Refused)?;
        Ok(Self { lifecycle, ..self.clone() }.decided(None, Vec::new()))
    }

    fn commit(&self, change: ChangeId, release: ReleaseNumber) -> Result<Decision, Denied> {
        let (event, action) = match self.intended {
            Intended::Running => (AppEvent::Deployed, AppAction::Serve),
            Intended::Stopped => (AppEvent::DeployEnds, AppAction::Refuse(Refusal::Stopped)),
        };
        let mut next = self.with_permit(change, event)?.next;
        next.release = Some(release);
        next.replacing = None;
        let mut actions = next.cancel_load();
        actions.push(action);
        Ok(next.decided(Some(Durable::Commit(release)), actions))
    }

    fn load_ended(&self, load: LoadId, event: AppEvent) -> Result<Self, Denied> {
        if self.load != Some(load) {
            return Err(Denied::Superseded);
        }
        let lifecycle = self.lifecycle.step(event).map_err(Denied::Refused)?;
        Ok(Self { lifecycle, load: None, ..self.clone() })
    }

    fn failed(&self, release: ReleaseNumber, cause: ErrorCause) -> Result<Decision, Denied> {
        self.ensure_serving(release)?;
        let lifecycle = self.lifecycle.step(AppEvent::Failed(cause)).map_err(Denied::Refused)?;
        let next = Self { lifecycle, replacing: None, ..self.clone() };
        Ok(next.decided(None, vec![AppAction::Refuse(Refusal::InError)]))
    }

    fn replace(&self, bad: ReleaseNumber, with: Option<ReleaseNumber>) -> Result<Decision, Denied> {
        self.ensure_serving(bad)?;
        match with {
            Some(good) => {
                let next = Self { release: Some(good), replacing: None, ..self.clone() };
                Ok(next.decided(None, vec![AppAction::Serve]))
            }
            // Its replacement is being loaded already.
            None if self.replacing.is_some() => Err(Denied::Superseded),
            None => {
                let next = Self { replacing: Some(bad), ..self.clone() };
                Ok(next.decided(None, vec![AppAction::LoadReplacement(bad)]))
            }
        }
    }

    fn destroy(&self) -> Decision {
        let mut next = Self { is_destroyed: true, replacing: None, waiting: VecDeque::new(), ..self.clone() };
        let mut actions = next.cancel_load();
        actions.push(AppAction::Refuse(Refusal::Destroyed));
        next.decided(Some(Durable::Deletion), actions)
    }

    fn ensure_serving(&self, release: ReleaseNumber) -> Result<(), Denied> {
        let serves = self.lifecycle.base == BaseState::Running && self.release == Some(release);
        if serves { Ok(()) } else { Err(Denied::Superseded) }
    }

    fn intend(&self, intended: Intended) -> Option<Durable> {
        (self.intended != intended).then_some(Durable::Intended(intended))
    }

    fn cancel_load(&mut self) -> Vec<AppAction> {
        self.load.take().map(|_| AppAction::CancelLoad).into_iter().collect()
    }

    fn begin_load(mut self, store: Option<Durable>) -> Decision {
        let Some(release) = self.release else { return self.decided(store, Vec::new()) };
        self.loads += 1;
        let load = LoadId(self.loads);
        self.load = Some(load);
        self.decided(store, vec![AppAction::Refuse(Refusal::Starting), AppAction::Load(load, release)])
    }

    fn decided(self, store: Option<Durable>, actions: Vec<AppAction>) -> Decision {
        Decision { next: self, store, actions }
    }
}
