//! G2: tests alerts: when they fire and end, who sees them, and their delivery to a webhook that
//! fails, hangs, or misses a crash of the host.

use isopod_tests::{
    Ask, Bundle, DiskError, Host, Queue, Wire, guest, guest_noted,
    outbox::outbox,
    plugins::shipped_plugin,
    program,
    queue::Held,
    tls::Authority,
    upstream::{Then, Upstream, response},
    wait_for,
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

/// Samples often, and reports two waiting requests of a production app.
const RULES: &str = "[cores]\npull = 1\n[alerts]\ninterval = \"100ms\"\n\
                     queue_depth = { threshold = 2, lasting = \"0s\" }\n";

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

    /// Starts a host with this webhook.
    fn host(&self) -> Host {
        Host::start_with("", &format!("{RULES}webhook = \"http://{}/T1\"\n", self.upstream.address))
    }

    /// Returns the received messages in this state.
    fn messages(&self, state: &str) -> Vec<Value> {
        let messages = self.upstream.requests().into_iter().map(|request| {
            let message: Value = serde_json::from_slice(&request.body).expect("a message is JSON");
            assert_eq!(request.header("idempotency-key"), [message["id"].as_str().expect("an id")]);
            message
        });
        messages.filter(|message| message["state"] == state).collect()
    }

    #[track_caller]
    fn until(&self, state: &str) -> Value {
        wait_for(&format!("a message in the state {state}"), || self.messages(state).pop())
    }
}

fn deploy_greedy(host: &Host, app: &str, app_type: &str) {
    host.create(app, app_type);
    let manifest =
        format!("name = \"{app}\"\n[processes.web]\nentry = \"http\"\n[limits]\nrequest_timeout = \"10m\"\n");
    host.deploy(app, Bundle::archive(&manifest, &guest("greedy")));
}

/// Holds the app's only core, and queues two requests.
struct Overload {
    held: Held,
    waiting: Vec<Wire>,
}

impl Overload {
    #[track_caller]
    fn of(host: &Host, app: &str) -> Self {
        let held = host.hold(app);
        Self { held, waiting: (0..2).map(|_| host.begin(app, Ask::get("/ok"))).collect() }
    }

    #[track_caller]
    fn end(self) {
        self.held.release_core();
        for mut waiting in self.waiting {
            waiting.answer().expect("it is answered").expect(200);
        }
    }
}

#[track_caller]
fn alerts(host: &Host) -> Value {
    host.api(Ask::get("/v1/alerts")).expect(200).json()
}

/// Waits until a table of the database has this number of rows.
#[track_caller]
fn until_rows(host: &Host, table: &str, rows: i64) {
    let count = format!("SELECT count(*) FROM {table}");
    wait_for(&format!("{rows} rows in {table}"), || {
        let found: i64 = host.control_database().query_row(&count, [], |row| row.get(0)).expect("it can be read");
        (found == rows).then_some(())
    });
}

#[test]
fn an_alert_is_shown_recorded_and_sent_until_it_is_resolved() {
    let webhook = Webhook::start(200);
    let host = webhook.host();
    deploy_greedy(&host, "greedy", "production");
    let overload = Overload::of(&host, "greedy");
    let alert = host.until_alert("queue-depth");
    assert_eq!((&alert["app"], &alert["threshold"], &alert["unit"]), (&json!("greedy"), &json!(2.0), &json!("count")));
    assert_eq!(alerts(&host)["total"], 1);
    let recorded = host.activity_of("greedy", "alert");
    assert!(recorded["text"].as_str().is_some_and(|text| text.starts_with("alert queue-depth: 2 ")), "{recorded}");
    let fired = webhook.until("firing");
    assert_eq!((&fired["rule"], &fired["app"], &fired["since"]), (&alert["rule"], &alert["app"], &alert["since"]));
    overload.end();
    host.until_no_alert("queue-depth");
    let resolved = host.activity_of("greedy", "alert-resolved");
    assert_eq!(resolved["data"]["since"], alert["since"], "{resolved}");
    assert_eq!(webhook.until("resolved")["since"], alert["since"]);
    wait_for("an empty outbox", || (alerts(&host)["webhook"]["waiting"] == 0).then_some(()));
    assert_eq!((webhook.messages("firing").len(), webhook.messages("resolved").len()), (1, 1));
}

