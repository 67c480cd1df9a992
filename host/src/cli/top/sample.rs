//! The figures of a host, decoded once: its awake apps with their two queues, and the host itself.
//! Cleans the host's texts, so that no other file can print its control characters. Never sends a
//! request and never draws.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::super::{limits, output};

/// One sample of a host, with the selected app separately if it is not awake.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Sample {
    #[serde(rename = "items")]
    pub(super) apps: Vec<AppSample>,
    /// The cursor of further apps. The view shows only that there are more.
    next: Option<IgnoredAny>,
    pub(super) host: HostSample,
    #[serde(skip)]
    pub(super) selected: SelectedSample,
}

/// The selected app, if the list doesn't contain it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum SelectedSample {
    #[default]
    NotRequested,
    App(Box<AppSample>),
    /// No app has this name.
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct HostSample {
    pub(super) cores: u32,
    /// Percent of one processor, as everywhere in this module: two busy processors are 200.
    pub(super) cpu_percent: f64,
    pub(super) memory_bytes: u64,
    pub(super) apps: u64,
    pub(super) apps_awake: u64,
    pub(super) instances: u64,
    pub(super) buffered: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct AppSample {
    #[serde(rename = "app", deserialize_with = "cleaned")]
    pub(super) name: String,
    #[serde(rename = "type", deserialize_with = "cleaned")]
    pub(super) kind: String,
    #[serde(deserialize_with = "cleaned")]
    pub(super) state: String,
    pub(super) instances: u64,
    pub(super) cpu_ms: u64,
    /// The part of `cpu_ms` that plugins used for the app.
    #[serde(default)]
    pub(super) plugin_cpu_ms: u64,
    pub(super) cpu_percent: f64,
    pub(super) memory_bytes: u64,
    pub(super) pull: QueueSample,
    pub(super) push: QueueSample,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct QueueSample {
    pub(super) cores: u64,
    pub(super) active_cores: u64,
    pub(super) buffered: u64,
    pub(super) latency_ms: Latency,
    pub(super) throughput_per_s: f64,
    /// The stored events of the push queue.
    #[serde(default)]
    pub(super) stored: StoredSample,
    /// The age of the oldest waiting job of the pull queue, or of the oldest stored event.
    #[serde(default)]
    pub(super) oldest_ms: Option<u64>,
    #[serde(default)]
    pub(super) dead_letters: u64,
}

/// Stored events that have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub(super) struct StoredSample {
    pub(super) ready: u64,
    pub(super) delayed: u64,
    pub(super) leased: u64,
}

impl StoredSample {
    pub(super) fn total(self) -> u64 {
        self.ready + self.delayed + self.leased
    }
}

/// Latencies of the last minute; `None` without a measurement.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Latency {
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl AppSample {
    /// Describes the CPU time since the host's start, with the part of plugins if there is one.
    pub(super) fn cpu_time(&self) -> String {
        match self.plugin_cpu_ms {
            0 => output::duration(self.cpu_ms),
            of_plugins => format!("{} ({} by plugins)", output::duration(self.cpu_ms), output::duration(of_plugins)),
        }
    }
}

impl Sample {
    /// Returns whether the host has more awake apps than the list contains.
    pub(super) fn has_more(&self) -> bool {
        self.next.is_some()
    }

    /// Returns the apps of the list and the selected app.
    pub(super) fn all(&self) -> impl Iterator<Item = &AppSample> {
        let selected = match &self.selected {
            SelectedSample::App(app) => Some(&**app),
            SelectedSample::NotRequested | SelectedSample::Unknown(_) => None,
        };
        self.apps.iter().chain(selected)
    }

    pub(super) fn app(&self, name: &str) -> Option<&AppSample> {
        self.all().find(|app| app.name == name)
    }

    /// Returns whether the host reported that this app doesn't exist.
    pub(super) fn is_unknown(&self, name: &str) -> bool {
        matches!(&self.selected, SelectedSample::Unknown(unknown) if unknown == name)
    }
}

fn cleaned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(clean(&String::deserialize(deserializer)?))
}

