//! The states of all alerts: applies the samples to the rules, and returns the changes. Keeps a
//! state only for alerts that fire or are about to. Never measures and never reports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use isopod_policy::{AlertChange, AlertRule, AlertSettings, AlertState};
use jiff::Timestamp;

use super::alert::Alert;
use crate::control::AppRecord;

/// The states of all alerts.
pub(super) struct Table {
    rules: BTreeMap<AlertRule, AlertSettings>,
    states: HashMap<Key, AlertState>,
    firing: BTreeMap<Key, Alert>,
}

/// A rule, and the id of the app that it applies to; empty for the host.
type Key = (String, AlertRule);

/// A sampled value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) rule: AlertRule,
    /// `None` if it is unknown.
    pub(super) value: Option<f64>,
    /// What the value means, if the rule's own text doesn't suffice.
    pub(super) text: Option<String>,
}

impl From<(AlertRule, Option<f64>)> for Sample {
    fn from((rule, value): (AlertRule, Option<f64>)) -> Self {
        Self { rule, value, text: None }
    }
}

/// An alert that fires now, or is resolved now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) alert: Alert,
    pub(super) is_resolved: bool,
}

impl Table {
    pub(super) fn new(rules: BTreeMap<AlertRule, AlertSettings>) -> Self {
        Self { rules, states: HashMap::new(), firing: BTreeMap::new() }
    }

    /// Restores the alerts that fired in an earlier run of the host. Those of rules that are
    /// disabled now are resolved.
    pub(super) fn restore(&mut self, alerts: Vec<Alert>) -> Vec<Change> {
        let mut disabled = Vec::new();
        for mut alert in alerts {
            let Some(settings) = self.rules.get(&alert.rule) else {
                disabled.push(ended(alert, "its rule is disabled"));
                continue;
            };
            alert.threshold = settings.threshold;
            let key = (alert.app_id.clone().unwrap_or_default(), alert.rule);
            self.states.insert(key.clone(), AlertState::Firing { clear_since: None });
            self.firing.insert(key, alert);
        }
        disabled
    }

    /// Returns the alerts that fire, those of the host first.
    pub(super) fn firing(&self) -> Vec<Alert> {
        let mut firing: Vec<_> = self.firing.values().cloned().collect();
        firing.sort_by(|a, b| (&a.app, a.rule).cmp(&(&b.app, b.rule)));
        firing
    }

    /// Applies the values of an app, or of the host. `now` is a time since any origin, which never
    /// runs backwards; `at` is the time for people.
    pub(super) fn step(
        &mut self,
        app: Option<&Arc<AppRecord>>,
        samples: impl IntoIterator<Item = Sample>,
        now: Duration,
        at: Timestamp,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for Sample { rule, value, text } in samples {
            let Some(settings) = self.rules.get(&rule) else { continue };
            let text = |value| text.clone().unwrap_or_else(|| rule.text(value, settings));
            let key = (app.map(|app| app.id.clone()).unwrap_or_default(), rule);
            let mut state = self.states.get(&key).copied().unwrap_or_default();
            let change = rule.step(settings, &mut state, value, now);
            if let Some((alert, value)) = self.firing.get_mut(&key).zip(value) {
                (alert.value, alert.text) = (value, text(value));
            }
            match change {
                Some(AlertChange::Fired) => {
                    let value = value.unwrap_or_default();
                    let alert = Alert {
                        rule,
                        app: app.map(|app| app.name.clone()),
                        app_id: app.map(|app| app.id.clone()),
                        since: at,
                        value,
                        threshold: settings.threshold,
                        text: text(value),
                    };
                    self.firing.insert(key.clone(), alert.clone());
                    changes.push(Change { alert, is_resolved: false });
                }
                Some(AlertChange::Resolved) => {
                    changes.extend(self.firing.remove(&key).map(|alert| Change { alert, is_resolved: true }));
                }
                None => {}
            }
            if state.is_idle() {
                self.states.remove(&key);
            } else {
                self.states.insert(key, state);
            }
        }
        changes
    }

