//! Tests the content of an app's log: each line with its request, and a trap with the guest's
//! function names.

use isopod_tests::{Ask, Bundle, Host, Neighbour, guest};
use serde_json::Value;

fn text(line: &Value) -> &str {
    line["message"].as_str().expect("a line has a message")
}

#[test]
fn a_line_has_the_id_of_its_request() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let answer = host.get("greedy", "/log-line?text=remember-me").expect(200);
    let id = answer.header("x-request-id").expect("it has one");
    let line = host.log_line("greedy", "the guest's line", |line| text(line) == "remember-me");
    assert_eq!(
        (line["request_id"].as_str(), &line["stream"], &line["release"]),
        (Some(id), &"stdout".into(), &1.into())
    );
    let line = host.log_line("greedy", "the request", |line| line["stream"] == "access" && line["request_id"] == id);
    assert_eq!((&line["status"], &line["path"], &line["method"]), (&200.into(), &"/log-line".into(), &"GET".into()));
    assert!(!line.to_string().contains("remember-me"), "the query may hold secrets: {line}");
}

/// B3: a trap costs one response. It is counted and logged with a backtrace, and the app continues
/// to run.
#[test]
fn a_trap_is_logged_with_the_guests_functions_and_the_app_keeps_running() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let neighbour = Neighbour::beside(&host);
    for (path, words) in [("/trap", "unreachable"), ("/panic", "panicked"), ("/recurse", "")] {
        let answer = host.get("greedy", path);
        let problem = answer.problem_of("greedy", 502, "app-failed");
        let id = problem["request_id"].as_str().expect("it has one");
        let line =
            host.log_line("greedy", path, |line| line["request_id"] == id && text(line).contains("guest trapped"));
        // The compiler determines which of the two stacks overflows first, so the recursion's text
        // is not checked.
        assert!(text(&line).contains(words), "{path}: {line}");
        assert!(text(&line).contains("\n    at greedy::acts::"), "{path} has no names of functions: {line}");
        assert_eq!(line["level"], "error");
        assert_eq!(host.state("greedy"), "running");
        assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok");
    }
    // The panic's message is in the guest's standard error.
    host.log_line("greedy", "the panic's message", |line| text(line).contains("greedy was asked to panic"));
    assert_eq!(host.metric("isopod_faults_total{app=\"greedy\",fault=\"trap\"}"), 3.0);
    neighbour.finish();
}

#[test]
fn logs_belong_to_one_app_and_persist() {
    let host = Host::start();
    host.deploy("one", Bundle::component(guest("greedy")));
    host.deploy("two", Bundle::component(guest("greedy")));
    host.get("one", "/log-line?text=only-of-one").expect(200);
    host.log_line("one", "its own", |line| text(line) == "only-of-one");
    assert!(!host.log("two").iter().any(|line| text(line) == "only-of-one"));
    let host = host.restart();
    host.log_line("one", "its own, after a restart", |line| text(line) == "only-of-one");
}

#[test]
fn actions_on_an_app_are_recorded_with_their_cause() {
    let host = Host::start();
    host.deploy("app", Bundle::component(guest("hello")));
    host.api(Ask::post("/v1/apps/app/stop")).expect(202);
    let host = host.restart();
    let activity = host.api(Ask::get("/v1/apps/app/activity")).expect(200).json();
    let kinds: Vec<&str> =
        activity["items"].as_array().expect("items").iter().filter_map(|item| item["kind"].as_str()).collect();
    assert!(kinds.contains(&"app-deployed"), "{activity}");
    assert!(kinds.len() >= 3, "created, deployed and stopped: {activity}");
}

#[test]
fn without_the_access_log_requests_are_still_counted() {
    let host = Host::start_with("", "[logs]\naccess = false\n");
    host.deploy("greedy", Bundle::component(guest("greedy")));
    for text in ["first", "second"] {
        host.get("greedy", &format!("/log-line?text={text}")).expect(200);
        host.log_line("greedy", text, |line| line["message"] == text);
    }
    assert!(host.log("greedy").iter().all(|line| line["stream"] != "access"), "{:?}", host.log("greedy"));
    assert_eq!(host.metric("isopod_requests_total{app=\"greedy\",class=\"2xx\"}"), 2.0);
}
