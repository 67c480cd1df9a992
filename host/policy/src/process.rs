//! Process types: how and when an app's component runs. Owns their settings, and the defaults for
//! an app's type and limits. Never starts an instance. `formation.rs` owns the set of an app's
//! process types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    AppType, Health, Limits, Missed, Order, Overlap, PluginKind, RetryPolicy, Schedule, TimeZone, Timetable,
    UnknownWord,
};

/// A process type, as far as it was specified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Process {
    /// The export that is called.
    pub entry: Entry,
    /// The health check of its instances, for processes that serve HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The minimum number of instances, if specified; [`Process::scale`] has the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// The maximum number of instances, if specified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// When it receives an event of type `isopod.schedule`, or a command runs, as five cron fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The time zone of the schedule, if specified; otherwise UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<TimeZone>,
    /// What happens to missed times of the schedule, if specified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// What happens to a time that is due while the previous run is in progress, if specified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// The component's arguments; only commands receive them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The order in which it receives events, if specified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The retries of its events, if specified; [`Process::retry_policy`] has the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
}

/// A setting that the process type's entry or its other settings don't allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inapplicable {
    /// The key of the setting.
    pub key: &'static str,
    /// What the setting requires.
    pub why: &'static str,
}

/// The bounds on the number of instances: at least `min`, at most `max`, and `max` is at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Scale {
    /// The minimum number of instances.
    pub min: u32,
    /// The maximum number of instances.
    pub max: u32,
}

impl Process {
    /// Returns a process type with only its entry specified.
    pub fn new(entry: Entry) -> Self {
        Self {
            entry,
            health: None,
            min: None,
            max: None,
            schedule: None,
            time_zone: None,
            missed: None,
            overlap: None,
            args: Vec::new(),
            order: None,
            retry: None,
        }
    }

    /// Returns the retries of its events, with the default filled in.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.retry.unwrap_or_default()
    }

    /// Returns its schedule with all settings of the schedule, if it has one.
    pub fn timetable(&self) -> Option<Timetable> {
        Some(Timetable {
            schedule: self.schedule.clone()?,
            time_zone: self.time_zone.clone().unwrap_or_default(),
            missed: self.missed.unwrap_or_default(),
            overlap: self.overlap.unwrap_or_default(),
        })
    }

    /// Checks that each setting applies to this entry and these other settings.
    pub(crate) fn check_applicable(&self) -> Result<(), Inapplicable> {
        let (http, events) = (self.entry == Entry::Http, self.entry == Entry::Events);
        let delivers = events || self.entry == Entry::Hook;
        let may_be_scheduled = events || self.entry == Entry::Command;
        let scheduled = self.schedule.is_some();
        let rules = [
            ("health", self.health.is_some(), http, "a health check requires entry = \"http\""),
            ("schedule", scheduled, may_be_scheduled, "a schedule requires entry = \"events\" or \"command\""),
            ("time_zone", self.time_zone.is_some(), scheduled, "a time zone requires a schedule"),
            ("missed", self.missed.is_some(), scheduled, "a setting for missed runs requires a schedule"),
            ("overlap", self.overlap.is_some(), scheduled, "a setting for overlapping runs requires a schedule"),
            ("order", self.order.is_some(), delivers, "an order of events requires entry = \"events\" or a hook"),
            ("retry", self.retry.is_some(), delivers, "retries of events require entry = \"events\" or a hook"),
        ];
        match rules.into_iter().find(|(_, is_set, applies, _)| *is_set && !applies) {
            Some((key, .., why)) => Err(Inapplicable { key, why }),
            None => Ok(()),
        }
    }

    /// Returns the bounds with defaults filled in, never above the app's limit.
    pub fn scale(&self, app_type: AppType, limits: &Limits) -> Scale {
        let most = limits.instances_max.max(1);
        let min = self.min.unwrap_or_else(|| u32::from(self.runs_by_default(app_type)));
        let max = self.max.unwrap_or(match self.entry {
            Entry::Http | Entry::Events | Entry::Middleware | Entry::Gate | Entry::Provider | Entry::Hook => most,
            // Copies of a command share no work, so load never requires a second one.
            Entry::Command => min,
        });
        let max = max.clamp(1, most);
        Scale { min: min.min(max), max }
    }

    /// Returns the bounds in service: production apps scale with their load, others keep a fixed
    /// size.
    pub fn scale_at_work(&self, app_type: AppType, limits: &Limits) -> Scale {
        let scale = self.scale(app_type, limits);
        match (self.entry, app_type) {
            (Entry::Command, _) | (_, AppType::Production) => scale,
            (
                Entry::Http | Entry::Events | Entry::Middleware | Entry::Gate | Entry::Provider | Entry::Hook,
                AppType::Dev | AppType::Staging,
            ) => Scale { max: scale.min.max(1), ..scale },
        }
    }

    /// Returns whether one instance runs without a request for it.
    fn runs_by_default(&self, app_type: AppType) -> bool {
        if self.schedule.is_some() {
            return false;
        }
        match self.entry {
            // Callers wait for production apps, so one instance stays warm.
            Entry::Http | Entry::Events | Entry::Middleware | Entry::Gate | Entry::Provider => {
                app_type == AppType::Production
            }
            // No caller waits: events stay in the queue until an instance has started.
            Entry::Hook => false,
            // No request would ever start it.
            Entry::Command => true,
        }
    }
}