#[test]
fn a_failing_webhook_delays_only_its_messages() {
    let webhook = Webhook::start(500);
    let host = webhook.host();
    deploy_greedy(&host, "greedy", "production");
    let overload = Overload::of(&host, "greedy");
    host.until_alert("queue-depth");
    let failed = wait_for("a failed attempt", || {
        Some(alerts(&host)["webhook"].clone()).filter(|webhook| webhook["error"].is_string())
    });
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("500")), "{failed}");
    let first = webhook.until("firing");

    let before = webhook.upstream.requests().len();
    webhook.respond_with(0);
    wait_for("an attempt that hangs", || (webhook.upstream.requests().len() > before).then_some(()));
    overload.end();
    host.until_no_alert("queue-depth");
    host.activity_of("greedy", "alert-resolved");
    host.get("greedy", "/ok").expect(200);
    assert_eq!(alerts(&host)["webhook"]["waiting"], 2);

    webhook.respond_with(200);
    webhook.until("resolved");
    assert!(webhook.messages("firing").iter().all(|message| message["id"] == first["id"]));
    wait_for("an empty outbox", || {
        (alerts(&host)["webhook"] == json!({ "waiting": 0, "dropped": 0, "error": null })).then_some(())
    });
}

#[test]
fn a_message_that_the_webhook_refuses_does_not_delay_the_next() {
    let webhook = Webhook::start(400);
    let host = webhook.host();
    deploy_greedy(&host, "greedy", "production");
    let overload = Overload::of(&host, "greedy");
    let refused = wait_for("a dropped message", || {
        Some(alerts(&host)["webhook"].clone()).filter(|webhook| webhook["dropped"] == 1)
    });
    assert_eq!(refused["waiting"], 0, "{refused}");
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("400")), "{refused}");
    assert!(host.said().contains("a message about an alert is dropped: the webhook refuses it"));
    webhook.respond_with(200);
    overload.end();
    webhook.until("resolved");
    wait_for("an accepted message", || {
        (alerts(&host)["webhook"] == json!({ "waiting": 0, "dropped": 1, "error": null })).then_some(())
    });
    assert_eq!(webhook.messages("firing").len(), 1, "it was posted once");
}

#[test]
fn a_webhook_behind_a_private_authority_receives_messages() {
    let authority = Authority::new();
    let start = |days: i64| {
        let upstream = Upstream::start_tls(&authority.identity(days), |_| Then::Send(response("ok")));
        let disk = "disk_space = { threshold = \"1000000GiB\", lasting = \"0s\" }\n";
        let webhook = format!("webhook = \"https://{}/T1\"\n", upstream.address);
        let host =
            Host::start_with("", &format!("[alerts]\ninterval = \"100ms\"\n{disk}{webhook}{}", authority.settings()));
        (host, upstream)
    };
    let (_host, upstream) = start(90);
    let message = wait_for("a message", || upstream.requests().pop());
    assert!(String::from_utf8_lossy(&message.body).contains("disk-space"), "{message:?}");
    let (host, expired) = start(-3);
    let error = wait_for("a failed attempt", || alerts(&host)["webhook"]["error"].as_str().map(str::to_owned));
    assert!(error.contains("expired"), "{error}");
    assert_eq!((&alerts(&host)["webhook"]["waiting"], expired.requests().len()), (&json!(1), 0));
}

#[test]
fn alerts_and_messages_survive_a_crash_of_the_host() {
    let webhook = Webhook::start(503);
    let host = webhook.host();
    deploy_greedy(&host, "greedy", "production");
    let _overload = Overload::of(&host, "greedy");
    let alert = host.until_alert("queue-depth");
    let before = webhook.until("firing");
    until_rows(&host, "alert_messages", 1);
    let host = host.kill_and_restart();
    webhook.respond_with(200);
    let resolved = webhook.until("resolved");
    assert_eq!(resolved["since"], alert["since"], "the restarted host knows when the alert fired");
    assert!(resolved["text"].as_str().is_some_and(|text| text.contains(": 0 requests and events wait")), "{resolved}");
    assert!(webhook.messages("firing").iter().all(|message| message["id"] == before["id"]));
    for table in ["alerts", "alert_messages"] {
        until_rows(&host, table, 0);
    }
}

