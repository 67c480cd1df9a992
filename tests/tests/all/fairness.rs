//! F2, J2: tests that no app can slow down another. The scheduler divides the CPU between apps,
//! independently of their guests and their number of clients.

use isopod_tests::{Ask, Bundle, Host, Load, Neighbour, Queue, guest, guest_noted, wait_for};
use serde_json::{Value, json};

/// Deploys `greedy` under another name, with a fixed number of instances.
fn deploy_greedy(host: &Host, app: &str, app_type: &str, instances: u32) {
    host.create(app, app_type);
    let (web, worker) = ("[processes.web]\nentry = \"http\"\n", "[processes.worker]\nentry = \"events\"\n");
    let size = format!("min = {instances}\nmax = {instances}\n");
    let limits = "[limits]\nrequest_timeout = \"10m\"\n";
    let manifest = format!("name = \"{app}\"\n{web}{size}{worker}{size}{limits}");
    host.deploy(app, Bundle::archive(&manifest, &guest("greedy")));
}

/// Deploys `greedy` under another name, with one process type for requests and these further
/// settings.
fn deploy_web(host: &Host, app: &str, more: &str) {
    let manifest = format!("name = \"{app}\"\n[processes.web]\nentry = \"http\"\n{more}");
    host.deploy(app, Bundle::archive(&manifest, &guest("greedy")));
}

/// Starts clients that send requests for 30 ms of CPU time each.
fn spin(host: &Host, app: &str, clients: usize) -> Load {
    Load::of(host.listen, &host.to_app(app, Ask::get("/spin?ms=30")), clients, |text| text == "ok")
}

/// Returns the CPU time of an app's guests so far.
#[track_caller]
fn cpu_ms(host: &Host, app: &str) -> u64 {
    host.metrics(app)["cpu_ms"].as_u64().expect("it is measured")
}

/// Returns the ratio of CPU time between two apps, measured while both have more work than the
/// machine can do.
#[track_caller]
fn ratio(host: &Host, one: &str, other: &str) -> f64 {
    let now = || (cpu_ms(host, one), cpu_ms(host, other));
    let before = wait_for("both apps to use the CPU", || Some(now()).filter(|(one, other)| *one > 0 && *other > 0));
    let (one, other) = wait_for("enough CPU time to compare", || {
        let now = now();
        let used = (now.0 - before.0, now.1 - before.1);
        (used.0 + used.1 > 4_000).then_some(used)
    });
    one as f64 / other.max(1) as f64
}

/// The requests of the spinning app's own clients complete too.
#[test]
fn a_quiet_app_responds_while_another_spins() {
    for app_type in ["dev", "production"] {
        let host = Host::start();
        deploy_greedy(&host, "busy", app_type, 8);
        let neighbour = Neighbour::beside(&host);
        let load = spin(&host, "busy", 24);
        load.wait_for_more();
        let before = neighbour.answers();
        load.wait_for_more();
        assert!(neighbour.answers() > before, "the neighbour got no response");
        neighbour.finish();
        load.finish();
    }
}

/// Push events that spin without end leave the CPU to the pull jobs of every app, including their
/// own.
#[test]
fn a_flood_of_push_work_delays_no_pull_job() {
    let host = Host::start();
    deploy_greedy(&host, "busy", "dev", 4);
    let neighbour = Neighbour::beside(&host);
    (0..24).for_each(|_| drop(host.push_event("busy", "spin")));
    host.until_queue("busy", Queue::Push, 4, 20);
    for _ in 0..20 {
        assert_eq!(host.get("busy", "/ok").expect(200).text(), "ok");
        host.send_event("busy", "hello", Queue::Pull).expect(200);
    }
    host.until_queue("busy", Queue::Push, 4, 20);
    neighbour.finish();
}

/// Pull jobs don't starve push work either.
#[test]
fn push_work_continues_beside_a_flood_of_requests() {
    let host = Host::start();
    deploy_greedy(&host, "busy", "dev", 8);
    let load = spin(&host, "busy", 16);
    load.wait_for_more();
    for _ in 0..5 {
        let event = host.push_event("busy", "hello");
        host.until_event("busy", &event, "done");
    }
    load.finish();
}

