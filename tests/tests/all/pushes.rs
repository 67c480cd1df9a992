//! Tests push jobs: one runs at a time per app, a waiting job can be cancelled, and no job runs
//! twice.

use isopod_tests::{Ask, Bundle, Host, Push, guest, wait_for};
use serde_json::json;

fn cancel(host: &Host, push: &Push) -> isopod_tests::Answer {
    host.api(Ask::post(format!("{}/cancel", push.path())))
}

fn hello() -> Bundle {
    Bundle::component(guest("hello"))
}

/// Waits until a push is in this state.
fn until(host: &Host, push: &Push, state: &str) {
    wait_for(&format!("a push being {state}"), || (host.push_now(push).state == state).then_some(()));
}

/// C2: a failpoint pauses the first push in the middle of its work.
#[test]
fn only_a_waiting_push_can_be_cancelled() {
    let host = Host::start_pausing("release-built=1*off->pause");
    let done = host.deploy("shop", hello());
    let first = host.push("shop", &Bundle::shape(&[]));
    until(&host, &first, "building");
    let second = host.push("shop", &hello());
    let third = host.push("shop", &hello());
    assert_eq!(host.push_now(&second).state, "queued", "another push of the app runs");
    let cancelled = Push::from(cancel(&host, &second).expect(200).json());
    assert_eq!((cancelled.state.as_str(), cancelled.release), ("cancelled", None));
    let reported = host.activity_of("shop", "push-cancelled");
    assert_eq!(
        (&reported["data"]["push"], &reported["data"]["by"]),
        (&second.id.clone().into(), &"admin".into()),
        "{reported}"
    );
    assert!(host.push_now(&second).log.iter().any(|line| line.contains("waiting: ")), "{second:?}");
    assert_eq!(host.push_now(&third).state, "queued", "the third push still waits");
    for (push, state) in [(&first, "building"), (&second, "cancelled"), (&done, "completed")] {
        let refused = cancel(&host, push).problem_of("shop", 409, "wrong-state");
        assert_eq!(refused["state"], state, "{refused}");
    }
    host.api(Ask::post("/v1/apps/shop/pushes/p-0000000000/cancel")).problem_of("shop", 404, "unknown-push");
    host.api(Ask::post("/v1/apps/shop/pushes/banana/cancel")).problem_of("shop", 404, "unknown-push");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!", "the app still serves");
    let host = host.kill_and_restart();
    assert_eq!(host.push_now(&second).state, "cancelled");
    assert_eq!(host.show("shop")["release"], 1);
}

/// A change waits some time for the running push, and is then rejected.
#[test]
fn a_change_during_a_push_is_rejected() {
    let host = Host::start_pausing("release-booted=1*off->pause");
    host.deploy("shop", hello());
    let push = host.push("shop", &Bundle::shape(&[]));
    until(&host, &push, "deploying");
    std::thread::scope(|scope| {
        scope.spawn(|| host.set_config("shop", &json!({ "A": "1" })).problem_of("shop", 409, "push-under-way"));
        scope.spawn(|| host.scale("shop", &json!({ "web": { "max": 3 } })).problem_of("shop", 409, "push-under-way"));
        scope.spawn(|| host.rollback("shop", 1).problem_of("shop", 409, "push-under-way"));
    });
    host.stop_app("shop");
    host.set_type("shop", "production").problem_of("shop", 409, "push-under-way");
    assert_eq!((host.config("shop"), host.releases("shop").len()), (json!({}), 2));
}

#[test]
fn pushes_of_one_app_run_in_order() {
    let host = Host::start();
    host.create("shop", "dev");
    let pushes: Vec<Push> =
        (1..=8).map(|turn| host.push("shop", &Bundle::shape(&[("GREETING", &turn.to_string())]))).collect();
    let releases: Vec<Option<u64>> = pushes.iter().map(|push| host.ended(push).release).collect();
    assert_eq!(releases, [1, 2, 3, 4, 5, 6, 7, 8].map(Some));
    assert_eq!(host.get("shop", "/").text(), "v8 8");
    assert_eq!(host.current("shop"), [8]);
}

