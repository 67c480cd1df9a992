//! The formation: the process types of an app. Owns their creation, update and removal, and the
//! part that a new manifest inherits. Every change is a function from one formation to the next;
//! never starts or stops an instance.

mod body;
mod error;

use std::collections::BTreeMap;

use serde::Serialize;

pub use body::{Change, FormationChange, NewProcess, ProcessChange, only_scales};
pub use error::FormationError;

use crate::limits::{ARGUMENTS_MAX, PROCESSES_MAX, TEXT_BYTES_MAX};
use crate::nearest::nearest;
use crate::{
    AppKind, AppType, Entry, Health, Limits, Missed, Order, Overlap, PluginKind, Process, ProcessName, RetryPolicy,
    Schedule, TimeZone,
};

/// The only process type of a plugin.
pub const PLUGIN_PROCESS: &str = "plugin";

/// The process types of an app, by name.
pub type Formation = BTreeMap<ProcessName, Process>;

/// The entry points that a component exports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// The component serves HTTP.
    pub http: bool,
    /// The component handles events.
    pub events: bool,
    /// The component is a command.
    pub command: bool,
    /// The component is middleware, which only a plugin may be.
    pub middleware: bool,
    /// The component is a gate, which only a plugin may be.
    pub gate: bool,
    /// The component exports interfaces that a plugin may offer to apps.
    pub provider: bool,
    /// The component is a hook, which only a plugin may be.
    pub hook: bool,
}

impl Exported {
    /// Returns whether the component exports this entry.
    pub fn has(self, entry: Entry) -> bool {
        match entry {
            Entry::Http => self.http,
            Entry::Events => self.events,
            Entry::Command => self.command,
            Entry::Middleware => self.middleware,
            Entry::Gate => self.gate,
            Entry::Provider => self.provider,
            Entry::Hook => self.hook,
        }
    }

    /// Returns the entries that an app or a plugin may run: an app can't be a plugin, and a plugin
    /// has no requests and events of its own.
    #[must_use]
    pub fn usable_by(self, kind: AppKind) -> Self {
        match kind {
            AppKind::App => Self { middleware: false, gate: false, provider: false, hook: false, ..self },
            AppKind::Plugin => {
                let kind = self.plugin_kind();
                let is = |other| kind == Some(other);
                Self {
                    middleware: is(PluginKind::Middleware),
                    gate: is(PluginKind::Gate),
                    provider: is(PluginKind::Provider),
                    hook: is(PluginKind::Hook),
                    ..Self::default()
                }
            }
        }
    }

    /// Returns the kind of a plugin with these exports, if they are those of a plugin.
    pub fn plugin_kind(self) -> Option<PluginKind> {
        let kinds = [
            (self.middleware, PluginKind::Middleware),
            (self.gate, PluginKind::Gate),
            (self.hook, PluginKind::Hook),
            (self.provider, PluginKind::Provider),
        ];
        kinds.into_iter().find(|(is_exported, _)| *is_exported).map(|(_, kind)| kind)
    }
}

/// Returns the default formation: `web` for a component that serves HTTP, `worker` for one that
/// handles events, `plugin` for a plugin. A command runs only if a process type requests it.
#[expect(clippy::expect_used, reason = "all names are valid")]
pub fn default_for(exported: Exported) -> Formation {
    let plugin = [Entry::Middleware, Entry::Gate, Entry::Provider, Entry::Hook].map(|entry| (PLUGIN_PROCESS, entry));
    [("web", Entry::Http), ("worker", Entry::Events)]
        .into_iter()
        .chain(plugin)
        .filter(|(_, entry)| exported.has(*entry))
        .map(|(name, entry)| (name.parse().expect("all names are valid"), Process::new(entry)))
        .collect()
}

/// Returns the formation with one process type added.
pub fn create(
    current: &Formation,
    new: &NewProcess,
    limits: &Limits,
    exported: Exported,
) -> Result<Formation, FormationError> {
    if current.contains_key(&new.name) {
        return Err(FormationError::Exists { process: new.name.clone() });
    }
    let mut formation = current.clone();
    formation.insert(new.name.clone(), new.process.clone());
    if formation.len() > PROCESSES_MAX {
        return Err(FormationError::TooManyProcesses { max: PROCESSES_MAX });
    }
    check_process(&new.name, &new.process, limits)?;
    check_exported(&new.name, new.process.entry, exported)?;
    Ok(formation)
}

/// Returns the formation with some process types changed. Settings that the change doesn't mention
/// are unchanged.
pub fn update(current: &Formation, change: &FormationChange, limits: &Limits) -> Result<Formation, FormationError> {
    let mut formation = current.clone();
    for (name, change) in &change.processes {
        let Some(process) = formation.get_mut(name) else { return Err(unknown_process(current, name)) };
        if change.entry.is_some_and(|entry| entry != process.entry) {
            return Err(FormationError::EntryFixed { process: name.clone(), entry: process.entry });
        }
        change.apply(process);
        check_process(name, process, limits)?;
    }
    Ok(formation)
}