/// More clients don't get a larger share of the machine.
#[test]
fn two_equal_apps_get_equal_shares_of_the_cpu() {
    let host = Host::start();
    for app in ["one", "other"] {
        deploy_greedy(&host, app, "dev", 8);
    }
    let loads = [spin(&host, "one", 16), spin(&host, "other", 6)];
    let ratio = ratio(&host, "one", "other");
    assert!((1.0 / 1.5..1.5).contains(&ratio), "one got {ratio} times as much as the other");
    for load in loads {
        load.finish();
    }
}

/// A6: a production app has more weight when the CPU is scarce.
#[test]
fn a_production_app_gets_a_larger_share_of_the_cpu() {
    let host = Host::start();
    deploy_greedy(&host, "shop", "production", 8);
    deploy_greedy(&host, "trial", "dev", 8);
    let loads = [spin(&host, "shop", 8), spin(&host, "trial", 8)];
    let ratio = ratio(&host, "shop", "trial");
    assert!((2.0..8.0).contains(&ratio), "production got {ratio} times as much");
    for load in loads {
        load.finish();
    }
}

/// A host with fewer instance slots than apps gives each app a slot in turn.
#[test]
fn more_apps_than_instance_slots_take_turns() {
    let host = Host::start_with("", "instances_max = 4\n");
    let apps: Vec<String> = (1..=6).map(|number| format!("app-{number}")).collect();
    for app in &apps {
        host.deploy(app, Bundle::component(guest("hello")));
    }
    let served = |app: &str| {
        let answer = host.get(app, "/");
        match answer.status {
            200 => assert_eq!(answer.text(), "Hello, world!"),
            _ => {
                answer.problem_of(app, 503, "no-room");
                assert!(answer.header("retry-after").is_some(), "{answer}");
            }
        }
        (answer.status == 200).then_some(())
    };
    for _ in 0..3 {
        apps.iter().for_each(|app| wait_for(&format!("a slot for {app}"), || served(app)));
    }
    // All at the same time.
    std::thread::scope(|scope| {
        for app in &apps {
            scope.spawn(|| wait_for("a slot", || served(app)));
        }
    });
    assert!(apps.iter().all(|app| host.state(app) == "running"));
    assert_eq!(host.api(Ask::get("/v1/status")).expect(200).json()["status"], json!("up"));
}

/// A full host is not a fault of the app: the app isn't in error, and serves as soon as a slot is
/// free.
#[test]
fn an_app_without_a_slot_after_a_restart_serves_later() {
    let host = Host::start_with("", "instances_max = 2\n");
    let apps = ["one", "two", "three"];
    apps.iter().for_each(|app| deploy_web(&host, app, ""));
    let host = host.restart();
    let held = ["one", "two"].map(|app| host.hold(app));
    host.get("three", "/ok").problem_of("three", 503, "no-room");
    assert_eq!(host.state("three"), "running");
    held.into_iter().for_each(|held| held.release_core());
    wait_for("a slot", || (host.get("three", "/ok").status == 200).then_some(()));
}

/// A6: other apps can't take every slot, so that a production app finds none.
#[test]
fn a_tenth_of_the_slots_is_reserved_for_production_apps() {
    let host = Host::start_with("", "instances_max = 10\n");
    let crowd = "name = \"crowd\"\ntype = \"staging\"\n[processes.web]\nentry = \"http\"\nmin = 9\nmax = 9\n";
    host.deploy("crowd", Bundle::archive(crowd, &guest("hello")));
    let (code, reason) = host.deploy_failing("late", &Bundle::component(guest("hello")));
    assert!(code == "no-room" && reason.contains("1 of the 9 slots"), "{code}: {reason}");
    host.create("shop", "production");
    host.deploy("shop", Bundle::component(guest("hello")));
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    assert_eq!(host.running_ids("crowd", "web", 9).len(), 9);
}

