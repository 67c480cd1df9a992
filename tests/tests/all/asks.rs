//! Tests guests that ask event handlers for a reply: the event is pull work, the caller lends its
//! core meanwhile, and calls that would wait for each other fail immediately.

use isopod_tests::{
    Answer, Ask, Host, Queue,
    outbox::{event_of_steps, outbox},
};
use serde_json::{Value, json};

/// Longer than the test waits for a response: no test passes by a timeout.
const LONG_MS: u64 = 300_000;

fn deploy(host: &Host, app: &str, worker: &str) {
    host.create(app, "production");
    host.deploy(app, outbox(app, worker, "[limits]\nrequest_timeout = \"10m\"\ninstances_max = 32"));
}

fn host_with(worker: &str) -> Host {
    let host = Host::start();
    deploy(&host, "outbox", worker);
    host
}

/// Returns the step that asks the app's own event handler to run steps.
fn asking(steps: &Value) -> Value {
    json!(["ask", { "steps": steps }, LONG_MS])
}

/// Returns the request that runs steps in the event handler, and waits for its reply.
fn event(host: &Host, app: &str, id: &str, steps: &Value) -> Ask {
    let ask = Ask::post(format!("/v1/apps/{app}/events")).header("authorization", format!("Bearer {}", host.token));
    ask.body("application/cloudevents+json", event_of_steps(id, None, steps).to_string())
}

/// Returns steps that ask for steps that ask, and so on.
fn chain(length: usize) -> Value {
    (0..length).fold(json!([["attempt"]]), |steps, _| json!([asking(&steps)]))
}

/// Returns the results of the last reply in a chain, and the number of replies before it.
fn innermost(results: &Answer) -> (Value, usize) {
    let (mut results, mut depth) = (results.clone().expect(200).json(), 0);
    while let Some(Ok(inner)) = results[0].as_str().map(serde_json::from_str) {
        (results, depth) = (inner, depth + 1);
    }
    (results, depth)
}

#[test]
fn a_handler_that_would_wait_for_itself_gets_an_error() {
    let host = host_with("max = 1");
    let (results, depth) = innermost(&host.api_raw(&event(&host, "outbox", "1", &chain(1))));
    let error = results[0]["error"].as_str().unwrap_or_else(|| panic!("no error in {results}"));
    assert!(error.contains("the only instance of `worker` in `outbox` waits for a reply") && depth == 0, "{error}");
    assert!(error.contains("isopod scale --app outbox worker=2") && error.contains("`emit`"), "{error}");
    // The handler of another process type and a stored event use other slots.
    let replies = host.run_steps("outbox", &json!([asking(&json!([["attempt"]]))]));
    assert_eq!(replies, [json!("[1]")]);
    let stored = host.push_steps("outbox", None, &json!([asking(&json!([["set", "asked", "yes"]]))]));
    host.until_event("outbox", &stored, "done");
    assert_eq!(host.value("outbox", "asked"), "yes");
}

#[test]
fn a_handler_that_asks_itself_gets_a_further_instance() {
    let host = host_with("max = 2");
    // Each call that waits lends its core to the next.
    host.set_cores("outbox", &json!({ "pull": 1 })).expect(200);
    assert_eq!(innermost(&host.api_raw(&event(&host, "outbox", "1", &chain(1)))), (json!([1]), 1));
    let (results, depth) = innermost(&host.api_raw(&event(&host, "outbox", "2", &chain(2))));
    assert!(results.to_string().contains("each of the 2 instances of `worker`") && depth == 1, "{results}");
    host.until_queue("outbox", Queue::Pull, 0, 0);
}

/// Runs two events whose handlers call `ask` once both hold a slot. Returns the results of both
/// calls.
fn two_that_ask(host: &Host) -> [Value; 2] {
    let steps = json!([["until", "both-run"], asking(&json!([["attempt"]]))]);
    let answers = std::thread::scope(|scope| {
        let senders = ["1", "2"].map(|id| scope.spawn(|| host.api_raw(&event(host, "outbox", id, &steps))));
        host.until_queue("outbox", Queue::Pull, 2, 0);
        host.run_steps("outbox", &json!([["set", "both-run", "yes"]]));
        senders.map(|sender| sender.join().expect("a response arrives"))
    });
    answers.map(|answer| answer.expect(200).json()[1].clone())
}