#[test]
fn pushes_of_several_apps_run_concurrently() {
    let host = Host::start_pausing("release-built=1*pause");
    let held = host.push("one", &hello());
    let is_built = || host.push_now(&held).log.iter().any(|line| line.contains("compiled in")).then_some(());
    wait_for("the build of the first app's release", is_built);
    host.deploy("two", hello());
    assert_eq!(host.get("two", "/").expect(200).text(), "Hello, world!");
    assert_eq!(host.push_now(&held).state, "building");
}

/// F4 for pushes: a push that exceeds the queue is rejected with a `retry-after`.
#[test]
fn waiting_pushes_of_one_app_are_bounded() {
    let host = Host::start_pausing("release-built=pause");
    host.create("shop", "dev");
    let waiting = (0..100).map(|_| host.upload("shop", &hello(), "")).take_while(|answer| answer.status == 202).count();
    assert!((2..100).contains(&waiting), "{waiting} pushes wait");
    let refused = host.upload("shop", &hello(), "");
    refused.problem(429, "too-many-pushes");
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{refused}");
    host.upload("other", &hello(), "").expect(202);
    let host = host.kill_and_restart();
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![], "stopped"), "no push has completed");
    host.deploy("shop", hello());
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

/// F4: a cancelled push frees its queue slot immediately, not when it would have started.
#[test]
fn a_cancelled_push_frees_its_queue_slot_and_its_upload() {
    let host = Host::start_pausing("release-built=1*off->sleep(4000)");
    host.deploy("shop", hello());
    let held = host.push("shop", &Bundle::shape(&[]));
    until(&host, &held, "building");
    let first = Push::from(upload(&host, "shop", &hello(), "once").expect(202).json());
    let more = (0..100).map(|_| host.upload("shop", &hello(), "")).take_while(|answer| answer.status == 202);
    let waiting: Vec<Push> = more.map(|answer| Push::from(answer.json())).chain([first.clone()]).collect();
    host.upload("shop", &hello(), "").problem(429, "too-many-pushes");
    let again = Push::from(upload(&host, "shop", &hello(), "once").expect(202).json());
    assert_eq!(again.id, first.id, "a retry takes no further slot");
    upload(&host, "shop", &Bundle::shape(&[]), "once").problem_of("shop", 422, "key-reused");

    let uploads = || std::fs::read_dir(host.data().join("tmp")).expect("the host has made it").count();
    assert_eq!(uploads(), 1 + waiting.len());
    waiting.iter().for_each(|push| drop(cancel(&host, push).expect(200)));
    wait_for("the removal of their uploads", || (uploads() == 1).then_some(()));
    assert_eq!(host.push_now(&held).state, "building");
    let last = host.push("shop", &hello());
    cancel(&host, &last).expect(200);
    // The cancelled push has ended, independently of the others.
    let host = host.restart();
    assert_eq!(host.push_now(&last).state, "cancelled");
    assert_eq!(host.push_now(&held).state, "completed");
    let failed = host.activity("shop").into_iter().find(|entry| entry["kind"] == "push-failed");
    assert_eq!(failed, None);
}

/// C3: a push has a time limit for all its steps.
#[test]
fn a_push_that_exceeds_its_time_limit_fails() {
    let host = Host::start_with("release-built=1*off->pause", "[pushes]\ntime_limit = \"1s\"\n");
    host.deploy("shop", hello());
    let (code, reason) = host.deploy_failing("shop", &Bundle::shape(&[]));
    assert_eq!(code, "time-limit", "{reason}");
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![1], "running"));
    assert_eq!(host.release_state("shop", 2), "deployment_error");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

fn upload(host: &Host, app: &str, bundle: &Bundle, key: &str) -> isopod_tests::Answer {
    let ask = Ask::post(format!("/v1/apps/{app}/pushes")).header("idempotency-key", key);
    host.api(ask.body(bundle.content_type, bundle.bytes.clone()))
}