/// If no instance is idle, the client gets a `retry-after`, and a response as soon as a slot is
/// free.
#[test]
fn a_request_that_finds_all_slots_busy_gets_retry_after() {
    let host = Host::start_with("", "instances_max = 2\n");
    ["one", "two"].iter().for_each(|app| deploy_web(&host, app, ""));
    host.deploy("three", Bundle::component(guest("hello")));
    let held = ["one", "two"].map(|app| host.hold(app));
    let refused = host.get("three", "/");
    let problem = refused.problem_of("three", 503, "no-room");
    assert!(problem["hint"].is_string() && refused.header("retry-after").is_some(), "{refused}");
    assert_eq!(host.instances("three"), [] as [Value; 0], "an instance that never started is listed");
    let measured = host.api(Ask::get("/v1/apps/three/metrics")).expect(200).json();
    assert_eq!(measured["pull"]["latency_ms"]["p50"], Value::Null, "a rejected request has a latency");
    held.into_iter().for_each(|held| held.release_core());
    wait_for("a slot", || (host.get("three", "/").status == 200).then_some(()));
}

/// F4: a job that can't get a further instance waits for the app's existing instances.
#[test]
fn an_app_that_cannot_grow_on_a_full_host_uses_its_instances() {
    let host = Host::start_with("", "instances_max = 2\n");
    deploy_web(&host, "other", "");
    let held = host.hold("other");
    host.create("shop", "production");
    deploy_web(&host, "shop", "min = 1\nmax = 4\n[limits]\nrequest_timeout = \"10m\"\n");
    let busy = host.hold("shop");
    let mut waiting: Vec<_> = (0..20).map(|_| host.begin("shop", Ask::get("/ok"))).collect();
    host.until_queue("shop", Queue::Pull, 1, 20);
    busy.release_core();
    for wire in &mut waiting {
        assert_eq!(wire.answer().expect("an answer").expect(200).text(), "ok");
    }
    held.release_core();
}

/// F4: as soon as a slot is free, a waiting job starts without waiting for a running job.
#[test]
fn a_job_that_waits_for_a_slot_starts_as_soon_as_a_slot_is_free() {
    let host = Host::start_with("", "instances_max = 2\n");
    deploy_web(&host, "other", "");
    let held = host.hold("other");
    host.create("shop", "production");
    deploy_web(&host, "shop", "min = 1\nmax = 4\n[limits]\nrequest_timeout = \"10m\"\n");
    let busy = host.hold("shop");
    let mut waits = host.begin("shop", Ask::get("/ok"));
    host.until_queue("shop", Queue::Pull, 1, 1);
    held.release_core();
    assert_eq!(waits.answer().expect("an answer").expect(200).text(), "ok", "by a second instance");
    busy.release_core();
}

/// E3: a new release of an app with several process types takes the slots of the former release, in
/// any order.
#[test]
fn an_app_whose_process_types_fill_the_host_can_still_be_changed() {
    let host = Host::start_with("", "instances_max = 2\napp_instances_max = 2\n");
    deploy_greedy(&host, "shop", "production", 1);
    host.set_config("shop", &json!({ "GREETING": "hello" })).expect(200);
    assert_eq!(host.current("shop"), [2]);
    for process in ["web", "worker"] {
        host.running_ids("shop", process, 1);
    }
    assert_eq!(host.get("shop", "/ok").expect(200).text(), "ok");
}

/// Memory is divided too: the host evicts idle instances of other apps before it rejects a request.
#[test]
fn memory_of_idle_instances_is_reclaimed_for_busy_apps() {
    let host = Host::start_with("", "memory_max = \"128MiB\"\n");
    let apps = ["one", "two", "three"];
    apps.iter().for_each(|app| deploy_web(&host, app, "[limits]\nmemory = \"96MiB\"\n"));
    for app in apps {
        wait_for(&format!("memory for {app}"), || {
            let answer = host.get(app, "/allocate?mib=32");
            if answer.status != 200 {
                answer.problem_of(app, 503, "no-room");
                assert!(answer.header("retry-after").is_some(), "{answer}");
            }
            (answer.status == 200).then_some(())
        });
    }
}

