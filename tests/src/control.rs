//! Drives the API routes that change an app besides its code: releases, formation, instances,
//! config, life cycle and activity.

use crate::{Answer, Ask, Bundle, Host, wait_for};
use serde_json::{Value, json};

/// The states of an app's current release.
const CURRENT: [&str; 2] = ["ready", "frozen"];

impl Host {
    #[track_caller]
    fn about(&self, app: &str, what: &str) -> Value {
        self.api(Ask::get(format!("/v1/apps/{app}/{what}"))).expect(200).json()
    }

    #[track_caller]
    fn items(&self, app: &str, what: &str) -> Vec<Value> {
        let page = self.about(app, &format!("{what}?limit=1000"));
        page["items"].as_array().unwrap_or_else(|| panic!("no items in {page}")).clone()
    }

    #[track_caller]
    fn patch(&self, app: &str, what: &str, change: &Value) -> Answer {
        self.api(Ask::new("PATCH", format!("/v1/apps/{app}/{what}")).json(change))
    }

    /// Returns the app's releases, oldest first.
    #[track_caller]
    pub fn releases(&self, app: &str) -> Vec<Value> {
        let mut releases = self.items(app, "releases");
        releases.sort_by_key(|release| release["release"].as_u64());
        releases
    }

    /// Returns one release.
    #[track_caller]
    pub fn release(&self, app: &str, number: u64) -> Value {
        self.about(app, &format!("releases/{number}"))
    }

    /// Returns the state of one release.
    #[track_caller]
    pub fn release_state(&self, app: &str, number: u64) -> String {
        self.release(app, number)["state"].as_str().expect("a release has a state").to_owned()
    }

    /// Returns the numbers of the app's current releases. There must never be two.
    #[track_caller]
    pub fn current(&self, app: &str) -> Vec<u64> {
        let releases = self.releases(app);
        let is_current = |release: &&Value| CURRENT.iter().any(|state| release["state"] == *state);
        releases.iter().filter(is_current).filter_map(|release| release["release"].as_u64()).collect()
    }

    /// Returns the differences between a release and another, by default its predecessor.
    #[track_caller]
    pub fn diff(&self, app: &str, number: u64, with: Option<u64>) -> Vec<Value> {
        let query = with.map(|with| format!("?with=v{with}")).unwrap_or_default();
        let diff = self.about(app, &format!("releases/v{number}/diff{query}"));
        diff["changes"].as_array().unwrap_or_else(|| panic!("no changes in {diff}")).clone()
    }

    #[track_caller]
    pub fn rollback(&self, app: &str, to: u64) -> Answer {
        self.api(Ask::post(format!("/v1/apps/{app}/rollback")).json(&json!({ "release": to })))
    }

    #[track_caller]
    pub fn formation(&self, app: &str) -> Value {
        self.about(app, "formation")
    }

    /// Changes process types, as in `{"web":{"min":1}}`.
    #[track_caller]
    pub fn scale(&self, app: &str, change: &Value) -> Answer {
        self.patch(app, "formation", change)
    }

    #[track_caller]
    pub fn add_process(&self, app: &str, process: &Value) -> Answer {
        self.api(Ask::post(format!("/v1/apps/{app}/formation")).json(process))
    }

    #[track_caller]
    pub fn remove_process(&self, app: &str, process: &str) -> Answer {
        self.api(Ask::new("DELETE", format!("/v1/apps/{app}/formation/{process}")))
    }

    #[track_caller]
    pub fn instances(&self, app: &str) -> Vec<Value> {
        self.items(app, "instances")
    }

    /// Returns the instance with this id, if it is listed.
    #[track_caller]
    pub fn instance(&self, app: &str, id: &str) -> Option<Value> {
        self.instances(app).into_iter().find(|instance| instance["id"] == id)
    }

