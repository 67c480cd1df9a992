//! Tests hooks: plugins that receive the activity of apps as events, with the plugin `notify` and a
//! webhook.

use isopod_tests::{
    Ask, Bundle, Host, Neighbour, Queue, Upstream, guest, plugins::shipped_plugin, upstream::Arrived, wait_for,
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

/// A webhook that responds with the status that the test sets; with 0, it never responds.
struct Webhook {
    upstream: Upstream,
    status: Arc<AtomicU16>,
}

impl Webhook {
    fn start(first: u16) -> Self {
        let (upstream, status) = Upstream::with_status(first);
        Self { upstream, status }
    }

    fn respond_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// The plugin `notify` for this webhook, with further tables.
    fn plugin(&self, tables: &str) -> Bundle {
        let address = self.upstream.address;
        let url = format!("[config]\nWEBHOOK_URL = \"http://{address}/T1\"\n");
        shipped_plugin("notify", &format!("[grants]\nhttp = [\"{address}\"]\n{url}{tables}"))
    }

    /// Starts a host with the plugin, which receives all events of all apps.
    fn host(&self) -> Host {
        let host = Host::start();
        host.installed(&self.plugin(""));
        host
    }

    /// The requests about this app with this type of event.
    fn requests_about(&self, event_type: &str, app: &str) -> Vec<Arrived> {
        let is_about = |request: &Arrived| {
            let event = json_of(request);
            event["type"] == event_type && event["subject"] == app
        };
        self.upstream.requests().into_iter().filter(is_about).collect()
    }

    /// Waits for a request about this app with this type of event.
    #[track_caller]
    fn until(&self, event_type: &str, app: &str) -> Arrived {
        wait_for(&format!("a request of type {event_type} about {app}"), || {
            self.requests_about(event_type, app).into_iter().next()
        })
    }
}

fn json_of(request: &Arrived) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

const CREATED: &str = "isopod.app.created";
const DEPLOYED: &str = "isopod.app.deployed";
const DESTROYED: &str = "isopod.app.destroyed";

fn deploy(host: &Host, app: &str) {
    host.deploy(app, Bundle::component(guest("hello")));
}

#[track_caller]
fn destroy(host: &Host, app: &str) {
    host.api(Ask::new("DELETE", format!("/v1/apps/{app}"))).expect(204);
}

/// Returns the events in the queue of the hook.
#[track_caller]
fn queued(host: &Host, query: &str) -> Vec<Value> {
    host.stored_events("notify", query)
}

/// Returns the number of rows of a table in `control.db`.
fn rows(host: &Host, table: &str) -> i64 {
    let count = format!("SELECT count(*) FROM {table}");
    host.control_database().query_row(&count, [], |row| row.get(0)).expect("the table can be read")
}

#[test]
fn a_hook_receives_the_activity_of_apps() {
    let webhook = Webhook::start(200);
    let host = webhook.host();
    assert_eq!(host.plugin("notify")["kind"], "hook");
    deploy(&host, "shop");
    let arrived = webhook.until(DEPLOYED, "shop");
    let event = json_of(&arrived);
    assert_eq!(arrived.header("idempotency-key"), [event["id"].as_str().expect("an id")]);
    assert_eq!(arrived.header("content-type"), ["application/cloudevents+json"]);
    assert_eq!((&event["specversion"], &event["source"]), (&json!("1.0"), &json!("/apps/shop")), "{event}");
    let activity = host.activity_of("shop", "app-deployed");
    let data = json!({ "kind": "app-deployed", "text": activity["text"], "details": activity["data"] });
    assert_eq!((&event["data"], &event["time"]), (&data, &activity["at"]), "{event}");
    webhook.until(CREATED, "shop");
    host.stop_app("shop");
    webhook.until("isopod.app.stopped", "shop");
    webhook.until("isopod.app.app-state", "shop");
    host.deploy_failing("shop", &Bundle::component(b"nonsense".to_vec()));
    let failed = json_of(&webhook.until("isopod.app.push-failed", "shop"));
    assert_eq!(failed["data"]["details"]["code"], "invalid-component", "{failed}");
    destroy(&host, "shop");
    webhook.until(DESTROYED, "shop");
}

#[test]
fn a_subscription_selects_events_by_type_and_app() {
    let webhook = Webhook::start(200);
    let host = Host::start();
    let selected =
        "[plugin.subscribe]\nevents = [\"isopod.app.created\", \"isopod.app.destroyed\"]\napps = [\"shop\"]\n";
    host.installed(&webhook.plugin(selected));
    for app in ["wiki", "shop"] {
        deploy(&host, app);
    }
    for app in ["wiki", "shop"] {
        destroy(&host, app);
    }
    webhook.until(DESTROYED, "shop");
    let mut found: Vec<_> =
        queued(&host, "").iter().map(|event| format!("{} {}", event["type"], event["subject"])).collect();
    found.sort();
    assert_eq!(found, [CREATED, DESTROYED].map(|event_type| format!("\"{event_type}\" \"shop\"")));
}

#[test]
fn an_activity_is_delivered_even_if_the_host_is_killed_before_its_dispatch() {
    let webhook = Webhook::start(200);
    let host = Host::start_pausing("hook-dispatch=pause");
    host.installed(&webhook.plugin(""));
    deploy(&host, "shop");
    destroy(&host, "shop");
    deploy(&host, "wiki");
    assert_eq!(webhook.upstream.requests().len(), 0);
    let _host = host.kill_and_restart();
    for (event_type, app) in [(DEPLOYED, "shop"), (DESTROYED, "shop"), (DEPLOYED, "wiki")] {
        webhook.until(event_type, app);
    }
}

#[test]
fn an_event_that_is_dispatched_again_after_a_kill_is_delivered_once() {
    let webhook = Webhook::start(200);
    let host = Host::start_pausing("hook-dispatched=pause");
    host.installed(&webhook.plugin(""));
    deploy(&host, "shop");
    let event = json_of(&webhook.until(CREATED, "shop"));
    host.until_event("notify", event["id"].as_str().expect("an id"), "done");
    let host = host.kill_and_restart();
    webhook.until(DEPLOYED, "shop");
    assert_eq!(webhook.requests_about(CREATED, "shop").len(), 1);
    wait_for("the end of the dispatch", || (rows(&host, "hook_events") == 0).then_some(()));
}

#[test]
fn a_failing_hook_gets_a_dead_letter_and_an_alert() {
    let webhook = Webhook::start(404);
    let host = Host::start();
    host.installed(&webhook.plugin("[plugin.subscribe]\nevents = [\"isopod.app.deployed\"]\n"));
    deploy(&host, "shop");
    let alert = host.activity_of("notify", "dead-letters");
    assert!(alert["text"].as_str().is_some_and(|text| text.contains("status 404")), "{alert}");
    let dead = queued(&host, "state=dead");
    assert_eq!((dead.len(), &dead[0]["subject"]), (1, &json!("shop")), "{dead:?}");
    webhook.respond_with(200);
    host.api(Ask::post("/v1/apps/notify/dead-letters/redrive")).expect(200);
    host.until_event("notify", dead[0]["id"].as_str().expect("an id"), "done");
}

#[test]
fn deploys_complete_while_a_hook_never_responds() {
    let webhook = Webhook::start(0);
    let host = webhook.host();
    let neighbour = Neighbour::beside(&host);
    for app in ["shop", "wiki", "shop"] {
        deploy(&host, app);
    }
    webhook.until(CREATED, "shop");
    assert_eq!(host.show("shop")["release"], 2);
    neighbour.finish();
}

#[test]
fn a_webhook_that_fails_temporarily_receives_the_event_again() {
    let webhook = Webhook::start(503);
    let host = Host::start();
    host.installed(
        &webhook.plugin("[processes.plugin]\nretry = { attempts = 50, first = \"100ms\", max = \"100ms\" }\n"),
    );
    deploy(&host, "shop");
    let first = webhook.until(DEPLOYED, "shop");
    webhook.respond_with(200);
    let id = json_of(&first)["id"].as_str().expect("an id").to_owned();
    host.until_event("notify", &id, "done");
    let keys: Vec<_> = webhook
        .requests_about(DEPLOYED, "shop")
        .iter()
        .map(|request| request.header("idempotency-key").concat())
        .collect();
    assert!(keys.len() > 1 && keys.iter().all(|key| *key == id), "{keys:?}");
}

#[test]
fn a_hook_receives_no_events_about_hooks() {
    let webhook = Webhook::start(404);
    let host = webhook.host();
    deploy(&host, "shop");
    host.activity_of("notify", "dead-letters");
    host.installed(&webhook.plugin("[limits]\ninstances_max = 2\n"));
    host.stop_app("notify");
    host.start_app("notify");
    deploy(&host, "wiki");
    webhook.until(DEPLOYED, "wiki");
    let about: Vec<_> = queued(&host, "").iter().map(|event| event["subject"].clone()).collect();
    assert!(!about.is_empty() && about.iter().all(|app| app == "shop" || app == "wiki"), "{about:?}");
}

#[test]
fn a_hook_receives_only_events_after_its_installation() {
    let webhook = Webhook::start(200);
    let host = Host::start();
    deploy(&host, "shop");
    host.installed(&webhook.plugin(""));
    deploy(&host, "wiki");
    webhook.until(DEPLOYED, "wiki");
    let about: Vec<_> =
        queued(&host, "type=isopod.app.deployed").iter().map(|event| event["subject"].clone()).collect();
    assert_eq!(about, ["wiki"]);
}

#[test]
fn a_removed_hook_leaves_nothing() {
    let webhook = Webhook::start(200);
    let host = webhook.host();
    host.stop_app("notify");
    deploy(&host, "shop");
    assert!(rows(&host, "hook_events") > 0 && rows(&host, "hooks") == 1);
    host.remove_plugin("notify").expect(204);
    assert_eq!((rows(&host, "hook_events"), rows(&host, "hooks")), (0, 0));
    assert!(!host.data().join("apps/notify").exists());
    deploy(&host, "wiki");
    assert_eq!(rows(&host, "hook_events"), 0, "without hooks, no events are kept");
}

#[test]
fn a_stopped_hook_receives_its_events_after_its_start_and_dropped_ones_are_reported() {
    let webhook = Webhook::start(200);
    let host = webhook.host();
    host.stop_app("notify");
    deploy(&host, "shop");
    destroy(&host, "shop");
    let host = host.restart_after(|host| {
        host.change_rows("DELETE FROM hook_events WHERE number = (SELECT min(number) FROM hook_events)", []);
    });
    host.start_app("notify");
    webhook.until(DESTROYED, "shop");
    let dropped = host.activity_of("notify", "hook-events-dropped");
    assert_eq!(dropped["data"]["events"], 1, "{dropped}");
    assert_eq!(webhook.requests_about(CREATED, "shop").len(), 0);
}

#[test]
fn a_full_queue_pauses_its_hook_but_no_deploy() {
    let webhook = Webhook::start(200);
    let host = webhook.host();
    deploy(&host, "shop");
    webhook.until(DEPLOYED, "shop");
    wait_for("the end of all events", || (!host.has_stored_event("notify", "state=ready")).then_some(()));
    let host = host.restart_after(|host| host.fill_event_queue("notify", 0));
    deploy(&host, "wiki");
    host.activity_of("notify", "hook-paused");
    assert_eq!(webhook.requests_about(DEPLOYED, "wiki").len(), 0);
    let host = host.restart_after(|host| host.empty_event_queue("notify"));
    webhook.until(DEPLOYED, "wiki");
    wait_for("the end of the dispatch", || (rows(&host, "hook_events") == 0).then_some(()));
}

#[test]
fn a_frozen_hook_is_thawed_by_an_event() {
    let webhook = Webhook::start(200);
    let host = Host::start_with("", "freeze_after = \"200ms\"\n");
    host.installed(&webhook.plugin(""));
    wait_for("the frozen hook", || (host.release_state("notify", 1) == "frozen").then_some(()));
    deploy(&host, "shop");
    webhook.until(DEPLOYED, "shop");
}

#[test]
fn apps_and_clients_cannot_send_events_to_a_hook() {
    let webhook = Webhook::start(200);
    let host = webhook.host();
    for queue in [Queue::Push, Queue::Pull] {
        let refused = host.send_event("notify", DEPLOYED, queue);
        assert!((400..500).contains(&refused.status), "{refused}");
    }
    assert_eq!(queued(&host, ""), Vec::<Value>::new());
}

#[test]
fn the_api_shows_the_subscription_of_a_hook() {
    let webhook = Webhook::start(200);
    let host = webhook.host();
    let subscription = || host.plugin("notify")["subscription"].clone();
    assert_eq!(subscription(), json!({ "events": null, "apps": null }));
    let selected = "[plugin.subscribe]\nevents = [\"isopod.app.alert\"]\napps = [\"shop\", \"wiki\", \"future\"]\n";
    host.installed(&webhook.plugin(selected));
    assert_eq!(subscription(), json!({ "events": ["isopod.app.alert"], "apps": ["shop", "wiki", "future"] }));
    for app in ["shop", "wiki"] {
        host.create(app, "dev");
    }
    let token = json!({ "name": "shop", "role": "read", "apps": ["shop"] });
    let token = host.api(Ask::post("/v1/tokens").json(&token)).expect(201).json();
    let token = token["token"].as_str().expect("a token");
    let seen = host.api_with(token, Ask::get("/v1/plugins/notify")).expect(200).json();
    assert_eq!(seen["subscription"], json!({ "events": ["isopod.app.alert"], "apps": ["shop"] }));
    host.installed(&shipped_plugin("cors", ""));
    assert_eq!(host.plugin("cors")["subscription"], Value::Null);
}

#[test]
fn an_invalid_subscription_is_refused() {
    let host = Host::start();
    let webhook = Webhook::start(200);
    for (table, words) in [
        ("events = [\"isopod.app.deploy\"]", "did you mean \"isopod.app.deployed\"?"),
        ("events = []", "the list is empty"),
        ("apps = [\"Shop\"]", "Shop"),
        ("app = [\"shop\"]", "did you mean \"plugin.subscribe.apps\"?"),
    ] {
        let refused = host.install(&webhook.plugin(&format!("[plugin.subscribe]\n{table}\n")), "?wait=true");
        assert!(refused.status == 422 && refused.text().contains(&words.replace('"', "\\\"")), "{table}: {refused}");
    }
    let middleware = shipped_plugin("cors", "[plugin.subscribe]\napps = [\"shop\"]\n");
    let refused = host.install(&middleware, "?wait=true").problem(422, "invalid-plugin");
    assert!(refused.to_string().contains("isopod_sdk::hook!"), "{refused}");
    let refused = host.upload("shop", &Bundle::component(guest("notify")), "").problem(422, "invalid-plugin");
    assert!(refused.to_string().contains("it exports only interfaces of plugins"), "{refused}");
}

#[test]
fn notify_posts_readable_messages_to_slack() {
    let webhook = Webhook::start(200);
    let host = webhook.host();
    host.set_config("notify", &json!({ "FORMAT": "slack" })).expect(200);
    deploy(&host, "shop");
    let line = wait_for("the message about the deploy", || {
        let messages = webhook
            .upstream
            .requests()
            .into_iter()
            .filter_map(|request| Some(json_of(&request)["text"].as_str()?.to_owned()));
        messages.into_iter().find(|text| text.contains("v1 deployed"))
    });
    assert_eq!(line, "shop: v1 deployed by admin");
}

#[test]
fn a_data_folder_of_the_format_before_hooks_is_migrated() {
    let webhook = Webhook::start(200);
    let host = Host::start();
    deploy(&host, "shop");
    let host = host.restart_after(|host| {
        let database = host.control_database();
        // Later formats added the other tables.
        for table in ["hooks", "hook_events", "alerts", "alert_messages", "drains"] {
            database.execute_batch(&format!("DROP TABLE {table}")).expect("the table exists");
        }
        database.pragma_update(None, "user_version", 11).expect("it is written");
    });
    assert_eq!(host.state("shop"), "running");
    host.installed(&webhook.plugin(""));
    deploy(&host, "shop");
    webhook.until(DEPLOYED, "shop");
}
