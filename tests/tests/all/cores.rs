//! F5: tests the number of jobs that an app runs concurrently, which the operator sets for all apps
//! or for one app.

use isopod_tests::{Ask, Bundle, Host, Queue, guest};
use serde_json::{Value, json};

const ALLOTMENT: &str = "[cores]\npull = 3\npush = 2\n";

/// Deploys a production app: only production apps use more than one core.
fn deploy_greedy(host: &Host) {
    host.create("greedy", "production");
    let processes = "[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n";
    let manifest = format!("name = \"greedy\"\n{processes}[limits]\nrequest_timeout = \"10m\"\n");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
}

/// Returns the number of cores of both queues.
#[track_caller]
fn pull_and_push(cores: &Value) -> (u64, u64) {
    let number = |name: &str| cores[name].as_u64().unwrap_or_else(|| panic!("no {name} in {cores}"));
    (number("pull"), number("push"))
}

#[track_caller]
fn set(host: &Host, change: Value) -> (u64, u64) {
    pull_and_push(&host.set_cores("greedy", &change).expect(200).json())
}

#[test]
fn one_allotment_applies_to_all_apps() {
    let host = Host::start_with("", ALLOTMENT);
    deploy_greedy(&host);
    host.create("empty", "dev");
    for app in ["greedy", "empty"] {
        let cores = host.cores(app);
        assert_eq!((pull_and_push(&cores), &cores["override"]), ((3, 2), &json!({})), "{app}");
    }
    (0..5).for_each(|_| drop(host.push_event("greedy", "never")));
    host.until_queue("greedy", Queue::Push, 2, 3);
    let held: Vec<_> = (0..3).map(|_| host.hold("greedy")).collect();
    let waits = host.begin("greedy", Ask::get("/ok"));
    host.until_queue("greedy", Queue::Pull, 3, 1);
    for queue in Queue::BOTH {
        let shown = host.queue("greedy", queue);
        assert_eq!(shown["cores"], if queue == Queue::Pull { 3 } else { 2 }, "{shown}");
    }
    held.into_iter().for_each(|held| held.release_core());
    drop(waits);
}

#[test]
fn cores_of_one_app_override_the_allotment_and_persist() {
    let host = Host::start_with("", ALLOTMENT);
    deploy_greedy(&host);
    host.deploy("hello", Bundle::component(guest("hello")));
    assert_eq!(set(&host, json!({ "pull": 2 })), (2, 2));
    assert_eq!(host.cores("greedy")["override"], json!({ "pull": 2 }));
    assert_eq!(set(&host, json!({ "push": 7 })), (2, 7), "an omitted queue keeps its cores");
    assert_eq!(pull_and_push(&host.cores("hello")), (3, 2));
    let reported = host.activity_of("greedy", "app-cores");
    assert_eq!(
        (&reported["data"]["from"], &reported["data"]["to"]),
        (&json!({"pull": 2, "push": 2}), &json!({"pull": 2, "push": 7}))
    );

    let host = host.restart();
    assert_eq!(pull_and_push(&host.cores("greedy")), (2, 7));
    let held: Vec<_> = (0..2).map(|_| host.hold("greedy")).collect();
    let waits = host.begin("greedy", Ask::get("/ok"));
    host.until_queue("greedy", Queue::Pull, 2, 1);
    held.into_iter().for_each(|held| held.release_core());
    drop(waits);

    assert_eq!(set(&host, json!({ "pull": null })), (3, 7), "null removes the override");
    assert_eq!(set(&host, json!({ "push": null })), (3, 2));
    let host = host.restart();
    assert_eq!(host.cores("greedy")["override"], json!({}));
    assert_eq!(host.releases("greedy").len(), 1, "a change of cores created a release");
}

