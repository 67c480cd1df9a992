//! Tests the formation: the process types of an app, and the number of instances of each.

use isopod_tests::{Ask, Bundle, Host, guest, wait_for};
use serde_json::{Value, json};

fn deploy(host: &Host, app: &str, example: &str) {
    host.deploy(app, Bundle::component(guest(example)));
}

/// H1: the default process types of a component.
#[test]
fn a_first_deploy_creates_the_default_formation() {
    let host = Host::start();
    for (example, names) in [("hello", vec!["web"]), ("bot", vec!["web", "worker"]), ("shapes", vec!["web", "worker"])]
    {
        // The bot is healthy only with its key-value grant.
        let manifest = format!("name = \"{example}\"\ntype = \"dev\"\n[grants]\nkeyvalue = true\n");
        host.deploy(example, Bundle::archive(&manifest, &guest(example)));
        let formation = host.formation(example);
        let found: Vec<&String> = formation.as_object().expect("an object").keys().collect();
        assert_eq!(found, names, "{example}");
        for name in names {
            let entry = if name == "web" { "http" } else { "events" };
            let usual = json!({
                "entry": entry, "health": null, "min": 0, "max": 10, "schedule": null, "time_zone": null,
                "missed": null, "overlap": null, "args": [], "order": null, "retry": null,
            });
            assert_eq!(formation[name], usual, "{example}");
        }
    }
    host.create("empty", "dev");
    assert_eq!(host.formation("empty"), json!({}));
    // A6: a production app keeps one warm instance by default.
    host.create("live", "production");
    deploy(&host, "live", "hello");
    assert_eq!(host.formation("live")["web"]["min"], 1);
    host.running_ids("live", "web", 1);
}

/// E1, H3.
#[test]
fn a_process_type_is_scaled_and_its_other_settings_stay() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    let before = host.formation("shop")["web"].clone();
    let after = host.scale("shop", &json!({ "web": { "min": 2, "max": 5 } })).expect(200).json();
    assert_eq!((&after["web"]["min"], &after["web"]["max"]), (&json!(2), &json!(5)));
    for same in ["entry", "health", "schedule", "args"] {
        assert_eq!(after["web"][same], before[same]);
    }
    assert_eq!(after, host.formation("shop"));
    assert_eq!(host.scale("shop", &after).expect(200).json(), after, "the shown formation can be sent back");
    assert_eq!(host.releases("shop").len(), 2, "an unchanged formation created a release");
    let cleared = host.scale("shop", &json!({ "web": { "min": null, "health": null } })).expect(200).json();
    assert_eq!((&cleared["web"]["min"], &cleared["web"]["health"]), (&json!(0), &Value::Null));
    let entry = host.activity("shop").into_iter().find(|entry| entry["data"]["release"] == 2);
    let text = entry.as_ref().and_then(|entry| entry["text"].as_str()).unwrap_or_default();
    assert!(
        text.contains('2') && text.contains('5') && text.contains("web"),
        "the activity has the numbers: {entry:?}"
    );
}

#[test]
fn process_types_can_be_added_and_removed() {
    let host = Host::start();
    deploy(&host, "shop", "shapes");
    let nightly = json!({ "name": "nightly", "entry": "events", "schedule": "0 3 * * *" });
    let made = host.add_process("shop", &nightly).expect(201).json();
    assert_eq!((&made["nightly"]["schedule"], &made["nightly"]["entry"]), (&json!("0 3 * * *"), &json!("events")));
    assert!(made["web"].is_object() && made["worker"].is_object(), "the default process types stay: {made}");
    host.add_process("shop", &nightly).problem_of("shop", 409, "process-exists");
    let moved = host.scale("shop", &json!({ "nightly": { "schedule": "30 4 * * 1" } })).expect(200).json();
    assert_eq!(moved["nightly"]["schedule"], "30 4 * * 1");
    for process in ["nightly", "worker"] {
        host.remove_process("shop", process).expect(204);
        host.remove_process("shop", process).problem_of("shop", 404, "unknown-process");
    }
    host.remove_process("shop", "web").problem_of("shop", 409, "last-process");
    host.remove_process("shop", "no%20name").problem_of("shop", 404, "unknown-process");
    let kept = host.formation("shop");
    assert_eq!(kept.as_object().map(|kept| kept.keys().cloned().collect::<Vec<_>>()), Some(vec!["web".to_owned()]));
    assert_eq!(host.releases("shop").len(), 5);
    assert_eq!(host.get("shop", "/").expect(200).text(), "v5 ");
}

