//! Tests the steps of a push: they are the same while it runs, after its end, and after a restart
//! of the host.

use isopod_tests::{Ask, Bundle, Host, Push, guest};
use serde_json::Value;

fn shown(host: &Host, path: &str) -> Value {
    host.api(Ask::get(path)).expect(200).json()
}

fn states(push: &Value) -> Vec<&str> {
    let steps = push["steps"].as_array().unwrap_or_else(|| panic!("no steps: {push}"));
    steps.iter().map(|step| step["state"].as_str().expect("a step has a state")).collect()
}

#[test]
fn an_ended_push_keeps_its_steps() {
    let host = Host::start();
    let answer = host.upload("hello", &Bundle::component(guest("hello")), "?wait=true").expect(200).json();
    assert_eq!(states(&answer), ["running", "building", "deploying", "completed"], "{answer}");
    let path = Push::from(answer.clone()).path();
    let ended = shown(&host, &path);
    assert_eq!((&ended["steps"], &ended["log"]), (&answer["steps"], &answer["log"]));
    let failed = host.upload("hello", &Bundle::shape(&[("HEALTH", "fails")]), "?wait=true").expect(422).json();
    let failed = &failed["push"];
    assert_eq!(states(failed), ["running", "building", "deploying", "failed"], "{failed}");
    let log_lines = failed["log"].as_array().map(Vec::len);
    assert_eq!(failed["steps"][3]["log_lines"].as_u64(), log_lines.map(|lines| lines as u64), "{failed}");
    let failed_path = Push::from(failed.clone()).path();
    assert_eq!(shown(&host, &failed_path)["steps"], failed["steps"]);
    let host = host.restart();
    assert_eq!(shown(&host, &path)["steps"], answer["steps"]);
    assert_eq!(shown(&host, &failed_path)["steps"], failed["steps"]);
}

#[test]
fn a_push_that_a_crash_interrupts_keeps_its_steps() {
    let host = Host::start_pausing("release-built=pause");
    let push = host.push("hello", &Bundle::component(guest("hello")));
    let seen = isopod_tests::wait_for("the build", || {
        Some(shown(&host, &push.path())).filter(|seen| seen["state"] == "building" && seen["log"][0].is_string())
    });
    assert_eq!(states(&seen), ["running", "building"]);
    let host = host.kill_and_restart();
    let ended = shown(&host, &push.path());
    assert_eq!((&ended["state"], &ended["reason_code"]), (&Value::from("failed"), &Value::from("host-stopped")));
    assert_eq!(states(&ended).last(), Some(&"failed"), "{ended}");
}