#[test]
fn a_change_that_a_failing_disk_refuses_is_stored_later() {
    // The failing disk also refuses log lines, which would fire another alert.
    let host = Host::start_with_faults(&format!("{RULES}log_drops.enabled = false\n"));
    deploy_greedy(&host, "greedy", "production");
    let faults = host.faults();
    faults.fail(DiskError::ReadOnly);
    let overload = Overload::of(&host, "greedy");
    host.until_alert("queue-depth");
    wait_for("a failed attempt", || host.said().contains("a change of an alert can't be stored").then_some(()));
    faults.end_errors();
    until_rows(&host, "alerts", 1);
    overload.end();
    until_rows(&host, "alerts", 0);
}

#[test]
fn an_alert_of_an_app_continues_after_a_restart() {
    let host = Host::start_with("", &format!("{RULES}failed_pushes.threshold = 1\n"));
    deploy_greedy(&host, "greedy", "production");
    host.deploy_failing("greedy", &Bundle::component(b"nonsense".to_vec()));
    let alert = host.until_alert("failed-pushes");
    until_rows(&host, "alerts", 1);
    // No app is registered for several intervals.
    let host = host.restart_with("restore-apps=1*sleep(500)", |_| ());
    // Its value is unknown now. The other alert shows that the host has taken a sample.
    let overload = Overload::of(&host, "greedy");
    host.until_alert("queue-depth");
    assert_eq!(host.alert("failed-pushes").map(|it| it["since"].clone()), Some(alert["since"].clone()));
    overload.end();
    host.deploy("greedy", Bundle::component(guest_noted("hello", 1)));
    host.until_no_alert("failed-pushes");
    let resolved = host.activity_of("greedy", "alert-resolved");
    assert!(resolved["text"].as_str().is_some_and(|text| !text.contains("destroyed")), "{resolved}");
}