/// Concurrent changes of different queues don't overwrite each other.
#[test]
fn concurrent_changes_of_cores_are_both_kept() {
    let host = Host::start();
    host.create("greedy", "dev");
    for cores in 1..=20 {
        std::thread::scope(|scope| {
            for queue in Queue::BOTH {
                let change = json!({ queue.name(): cores });
                let host = &host;
                scope.spawn(move || host.set_cores("greedy", &change).expect(200));
            }
        });
        assert_eq!(pull_and_push(&host.cores("greedy")), (cores, cores));
    }
    let host = host.restart();
    assert_eq!(pull_and_push(&host.cores("greedy")), (20, 20), "the restart lost a change");
}

#[test]
fn invalid_numbers_of_cores_are_rejected_and_change_nothing() {
    let host = Host::start();
    deploy_greedy(&host);
    set(&host, json!({ "pull": 5 }));
    let before = host.cores("greedy");
    for absurd in [
        json!({ "pull": 0 }),
        json!({ "pull": -1 }),
        json!({ "push": 1001 }),
        json!({ "push": 4_294_967_297_u64 }),
        json!({ "pull": 1.5 }),
        json!({ "pull": "two" }),
        json!({ "pull": [2] }),
        json!({ "pul": 2 }),
        json!({ "pull": 2, "push": 0 }),
        json!([2, 2]),
        json!(2),
    ] {
        let refused = host.set_cores("greedy", &absurd);
        refused.problem_of("greedy", 422, "bad-cores");
        assert_eq!(host.cores("greedy"), before, "{absurd}");
    }
    host.set_cores("nobody", &json!({ "pull": 2 })).problem_of("nobody", 404, "unknown-app");
    assert_eq!(set(&host, json!({ "pull": 1, "push": 1000 })), (1, 1000), "both ends of the range are valid");
}

/// The operator divides the machine between the tenants.
#[test]
fn only_an_administrator_changes_cores() {
    let host = Host::start();
    deploy_greedy(&host);
    for role in ["read", "deploy", "admin"] {
        let body = json!({ "name": format!("a-{role}"), "role": role, "apps": ["greedy"] });
        let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
        let token = made["token"].as_str().expect("it is shown once");
        let change = Ask::new("PATCH", "/v1/apps/greedy/cores").json(&json!({ "pull": 2 }));
        let answer = host.api_with(token, change);
        match role {
            "admin" => assert_eq!(pull_and_push(&answer.expect(200).json()), (2, 4)),
            _ => drop(answer.problem(403, "role-too-small")),
        }
        host.api_with(token, Ask::get("/v1/apps/greedy/cores")).expect(200);
    }
}

#[test]
fn more_cores_start_waiting_jobs_immediately() {
    let host = Host::start();
    deploy_greedy(&host);
    assert_eq!(set(&host, json!({ "pull": 1, "push": 1 })), (1, 1));
    let mut held = vec![host.hold("greedy")];
    held.extend((0..3).map(|_| host.ask_to_hold("greedy")));
    host.until_queue("greedy", Queue::Pull, 1, 3);
    let first = host.running_ids("greedy", "web", 1);
    set(&host, json!({ "pull": 3 }));
    host.until_queue("greedy", Queue::Pull, 3, 1);
    set(&host, json!({ "pull": 8 }));
    host.until_queue("greedy", Queue::Pull, 4, 0);
    held[1..].iter_mut().for_each(|held| held.until_held());
    assert!(host.running_ids("greedy", "web", 4).contains(&first[0]), "the running instance was replaced");
    held.into_iter().for_each(|held| held.release_core());

    (0..3).for_each(|_| drop(host.push_event("greedy", "never")));
    host.until_queue("greedy", Queue::Push, 1, 2);
    set(&host, json!({ "push": 2 }));
    host.until_queue("greedy", Queue::Push, 2, 1);
}

