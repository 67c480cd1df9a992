//! Tests instances: each has its own id and URL, and is restarted after any end.

use isopod_tests::{Bundle, Host, Queue, bundle::QUICK_WEB, guest, guest_noted, wait_for};
use serde_json::{Value, json};

/// Returns whether the id consists of a process type and five characters that readers can't
/// confuse.
fn is_id(id: &str, process: &str) -> bool {
    let rest = id.strip_prefix(process).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| rest.len() == 5 && rest.chars().all(|c| "0123456789abcdefghjkmnpqrstvwxyz".contains(c)))
}

fn with_instances(count: u32) -> Host {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}min = {count}\n")));
    host
}

fn once_restarted(host: &Host, id: &str) -> Value {
    wait_for("the restart of the instance", || {
        host.instance("shop", id).filter(|seen| seen["state"] == "idle" && seen["restarts"].as_u64() >= Some(1))
    })
}

/// E1, E3, H6.
#[test]
fn a_minimum_is_kept_warm_and_each_instance_is_listed_and_reachable() {
    let host = with_instances(3);
    let ids = host.running_ids("shop", "web", 3);
    for id in &ids {
        assert!(is_id(id, "web"), "{id}");
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "ids are unique");
        assert_eq!(host.get(&format!("{id}--shop"), "/").expect(200).text(), "v1 ");
        let seen = host.instance("shop", id).expect("it is listed");
        assert_eq!((&seen["release"], &seen["restarts"]), (&json!(1), &json!(0)), "{seen}");
        assert_eq!(seen["requests"], 1, "the instance counts its own requests: {seen}");
        assert!(seen["memory_bytes"].as_u64() > Some(10_000) && seen["age_ms"].is_u64(), "{seen}");
        assert!(seen["cpu_ms"].is_u64() && seen["started_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{seen}");
        let url = format!("http://{id}--shop.localhost:{}/", host.listen.port());
        assert_eq!(seen["url"], url);
    }
    host.get("web-00000--shop", "/").problem_of("shop", 404, "unknown-part");
    host.get("cart-00000--shop", "/").problem_of("shop", 404, "unknown-part");
}

/// E3, E4: an instance keeps its id after a crash and after a manual restart.
#[test]
fn an_instance_is_restarted_under_its_id() {
    let host = with_instances(2);
    let ids = host.running_ids("shop", "web", 2);
    let own = format!("{}--shop", ids[0]);
    host.get(&own, "/trap").problem_of("shop", 502, "app-failed");
    once_restarted(&host, &ids[0]);
    assert_eq!(host.get(&own, "/").expect(200).text(), "v1 ");
    host.restart_instance("shop", &ids[1]).expect(202);
    once_restarted(&host, &ids[1]);
    let now = host.running_ids("shop", "web", 2);
    assert!(now.iter().all(|id| ids.contains(id)), "{ids:?}, then {now:?}");
    assert_eq!(host.current("shop"), [1], "a restart created a release");
    let reported = host.activity_of("shop", "instance-restarted");
    assert!(reported["text"].as_str().is_some_and(|text| text.contains(&ids[1])), "{reported}");
    for unknown in ["web-00000", "web", "1"] {
        host.restart_instance("shop", unknown).problem_of("shop", 404, "unknown-instance");
    }
    assert_eq!(host.state("shop"), "running", "B3");
}

/// Without a minimum the host restarts no instance before the next request.
#[test]
fn an_ended_instance_without_a_minimum_stays_stopped_until_the_next_request() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(QUICK_WEB));
    let state = |wanted: &str| {
        wait_for(wanted, || host.instances("shop").iter().all(|seen| seen["state"] == wanted).then_some(()));
    };
    host.get("shop", "/trap").problem_of("shop", 502, "app-failed");
    state("stopped");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 ");
    state("idle");
}

#[test]
fn a_restart_lets_the_instance_complete_its_request() {
    let host = with_instances(1);
    let id = host.running_ids("shop", "web", 1).remove(0);
    let mut wire = host.wire();
    wire.ask(&host.to_app(&format!("{id}--shop"), isopod_tests::Ask::get("/slow"))).expect("it can be sent");
    let is_busy = || host.instance("shop", &id).filter(|seen| seen["state"] == "busy").map(drop);
    wait_for("the start of the request", is_busy);
    host.restart_instance("shop", &id).expect(202);
    assert_eq!(wire.answer().expect("an answer").expect(200).text(), "v1 ");
    assert_eq!(once_restarted(&host, &id)["restarts"], 1);
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 ");
}

#[test]
fn scaling_creates_new_ids() {
    let host = with_instances(2);
    let before = host.running_ids("shop", "web", 2);
    host.scale("shop", &json!({ "web": { "min": 3 } })).expect(200);
    let after = host.running_ids("shop", "web", 3);
    assert!(after.iter().all(|id| !before.contains(id)), "{before:?}, then {after:?}");
    // The instances of the former release have ended, so their URLs are unknown.
    wait_for("the end of the former instances", || {
        (host.get(&format!("{}--shop", before[0]), "/").status == 404).then_some(())
    });
}