/// Returns the formation with one process type removed.
pub fn remove(current: &Formation, name: &ProcessName) -> Result<Formation, FormationError> {
    let mut formation = current.clone();
    if formation.remove(name).is_none() {
        return Err(unknown_process(current, name));
    }
    if formation.is_empty() {
        return Err(FormationError::NothingLeft { process: name.clone() });
    }
    Ok(formation)
}

/// Checks that a component with these exports can run this formation within these limits.
pub fn check(formation: &Formation, limits: &Limits, exported: Exported) -> Result<(), FormationError> {
    if formation.len() > PROCESSES_MAX {
        return Err(FormationError::TooManyProcesses { max: PROCESSES_MAX });
    }
    for (name, process) in formation {
        check_process(name, process, limits)?;
        check_exported(name, process.entry, exported)?;
    }
    Ok(())
}

/// Returns the formation of a new release, from its manifest and the app's current formation.
///
/// A manifest without process types keeps the app's. If a process type specifies no minimum or
/// maximum, it inherits that of the current process type with the same name and entry: those were
/// scaled by hand, and a deploy shouldn't undo it. Settings in the manifest, including its limits,
/// take precedence.
pub fn inherit(specified: &Formation, current: &Formation, limits: &Limits) -> Formation {
    let within = |count: u32| count.min(limits.instances_max);
    let mut formation = if specified.is_empty() { current.clone() } else { specified.clone() };
    for (name, process) in &mut formation {
        let Some(before) = current.get(name).filter(|before| before.entry == process.entry) else { continue };
        let (specified_min, specified_max) =
            specified.get(name).map_or((None, None), |specified| (specified.min, specified.max));
        process.min = specified_min.or(before.min.map(within));
        process.max = specified_max.or(before.max.map(within));
        if let (Some(min), Some(max)) = (process.min, process.max)
            && min > max
        {
            (process.min, process.max) = (specified_min, specified_max);
        }
    }
    formation
}

fn unknown_process(current: &Formation, name: &ProcessName) -> FormationError {
    let names: Vec<&str> = current.keys().map(ProcessName::as_str).collect();
    let nearest = nearest(name.as_str(), names.iter().copied()).map(str::to_owned);
    FormationError::NoSuchProcess { process: name.clone(), nearest, known: names.join(", ") }
}

fn check_exported(name: &ProcessName, entry: Entry, exported: Exported) -> Result<(), FormationError> {
    if exported.has(entry) {
        return Ok(());
    }
    Err(FormationError::EntryNotExported { process: name.clone(), entry })
}

fn check_process(name: &ProcessName, process: &Process, limits: &Limits) -> Result<(), FormationError> {
    let most = limits.instances_max;
    if process.max == Some(0) {
        return Err(FormationError::MaxZero { process: name.clone() });
    }
    for (key, count) in [("min", process.min), ("max", process.max)] {
        if let Some(given) = count.filter(|count| *count > most) {
            return Err(FormationError::AboveLimit { process: name.clone(), key, given, most });
        }
    }
    if let (Some(min), Some(max)) = (process.min, process.max)
        && min > max
    {
        return Err(FormationError::MinAboveMax { process: name.clone(), min, max });
    }
    process.check_applicable().map_err(|setting| FormationError::Inapplicable { process: name.clone(), setting })?;
    let too_long = process.args.iter().any(|text| text.len() > TEXT_BYTES_MAX || text.contains('\0'));
    if process.args.len() > ARGUMENTS_MAX || too_long {
        return Err(FormationError::BadArguments { process: name.clone() });
    }
    Ok(())
}

/// A process type as users see it, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ShownProcess {
    /// The export that is called.
    pub entry: Entry,
    /// The health check, if any.
    pub health: Option<Health>,
    /// The minimum number of instances.
    pub min: u32,
    /// The maximum number of instances.
    pub max: u32,
    /// When it runs or receives its event, if it has a schedule.
    pub schedule: Option<Schedule>,
    /// The time zone of the schedule; without a value, UTC.
    pub time_zone: Option<TimeZone>,
    /// What happens to missed times of the schedule, if it doesn't use the default.
    pub missed: Option<Missed>,
    /// What happens to a time that is due while the previous run is in progress, if it doesn't use
    /// the default.
    pub overlap: Option<Overlap>,
    /// The component's arguments.
    pub args: Vec<String>,
    /// The order in which it receives events; without a value, in parallel.
    pub order: Option<Order>,
    /// The retries of its events, if it doesn't use the default.
    pub retry: Option<RetryPolicy>,
}

/// Returns the formation as users see it.
pub fn shown(formation: &Formation, app_type: AppType, limits: &Limits) -> BTreeMap<ProcessName, ShownProcess> {
    let show = |process: &Process| {
        let scale = process.scale(app_type, limits);
        let Process { entry, health, min: _, max: _, schedule, time_zone, missed, overlap, args, order, retry } =
            process.clone();
        ShownProcess {
            entry,
            health,
            min: scale.min,
            max: scale.max,
            schedule,
            time_zone,
            missed,
            overlap,
            args,
            order,
            retry,
        }
    };
    formation.iter().map(|(name, process)| (name.clone(), show(process))).collect()
}
