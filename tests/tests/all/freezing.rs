//! D3: tests that an idle app drops its instances and its code, and is thawed by the next request.

use isopod_tests::{Ask, Bundle, Host, Queue, guest, guests::guest_if_built, wait_for};
use serde_json::json;

const SOON: &str = "freeze_after = \"200ms\"\n";

fn until_frozen(host: &Host, app: &str) {
    wait_for("the app to be frozen", || {
        let releases = host.releases(app);
        releases.iter().any(|release| release["state"] == "frozen").then_some(())
    });
    // Instances of a standby release are dropped too.
    wait_for("the drop of its instances", || host.instances(app).is_empty().then_some(()));
}

/// Returns whether any compiled code is mapped into the host's memory.
fn has_code_mapped(host: &Host) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", host.id())).expect("the host runs");
    maps.lines().any(|line| line.ends_with(".cwasm"))
}

#[test]
fn an_idle_app_is_frozen_and_answers_the_next_request() {
    // With its code still mapped, and without.
    for (more, stays) in [("", true), ("frozen_code_max = \"0B\"\n", false)] {
        let host = Host::start_with("", &format!("{SOON}{more}"));
        host.deploy("hello", Bundle::component(guest("hello")));
        for _ in 0..3 {
            until_frozen(&host, "hello");
            assert_eq!(host.state("hello"), "running", "freezing changed the app's state");
            wait_for("the expected mapping of the code", || (has_code_mapped(&host) == stays).then_some(()));
            assert_eq!(host.get("hello", "/").expect(200).text(), "Hello, world!");
            assert_eq!(host.current("hello"), [1]);
        }
    }
}

/// The budget also suffices for the code of a large runtime.
#[test]
fn the_code_of_a_frozen_javascript_app_stays_mapped() {
    let Some(component) = guest_if_built("hello-js") else { return };
    let host = Host::start_with("", SOON);
    host.deploy("hello-js", Bundle::component(component));
    until_frozen(&host, "hello-js");
    assert!(has_code_mapped(&host));
    assert_eq!(host.get("hello-js", "/").expect(200).text(), "Hello from JavaScript!\n");
}

/// E1: a minimum of instances keeps the app loaded, also if each request has its own instance.
#[test]
fn an_app_with_a_minimum_is_not_frozen() {
    let host = Host::start_with("", SOON);
    host.create("single", "production");
    let manifest = "name = \"single\"\nisolation = \"request\"\n[processes.web]\nentry = \"http\"\nmin = 1\n";
    host.deploy("single", Bundle::archive(manifest, &guest("hello")));
    host.deploy("hello", Bundle::component(guest("hello")));
    until_frozen(&host, "hello");
    assert_ne!(host.release_state("single", 1), "frozen");
    assert_eq!(host.get("single", "/").expect(200).text(), "Hello, world!");
}

/// One thaw serves all concurrent requests, and no request fails.
#[test]
fn a_burst_to_a_frozen_app_gets_all_responses() {
    let host = Host::start_with("", SOON);
    host.deploy("hello", Bundle::component(guest("hello")));
    until_frozen(&host, "hello");
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| assert_eq!(host.get("hello", "/").expect(200).text(), "Hello, world!"));
        }
    });
}

/// Two thaws would create two sets of instances.
#[test]
fn a_burst_thaws_a_frozen_app_once() {
    const BURST: u64 = 100;
    // The code must be mapped again, which leaves time for a second thaw.
    let host = Host::start_with("", &format!("{SOON}frozen_code_max = \"0B\"\n"));
    host.deploy(
        "greedy",
        Bundle::archive("name = \"greedy\"\n[limits]\nrequest_timeout = \"10m\"\n", &guest("greedy")),
    );
    for _ in 0..6 {
        until_frozen(&host, "greedy");
        let held = std::thread::scope(|scope| {
            let all: Vec<_> = (0..BURST).map(|_| scope.spawn(|| host.ask_to_hold("greedy"))).collect();
            all.into_iter().map(|held| held.join().expect("it is asked")).collect::<Vec<_>>()
        });
        host.until_queue("greedy", Queue::Pull, 1, BURST - 1);
        assert_eq!(host.instances("greedy").len(), 1);
        drop(held);
        assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok");
    }
}

/// F1: events of both queues, and requests among them.
#[test]
fn a_burst_of_events_to_a_frozen_app_gets_all_responses() {
    let host = Host::start_with("", SOON);
    let processes = "[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n";
    host.deploy("greedy", Bundle::archive(&format!("name = \"greedy\"\n{processes}"), &guest("greedy")));
    for _ in 0..2 {
        until_frozen(&host, "greedy");
        std::thread::scope(|scope| {
            for _ in 0..15 {
                scope.spawn(|| {
                    let reply = host.send_event("greedy", "hello", Queue::Pull).expect(200);
                    assert_eq!(reply.text(), "hello, delivery 1");
                });
                scope.spawn(|| {
                    let event = host.push_event("greedy", "hello");
                    host.until_event("greedy", &event, "done");
                });
                scope.spawn(|| assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok"));
            }
        });
    }
}

#[test]
fn an_app_with_warm_instances_is_never_frozen() {
    let host = Host::start_with("", SOON);
    host.create("shop", "production");
    host.deploy("shop", Bundle::component(guest("hello")));
    host.deploy("hello", Bundle::component(guest("hello")));
    until_frozen(&host, "hello");
    assert_eq!(host.releases("shop")[0]["state"], "ready", "a production app keeps an instance warm");
    host.scale("shop", &json!({ "web": { "min": 0 } })).expect(200);
    until_frozen(&host, "shop");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

/// Each operation on a frozen app works as on any other app.
#[test]
fn a_frozen_app_can_be_deployed_stopped_previewed_and_restarted() {
    let host = Host::start_with("", SOON);
    host.deploy("shop", Bundle::shape(&[("GREETING", "one")]));
    until_frozen(&host, "shop");
    host.deploy("shop", Bundle::shape(&[("GREETING", "two")]));
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two");
    until_frozen(&host, "shop");
    assert_eq!(host.get("v2--shop", "/").expect(200).text(), "v2 two");
    assert_eq!(host.get("v1--shop", "/").expect(200).text(), "v1 one");
    until_frozen(&host, "shop");
    host.api(Ask::get("/v1/apps/shop/status")).expect(200);
    host.stop_app("shop");
    host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
    host.start_app("shop");
    until_frozen(&host, "shop");
    let host = host.restart();
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two");
}