#[test]
fn an_invalid_formation_is_rejected_by_name_and_creates_no_release() {
    let host = Host::start();
    deploy(&host, "shop", "shapes");
    let refused = |change: Value, names: &[&str]| {
        let problem = host.scale("shop", &change).problem_of("shop", 422, "bad-formation");
        let detail = problem["detail"].as_str().expect("a problem has a detail");
        names.iter().for_each(|name| assert!(detail.contains(name), "{change}: missing {name:?} in: {detail}"));
    };
    refused(json!({ "web": { "min": 5, "max": 2 } }), &["web.min", "5", "2"]);
    refused(json!({ "web": { "min": -1 } }), &["web.min"]);
    refused(json!({ "web": { "max": 1_000_000_000 } }), &["web.max", "instances_max"]);
    refused(json!({ "web": { "max": 1e300 } }), &["web.max"]);
    refused(json!({ "web": { "max": 0 } }), &["web.max"]);
    refused(json!({ "web": { "min": 1.5 } }), &["web.min"]);
    refused(json!({ "web": { "min": "2" } }), &["web.min"]);
    refused(json!({ "web": { "mim": 1 } }), &["web.mim", "min"]);
    refused(json!({ "web": { "entry": "events" } }), &["web", "entry"]);
    refused(json!({ "web": { "schedule": "0 3 * * *" } }), &["web.schedule"]);
    refused(json!({ "web": { "health": "healthz" } }), &["web.health", "'/'"]);
    refused(json!({ "web": { "health": { "path": "/x", "timeout": "5" } } }), &["web.health", "timeout"]);
    refused(json!({ "worker": { "health": "/healthz" } }), &["worker.health", "http"]);
    refused(json!({ "worker": { "schedule": "every day" } }), &["worker.schedule"]);
    refused(json!({ "worker": { "schedule": "0 0 31 2 *" } }), &["worker.schedule"]);
    refused(json!({ "web": null }), &["web", "DELETE"]);
    refused(json!({ "No Name": { "min": 1 } }), &["No Name"]);
    refused(json!([{ "web": 1 }]), &["formation"]);
    host.scale("shop", &json!({ "wed": { "min": 1 } })).problem_of("shop", 404, "unknown-process");
    let garbage = Ask::new("PATCH", "/v1/apps/shop/formation").body("application/json", "{\"web\":");
    host.api(garbage).problem(400, "bad-json");
    // One invalid process type rejects the whole change.
    host.scale("shop", &json!({ "web": { "min": 1 }, "worker": { "max": 0 } })).expect(422);

    let not_made = |process: Value| host.add_process("shop", &process).problem_of("shop", 422, "bad-formation");
    not_made(json!({ "name": "x" }));
    not_made(json!({ "entry": "http" }));
    not_made(json!({ "name": "x", "entry": "ftp" }));
    not_made(json!({ "name": "X!", "entry": "http" }));
    not_made(json!({ "name": "x", "entry": "events", "health": "/" }));
    not_made(json!({ "name": "x", "entry": "events", "schedule": "0 3 30 2 *" }));
    not_made(json!({ "name": "x", "entry": "events", "instances": 3 }));
    deploy(&host, "plain", "hello");
    let missing = host.add_process("plain", &json!({ "name": "x", "entry": "events" }));
    let missing = missing.problem_of("plain", 422, "bad-formation");
    assert!(missing["detail"].as_str().is_some_and(|detail| detail.contains("handles no events")), "{missing}");

    for app in ["shop", "plain"] {
        assert_eq!(host.releases(app).len(), 1);
    }
    assert_eq!(host.formation("shop")["web"]["min"], 0);
    host.create("empty", "dev");
    host.scale("empty", &json!({ "web": { "min": 1 } })).problem_of("empty", 409, "no-release");
    host.scale("nobody", &json!({})).problem_of("nobody", 404, "unknown-app");
}

#[test]
fn a_manual_scale_persists_across_deploys_and_restarts() {
    let host = Host::start();
    deploy(&host, "shop", "shapes");
    host.scale("shop", &json!({ "web": { "min": 2, "max": 4 } })).expect(200);
    deploy(&host, "shop", "shapes");
    host.deploy("shop", Bundle::shape(&[]));
    let numbers = |host: &Host| {
        let web = host.formation("shop")["web"].clone();
        (web["min"].as_u64(), web["max"].as_u64())
    };
    assert_eq!(numbers(&host), (Some(2), Some(4)));
    let host = host.restart();
    assert_eq!(numbers(&host), (Some(2), Some(4)));
    host.running_ids("shop", "web", 2);
    // A value in the manifest takes precedence.
    host.deploy("shop", Bundle::shapes("[processes.web]\nentry = \"http\"\nmin = 1\n"));
    assert_eq!(numbers(&host), (Some(1), Some(4)));
    host.running_ids("shop", "web", 1);
}

#[test]
fn grants_are_changed_by_a_merge_and_invalid_grants_are_rejected() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    host.get("shop", "/ticks").expect(200);
    let merged = host.set_grants("shop", &json!({ "keyvalue": false, "http": ["example.org"] })).expect(200).json();
    assert_eq!((&merged["keyvalue"], &merged["http"]), (&json!(false), &json!(["example.org"])));
    assert_eq!(merged, host.grants("shop"));
    host.get("shop", "/ticks").problem_of("shop", 500, "app-failed");
    host.set_grants("shop", &json!({ "http": null, "keyvalue": true })).expect(200);
    host.get("shop", "/ticks").expect(200);
    let releases = host.releases("shop").len();
    for nonsense in [json!({ "http": "example.org" }), json!({ "http": ["a b"] }), json!({ "disk": true }), json!(7)] {
        host.set_grants("shop", &nonsense).problem_of("shop", 422, "bad-grants");
    }
    assert_eq!(host.releases("shop").len(), releases);
    wait_for("a settled app", || (host.state("shop") == "running").then_some(()));
}
