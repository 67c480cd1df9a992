//! Hooks: plugins that receive the activity of apps as events. Owns the types of these events, and
//! the subscription of a hook. Never delivers an event.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::AppName;
use crate::limits::TEXT_NAME_BYTES_SHOWN;
use crate::nearest::nearest;
use crate::text::excerpt;

/// The types of events. Each has the kinds of activity that it reports.
const EVENT_TYPES: &[(&str, &[&str])] = &[
    ("isopod.app.created", &["app-created"]),
    ("isopod.app.deployed", &["app-deployed"]),
    ("isopod.app.release-returned", &["release-returned"]),
    ("isopod.app.push-failed", &["push-failed"]),
    ("isopod.app.push-cancelled", &["push-cancelled"]),
    ("isopod.app.change-failed", &["change-failed"]),
    ("isopod.app.app-state", &["app-state"]),
    ("isopod.app.started", &["app-started"]),
    ("isopod.app.stopped", &["app-stopped"]),
    ("isopod.app.config-changed", &["config-changed"]),
    ("isopod.app.settings-changed", &["app-type", "app-cores", "app-ceiling"]),
    ("isopod.app.scaled", &["app-scaled"]),
    ("isopod.app.instance-restarted", &["instance-restarted"]),
    ("isopod.app.destroyed", &["app-destroyed"]),
    (
        "isopod.app.alert",
        &[
            "alert",
            "app-error",
            "data-damaged",
            "data-missing",
            "data-unreadable",
            "dead-letters",
            "events-stranded",
            "plugin-unfit",
            "process-failing",
            "release-interrupted",
            "schedule-failed",
            "schedule-missed",
        ],
    ),
    ("isopod.app.alert-resolved", &["alert-resolved"]),
];

/// The types of events about the host itself, like [`EVENT_TYPES`].
const HOST_EVENT_TYPES: &[(&str, &[&str])] =
    &[("isopod.host.alert", &["alert"]), ("isopod.host.alert-resolved", &["alert-resolved"])];

/// Former names of types with the present ones. The stored manifest of a plugin may contain them.
const FORMER_EVENT_TYPES: &[(&str, &str)] =
    &[("isopod.app.alert-over", "isopod.app.alert-resolved"), ("isopod.host.alert-over", "isopod.host.alert-resolved")];

/// Returns the type of the events that report this kind of activity of an app, or of the host if
/// `app` is `None`. `None` if hooks don't receive it.
pub fn event_type(activity: &str, app: Option<&AppName>) -> Option<&'static str> {
    let types = if app.is_some() { EVENT_TYPES } else { HOST_EVENT_TYPES };
    types.iter().find(|(_, kinds)| kinds.contains(&activity)).map(|(name, _)| *name)
}

fn type_names() -> impl Iterator<Item = &'static str> {
    EVENT_TYPES.iter().chain(HOST_EVENT_TYPES).map(|(name, _)| *name)
}

/// A type of events, or a prefix of several types that ends with `.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EventPattern(String);

impl EventPattern {
    /// Returns the pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn matches(&self, event_type: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => event_type.starts_with(prefix),
            None => self.0 == event_type,
        }
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that matches no event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} matches no event type; {}",
    match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => "write a type, such as \"isopod.app.deployed\", or \"isopod.*\" for all".to_owned(),
    }
)]
pub struct EventPatternError {
    given: String,
    nearest: Option<&'static str>,
}

impl FromStr for EventPattern {
    type Err = EventPatternError;

    fn from_str(text: &str) -> Result<Self, EventPatternError> {
        let renamed = FORMER_EVENT_TYPES.iter().find(|(former, _)| *former == text);
        let text = renamed.map_or(text, |(_, present)| *present);
        let pattern = Self(text.to_owned());
        let is_prefix = text.ends_with(".*") || !text.contains('*');
        if is_prefix && type_names().any(|name| pattern.matches(name)) {
            return Ok(pattern);
        }
        let nearest = nearest(text, type_names());
        Err(EventPatternError { given: excerpt(text, TEXT_NAME_BYTES_SHOWN).into_owned(), nearest })
    }
}

