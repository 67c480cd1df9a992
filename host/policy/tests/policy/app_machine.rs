//! Drives the state machine of an app with random commands, among them completions that are late or
//! wrong, against a small model of what must hold.

use std::collections::{BTreeSet, VecDeque};

use isopod_policy::{
    AppAction, AppCommand, AppMachine, AppState, AppType, BaseState, ChangeId, Denied, Durable, ErrorCause, Intended,
    LoadId, Refusal, ReleaseNumber,
};
use proptest::{collection::vec, prelude::*, sample::select};

/// A command with small numbers, so that many of them fit the state by chance.
#[derive(Debug, Clone, Copy)]
enum Act {
    Start,
    Stop,
    SetType(AppType),
    Load,
    Enqueue,
    /// The command for the change that holds the permit, or for one that doesn't.
    Leave(u64),
    PermitReleased(Option<u64>),
    DeployBegins(Option<u64>),
    DeployEnds(Option<u64>),
    Commit(Option<u64>),
    /// The completion of the newest load, or of an earlier one.
    Loaded(u64),
    LoadDeferred(u64),
    LoadFailed(u64),
    CannotServe(u64),
    Replace(u64, Option<u64>),
    ReplacementLoaded(u64, Option<u64>),
    Destroy,
}

fn act() -> impl Strategy<Value = Act> {
    let change = || prop_oneof![4 => Just(None), 1 => (0..6u64).prop_map(Some)];
    let release = || 1..5u64;
    prop_oneof![
        6 => Just(Act::Start),
        4 => Just(Act::Stop),
        1 => select(AppType::ALL.to_vec()).prop_map(Act::SetType),
        2 => Just(Act::Load),
        8 => Just(Act::Enqueue),
        1 => (0..6u64).prop_map(Act::Leave),
        6 => change().prop_map(Act::PermitReleased),
        6 => change().prop_map(Act::DeployBegins),
        2 => change().prop_map(Act::DeployEnds),
        6 => change().prop_map(Act::Commit),
        6 => (0..3u64).prop_map(Act::Loaded),
        1 => (0..3u64).prop_map(Act::LoadDeferred),
        2 => (0..3u64).prop_map(Act::LoadFailed),
        1 => release().prop_map(Act::CannotServe),
        3 => (release(), prop::option::of(release())).prop_map(|(bad, with)| Act::Replace(bad, with)),
        3 => (release(), prop::option::of(release())).prop_map(|(bad, with)| Act::ReplacementLoaded(bad, with)),
        1 => Just(Act::Destroy),
    ]
}

fn number(release: u64) -> ReleaseNumber {
    ReleaseNumber::new(u32::try_from(release).expect("small")).expect("not zero")
}