#[test]
fn fewer_cores_let_running_jobs_complete() {
    let host = Host::start();
    deploy_greedy(&host);
    let mut held: Vec<_> = (0..4).map(|_| host.hold("greedy")).collect();
    let waits = host.begin("greedy", Ask::get("/ok"));
    // All four jobs run, and the fifth found a free core.
    drop(waits);
    set(&host, json!({ "pull": 2 }));
    let mut waits = host.ask_to_hold("greedy");
    host.until_queue("greedy", Queue::Pull, 4, 1);
    for left in [3, 2] {
        held.pop().expect("some are held").release_core();
        host.until_queue("greedy", Queue::Pull, left, 1);
    }
    held.pop().expect("some are held").release_core();
    waits.until_held();
    host.until_queue("greedy", Queue::Pull, 2, 0);
    waits.release_core();
    held.into_iter().for_each(|held| held.release_core());
    host.until_queue("greedy", Queue::Pull, 0, 0);
}

/// F2: the limit holds across the app's process types and both queues.
#[test]
fn an_app_never_uses_more_than_its_cores() {
    let host = Host::start();
    deploy_greedy(&host);
    set(&host, json!({ "pull": 2, "push": 1 }));
    let held: Vec<_> = (0..2).map(|_| host.hold("greedy")).collect();
    let event = host.begin_event("greedy", "never", Queue::Pull);
    (0..2).for_each(|_| drop(host.push_event("greedy", "never")));
    host.until_queue("greedy", Queue::Push, 1, 1);
    host.until_queue("greedy", Queue::Pull, 2, 1);
    drop(event);
    held.into_iter().for_each(|held| held.release_core());
    host.until_queue("greedy", Queue::Pull, 0, 0);
    host.until_queue("greedy", Queue::Push, 1, 1);
}

/// F2: requests to the URL of one instance also wait for a core.
#[test]
fn instance_urls_do_not_bypass_the_cores() {
    let host = Host::start();
    host.create("greedy", "production");
    let manifest =
        "name = \"greedy\"\n[processes.web]\nentry = \"http\"\nmin = 2\n[limits]\nrequest_timeout = \"10m\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    host.set_cores("greedy", &json!({ "pull": 1 })).expect(200);
    let urls: Vec<_> = host.running_ids("greedy", "web", 2).into_iter().map(|id| format!("{id}--greedy")).collect();
    let held = host.hold("greedy");
    let mut waiting: Vec<_> = urls.iter().map(|url| host.begin(url, Ask::get("/ok"))).collect();
    host.until_queue("greedy", Queue::Pull, 1, 2);
    held.release_core();
    for wire in &mut waiting {
        assert_eq!(wire.answer().expect("an answer").expect(200).text(), "ok");
    }
    host.until_queue("greedy", Queue::Pull, 0, 0);
}

/// Requests to a release's own URL compete for the same cores: the longest waiting request gets the
/// core.
#[test]
fn the_releases_of_an_app_share_its_cores_in_order_of_arrival() {
    let host = Host::start();
    host.create("greedy", "staging");
    let manifest = "name = \"greedy\"\n[processes.web]\nentry = \"http\"\n[limits]\nrequest_timeout = \"10m\"\n";
    for _ in 0..2 {
        host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    }
    host.set_cores("greedy", &json!({ "pull": 1 })).expect(200);
    host.get("v1--greedy", "/ok").expect(200);
    let held = host.hold("greedy");
    let asked = [("v1--greedy", "first"), ("greedy", "second"), ("v1--greedy", "third"), ("greedy", "fourth")];
    let mut waiting = Vec::new();
    for (at, (to, text)) in asked.iter().enumerate() {
        waiting.push(host.begin(to, Ask::get(format!("/log-line?text={text}"))));
        host.until_queue("greedy", Queue::Pull, 1, at as u64 + 1);
    }
    held.release_core();
    waiting.iter_mut().for_each(|wire| drop(wire.answer().expect("an answer").expect(200)));
    let written: Vec<_> = host.log("greedy").into_iter().filter(|line| line["stream"] == "stdout").collect();
    let written: Vec<_> = written.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(written, ["first", "second", "third", "fourth"]);
}
