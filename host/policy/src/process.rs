//! Process types: how and when an app's component runs. Owns what may be said of one, and what the unsaid comes to
//! for an app's type and limits. Never starts an instance. Which process types an app has stands in `formation.rs`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AppType, Health, Limits, Schedule, UnknownWord};

/// One process type, as far as somebody said something of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Which of the component's exports is called.
    pub entry: Entry,
    /// How its instances are asked whether they are well, for processes that serve HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How many instances always run, if somebody said so; [`Process::scale`] says what is meant otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// How many instances may run at most, if somebody said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// When an event of type `isopod.schedule` is delivered, or a command is run, as five fields of cron.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Arguments of the component; only commands see them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// How many instances of a process type run: at least `min`, at most `max`, and `max` is at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Scale {
    /// How many always run.
    pub min: u32,
    /// How many may run at most.
    pub max: u32,
}

impl Process {
    /// A process type with nothing said of it but its entry.
    pub fn new(entry: Entry) -> Self {
        Self { entry, health: None, min: None, max: None, schedule: None, args: Vec::new() }
    }

    /// How many instances run, with what nobody said filled in. Never above the app's own limit, whatever was said.
    pub fn scale(&self, app_type: AppType, limits: &Limits) -> Scale {
        let most = limits.instances_max.max(1);
        let min = self.min.unwrap_or_else(|| u32::from(self.runs_unasked(app_type)));
        let max = self.max.unwrap_or(match self.entry {
            Entry::Http | Entry::Events => most,
            // Copies of a command share no work, so a second one is nothing that load could call for.
            Entry::Command => min,
        });
        let max = max.clamp(1, most);
        Scale { min: min.min(max), max }
    }

    /// The same as it is at work: only production apps grow with their load, others keep their size whatever they have to
    /// do.
    pub fn scale_at_work(&self, app_type: AppType, limits: &Limits) -> Scale {
        let scale = self.scale(app_type, limits);
        match (self.entry, app_type) {
            (Entry::Http | Entry::Events, AppType::Dev | AppType::Staging) => Scale { max: scale.min.max(1), ..scale },
            (Entry::Http | Entry::Events, AppType::Production) | (Entry::Command, _) => scale,
        }
    }

    /// Whether one instance runs without anybody having asked for it.
    fn runs_unasked(&self, app_type: AppType) -> bool {
        if self.schedule.is_some() {
            return false;
        }
        match (self.entry, app_type) {
            // People wait for production apps, so one instance is kept warm.
            (Entry::Http | Entry::Events, AppType::Production) => true,
            (Entry::Http | Entry::Events, AppType::Dev | AppType::Staging) => false,
            // Nothing else would ever start it.
            (Entry::Command, AppType::Dev | AppType::Staging | AppType::Production) => true,
        }
    }
}

/// Which of a component's exports a process type calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// It answers HTTP requests.
    Http,
    /// It handles events.
    Events,
    /// It runs once, as a program does.
    Command,
}

impl Entry {
    /// Every entry.
    pub const ALL: [Self; 3] = [Self::Http, Self::Events, Self::Command];

    /// The word for the entry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Events => "events",
            Self::Command => "command",
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
    fn only_production_keeps_an_instance_warm_by_itself() {
        for entry in [Entry::Http, Entry::Events] {
            let process = Process::new(entry);
            assert_eq!(AppType::ALL.map(|app_type| scale(&process, app_type)), [(0, 10), (0, 10), (1, 10)]);
        }
    }

    #[test]
    fn a_command_is_kept_running_as_one_copy_unless_it_has_a_schedule() {
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
    fn only_production_grows_with_its_load() {
        let at_work = |process: &Process| {
            AppType::ALL.map(|app_type| {
                let Scale { min, max } = process.scale_at_work(app_type, &Limits::default());
                (min, max)
            })
        };
        assert_eq!(at_work(&Process::new(Entry::Http)), [(0, 1), (0, 1), (1, 10)]);
        let said = Process { min: Some(2), max: Some(5), ..Process::new(Entry::Http) };
        assert_eq!(at_work(&said), [(2, 2), (2, 2), (2, 5)]);
    }

    #[test]
    fn what_was_said_holds_for_every_type() {
        let sleeps = Process { min: Some(0), ..Process::new(Entry::Http) };
        assert_eq!(scale(&sleeps, AppType::Production), (0, 10));
        let fixed = Process { min: Some(2), max: Some(2), ..Process::new(Entry::Http) };
        assert_eq!(AppType::ALL.map(|app_type| scale(&fixed, app_type)), [(2, 2); 3]);
    }

    proptest! {
        #[test]
        fn a_scale_is_within_the_limit_whatever_was_said(
            entry in 0..3usize, app_type in 0..3usize, min in proptest::option::of(any::<u32>()),
            max in proptest::option::of(any::<u32>()), most in any::<u32>(),
        ) {
            let process = Process { min, max, ..Process::new(Entry::ALL[entry]) };
            let limits = Limits { instances_max: most, ..Limits::default() };
            let Scale { min, max } = process.scale(AppType::ALL[app_type], &limits);
            prop_assert!(min <= max && max >= 1 && max <= most.max(1));
        }
    }
}