/// What the machine must agree with.
struct Model {
    machine: AppMachine,
    intended: Intended,
    release: Option<ReleaseNumber>,
    is_up: bool,
    /// Loads that were begun, and the one whose result counts.
    loads: Vec<LoadId>,
    load: Option<LoadId>,
    changes: u64,
    waiting: VecDeque<ChangeId>,
    permit_holder: Option<ChangeId>,
    granted: BTreeSet<ChangeId>,
    commits: u64,
    is_destroyed: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            machine: AppMachine::new(AppType::Staging, Intended::Running, None),
            intended: Intended::Running,
            release: None,
            is_up: false,
            loads: Vec::new(),
            load: None,
            changes: 0,
            waiting: VecDeque::new(),
            permit_holder: None,
            granted: BTreeSet::new(),
            commits: 0,
            is_destroyed: false,
        }
    }

    fn command(&mut self, act: Act) -> AppCommand {
        let (permit_holder, next) = (self.permit_holder, self.commits + 1);
        let change = |given: Option<u64>| given.map(ChangeId).or(permit_holder).unwrap_or(ChangeId(99));
        let loads = &self.loads;
        let load = |back: u64| {
            let newest = loads.len().checked_sub(1 + usize::try_from(back).expect("small"));
            newest.map_or(LoadId(99), |index| loads[index])
        };
        match act {
            Act::Start => AppCommand::Start,
            Act::Stop => AppCommand::Stop,
            Act::SetType(app_type) => AppCommand::SetType(app_type),
            Act::Load => AppCommand::Load,
            Act::Enqueue => {
                self.changes += 1;
                AppCommand::Enqueue(ChangeId(self.changes))
            }
            Act::Leave(id) => AppCommand::Leave(ChangeId(id)),
            Act::PermitReleased(id) => AppCommand::PermitReleased(change(id)),
            Act::DeployBegins(id) => AppCommand::DeployBegins(change(id)),
            Act::DeployEnds(id) => AppCommand::DeployEnds(change(id)),
            Act::Commit(id) => AppCommand::Commit(change(id), number(next)),
            Act::Loaded(back) => AppCommand::Loaded(load(back)),
            Act::LoadDeferred(back) => AppCommand::LoadDeferred(load(back)),
            Act::LoadFailed(back) => AppCommand::LoadFailed(load(back), ErrorCause::LoadFailed),
            Act::CannotServe(release) => AppCommand::CannotServe(number(release), ErrorCause::LoadFailed),
            Act::Replace(bad, with) => AppCommand::Replace { bad: number(bad), with: with.map(number) },
            Act::ReplacementLoaded(bad, with) => {
                AppCommand::ReplacementLoaded { bad: number(bad), with: with.map(number) }
            }
            Act::Destroy => AppCommand::Destroy,
        }
    }

    /// Steps the machine. The store refuses the durable part now and then.
    fn walk(&mut self, act: Act, store_fails: bool) -> Result<(), TestCaseError> {
        let command = self.command(act);
        let decision = match self.machine.step(command) {
            Ok(decision) => decision,
            Err(denied) => {
                prop_assert_eq!(denied == Denied::Destroyed, self.is_destroyed, "{:?}: {:?}", command, denied);
                return Ok(());
            }
        };
        prop_assert!(!self.is_destroyed, "{:?} had an effect after the destruction", command);
        if decision.store.is_some() && store_fails {
            return Ok(());
        }
        self.expect(command, decision.store)?;
        for action in &decision.actions {
            self.perform(command, *action)?;
        }
        self.machine = decision.next;
        self.compare(command)
    }

    /// The effects of an accepted command that don't follow from its actions.
    fn expect(&mut self, command: AppCommand, store: Option<Durable>) -> Result<(), TestCaseError> {
        match command {
            AppCommand::Start => self.intended = Intended::Running,
            AppCommand::Stop => self.intended = Intended::Stopped,
            AppCommand::Enqueue(change) => self.waiting.push_back(change),
            AppCommand::Leave(change) => self.waiting.retain(|waiting| *waiting != change),
            AppCommand::PermitReleased(change) => {
                prop_assert_eq!(self.permit_holder, Some(change));
                self.permit_holder = None;
            }
            AppCommand::DeployBegins(change) | AppCommand::DeployEnds(change) => {
                prop_assert_eq!(self.permit_holder, Some(change), "only the change with the permit deploys");
            }
            AppCommand::Commit(change, release) => {
                prop_assert_eq!(self.permit_holder, Some(change), "only the change with the permit commits");
                prop_assert_eq!(store, Some(Durable::Commit(release)), "a commit is stored first");
                self.commits += 1;
                self.release = Some(release);
            }
            AppCommand::Loaded(load) | AppCommand::LoadFailed(load, _) => {
                prop_assert_eq!(self.load.take(), Some(load), "only the load in progress counts");
            }
            AppCommand::Replace { bad, with: Some(good) } | AppCommand::ReplacementLoaded { bad, with: Some(good) } => {
                prop_assert_eq!(
                    (self.release, self.is_up),
                    (Some(bad), true),
                    "only a release that serves is replaced"
                );
                self.release = Some(good);
            }
            AppCommand::Destroy => {
                prop_assert_eq!(store, Some(Durable::Deletion));
                self.is_destroyed = true;
                self.waiting.clear();
            }
            AppCommand::SetType(_)
            | AppCommand::Load
            | AppCommand::LoadDeferred(_)
            | AppCommand::CannotServe(..)
            | AppCommand::Replace { with: None, .. }
            | AppCommand::ReplacementLoaded { with: None, .. } => {}
        }
        Ok(())
    }

    fn perform(&mut self, command: AppCommand, action: AppAction) -> Result<(), TestCaseError> {
        match action {
            AppAction::Serve => {
                prop_assert_eq!(self.intended, Intended::Running, "{:?} serves although a stop was last", command);
                self.is_up = true;
            }
            AppAction::Refuse(_) => self.is_up = false,
            AppAction::Load(load, release) => {
                prop_assert_eq!((self.load, self.release), (None, Some(release)), "one load at a time");
                self.loads.push(load);
                self.load = Some(load);
            }
            AppAction::LoadLater(load, _) => prop_assert_eq!(self.load, Some(load)),
            AppAction::CancelLoad => prop_assert!(self.load.take().is_some()),
            AppAction::LoadReplacement(bad) => prop_assert_eq!(self.release, Some(bad)),
            AppAction::GrantPermit(change) => {
                prop_assert_eq!(self.permit_holder, None, "one change at a time");
                prop_assert_eq!(self.waiting.pop_front(), Some(change), "in order of arrival");
                prop_assert!(self.granted.insert(change), "each change gets one permit");
                self.permit_holder = Some(change);
            }
        }
        Ok(())
    }

    fn compare(&self, command: AppCommand) -> Result<(), TestCaseError> {
        let machine = &self.machine;
        prop_assert_eq!(machine.intended(), self.intended, "{:?}", command);
        prop_assert_eq!(machine.release(), self.release, "{:?}", command);
        prop_assert_eq!(machine.is_destroyed(), self.is_destroyed);
        if self.is_destroyed {
            prop_assert!(!self.is_up && self.load.is_none());
            return Ok(());
        }
        let base = machine.lifecycle().base;
        prop_assert_eq!(base == BaseState::Running, self.is_up, "{:?} after {:?}", base, command);
        prop_assert_eq!(base == BaseState::Starting, self.load.is_some(), "{:?} after {:?}", base, command);
        if self.intended == Intended::Stopped {
            prop_assert_eq!(base, BaseState::Stopped, "a stop wins");
        }
        if machine.lifecycle().label() == AppState::Deploying {
            prop_assert!(self.permit_holder.is_some(), "only a change deploys");
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_sequence_of_commands_breaks_the_rules_of_an_app(acts in vec((act(), 0..8u8), 1..200)) {
        let mut model = Model::new();
        for (act, luck) in acts {
            model.walk(act, luck == 0)?;
        }
    }
}

#[test]
fn a_stop_cancels_the_load_and_a_start_begins_another() {
    let machine = AppMachine::new(AppType::Dev, Intended::Stopped, Some(number(1)));
    let started = machine.step(AppCommand::Start).expect("it has a release");
    assert_eq!(started.store, Some(Durable::Intended(Intended::Running)));
    let [AppAction::Refuse(Refusal::Starting), AppAction::Load(first, _)] = started.actions[..] else {
        panic!("it is loaded: {:?}", started.actions)
    };
    let stopped = started.next.step(AppCommand::Stop).expect("a stop is always possible");
    assert_eq!(stopped.actions[0], AppAction::CancelLoad);
    let again = stopped.next.step(AppCommand::Start).expect("it has a release").next;
    assert_eq!(again.step(AppCommand::Loaded(first)), Err(Denied::Superseded));
}

#[test]
fn a_type_is_changed_only_without_a_waiting_change() {
    let machine = AppMachine::new(AppType::Dev, Intended::Stopped, None);
    let busy = machine.step(AppCommand::Enqueue(ChangeId(1))).expect("changes can wait").next;
    assert_eq!(busy.step(AppCommand::SetType(AppType::Staging)), Err(Denied::Busy));
    let idle = busy.step(AppCommand::PermitReleased(ChangeId(1))).expect("it held the permit").next;
    let typed = idle.step(AppCommand::SetType(AppType::Staging)).expect("it is stopped");
    assert_eq!((typed.next.app_type(), typed.store), (AppType::Staging, Some(Durable::Type(AppType::Staging))));
}
