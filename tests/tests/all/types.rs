//! Tests an app's type and life cycle: the permitted operations in each state, and the recorded
//! reason of every change.

use isopod_tests::{Ask, Bundle, Host, bundle::QUICK_WEB, guest, wait_for};
use serde_json::{Value, json};

/// The host samples often, and reports an app in the state `error` immediately.
const ALERTS: &str = "[alerts]\ninterval = \"100ms\"\napp_down.lasting = \"0s\"\n";

fn greeting(words: &str) -> Bundle {
    Bundle::shape(&[("GREETING", words)])
}

/// Returns a bundle with a command that exits immediately with this status, beside a healthy web
/// process.
pub(crate) fn crashing(status: &str) -> Bundle {
    Bundle::shapes(&format!("{QUICK_WEB}[processes.job]\nentry = \"command\"\nargs = [\"{status}\"]\n"))
}

/// A3.
#[test]
fn a_type_changes_only_while_the_app_is_stopped() {
    let host = Host::start();
    host.create("new", "dev");
    host.set_type("new", "staging").expect(200);
    host.deploy("shop", greeting("hello"));
    let refused = host.set_type("shop", "production").problem_of("shop", 409, "not-stopped");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("running")), "{refused}");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("stop")), "{refused}");
    assert_eq!(host.show("shop")["type"], "dev");
    host.stop_app("shop");
    assert_eq!(host.set_type("shop", "production").expect(200).json()["type"], "production");
    for nonsense in ["prod", "", "Production"] {
        assert!(matches!(host.set_type("shop", nonsense).status, 400 | 422), "{nonsense}");
    }
    let host = host.restart();
    assert_eq!((host.state("shop"), &host.show("shop")["type"]), ("stopped".to_owned(), &json!("production")));
    host.start_app("shop");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 hello", "A1: the same release");
    assert_eq!(host.formation("shop")["web"]["min"], 1, "A6: kept warm from now on");
    host.running_ids("shop", "web", 1);
    let reported = host.activity_of("shop", "app-type");
    assert_eq!(
        (&reported["data"]["from"], &reported["data"]["to"]),
        (&json!("dev"), &json!("production")),
        "{reported}"
    );
}

#[test]
fn a_deploy_to_a_stopped_app_applies_at_its_start() {
    let host = Host::start();
    host.create("shop", "staging");
    host.deploy("shop", greeting("one"));
    host.stop_app("shop");
    let push = host.deploy("shop", greeting("two"));
    assert_eq!((push.release, host.state("shop").as_str()), (Some(2), "stopped"));
    let refused = host.get("shop", "/");
    refused.problem_of("shop", 503, "app-unavailable");
    assert!(refused.text().contains("is stopped"), "{refused}");
    host.set_config("shop", &json!({ "GREETING": "three" })).expect(200);
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![3], "stopped"));
    assert!(host.instances("shop").is_empty(), "a stopped app has instances");
    host.deploy_failing("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    assert_eq!(host.state("shop"), "stopped");
    let host = host.restart();
    assert_eq!(host.state("shop"), "stopped");
    host.start_app("shop");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v3 three");
}

#[test]
fn a_deploy_after_a_destroy_creates_a_new_app() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", greeting("old"));
    host.set_config("shop", &json!({ "TOKEN": { "secret": "x" } })).expect(200);
    host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
    for what in ["", "/releases", "/formation", "/instances", "/config", "/activity"] {
        host.api(Ask::get(format!("/v1/apps/shop{what}"))).problem_of("shop", 404, "unknown-app");
    }
    host.rollback("shop", 1).problem_of("shop", 404, "unknown-app");
    host.get("v1--shop", "/").problem(404, "unknown-app");
    let push = host.deploy("shop", Bundle::component(guest("shapes")));
    assert!(push.created_app, "{push:?}");
    assert_eq!(push.release, Some(1));
    assert_eq!((host.config("shop"), host.show("shop")["type"].clone()), (json!({}), json!("dev")));
    assert_eq!(host.get("shop", "/").text(), "v1 ");
}

