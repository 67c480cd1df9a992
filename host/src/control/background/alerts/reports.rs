//! The recent reports about apps that rules count: crash loops and push jobs. Never reads a clock:
//! the time is an argument.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use isopod_policy::AppName;
use isopod_store::NewActivity;

use crate::control::limits;

/// The recent reports about all apps. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Reports(Arc<Mutex<HashMap<AppName, OfApp>>>);

/// The recent reports about an app.
#[derive(Debug, Default)]
struct OfApp {
    /// When a process type was reported to crash repeatedly.
    crashes: VecDeque<Duration>,
    /// The push jobs that failed since the last one that completed; `None` before the first of both
    /// since the host's start.
    failed_pushes: Option<u32>,
}

impl Reports {
    /// Counts an activity that a rule depends on.
    pub(super) fn note(&self, activity: &NewActivity, now: Duration) {
        let Some(app) = &activity.app else { return };
        // A change of settings and a rollback also activate a release, without a push job.
        let is_of_push = !activity.data["push"].is_null();
        match activity.kind.as_str() {
            "process-failing" => self.lock().entry(app.clone()).or_default().note_crash_loop(now),
            // The host replaces a fresh release that crashes repeatedly.
            "release-returned" if activity.data["code"] == "crash-loop" => {
                self.lock().entry(app.clone()).or_default().note_crash_loop(now);
            }
            "push-failed" => self.lock().entry(app.clone()).or_default().note_push(true),
            "app-deployed" if is_of_push => self.lock().entry(app.clone()).or_default().note_push(false),
            _ => {}
        }
    }

    /// Forgets the apps that are not among these.
    pub(super) fn forget_missing(&self, names: &HashSet<&AppName>) {
        self.lock().retain(|name, _| names.contains(name));
    }

    /// Returns the number of recent reports about crash loops of an app.
    pub(super) fn crash_loops(&self, app: &AppName, now: Duration) -> usize {
        self.lock().get_mut(app).map_or(0, |reports| reports.crash_loops(now))
    }

    /// Returns the number of push jobs of an app that failed since the last one that completed.
    pub(super) fn failed_pushes(&self, app: &AppName) -> Option<u32> {
        self.lock().get(app)?.failed_pushes
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppName, OfApp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfApp {
    fn note_crash_loop(&mut self, now: Duration) {
        if self.crashes.len() >= limits::ALERT_REPORTS_MAX {
            self.crashes.pop_front();
        }
        self.crashes.push_back(now);
    }

    fn note_push(&mut self, has_failed: bool) {
        self.failed_pushes = Some(if has_failed { self.failed_pushes.unwrap_or(0).saturating_add(1) } else { 0 });
    }

    fn crash_loops(&mut self, now: Duration) -> usize {
        while self.crashes.front().is_some_and(|at| now.saturating_sub(*at) > limits::ALERT_CRASH_WINDOW) {
            self.crashes.pop_front();
        }
        self.crashes.len()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn shop() -> AppName {
        "shop".parse().expect("a valid name")
    }

    fn note(reports: &Reports, kind: &str, data: Value) {
        let (app, text) = (Some(shop()), String::new());
        let activity = NewActivity { app, kind: kind.to_owned(), text, data, at: Timestamp::UNIX_EPOCH };
        reports.note(&activity, NOW);
    }

    #[test]
    fn only_a_completed_push_ends_the_count_of_failed_ones() {
        let reports = Reports::default();
        note(&reports, "app-started", json!({}));
        assert_eq!(reports.failed_pushes(&shop()), None);
        note(&reports, "push-failed", json!({ "push": "p-1" }));
        note(&reports, "push-failed", json!({ "push": "p-2" }));
        note(&reports, "app-deployed", json!({ "push": null }));
        assert_eq!(reports.failed_pushes(&shop()), Some(2), "a change of config is not a push");
        note(&reports, "app-deployed", json!({ "push": "p-3" }));
        assert_eq!(reports.failed_pushes(&shop()), Some(0));
    }

    #[test]
    fn reports_of_crash_loops_expire() {
        let reports = Reports::default();
        note(&reports, "release-returned", json!({ "code": "unhealthy" }));
        assert_eq!(reports.crash_loops(&shop(), NOW), 0);
        note(&reports, "release-returned", json!({ "code": "crash-loop" }));
        assert_eq!(reports.crash_loops(&shop(), NOW), 1);
        (0..1_000).for_each(|_| note(&reports, "process-failing", json!({})));
        assert_eq!(reports.crash_loops(&shop(), NOW), limits::ALERT_REPORTS_MAX);
        assert_eq!(reports.crash_loops(&shop(), 2 * NOW + limits::ALERT_CRASH_WINDOW), 0);
    }

    #[test]
    fn the_reports_of_a_missing_app_are_forgotten() {
        let reports = Reports::default();
        note(&reports, "push-failed", json!({}));
        reports.forget_missing(&HashSet::from([&shop()]));
        assert_eq!(reports.failed_pushes(&shop()), Some(1));
        reports.forget_missing(&HashSet::new());
        assert_eq!(reports.failed_pushes(&shop()), None);
    }
}
