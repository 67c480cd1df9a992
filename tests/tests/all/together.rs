//! Runs random concurrent operations of several users on an app, under constant load, on a host
//! that may be full. The effect of each operation is not predictable. After all operations,
//! everything that the API reports about the app must be consistent, also after a restart.
//!
//! ISOPOD_TEST_SEED=NUMBER starts with the operations of the run that printed this number.

use crate::model::seeded;
use isopod_tests::{Ask, Bundle, Host, Load, Push, wait_for};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The number of concurrent users, and the operations of each.
const PEOPLE: usize = 4;
const ACTS: usize = 5;
/// No new round starts after this time.
const TIME: Duration = Duration::from_secs(20);
const APP: &str = "shop";

#[derive(Debug, Clone)]
enum Act {
    Push(u8),
    PushBad,
    Config(u8),
    /// Every request to the next release traps.
    Trap(bool),
    Scale(u32, u32),
    Rollback(u64),
    Stop,
    Start,
    /// The number of instance slots that another app occupies.
    Crowd(u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => any::<u8>().prop_map(Act::Push),
        1 => Just(Act::PushBad),
        2 => (0..3u8).prop_map(Act::Config),
        2 => any::<bool>().prop_map(Act::Trap),
        2 => (0..3u32, 0..3u32).prop_map(|(min, more)| Act::Scale(min, (min + more).max(1))),
        1 => (1..6u64).prop_map(Act::Rollback),
        4 => Just(Act::Stop),
        5 => Just(Act::Start),
        1 => (0..5u32).prop_map(Act::Crowd),
    ]
}

/// One round: the app's type, the host's number of instance slots, and the operations of each user.
#[derive(Debug, Clone)]
struct Life {
    app_type: &'static str,
    places: u32,
    people: Vec<Vec<Act>>,
}

fn life() -> impl Strategy<Value = Life> {
    let app_type = prop::sample::select(vec!["dev", "staging", "production"]);
    let places = prop::sample::select(vec![4, 1_000]);
    (app_type, places, vec(vec(act(), ACTS), PEOPLE)).prop_map(|(app_type, places, people)| Life {
        app_type,
        places,
        people,
    })
}

/// Applies an operation during those of other users. Each response is a success or a problem with
/// the reason; an accepted push may fail.
fn take_part(host: &Host, act: &Act) {
    let answer = match act {
        Act::Push(words) => host.upload(APP, &Bundle::shape(&[("GREETING", &words.to_string())]), ""),
        Act::PushBad => host.upload(APP, &Bundle::shape(&[("HEALTH", "fails")]), ""),
        Act::Config(value) => host.set_config(APP, &json!({ "GREETING": value.to_string() })),
        Act::Trap(traps) => host.set_config(APP, &json!({ "SHAPE": traps.then_some("trap") })),
        Act::Scale(min, max) => host.scale(APP, &json!({ "web": { "min": min, "max": max } })),
        Act::Rollback(to) => host.rollback(APP, *to),
        Act::Stop => host.api(Ask::post(format!("/v1/apps/{APP}/stop"))),
        Act::Start => host.api(Ask::post(format!("/v1/apps/{APP}/start"))),
        Act::Crowd(min) => host.scale("crowd", &json!({ "web": { "min": min, "max": 4 } })),
    };
    assert!(
        (200..300).contains(&answer.status) || [404, 409, 422, 429, 503].contains(&answer.status),
        "{act:?}: {answer}"
    );
}

/// Returns an inconsistency between two reports about the app, or `None`.
fn disagreement(host: &Host) -> Option<String> {
    let shown = host.show(APP);
    let (state, release) = (shown["state"].as_str().unwrap_or_default().to_owned(), shown["release"].as_u64());
    if host.current(APP) != Vec::from_iter(release) {
        return Some(format!("the app says {release:?} is current, its releases say {:?}", host.current(APP)));
    }
    let activity = host.activity(APP);
    let newest = |kinds: &[&str]| activity.iter().find(|entry| kinds.iter().any(|kind| entry["kind"] == *kind));
    let reported = newest(&["app-deployed", "release-returned"]).and_then(|entry| entry["data"]["release"].as_u64());
    if reported != release {
        return Some(format!("the app says {release:?} is current, its activity {reported:?}"));
    }
    let reported = newest(&["app-state"]).map_or("stopped", |entry| entry["data"]["to"].as_str().unwrap_or_default());
    if reported != state {
        return Some(format!("the app is {state}, and {reported} by its activity"));
    }
    let pushes = host.api(Ask::get(format!("/v1/apps/{APP}/pushes?limit=1000"))).expect(200).json();
    if let Some(push) = pushes["items"].as_array()?.iter().find(|push| !Push::from((*push).clone()).is_final()) {
        return Some(format!("a push has not ended: {push}"));
    }
    let (answer, traps) = (host.get(APP, "/"), host.config(APP)["SHAPE"] == "trap");
    match (state.as_str(), release) {
        ("running", Some(_)) if traps && answer.status == 502 => None,
        ("running", Some(release)) if !traps && answer.status == 200 => {
            let (text, start) = (answer.text(), format!("v{release} "));
            (!text.starts_with(&start)).then(|| format!("{start}is current, and this answers: {text}"))
        }
        ("stopped" | "error", _) if answer.status == 503 => None,
        _ => Some(format!("the app is {shown} and answers {answer}")),
    }
}

#[track_caller]
fn agree(host: &Host, when: &str) {
    let mut last = None;
    let agreed = || {
        last = disagreement(host);
        last.is_none().then_some(())
    };
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for("all reports to be consistent", agreed)));
    assert!(outcome.is_ok(), "{when}: {}", last.unwrap_or_default());
}

fn live(life: &Life) {
    let host = Host::start_with("", &format!("instances_max = {}\n", life.places));
    host.create(APP, life.app_type);
    host.create("crowd", "staging");
    host.deploy("crowd", Bundle::component(isopod_tests::guest("hello")));
    host.deploy(APP, Bundle::shape(&[("GREETING", "first")]));
    let asking = Load::on(&host, APP, 2, |_| true);
    std::thread::scope(|scope| {
        for acts in &life.people {
            scope.spawn(|| acts.iter().for_each(|act| take_part(&host, act)));
        }
    });
    // A waiting push is also a pending operation.
    wait_for("the end of all pushes", || {
        let pushes = host.api(Ask::get(format!("/v1/apps/{APP}/pushes?limit=1000"))).expect(200).json();
        let is_final = |push: &Value| Push::from(push.clone()).is_final();
        pushes["items"].as_array()?.iter().all(is_final).then_some(())
    });
    drop(asking.end());
    host.scale("crowd", &json!({ "web": { "min": 0 } })).expect(200);
    agree(&host, "after all operations");
    let said = host.said();
    assert!(!said.contains("ERROR") && !said.contains("panicked"), "{said}");
    let (before, traps) = (host.show(APP), host.config(APP)["SHAPE"] == "trap");
    let host = host.kill_and_restart();
    agree(&host, "after a crash");
    let after = host.show(APP);
    // A release that traps may have been rolled back meanwhile, and the host retries an app in
    // error.
    if !traps && before["state"] != "error" {
        let of = |shown: &Value| ["release", "type", "state"].map(|key| shown[key].clone());
        assert_eq!(of(&before), of(&after));
    }
}

#[test]
fn concurrent_operations_leave_an_app_in_a_consistent_state() {
    let (_, rng) = seeded();
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        let walked = life().new_tree(&mut runner).expect("every round is valid").current();
        println!("{walked:?}");
        live(&walked);
    }
}