#[test]
fn a_token_for_some_apps_sees_only_their_alerts() {
    let settings = format!("{RULES}disk_space = {{ threshold = \"1000000GiB\", lasting = \"0s\" }}\n");
    let host = Host::start_with("", &settings);
    host.until_alert("disk-space");
    deploy_greedy(&host, "greedy", "production");
    host.create("other", "production");
    let overload = Overload::of(&host, "greedy");
    host.until_alert("queue-depth");
    let seen = |app: &str| {
        let body = json!({ "name": app, "role": "read", "apps": [app] });
        let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
        let token = made["token"].as_str().expect("a secret").to_owned();
        let seen = host.api_with(&token, Ask::get("/v1/alerts")).expect(200).json();
        seen["items"].as_array().expect("items").iter().map(|alert| alert["rule"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((seen("greedy"), seen("other")), (vec![json!("queue-depth")], Vec::new()));
    overload.end();
    let of_host = host.api(Ask::get("/v1/activity")).expect(200).json();
    let entries = of_host["items"].as_array().expect("items");
    assert!(entries.iter().any(|entry| entry["kind"] == "alert" && entry["app"].is_null()), "{of_host}");
}

#[test]
fn a_dev_app_has_no_alerts_by_default() {
    let host = Host::start_with("", RULES);
    deploy_greedy(&host, "tried", "dev");
    deploy_greedy(&host, "greedy", "production");
    let overloads = ["tried", "greedy"].map(|app| Overload::of(&host, app));
    host.until_alert("queue-depth");
    let items = alerts(&host)["items"].clone();
    assert!(items.as_array().expect("items").iter().all(|alert| alert["app"] == "greedy"), "{items}");
    overloads.into_iter().for_each(Overload::end);
}

#[test]
fn failed_pushes_and_requests_are_counted() {
    let settings = "[alerts]\ninterval = \"100ms\"\ndev_apps = true\nfailed_pushes.threshold = 1\n\
                    error_rate = { threshold = 50, lasting = \"0s\" }\n";
    let host = Host::start_with("", settings);
    host.deploy("shop", Bundle::component(guest("hello")));
    host.deploy_failing("shop", &Bundle::component(b"nonsense".to_vec()));
    assert_eq!(host.until_alert("failed-pushes")["app"], "shop");
    host.deploy("shop", Bundle::component(guest_noted("hello", 1)));
    host.until_no_alert("failed-pushes");

    deploy_greedy(&host, "greedy", "dev");
    host.get("greedy", "/ok").expect(200);
    let alert = wait_for("the alert error-rate", || {
        host.get("greedy", "/error").expect(500);
        host.alert("error-rate")
    });
    assert_eq!((&alert["app"], &alert["unit"]), (&json!("greedy"), &json!("percent")));
}

#[test]
fn a_long_delivery_has_no_alert_but_an_event_behind_it_has() {
    let settings = "[alerts]\ninterval = \"100ms\"\nqueue_age = { threshold = \"1s\", lasting = \"0s\" }\n";
    let host = Host::start_with("", settings);
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "order = \"subject\"", ""));
    let until_old = || {
        wait_for("an old event", || {
            (host.queue("outbox", Queue::Push)["oldest_ms"].as_u64() > Some(2_000)).then_some(())
        });
    };
    let running = host.push_steps("outbox", Some("ann"), &json!([["until", "go"]]));
    host.until_event("outbox", &running, "leased");
    until_old();
    assert_eq!(host.alert("queue-age"), None);
    host.push_steps("outbox", Some("ann"), &json!([["increment", "handled"]]));
    assert_eq!(host.until_alert("queue-age")["app"], "outbox");
    host.run_steps("outbox", &json!([["set", "go", "1"]]));
    host.until_no_alert("queue-age");
}

#[test]
fn a_hook_receives_alerts() {
    let webhook = Upstream::start(|_| Then::Send(response("ok")));
    let host = Host::start_with("", RULES);
    let tables = format!("[grants]\nhttp = [\"{0}\"]\n[config]\nWEBHOOK_URL = \"http://{0}/T1\"\n", webhook.address);
    host.installed(&shipped_plugin("notify", &tables));
    deploy_greedy(&host, "greedy", "production");
    let overload = Overload::of(&host, "greedy");
    let until = |event_type: &str| {
        wait_for(&format!("an event of type {event_type}"), || {
            let mut events =
                webhook.requests().into_iter().filter_map(|it| serde_json::from_slice::<Value>(&it.body).ok());
            events.find(|event| event["type"] == event_type)
        })
    };
    let fired = until("isopod.app.alert");
    assert_eq!((&fired["subject"], &fired["data"]["kind"]), (&json!("greedy"), &json!("alert")), "{fired}");
    assert_eq!(fired["data"]["details"]["rule"], "queue-depth");
    overload.end();
    assert_eq!(until("isopod.app.alert-resolved")["data"]["kind"], "alert-resolved");
}

#[test]
fn the_command_lists_alerts_and_rules() {
    let settings = "[alerts]\ndisk_space = { threshold = \"1000000GiB\", lasting = \"0s\" }\ncpu.enabled = false\n";
    let host = Host::start_with("", settings);
    host.until_alert("disk-space");
    let address = format!("http://{}", host.admin);
    let run = |args: &[&str]| {
        let output = program::run(&[&["alerts", "--host", &address, "--token", &host.token], args].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let listed = run(&[]);
    assert!(listed.starts_with("RULE") && listed.contains("disk-space  the host"), "{listed}");
    let rules = run(&["rules"]);
    assert!(rules.contains("error-rate") && !rules.contains("cpu"), "{rules}");
    let json: Value = serde_json::from_str(&run(&["--json"])).expect("JSON");
    assert_eq!(json["items"][0]["rule"], "disk-space");
}

#[test]
fn invalid_alert_settings_are_refused_with_their_line() {
    program::refuses_settings("[alerts]\ncpu = { threshold = 101 }\n", "line 2: `alerts.cpu`");
    program::refuses_settings("[alerts]\nwebhook = \"hooks.example.org\"\n", "line 2: `alerts.webhook`");
    program::refuses_settings("[alerts]\nqueue_deph = { threshold = 1 }\n", "queue_depth");
}