/// The events that a hook receives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Subscription {
    /// The types of the events; all types if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventPattern>,
    /// The apps whose events it receives; those of all apps and of the host if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppName>,
}

impl Subscription {
    /// The keys of the table.
    pub const KEYS: &[&str] = &["events", "apps"];

    /// Returns whether it includes all events.
    pub fn is_all(&self) -> bool {
        self.events.is_empty() && self.apps.is_empty()
    }

    /// Returns whether it includes an event of this type about this app, or about the host.
    pub fn includes(&self, event_type: &str, app: Option<&AppName>) -> bool {
        let has_type = self.events.is_empty() || self.events.iter().any(|pattern| pattern.matches(event_type));
        has_type && (self.apps.is_empty() || app.is_some_and(|app| self.apps.contains(app)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<EventPattern> {
        texts.iter().map(|text| text.parse().expect("a valid pattern")).collect()
    }

    #[test]
    fn each_kind_of_activity_has_at_most_one_type() {
        let kinds: Vec<_> = EVENT_TYPES.iter().flat_map(|(_, kinds)| *kinds).collect();
        for kind in &kinds {
            assert_eq!(kinds.iter().filter(|other| other == &kind).count(), 1, "{kind}");
        }
        let shop = "shop".parse().expect("a valid name");
        assert_eq!(event_type("app-deployed", Some(&shop)), Some("isopod.app.deployed"));
        assert_eq!(event_type("process-failing", Some(&shop)), Some("isopod.app.alert"));
        assert_eq!(event_type("plugin-unfit", Some(&shop)), Some("isopod.app.alert"));
        assert_eq!(event_type("alert-resolved", Some(&shop)), Some("isopod.app.alert-resolved"));
        assert_eq!(event_type("calls-refused", Some(&shop)), None);
        assert_eq!((event_type("alert", None), event_type("app-deployed", None)), (Some("isopod.host.alert"), None));
    }

    #[test]
    fn a_pattern_matches_a_type_or_those_with_its_prefix() {
        let [exact, all] = ["isopod.app.deployed", "isopod.app.*"].map(|text| text.parse::<EventPattern>().unwrap());
        assert!(exact.matches("isopod.app.deployed") && !exact.matches("isopod.app.destroyed"));
        assert!(all.matches("isopod.app.alert") && "isopod.*".parse::<EventPattern>().is_ok());
    }

    #[test]
    fn a_former_name_of_a_type_selects_its_present_name() {
        for (former, present) in FORMER_EVENT_TYPES {
            assert_eq!(former.parse::<EventPattern>().map(|pattern| pattern.to_string()).as_deref(), Ok(*present));
        }
    }

    #[test]
    fn a_pattern_without_a_type_is_refused_with_the_nearest_type() {
        let error = "isopod.app.deploy".parse::<EventPattern>().expect_err("unknown").to_string();
        assert!(error.contains("did you mean \"isopod.app.deployed\"?"), "{error}");
        for text in ["", "*", "isopod.app.*.x", "isopod.app.d*", "isopod.app", "wiki.*"] {
            assert!(text.parse::<EventPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_subscription_selects_by_type_and_app() {
        let [shop, wiki]: [AppName; 2] = ["shop", "wiki"].map(|name| name.parse().expect("a valid name"));
        let all = Subscription::default();
        assert!(all.is_all() && all.includes("isopod.app.alert", Some(&wiki)));
        let some = Subscription { events: patterns(&["isopod.app.alert"]), apps: vec![shop.clone()] };
        assert!(some.includes("isopod.app.alert", Some(&shop)));
        assert!(!some.includes("isopod.app.alert", Some(&wiki)) && !some.includes("isopod.app.deployed", Some(&shop)));
        assert!(all.includes("isopod.host.alert", None) && !some.includes("isopod.host.alert", None));
    }
}