/// A client that got no response sends the upload again.
#[test]
fn the_same_key_and_bytes_are_the_same_push() {
    let host = Host::start();
    let first = Push::from(upload(&host, "shop", &hello(), "try-1").expect(202).json());
    let again = Push::from(upload(&host, "shop", &hello(), "try-1").expect(202).json());
    assert_eq!(first.id, again.id);
    assert_eq!(host.ended(&first).release, Some(1));
    let late = Push::from(upload(&host, "shop", &hello(), "try-1").expect(202).json());
    assert_eq!((late.id.as_str(), late.state.as_str()), (first.id.as_str(), "completed"));
    let refused = upload(&host, "shop", &Bundle::shape(&[]), "try-1");
    assert_eq!((refused.status, refused.header("content-type")), (422, Some("application/problem+json")), "{refused}");
    assert!(refused.text().contains(&first.id), "{refused}");
    // Another key, no key and another app are other pushes.
    let other = Push::from(upload(&host, "shop", &hello(), "try-2").expect(202).json());
    assert_eq!(host.ended(&other).release, Some(2));
    assert_eq!(host.deploy("shop", hello()).release, Some(3));
    let elsewhere = Push::from(upload(&host, "cart", &hello(), "try-1").expect(202).json());
    assert_eq!(host.ended(&elsewhere).release, Some(1));
    let host = host.kill_and_restart();
    let after = Push::from(upload(&host, "shop", &hello(), "try-1").expect(202).json());
    assert_eq!(after.id, first.id, "the key persists across a crash");
    for bad in ["", "a b\u{7f}", &"k".repeat(10_000)] {
        assert_eq!(upload(&host, "shop", &hello(), bad).status, 400, "{bad:?}");
    }
    assert_eq!(host.releases("shop").len(), 3);
}

/// Returns the different states that a push's events report, up to the end of the stream or to
/// `last`.
fn follow(host: &Host, push: &Push, last: &str) -> Vec<String> {
    let mut news = host.follow(&push.path());
    let mut states: Vec<String> = Vec::new();
    while states.last().is_none_or(|state| state != last) {
        let Some(event) = news.next() else { break };
        states.push(Push::from(event).state);
        states.dedup();
    }
    states
}

/// C1: followers receive the states in order, as they change.
#[test]
fn followers_of_a_push_receive_its_states_in_order() {
    let order = ["queued", "running", "building", "deploying", "completed"];
    let place = |state: &String| order.iter().position(|known| known == state).expect("a state of a push");
    let host = Host::start();
    host.create("shop", "production");
    let push = host.push("shop", &Bundle::shape(&[]));
    let states = follow(&host, &push, "completed");
    let places: Vec<usize> = states.iter().map(place).collect();
    assert!(places.is_sorted() && places.last() == Some(&4) && places.len() >= 2, "{states:?}");
    // A push that is paused at a step reports that step's state, so events arrive without delay.
    for (step, state) in [
        ("push-queued", "queued"),
        ("push-verified", "running"),
        ("release-built", "building"),
        ("release-booted", "deploying"),
        ("release-commits", "deploying"),
    ] {
        let host = Host::start_pausing(&format!("{step}=pause"));
        let push = host.push("shop", &hello());
        assert_eq!(follow(&host, &push, state).last().map(String::as_str), Some(state), "{step}");
    }
}

#[test]
fn followers_of_a_failed_push_receive_its_end() {
    let host = Host::start();
    host.deploy("shop", hello());
    let push = host.push("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    assert_eq!(follow(&host, &push, "failed").last().map(String::as_str), Some("failed"));
    let ended = host.push_now(&push);
    assert_eq!(ended.reason_code.as_deref(), Some("health-check"));
    assert!(ended.log.iter().any(|line| line.contains("failed") && line.contains("/healthz")), "{:?}", ended.log);
}

/// A6: a push that ends during a shutdown is recorded like any other.
#[test]
fn a_push_that_ends_during_a_shutdown_is_in_the_activity() {
    let host = Host::start_pausing("release-booted=sleep(300)");
    let push = host.push("shop", &hello());
    wait_for("the push to be deploying", || (host.push_now(&push).state == "deploying").then_some(()));
    let host = host.restart();
    assert_eq!(host.push_now(&push).state, "completed");
    let states = host.activity("shop").into_iter().filter(|entry| entry["kind"] == "app-state");
    let states: Vec<_> = states.map(|entry| entry["data"]["to"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(states, ["running", "deploying"], "the newest first");
}