/// A command is a process type like any other: the host keeps it running, with its arguments.
#[test]
fn a_command_runs_beside_the_web_process_and_is_kept_running() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}[processes.clock]\nentry = \"command\"\n")));
    let id = host.running_ids("shop", "clock", 1).remove(0);
    assert!(is_id(&id, "clock"), "{id}");
    let says = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("shapes works as"));
    let line = host.log_line("shop", "the command's output", says);
    assert!(line["message"].as_str().is_some_and(|text| text.contains("clock")), "{line}");
    host.restart_instance("shop", &id).expect(202);
    wait_for("its second run", || (host.log("shop").iter().filter(|line| says(line)).count() >= 2).then_some(()));
    assert_eq!(host.running_ids("shop", "clock", 1), [id]);
    // A command that ends is started again, since a process type doesn't run only once.
    host.scale("shop", &json!({ "clock": { "args": ["0"] } })).expect(200);
    let runs = |host: &Host| host.log("shop").iter().filter(|line| line["release"] == 2 && says(line)).count();
    wait_for("two runs of the new release", || (runs(&host) >= 2).then_some(()));
    assert_eq!((host.state("shop").as_str(), host.current("shop")), ("running", vec![2]));
    host.stop_app("shop");
    wait_for("the end of all instances", || host.instances("shop").is_empty().then_some(()));
}

#[test]
fn an_instance_without_http_reports_its_kind_of_work() {
    let host = Host::start();
    let others = "[processes.nightly]\nentry = \"events\"\nmin = 1\n[processes.job]\nentry = \"command\"\n";
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}{others}")));
    for (process, does, hint) in [("nightly", "handles events", "events send"), ("job", "runs a command", "logs")] {
        let id = host.running_ids("shop", process, 1).remove(0);
        let problem = host.get(&format!("{id}--shop"), "/").problem_of("shop", 404, "no-http");
        for word in [&id, process, does] {
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{word}: {problem}");
        }
        assert!(problem["hint"].as_str().is_some_and(|text| text.contains(hint)), "{problem}");
    }
}

/// H6, F6: the remaining work of a replaced release is listed, and counted as the app's.
#[test]
fn remaining_work_of_a_replaced_release_is_listed_until_it_completes() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let held = host.hold("greedy");
    host.deploy("greedy", Bundle::component(guest_noted("greedy", 1)));
    host.until_queue("greedy", Queue::Pull, 1, 0);
    let stopping = || host.instances("greedy").into_iter().filter(|seen| seen["state"] == "stopping");
    let seen = wait_for("the draining instance", || stopping().next());
    assert_eq!(seen["release"], 1, "{seen}");
    assert_eq!(host.metric("isopod_instances{state=\"stopping\"}"), 1.0);
    assert_eq!(host.get("greedy", "/ok").expect(200).status, 200, "the new release serves meanwhile");
    held.release_core();
    host.until_queue("greedy", Queue::Pull, 0, 0);
    wait_for("the end of the former instance", || stopping().next().is_none().then_some(()));
}

/// H6: a stop drains in the same way.
#[test]
fn remaining_work_of_a_stopped_app_is_listed_until_it_completes() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let held = host.hold("greedy");
    host.stop_app("greedy");
    wait_for("the draining instance", || {
        host.instances("greedy").iter().all(|seen| seen["state"] == "stopping").then_some(())
    });
    assert_eq!(host.instances("greedy").len(), 1);
    held.release_core();
    wait_for("the end of the instance", || host.instances("greedy").is_empty().then_some(()));
}

/// H6, J1: an app with a frozen release is listed as active while a former release still works.
#[test]
fn an_app_is_listed_as_active_until_its_last_instance_ends() {
    let host = Host::start_with("", "freeze_after = \"200ms\"\n");
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let held = host.hold("greedy");
    host.deploy("greedy", Bundle::component(guest_noted("greedy", 1)));
    wait_for("the new release to be frozen", || (host.release_state("greedy", 2) == "frozen").then_some(()));
    wait_for("the end of its instances", || {
        host.instances("greedy").iter().all(|seen| seen["state"] == "stopping").then_some(())
    });
    let shown = host.api(isopod_tests::Ask::get("/v1/metrics")).expect(200).json();
    let of_app = &shown["items"][0];
    assert_eq!((&of_app["app"], &of_app["instances"]), (&json!("greedy"), &json!(1)), "{shown}");
    held.release_core();
    wait_for("the app to become inactive", || {
        let shown = host.api(isopod_tests::Ask::get("/v1/metrics")).expect(200).json();
        shown["items"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

/// D5: a preview of a former release evicts no instance of the current release, and starts only one
/// instance.
#[test]
fn previews_of_former_releases_evict_no_instance_of_the_current_release() {
    let host = Host::start();
    host.create("shop", "production");
    let web = format!("{QUICK_WEB}min = 4\n");
    for words in ["one", "two", "three"] {
        host.deploy("shop", Bundle::shapes(&format!("{web}[config]\nGREETING = \"{words}\"\n")));
    }
    let of = |release: u64| {
        // An instance may still be busy right after its response.
        let is_live =
            |seen: &&Value| seen["release"] == release && (seen["state"] == "idle" || seen["state"] == "busy");
        host.instances("shop").iter().filter(is_live).count()
    };
    wait_for("the end of the rollout watch", || (of(3) == 4 && of(2) == 0 && of(1) == 0).then_some(()));
    for release in [1, 2] {
        let answer = host.get(&format!("v{release}--shop"), "/").expect(200);
        assert!(answer.text().starts_with(&format!("v{release} ")), "{answer}");
        assert_eq!((of(3), of(release)), (4, 1), "preview of v{release}");
    }
}
