//! Tests that a host responds to jobs that wait for an instance during its shutdown, instead of
//! closing their connections.

use isopod_tests::{
    Answer, Ask, Bundle, Host, Queue, Wire, guest,
    guests::guest_path,
    program::{self, Running},
};

const LIMITS: &str = "[limits]\ninstances_max = 1\nrequest_timeout = \"10m\"\n";

#[track_caller]
fn is_refused(answer: &Answer, app: &str) {
    let problem = answer.problem_of(app, 503, "stopping");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("was not started")), "{problem}");
    assert_eq!(answer.header("retry-after"), Some("5"), "{answer}");
    assert_eq!(answer.header("connection"), Some("close"), "{answer}");
}

#[test]
fn requests_that_wait_during_a_shutdown_get_a_503() {
    let mut host = Host::start_with("", "drain_time = \"1s\"\n");
    host.deploy("probe", Bundle::archive(&format!("name = \"probe\"\n{LIMITS}"), &guest("probe-wasi03")));
    let _running = host.begin("probe", Ask::get("/hang"));
    host.until_queue("probe", Queue::Pull, 1, 0);
    let mut waiting: Vec<Wire> = (0..3).map(|_| host.begin("probe", Ask::get("/show"))).collect();
    host.until_queue("probe", Queue::Pull, 1, 3);
    host.ask_to_stop();
    for wire in &mut waiting {
        is_refused(&wire.answer().expect("an answer"), "probe");
    }
    host.until_stopped();
}

#[test]
fn events_that_wait_during_a_shutdown_get_a_503() {
    let mut host = Host::start_with("", "drain_time = \"1s\"\n");
    host.create("greedy", "dev");
    let manifest = format!("name = \"greedy\"\n[processes.worker]\nentry = \"events\"\n{LIMITS}");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
    let _running = host.begin_event("greedy", "never", Queue::Pull);
    host.until_queue("greedy", Queue::Pull, 1, 0);
    let mut waiting: Vec<Wire> = (0..2).map(|_| host.begin_event("greedy", "hello", Queue::Pull)).collect();
    host.until_queue("greedy", Queue::Pull, 1, 2);
    host.ask_to_stop();
    for wire in &mut waiting {
        is_refused(&wire.answer().expect("an answer"), "greedy");
    }
    host.until_stopped();
}

/// `serve` runs ten instances, so two of twelve requests wait.
#[test]
fn serve_rejects_waiting_requests_during_its_shutdown() {
    let file = guest_path("probe-wasi03");
    let file = file.to_str().expect("a path");
    let mut serving = Running::start(program::command(&["serve", file, "--addr", "127.0.0.1:0"]));
    let address = serving.line_on_stderr("Serving HTTP on http://");
    let address = address.trim_end_matches('/').parse().expect("an address");
    let begun = (0..12).map(|_| {
        let mut wire = Wire::open(address).expect("it accepts connections");
        wire.ask(&Ask::get("/hang")).expect("it can be sent");
        wire
    });
    let begun: Vec<_> = begun.collect();
    serving.signal(libc::SIGTERM);
    let answers: Vec<_> = begun.into_iter().filter_map(|mut wire| wire.answer().ok()).collect();
    assert_eq!(answers.len(), 2, "the other requests are aborted: {answers:?}");
    answers.iter().for_each(|answer| is_refused(answer, "app"));
    assert!(serving.end().success(), "{}", serving.said());
}

/// A job that completes within the drain time frees its slot for the waiting jobs.
#[test]
fn requests_that_start_within_the_drain_time_complete() {
    let mut host = Host::start();
    host.deploy("probe", Bundle::archive(&format!("name = \"probe\"\n{LIMITS}"), &guest("probe-wasi03")));
    let mut running = host.begin("probe", Ask::post("/respond?read").header("transfer-encoding", "chunked"));
    host.until_queue("probe", Queue::Pull, 1, 0);
    let mut waiting = host.begin("probe", Ask::get("/respond?chunk=3"));
    host.until_queue("probe", Queue::Pull, 1, 1);
    host.ask_to_stop();
    running.send_chunk(b"").expect("it can be sent");
    assert_eq!(running.answer().expect("an answer").status, 200);
    assert_eq!(waiting.answer().expect("an answer").text(), "xxx");
    host.until_stopped();
}