/// The host evicts no instance for memory that even an empty host doesn't have.
#[test]
fn memory_beyond_the_memory_limit_evicts_no_instance() {
    let host = Host::start_with("", "memory_max = \"64MiB\"\n");
    host.deploy("small", Bundle::component(guest("hello")));
    let manifest = "name = \"huge\"\n[limits]\nmemory = \"256MiB\"\n";
    let push = host.deploy("huge", Bundle::archive(manifest, &guest("greedy")));
    let note = push.log.iter().find(|line| line.contains("memory_max")).expect("the push log has a note");
    assert!(note.contains("256 MiB") && note.contains("57 MiB"), "{note}");
    host.get("small", "/").expect(200);
    let before = host.instances("small");
    for _ in 0..3 {
        host.get("huge", "/allocate?mib=100").problem_of("huge", 502, "app-failed");
    }
    host.log_line("huge", "the memory limit", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("limit: 57 MiB") && text.contains("memory_max"))
    });
    let after = host.instances("small");
    assert!(before.len() == 1 && after.len() == 1, "{before:?}, {after:?}");
    for what in ["id", "state", "started_at"] {
        assert_eq!(after[0][what], before[0][what], "the instance was replaced");
    }
    host.get("huge", "/allocate?mib=16").expect(200);
}

/// An app that occupies all slots can still be scaled down, and its next release gets slots.
#[test]
fn an_app_that_fills_the_host_frees_slots_for_its_next_release() {
    let host = Host::start_with("", "instances_max = 4\n");
    let crowd = "name = \"crowd\"\n[processes.web]\nentry = \"http\"\nmin = 4\nmax = 4\n";
    host.deploy("crowd", Bundle::archive(crowd, &guest("hello")));
    host.running_ids("crowd", "web", 4);
    host.scale("crowd", &json!({ "web": { "min": 1, "max": 2 } })).expect(200);
    wait_for("the end of the former release's instances", || (host.instances("crowd").len() == 1).then_some(()));
    host.deploy("shop", Bundle::component(guest("hello")));
    for app in ["crowd", "shop"] {
        assert_eq!(host.get(app, "/").expect(200).text(), "Hello, world!", "{app}");
    }
}

/// D4: a full host is not a fault of a new release, which stays in service.
#[test]
fn a_new_release_without_a_slot_is_not_rolled_back() {
    let host = Host::start_with("", "instances_max = 2\n");
    ["one", "two"].iter().for_each(|app| deploy_web(&host, app, ""));
    host.create("shop", "staging");
    host.deploy("shop", Bundle::component(guest("hello")));
    host.deploy("shop", Bundle::component(guest_noted("hello", 1)));
    let held = ["one", "two"].map(|app| host.hold(app));
    for _ in 0..200 {
        host.get("shop", "/").problem_of("shop", 503, "no-room");
    }
    assert_eq!(host.current("shop"), [2]);
    held.into_iter().for_each(|held| held.release_core());
    wait_for("a slot", || (host.get("shop", "/").status == 200).then_some(()));
    assert!(host.activity("shop").iter().all(|entry| entry["kind"] != "release-returned"));
}

/// F2: one app can't reserve all slots of a host.
#[test]
fn the_minimum_instances_of_an_app_are_bounded_by_the_operator() {
    let host = Host::start_with("", "app_instances_max = 3\n");
    let greedy =
        "name = \"crowd\"\n[processes.web]\nentry = \"http\"\nmin = 2\n[processes.more]\nentry = \"http\"\nmin = 2\n";
    let (code, reason) = host.deploy_failing("crowd", &Bundle::archive(greedy, &guest("hello")));
    assert!(code == "too-many-instances" && reason.contains("app_instances_max"), "{code}: {reason}");
    assert_eq!(host.releases("crowd").len(), 0, "the failed push created a release");
    host.deploy("crowd", Bundle::component(guest("hello")));
    host.scale("crowd", &json!({ "web": { "min": 3 } })).expect(200);
    let refused = host.scale("crowd", &json!({ "web": { "min": 4 } }));
    assert!(refused.text().contains("too-many-instances"), "{refused}");
    assert_eq!((host.current("crowd"), host.state("crowd").as_str()), (vec![2], "running"));
}

/// A change of the type can't bypass the limit: a production app keeps an instance of each process
/// type.
#[test]
fn an_app_type_that_needs_too_many_instances_is_rejected() {
    let host = Host::start_with("", "app_instances_max = 1\n");
    let two = "name = \"crowd\"\n[processes.web]\nentry = \"http\"\n[processes.more]\nentry = \"http\"\n";
    host.deploy("crowd", Bundle::archive(two, &guest("hello")));
    host.stop_app("crowd");
    host.set_type("crowd", "production").problem_of("crowd", 422, "too-many-instances");
    assert_eq!(host.show("crowd")["type"], "dev");
}