/// D4: a release with a command that fails repeatedly is rolled back.
#[test]
fn a_crash_loop_restores_the_last_good_release() {
    let host = Host::start_with("", ALERTS);
    host.create("shop", "staging");
    host.deploy("shop", greeting("good"));
    host.deploy("shop", crashing("1"));
    let reported = host.activity_of("shop", "release-returned");
    assert_eq!((&reported["data"]["release"], &reported["data"]["bad"]), (&json!(1), &json!(2)), "{reported}");
    assert!(
        reported["text"].as_str().is_some_and(|text| text.contains("job") && text.contains("status 1")),
        "{reported}"
    );
    assert_eq!(host.until_alert("crash-loop")["app"], "shop");
    assert_eq!(host.release_state("shop", 2), "deployment_error");
    assert_eq!(host.release("shop", 2)["reason"]["code"], "crash-loop");
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![1], "running"));
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 good");
    assert!(
        host.instances("shop").iter().all(|instance| instance["process"] != "job"),
        "the failing command is stopped"
    );
}

/// A release that served well for a long time is rarely the cause of a new fault, so a rollback
/// would not help.
#[test]
fn a_process_that_fails_late_is_reported_and_its_release_stays() {
    let host = Host::start_with("", ALERTS);
    host.create("shop", "staging");
    host.deploy("shop", greeting("good"));
    // While stopped, the app runs nothing before the release is no longer new.
    host.stop_app("shop");
    host.deploy("shop", crashing("1"));
    let host = host.restart_after(|host| {
        host.change_rows("UPDATE releases SET updated_at = '2020-01-01T00:00:00Z' WHERE number = 2", []);
    });
    host.start_app("shop");
    let reported = host.activity_of("shop", "process-failing");
    assert_eq!((&reported["data"]["release"], &reported["data"]["process"]), (&json!(2), &json!("job")), "{reported}");
    assert_eq!(host.until_alert("crash-loop")["app"], "shop");
    for word in ["status 1", "stays", "restarts"] {
        assert!(reported["text"].as_str().is_some_and(|text| text.contains(word)), "{word:?}: {reported}");
    }
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![2], "running"));
    assert!(host.activity("shop").iter().all(|entry| entry["kind"] != "release-returned"));
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 ");
}

/// B1, B2: without a former release the app is in error, shows the reason, and a good release
/// repairs it.
#[test]
fn a_first_release_in_a_crash_loop_is_an_error_until_a_good_release() {
    let host = Host::start_with("", ALERTS);
    host.create("shop", "staging");
    host.deploy("shop", crashing("1"));
    host.until_state("shop", "error");
    let error = host.show("shop")["error"].clone();
    assert_eq!(error["cause"], "health-check", "{error}");
    assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("status 1")), "{error}");
    host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
    host.activity_of("shop", "app-error");
    assert_eq!(host.until_alert("app-down")["app"], "shop");
    assert_eq!((host.release_state("shop", 1).as_str(), host.current("shop")), ("deployment_error", vec![]));
    let host = host.restart();
    assert_ne!(host.state("shop"), "running", "the host retried a failed release");
    assert_eq!(host.current("shop"), [] as [u64; 0]);
    // A bad push keeps the error, and a good push repairs the app.
    host.deploy_failing("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    assert_ne!(host.state("shop"), "running");
    let push = host.deploy("shop", greeting("good"));
    assert_eq!((push.release, host.state("shop").as_str()), (Some(3), "running"));
    assert!(host.show("shop")["error"].is_null());
    assert_eq!(host.get("shop", "/").expect(200).text(), "v3 good");
    host.until_no_alert("app-down");
}

/// A start doesn't retry a failed release. Any change that creates a better release repairs the
/// app.
#[test]
fn an_app_in_error_is_repaired_by_a_change_and_not_by_a_start() {
    let host = Host::start();
    host.deploy("shop", crashing("1"));
    host.until_state("shop", "error");
    host.activity_of("shop", "app-error");
    let started = host.api(Ask::post("/v1/apps/shop/start"));
    assert!(matches!(started.status, 202 | 409), "{started}");
    host.until_state("shop", "error");
    assert_eq!(host.current("shop"), [] as [u64; 0]);
    let fixed = host.scale("shop", &json!({ "job": { "args": [] } })).expect(200).json();
    assert_eq!(fixed["job"]["args"], json!([]));
    assert_eq!((host.state("shop").as_str(), host.current("shop")), ("running", vec![2]));
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 ");
}