    /// Returns the ids of a process type's instances as soon as exactly `count` instances are idle
    /// or busy.
    #[track_caller]
    pub fn running_ids(&self, app: &str, process: &str, count: usize) -> Vec<String> {
        let runs = |instance: &&Value| {
            instance["process"] == process && ["idle", "busy"].iter().any(|state| instance["state"] == *state)
        };
        wait_for(&format!("{count} running instances of {process}"), || {
            let instances = self.instances(app);
            let ids = instances.iter().filter(runs).filter_map(|instance| instance["id"].as_str().map(str::to_owned));
            Some(ids.collect::<Vec<_>>()).filter(|ids| ids.len() == count)
        })
    }

    #[track_caller]
    pub fn restart_instance(&self, app: &str, id: &str) -> Answer {
        self.api(Ask::post(format!("/v1/apps/{app}/instances/{id}/restart")))
    }

    #[track_caller]
    pub fn config(&self, app: &str) -> Value {
        self.about(app, "config")
    }

    /// Changes config vars, as in `{"KEY":"value","OLD":null}`.
    #[track_caller]
    pub fn set_config(&self, app: &str, change: &Value) -> Answer {
        self.patch(app, "config", change)
    }

    #[track_caller]
    pub fn grants(&self, app: &str) -> Value {
        self.about(app, "grants")
    }

    #[track_caller]
    pub fn set_grants(&self, app: &str, change: &Value) -> Answer {
        self.patch(app, "grants", change)
    }

    /// Returns the app's current metrics.
    #[track_caller]
    pub fn metrics(&self, app: &str) -> Value {
        self.about(app, "metrics")
    }

    #[track_caller]
    pub fn cores(&self, app: &str) -> Value {
        self.about(app, "cores")
    }

    /// Changes the app's number of cores per queue, as in `{"pull":2,"push":null}`.
    #[track_caller]
    pub fn set_cores(&self, app: &str, change: &Value) -> Answer {
        self.patch(app, "cores", change)
    }

    #[track_caller]
    pub fn set_type(&self, app: &str, app_type: &str) -> Answer {
        self.api(Ask::new("PATCH", format!("/v1/apps/{app}")).json(&json!({ "type": app_type })))
    }

    /// Stops an app and waits for the state `stopped`.
    #[track_caller]
    pub fn stop_app(&self, app: &str) {
        self.api(Ask::post(format!("/v1/apps/{app}/stop"))).expect(202);
        self.until_state(app, "stopped");
    }

    /// Starts an app and waits for the state `running`.
    #[track_caller]
    pub fn start_app(&self, app: &str) {
        self.api(Ask::post(format!("/v1/apps/{app}/start"))).expect(202);
        self.until_state(app, "running");
    }

    #[track_caller]
    pub fn until_state(&self, app: &str, state: &str) {
        wait_for(&format!("{app} being {state}"), || (self.state(app) == state).then_some(()));
    }

    /// Returns the app's activity, newest entry first.
    #[track_caller]
    pub fn activity(&self, app: &str) -> Vec<Value> {
        self.items(app, "activity")
    }

    /// Waits for an entry of this kind in an app's activity.
    #[track_caller]
    pub fn activity_of(&self, app: &str, kind: &str) -> Value {
        wait_for(&format!("an entry {kind} in the activity of {app}"), || {
            self.activity(app).into_iter().find(|entry| entry["kind"] == kind)
        })
    }

    /// Deploys a bundle that must fail. Returns the reason's code and text once the activity has
    /// the entry.
    ///
    /// # Panics
    /// If the push completes.
    #[track_caller]
    pub fn deploy_failing(&self, app: &str, bundle: &Bundle) -> (String, String) {
        let push = self.ended(&self.push(app, bundle));
        assert_eq!(push.state, "failed", "{push:?}");
        wait_for("the push's failure in the activity", || {
            let reports = |entry: &Value| entry["kind"] == "push-failed" && entry["data"]["push"] == push.id;
            self.activity(app).iter().any(reports).then_some(())
        });
        let reason = push.reason.unwrap_or_else(|| panic!("push {} failed without a reason", push.id));
        (push.reason_code.unwrap_or_else(|| panic!("push {} has no code for: {reason}", push.id)), reason)
    }
}
