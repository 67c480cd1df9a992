//! F4, J5: tests the stored events of a process type that a new release lacks or changes: how they
//! are shown, and that their dead letters are not redriven.

use isopod_tests::{Answer, Ask, Bundle, Host, guest, program, wait_for};
use serde_json::{Value, json};

/// Deploys `greedy` with one process type that handles events.
fn deploy(host: &Host, process: &str, settings: &str) {
    let processes =
        format!("[processes.web]\nentry = \"http\"\n[processes.{process}]\nentry = \"events\"\n{settings}\n");
    host.deploy("greedy", Bundle::archive(&format!("name = \"greedy\"\n{processes}"), &guest("greedy")));
}

fn dead_letter(host: &Host) -> String {
    let event = host.push_event("greedy", "fail");
    host.until_event("greedy", &event, "dead");
    event
}

fn redrive(host: &Host, filter: &Value) -> Answer {
    host.api(Ask::post("/v1/apps/greedy/dead-letters/redrive").body("application/json", filter.to_string()))
}

/// Returns both outputs of a command about the app.
fn said(host: &Host, args: &[&str]) -> String {
    let admin = format!("http://{}", host.admin);
    let mut command = program::command(&[args, &["--app", "greedy", "--host", &admin]].concat());
    let output = command.env("ISOPOD_TOKEN", &host.token).output().expect("it can be run");
    [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}

#[test]
fn dead_letters_of_an_absent_process_type_are_not_redriven() {
    let host = Host::start();
    deploy(&host, "worker", "");
    let old = dead_letter(&host);
    assert_eq!(host.stored_event("greedy", &old)["is_stranded"], false);
    deploy(&host, "jobs", "");
    assert_eq!(host.stored_event("greedy", &old)["is_stranded"], true);
    for filter in [json!({}), json!({ "id": old }), json!({ "process": "worker" })] {
        redrive(&host, &filter).problem_of("greedy", 409, "no-process-type");
    }
    let shown = said(&host, &["events", "show", &old]);
    assert!(shown.contains("dead (attempt 1 of 10), no process type worker"), "{shown}");
    assert!(shown.contains("deploy a release with it, or drop the event"), "{shown}");
    let new = dead_letter(&host);
    let redriven = redrive(&host, &json!({})).expect(200).json();
    assert_eq!(redriven, json!({ "events": 1, "missing_processes": ["worker"] }));
    wait_for("a second dead letter of the new event", || {
        let event = host.stored_event("greedy", &new);
        (event["state"] == "dead" && event["attempt"] == 1).then_some(())
    });
    let shown = said(&host, &["dead-letters", "redrive", "--rate", "100"]);
    assert!(shown.contains("redrove 1 event") && shown.contains("were not redriven: worker"), "{shown}");
    assert_eq!(host.stored_event("greedy", &old)["state"], "dead");
    deploy(&host, "worker", "");
    let redriven = redrive(&host, &json!({ "id": old })).expect(200).json();
    assert_eq!(redriven, json!({ "events": 1, "missing_processes": [] }));
}

#[test]
fn an_event_of_an_absent_process_type_is_shown_as_stranded() {
    let host = Host::start();
    deploy(&host, "worker", "");
    let later = host.api_raw(&host.event("greedy", "hello", isopod_tests::Queue::Push).header("isopod-delay", "1h"));
    let later = later.expect(202).json()["id"].as_str().expect("an id").to_owned();
    let done = host.push_event("greedy", "hello");
    host.until_event("greedy", &done, "done");
    deploy(&host, "jobs", "");
    let listed: Vec<Value> = host.stored_events("greedy", "");
    let stranded: Vec<(&Value, &Value)> = listed.iter().map(|event| (&event["id"], &event["is_stranded"])).collect();
    assert_eq!(stranded, [(&json!(done), &json!(false)), (&json!(later), &json!(true))]);
    let shown = said(&host, &["events", "show", &later]);
    assert!(shown.contains("no process type worker") && shown.contains("or cancel the event"), "{shown}");
    let shown = said(&host, &["events", "list"]);
    assert!(shown.contains("no process type worker"), "{shown}");
}

#[test]
fn a_waiting_event_shows_the_attempts_of_the_current_release() {
    let host = Host::start();
    deploy(&host, "worker", "retry = { attempts = 2, first = \"30m\" }");
    let waiting = host.push_event("greedy", "retry");
    host.until_event("greedy", &waiting, "delayed");
    let done = host.push_event("greedy", "hello");
    host.until_event("greedy", &done, "done");
    assert_eq!(host.stored_event("greedy", &waiting)["attempts_max"], 2);
    deploy(&host, "worker", "retry = { attempts = 7 }");
    assert_eq!(host.stored_event("greedy", &waiting)["attempts_max"], 7);
    assert_eq!(host.stored_event("greedy", &done)["attempts_max"], 2, "it ended before");
}

/// The host counts the stored events after it has restored the apps.
#[test]
fn a_restarted_host_reports_no_event_counts_before_it_has_read_them() {
    let host = Host::start();
    deploy(&host, "worker", "");
    host.deploy("hello", Bundle::component(guest("hello")));
    dead_letter(&host);
    let host = host.restart();
    for (app, number) in [("greedy", 1), ("hello", 0)] {
        wait_for("the numbers", || {
            let push = host.metrics(app)["push"].clone();
            assert_eq!(push.get("stored").is_some(), push.get("dead_letters").is_some(), "{push}");
            push.get("dead_letters").map(|dead| assert_eq!(*dead, number, "{app}"))
        });
    }
}