/// The export that a process type calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// Responds to HTTP requests.
    Http,
    /// Handles events.
    Events,
    /// Runs from start to exit, as a program.
    Command,
    /// Sees the requests and responses of other apps, as a plugin.
    Middleware,
    /// Decides whether releases of other apps are activated, as a plugin.
    Gate,
    /// Offers interfaces to other apps, as a plugin.
    Provider,
    /// Receives the activity of apps, as a plugin.
    Hook,
}

impl Entry {
    /// Every entry.
    pub const ALL: [Self; 7] =
        [Self::Http, Self::Events, Self::Command, Self::Middleware, Self::Gate, Self::Provider, Self::Hook];

    /// Returns the entry's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Events => "events",
            Self::Command => "command",
            Self::Middleware => "middleware",
            Self::Gate => "gate",
            Self::Provider => "provider",
            Self::Hook => "hook",
        }
    }

    /// Returns the kind of plugins with this entry, if it is that of a plugin.
    pub fn plugin_kind(self) -> Option<PluginKind> {
        match self {
            Self::Middleware => Some(PluginKind::Middleware),
            Self::Gate => Some(PluginKind::Gate),
            Self::Provider => Some(PluginKind::Provider),
            Self::Hook => Some(PluginKind::Hook),
            Self::Http | Self::Events | Self::Command => None,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Entry {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
            what: "entry",
            given: text.chars().take(80).collect(),
            expected: "\"http\", \"events\" or \"command\"",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scale(process: &Process, app_type: AppType) -> (u32, u32) {
        let Scale { min, max } = process.scale(app_type, &Limits::default());
        (min, max)
    }

    #[test]
    fn only_production_keeps_an_instance_warm_by_default() {
        for entry in [Entry::Http, Entry::Events, Entry::Middleware, Entry::Gate, Entry::Provider] {
            let process = Process::new(entry);
            assert_eq!(AppType::ALL.map(|app_type| scale(&process, app_type)), [(0, 10), (0, 10), (1, 10)]);
        }
    }

    #[test]
    fn one_copy_of_a_command_runs_unless_it_has_a_schedule() {
        let command = Process::new(Entry::Command);
        assert_eq!(AppType::ALL.map(|app_type| scale(&command, app_type)), [(1, 1); 3]);
        let nightly = Process { schedule: Schedule::parse("0 3 * * *").ok(), ..command };
        assert_eq!(AppType::ALL.map(|app_type| scale(&nightly, app_type)), [(0, 1); 3]);
        let events = Process { entry: Entry::Events, ..nightly };
        assert_eq!(scale(&events, AppType::Production), (0, 10));
        let three = Process { min: Some(3), ..Process::new(Entry::Command) };
        assert_eq!(scale(&three, AppType::Dev), (3, 3));
    }

    #[test]
    fn only_production_scales_with_its_load() {
        let at_work = |process: &Process| {
            AppType::ALL.map(|app_type| {
                let Scale { min, max } = process.scale_at_work(app_type, &Limits::default());
                (min, max)
            })
        };
        assert_eq!(at_work(&Process::new(Entry::Http)), [(0, 1), (0, 1), (1, 10)]);
        let process = Process { min: Some(2), max: Some(5), ..Process::new(Entry::Http) };
        assert_eq!(at_work(&process), [(2, 2), (2, 2), (2, 5)]);
    }

    #[test]
    fn specified_bounds_apply_to_every_type() {
        let sleeps = Process { min: Some(0), ..Process::new(Entry::Http) };
        assert_eq!(scale(&sleeps, AppType::Production), (0, 10));
        let fixed = Process { min: Some(2), max: Some(2), ..Process::new(Entry::Http) };
        assert_eq!(AppType::ALL.map(|app_type| scale(&fixed, app_type)), [(2, 2); 3]);
    }

    proptest! {
        #[test]
        fn a_scale_is_always_within_the_limit(
            entry in 0..Entry::ALL.len(), app_type in 0..3usize, min in proptest::option::of(any::<u32>()),
            max in proptest::option::of(any::<u32>()), most in any::<u32>(),
        ) {
            let process = Process { min, max, ..Process::new(Entry::ALL[entry]) };
            let limits = Limits { instances_max: most, ..Limits::default() };
            let Scale { min, max } = process.scale(AppType::ALL[app_type], &limits);
            prop_assert!(min <= max && max >= 1 && max <= most.max(1));
        }
    }
}