/// B1: each action, its actor and its reason, in order.
#[test]
fn the_activity_explains_every_change() {
    let host = Host::start();
    host.create("shop", "dev");
    host.deploy("shop", greeting("one"));
    host.stop_app("shop");
    host.set_type("shop", "staging").expect(200);
    host.start_app("shop");
    host.deploy_failing("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    host.set_config("shop", &json!({ "A": "1" })).expect(200);
    host.rollback("shop", 1).expect(200);
    let mut activity = host.activity("shop");
    activity.retain(|entry| entry["kind"] != "app-state");
    activity.reverse();
    let kinds: Vec<&str> = activity.iter().filter_map(|entry| entry["kind"].as_str()).collect();
    let expected = [
        "app-created",
        "app-deployed",
        "app-stopped",
        "app-type",
        "app-started",
        "push-failed",
        "app-deployed",
        "app-deployed",
    ];
    assert_eq!(kinds, expected);
    for entry in &activity {
        let has_text = |field: &str| entry[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(has_text("text") && has_text("at") && entry["data"].is_object() && entry["app"] == "shop", "{entry}");
        assert!(entry["data"]["by"].is_string(), "the entry has an actor: {entry}");
    }
    let of = |number: usize| activity[number]["text"].as_str().unwrap_or_default();
    assert!(of(1).contains("v1") && of(1).contains("push p-"), "{}", of(1));
    assert!(of(6).contains("v3") && of(6).contains("v1") && of(6).contains("config changed: A"), "{}", of(6));
    assert!(of(7).contains("v4") && of(7).contains("rollback to v1"), "{}", of(7));
    let numbers: Vec<&Value> = [1, 6, 7].iter().map(|&at: &usize| &activity[at]["data"]["release"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(3), &json!(4)]);
}

/// B1: the states follow each other without a gap, each with its cause.
#[test]
fn every_state_of_an_app_is_recorded_with_its_cause() {
    let host = Host::start();
    host.create("shop", "staging");
    host.deploy("shop", greeting("one"));
    host.deploy_failing("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    host.stop_app("shop");
    host.start_app("shop");
    host.deploy("shop", crashing("1"));
    host.activity_of("shop", "release-returned");
    let reported = || host.activity("shop").into_iter().rev().filter(|entry| entry["kind"] == "app-state");
    let word = |entry: &Value, field: &str| entry["data"][field].as_str().unwrap_or_default().to_owned();
    let states = wait_for("the last state", || {
        let states: Vec<String> = reported().map(|entry| word(&entry, "to")).collect();
        (states.iter().filter(|state| *state == "starting").count() == 1 && states.ends_with(&["running".to_owned()]))
            .then_some(states)
    });
    let first: Vec<&str> = states.iter().map(String::as_str).take(8).collect();
    let expected = ["deploying", "running", "deploying", "running", "stopped", "starting", "running", "deploying"];
    assert_eq!(first, expected);
    let mut before = "stopped".to_owned();
    for entry in reported() {
        assert_eq!(word(&entry, "from"), before, "{entry}");
        assert!(word(&entry, "cause").len() > 8, "{entry}");
        before = word(&entry, "to");
    }
    assert_eq!(before, host.state("shop"));
}

/// B1: the activity names the token, where several users have their own tokens.
#[test]
fn the_activity_and_the_releases_name_the_token() {
    let host = Host::start();
    let made = host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ada", "role": "deploy" }))).expect(201).json();
    let token = made["token"].as_str().expect("a token is shown once");
    let bundle = greeting("one");
    let push = Ask::post("/v1/apps/shop/pushes?wait=true").body(bundle.content_type, bundle.bytes);
    host.api_with(token, push).expect(200);
    let set = Ask::new("PATCH", "/v1/apps/shop/config").json(&json!({ "A": "1" }));
    host.api_with(token, set).expect(200);
    host.set_config("shop", &json!({ "A": "2" })).expect(200);
    let by: Vec<Value> = host.releases("shop").iter().map(|release| release["created_by"].clone()).collect();
    assert_eq!((&by[0], &by[1]), (&json!("ada"), &json!("ada")));
    assert_ne!(by[2], "ada");
    let reported: Vec<Value> = host.activity("shop").iter().map(|entry| entry["data"]["by"].clone()).collect();
    assert!(reported.iter().filter(|by| **by == "ada").count() >= 3, "created, deployed and changed: {reported:?}");
}

#[test]
fn a_request_without_effect_can_be_repeated() {
    let host = Host::start();
    host.create("shop", "dev");
    host.api(Ask::post("/v1/apps/shop/start")).problem_of("shop", 409, "no-release");
    host.api(Ask::post("/v1/apps/shop/stop")).expect(202);
    host.deploy("shop", greeting("hello"));
    host.start_app("shop");
    host.stop_app("shop");
    host.stop_app("shop");
    host.start_app("shop");
    host.start_app("shop");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 hello");
    let stops = host.activity("shop").iter().filter(|entry| entry["kind"] == "app-stopped").count();
    assert_eq!(stops, 2, "one stop before the first deploy, one after it; a repeated stop adds no entry");
}

/// B1: the last request determines the app's state.
#[test]
fn an_app_that_is_stopped_during_its_start_stops() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", Bundle::component(guest("hello")));
    for round in 0..20 {
        host.stop_app("shop");
        host.api(Ask::post("/v1/apps/shop/start")).expect(202);
        if round % 2 == 0 {
            // Varies the point of the stop between the first and the last step of the start.
            (0..round).for_each(|_| drop(host.state("shop")));
        }
        host.api(Ask::post("/v1/apps/shop/stop")).expect(202);
        host.until_state("shop", "stopped");
        wait_for("the end of its instances", || host.instances("shop").is_empty().then_some(()));
        host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
        host.api(Ask::post("/v1/apps/shop/start")).expect(202);
        host.until_state("shop", "running");
        assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    }
}

/// B4: a start doesn't wait for a push that may take long or fail, and doesn't prevent the push
/// from completing.
#[test]
fn an_app_can_be_started_during_a_push() {
    let host = Host::start_pausing("release-booted=1*off->pause");
    host.create("shop", "staging");
    host.deploy("shop", greeting("old"));
    let push = host.push("shop", &greeting("new"));
    wait_for("the push", || host.push_now(&push).log.iter().any(|line| line.contains("healthy")).then_some(()));
    host.stop_app("shop");
    let refused = host.set_type("shop", "production").problem_of("shop", 409, "push-under-way");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("wait")), "{refused}");
    host.start_app("shop");
    host.until_state("shop", "running");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 old");
    assert_eq!(host.push_now(&push).state, "deploying");
    let host = host.kill_and_restart();
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 old");
}