/// Cleans text for display: replaces control characters and characters that change the writing
/// direction, and truncates it.
pub(super) fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() || is_format(c) { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(limits::TOP_TEXT_CHARS_MAX).map(shown).collect()
}

/// Returns whether a character is invisible and changes how others are shown.
fn is_format(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Samples for tests.
#[cfg(test)]
pub(super) mod fixtures {
    use serde_json::{Value, json};

    use super::{AppSample, Sample};

    pub(crate) fn queue(active: u64, buffered: u64, p99: Option<f64>, per_s: f64) -> Value {
        json!({"cores": 10, "active_cores": active, "buffered": buffered, "throughput_per_s": per_s,
            "latency_ms": {"p50": p99.map(|p| p / 10.0), "p95": p99.map(|p| p / 2.0), "p99": p99}})
    }

    /// An app with figures that depend only on `busy`.
    pub(crate) fn app_value(name: &str, busy: u32) -> Value {
        let busy = f64::from(busy);
        json!({"app": name, "type": "production", "state": "running", "instances": 3, "cpu_ms": 12_345,
            "cpu_percent": busy, "memory_bytes": (busy * 1_048_576.0) as u64,
            "pull": queue(2, 0, Some(busy / 10.0), busy * 20.0), "push": queue(0, 4, None, 0.0)})
    }

    pub(crate) fn app(name: &str, busy: u32) -> AppSample {
        serde_json::from_value(app_value(name, busy)).unwrap()
    }

    pub(crate) fn list_value(apps: &[(&str, u32)]) -> Value {
        let items: Vec<Value> = apps.iter().map(|(name, busy)| app_value(name, *busy)).collect();
        let host = json!({
            "cores": 2,
            "cpu_percent": 87.0,
            "memory_bytes": 1_288_490_189_u64,
            "apps": 12,
            "apps_awake": items.len(),
            "instances": 17,
            "buffered": 3,
        });
        json!({"items": items, "next": null, "host": host})
    }

    pub(crate) fn list(apps: &[(&str, u32)]) -> Sample {
        serde_json::from_value(list_value(apps)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_cpu_time_of_plugins_is_shown_apart() {
        let app = |plugin_cpu_ms| AppSample { cpu_ms: 12_000, plugin_cpu_ms, ..fixtures::app("shop", 1) };
        assert_eq!(app(0).cpu_time(), "12s");
        assert_eq!(app(11_000).cpu_time(), "12s (11s by plugins)");
    }

    #[test]
    fn a_sample_is_decoded() {
        let mut value = fixtures::list_value(&[("shop", 41)]);
        value["next"] = json!("cursor");
        let sample: Sample = serde_json::from_value(value).unwrap();
        assert_eq!((sample.apps[0].kind.as_str(), sample.apps[0].pull.active_cores), ("production", 2));
        assert_eq!((sample.apps[0].pull.latency_ms.p99, sample.apps[0].push.latency_ms.p99), (Some(4.1), None));
        assert!(sample.has_more() && sample.app("shop").is_some() && sample.app("blog").is_none());
        assert!(!fixtures::list(&[]).has_more());
    }

    #[test]
    fn an_answer_without_a_figure_is_refused() {
        let mut value = fixtures::list_value(&[("shop", 41)]);
        value["items"][0]["pull"]["buffered"] = Value::Null;
        assert!(serde_json::from_value::<Sample>(value).is_err());
    }

    #[test]
    fn control_characters_are_removed_from_names() {
        let mut value = fixtures::app_value("x", 1);
        value["app"] = json!("a\u{1b}[2Jb\u{9b}31m\r\n\u{7f}\u{202e}c");
        value["state"] = json!("\u{7}run");
        let app: AppSample = serde_json::from_value(value).unwrap();
        assert_eq!(app.name, "a\u{fffd}[2Jb\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}\u{fffd}c");
        assert_eq!(app.state, "\u{fffd}run");
        assert_eq!(clean(&"x".repeat(10_000)).len(), limits::TOP_TEXT_CHARS_MAX);
    }
}