/// Asserts that exactly one of two calls was refused, with this text.
#[track_caller]
fn assert_one_refused(replies: &[Value; 2], text: &str) {
    let refused: Vec<_> = replies.iter().filter_map(|reply| reply["error"].as_str()).collect();
    assert!(matches!(refused[..], [error] if error.contains(text)), "{replies:?}");
    assert!(replies.contains(&json!("[1]")), "{replies:?}");
}

#[test]
fn one_of_two_calls_that_would_wait_for_each_other_is_refused() {
    let host = host_with("max = 2");
    host.set_cores("outbox", &json!({ "pull": 3 })).expect(200);
    assert_one_refused(&two_that_ask(&host), "each of the 2 instances of `worker`");
    host.until_queue("outbox", Queue::Pull, 0, 0);
}

/// Starts a host with room for two instances of the worker. The other process type keeps its one
/// instance.
fn host_with_two_workers() -> Host {
    let host = Host::start_with("", "instances_max = 3\n");
    deploy(&host, "outbox", "max = 9");
    host.scale("outbox", &json!({ "web": { "min": 1 } })).expect(200);
    host
}

#[test]
fn a_handler_that_asks_itself_on_a_full_host_gets_an_error() {
    let host = host_with_two_workers();
    for id in ["1", "2"] {
        let (results, depth) = innermost(&host.api_raw(&event(&host, "outbox", id, &chain(2))));
        assert!(results.to_string().contains("no room on this host") && depth == 1, "{results}");
    }
    assert_eq!(innermost(&host.api_raw(&event(&host, "outbox", "3", &chain(1)))), (json!([1]), 1));
    host.until_queue("outbox", Queue::Pull, 0, 0);
}

#[test]
fn one_of_two_calls_that_would_wait_for_each_other_on_a_full_host_is_refused() {
    let host = host_with_two_workers();
    host.set_cores("outbox", &json!({ "pull": 3 })).expect(200);
    assert_one_refused(&two_that_ask(&host), "no room on this host");
    host.until_queue("outbox", Queue::Pull, 0, 0);
}

#[test]
fn a_long_chain_of_questions_is_refused() {
    let host = host_with("max = 30");
    host.set_cores("outbox", &json!({ "pull": 1 })).expect(200);
    let chained = host.api_raw(&event(&host, "outbox", "1", &chain(16)));
    assert_eq!(innermost(&chained), (json!([1]), 16));
    let (results, depth) = innermost(&host.api_raw(&event(&host, "outbox", "2", &chain(20))));
    assert!(results.to_string().contains("16 handlers wait for one another's replies"), "{results}");
    assert_eq!(depth, 16);
}

#[test]
fn a_question_is_answered_during_a_flood_of_stored_events() {
    let host = host_with("");
    let cores = host.cores("outbox")["push"].as_u64().expect("a number of cores");
    (0..3 * cores).for_each(|_| drop(host.push_steps("outbox", None, &json!([["sleep", LONG_MS]]))));
    host.until_queue("outbox", Queue::Push, cores, 2 * cores);
    let replies = host.run_steps("outbox", &json!([asking(&json!([["attempt"]]))]));
    assert_eq!(replies, [json!("[1]")]);
    // The caller and the handler were pull work.
    host.until_queue("outbox", Queue::Push, cores, 2 * cores);
}

#[test]
fn apps_that_ask_each_other_wait_only_for_free_instances() {
    let host = host_with("max = 1");
    deploy(&host, "audit", "max = 1");
    for (app, other) in [("outbox", "audit"), ("audit", "outbox")] {
        host.set_grants(app, &json!({ "events": [other] })).expect(200);
        host.set_cores(app, &json!({ "pull": 1 })).expect(200);
    }
    let ask_other = |app: &str, steps: &Value| json!([["ask", { "app": app, "steps": steps }, LONG_MS]]);
    let once = ask_other("audit", &json!([["attempt"]]));
    assert_eq!(innermost(&host.api_raw(&event(&host, "outbox", "1", &once))), (json!([1]), 1));
    let back = ask_other("audit", &ask_other("outbox", &json!([["attempt"]])));
    let (results, depth) = innermost(&host.api_raw(&event(&host, "outbox", "2", &back)));
    assert!(results.to_string().contains("isopod scale --app outbox worker=2") && depth == 1, "{results}");
}