/// A start during a push, for a push that fails and for a push that completes.
#[test]
fn a_push_ends_normally_after_a_restart_of_its_app() {
    let host = Host::start();
    host.create("shop", "staging");
    host.deploy("shop", greeting("old"));
    let slow = QUICK_WEB.replace("500ms", "1s");
    for (health, state, answer) in [("hangs", "failed", "v1 old"), ("late", "completed", "v3 ")] {
        let web = if health == "late" { slow.replace("0ms", "20s") } else { slow.clone() };
        let push = host.push("shop", &Bundle::shapes(&format!("{web}[config]\nHEALTH = \"{health}\"\n")));
        wait_for("the health check", || (host.push_now(&push).state == "deploying").then_some(()));
        host.stop_app("shop");
        host.start_app("shop");
        assert_eq!(host.ended(&push).state, state, "{health}");
        host.until_state("shop", "running");
        assert_eq!(host.get("shop", "/").expect(200).text(), answer, "{health}");
    }
}

#[test]
fn a_stop_before_the_first_deploy_names_its_actor() {
    let host = Host::start();
    host.create("shop", "staging");
    host.stop_app("shop");
    assert_eq!(host.activity_of("shop", "app-stopped")["data"]["by"], "admin");
    host.deploy("shop", greeting("one"));
    host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
    host.start_app("shop");
    host.until_state("shop", "running");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 one");
}