    /// Ends the alerts of apps that are not among these.
    pub(super) fn forget_missing(&mut self, apps: &[Arc<AppRecord>]) -> Vec<Change> {
        if self.states.is_empty() {
            return Vec::new();
        }
        let ids: HashSet<&str> = apps.iter().map(|app| app.id.as_str()).chain([""]).collect();
        self.states.retain(|(app, _), _| ids.contains(app.as_str()));
        let gone: Vec<Key> = self.firing.keys().filter(|(app, _)| !ids.contains(app.as_str())).cloned().collect();
        let gone = gone.into_iter().filter_map(|key| self.firing.remove(&key));
        gone.map(|alert| ended(alert, "the app was destroyed")).collect()
    }
}

fn ended(alert: Alert, why: &str) -> Change {
    Change { alert: Alert { text: why.to_owned(), ..alert }, is_resolved: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: AlertRule = AlertRule::Cpu;

    fn table() -> Table {
        Table::new(BTreeMap::from([(RULE, AlertSettings { lasting: Duration::ZERO, ..RULE.defaults() })]))
    }

    fn step(table: &mut Table, value: f64) -> Vec<Change> {
        table.step(None, [Sample::from((RULE, Some(value)))], Duration::ZERO, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_sample_may_have_its_own_text() {
        let mut table = table();
        let sample = |value, text: &str| Sample { rule: RULE, value: Some(value), text: Some(text.to_owned()) };
        let [fired] =
            table.step(None, [sample(95.0, "busy")], Duration::ZERO, Timestamp::UNIX_EPOCH).try_into().expect("fires");
        assert_eq!(fired.alert.text, "busy");
        table.step(None, [sample(96.0, "busier")], Duration::ZERO, Timestamp::UNIX_EPOCH);
        assert_eq!(table.firing()[0].text, "busier");
    }

    #[test]
    fn an_alert_that_fires_is_listed_with_its_latest_value() {
        let mut table = table();
        assert_eq!(step(&mut table, 50.0), []);
        assert_eq!((table.states.len(), table.firing().len()), (0, 0));
        let [fired] = step(&mut table, 95.0).try_into().expect("it fires");
        assert!(!fired.is_resolved && fired.alert.text.contains("95 %"), "{fired:?}");
        assert_eq!(step(&mut table, 99.0), []);
        assert_eq!(table.firing()[0].value, 99.0);
        let [resolved] = step(&mut table, 10.0).try_into().expect("it is resolved");
        assert!(
            resolved.is_resolved && resolved.alert.since == fired.alert.since && resolved.alert.text.contains("10 %"),
            "{resolved:?}"
        );
        assert_eq!((table.states.len(), table.firing().len()), (0, 0));
    }

    #[test]
    fn a_restored_alert_fires_until_it_is_resolved() {
        let mut earlier = table();
        let mut fired = step(&mut earlier, 95.0).remove(0).alert;
        fired.threshold = 12.0;
        let mut restored = table();
        assert_eq!(restored.restore(vec![fired.clone()]), []);
        assert_eq!(restored.firing()[0].threshold, RULE.defaults().threshold, "the present settings apply");
        assert_eq!(step(&mut restored, 95.0), [], "it has already fired");
        assert!(step(&mut restored, 0.0)[0].is_resolved);
        fired.rule = AlertRule::Memory;
        let [resolved] = restored.restore(vec![fired]).try_into().expect("its rule is disabled");
        assert!(resolved.is_resolved && restored.firing().is_empty());
    }

    #[test]
    fn the_alert_of_a_destroyed_app_is_resolved() {
        let (mut table, mut of_app) = (table(), step(&mut table(), 95.0).remove(0).alert);
        (of_app.app, of_app.app_id) = (Some("shop".parse().expect("a valid name")), Some("id".to_owned()));
        table.restore(vec![of_app]);
        step(&mut table, 95.0);
        let [resolved] = table.forget_missing(&[]).try_into().expect("it is resolved");
        assert!(resolved.is_resolved && resolved.alert.app.is_some_and(|app| app.as_str() == "shop"));
        assert_eq!(table.firing().len(), 1, "the alert of the host remains");
    }
}
