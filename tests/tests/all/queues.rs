//! F1, F3, F4: tests the two queues of each app. Pull jobs never wait behind push work. Waiting
//! jobs are counted and bounded, and the queue drops a job whose client has disconnected.

use isopod_tests::{Answer, Ask, Bundle, Host, Neighbour, Queue, Wire, guest, wait_for};
use serde_json::{Value, json};
use std::time::Instant;

/// Deploys `greedy` as an app of this type, with these limits.
fn deploy_greedy(host: &Host, app_type: &str, limits: &str) {
    host.create("greedy", app_type);
    let processes = "[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n";
    let manifest = format!("name = \"greedy\"\n{processes}[limits]\n{limits}\n");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
}

#[track_caller]
fn answer(mut wire: Wire) -> Answer {
    wire.answer().expect("an answer")
}

/// Checks a rejection, and returns its `retry-after`, which must be between 1 and 60 seconds.
#[track_caller]
fn assert_retry_after(refused: &Answer) -> u64 {
    let problem = refused.problem_of("greedy", 429, "queue-full");
    assert!(problem["hint"].is_string(), "{refused}");
    let seconds = refused.header("retry-after").and_then(|seconds| seconds.parse().ok());
    seconds.filter(|seconds| (1..=60).contains(seconds)).unwrap_or_else(|| panic!("{refused}"))
}

/// Returns the guest's own lines in the log.
fn written(host: &Host) -> Vec<String> {
    let by_guest = host.log("greedy").into_iter().filter(|line| line["stream"] == "stdout");
    by_guest.filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
}

#[track_caller]
fn until_written(host: &Host, text: &str) -> Vec<String> {
    wait_for("a line of the guest", || Some(written(host)).filter(|lines| lines.iter().any(|line| line == text)))
}

/// F1: push events occupy all cores of the push queue for a long time, and more push events wait.
#[test]
fn pull_jobs_do_not_wait_behind_push_work() {
    for kind in ["never", "spin"] {
        let host = Host::start();
        deploy_greedy(&host, "production", "request_timeout = \"10m\"");
        let neighbour = Neighbour::beside(&host);
        let slow: Vec<String> = (0..6).map(|_| host.push_event("greedy", kind)).collect();
        host.until_queue("greedy", Queue::Push, 4, 2);
        let last = host.push_event("greedy", "hello");
        host.until_queue("greedy", Queue::Push, 4, 3);
        for _ in 0..10 {
            assert_eq!(host.send_event("greedy", "hello", Queue::Pull).expect(200).text(), "hello, delivery 1");
            assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok");
        }
        // No slow push event has completed.
        host.until_queue("greedy", Queue::Push, 4, 3);
        let state = |id: &String| host.stored_event("greedy", id)["state"].clone();
        assert!(slow.iter().chain([&last]).all(|id| state(id) != "done"), "an event is done");
        neighbour.finish();
    }
}

/// F3, F4.
#[test]
fn active_cores_rise_with_the_load_and_fall_back_to_zero() {
    let host = Host::start();
    deploy_greedy(&host, "production", "request_timeout = \"10m\"\ninstances_max = 4");
    host.until_queue("greedy", Queue::Pull, 0, 0);
    let mut held: Vec<_> = (0..4).map(|_| host.hold("greedy")).collect();
    host.until_queue("greedy", Queue::Pull, 4, 0);
    let waiting: Vec<Wire> = (0..3).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
    host.until_queue("greedy", Queue::Pull, 4, 3);
    assert_eq!(host.queue("greedy", Queue::Push)["active_cores"], 0);
    // One free core suffices for all three requests.
    held.pop().expect("four are held").release_core();
    for wire in waiting {
        assert_eq!(answer(wire).expect(200).text(), "ok");
    }
    host.until_queue("greedy", Queue::Pull, 3, 0);
    held.into_iter().for_each(|held| held.release_core());
    host.until_queue("greedy", Queue::Pull, 0, 0);
}

/// F4: the pull queue has a limit, and accepted jobs complete.
#[test]
fn a_full_queue_rejects_with_retry_after() {
    let host = Host::start();
    deploy_greedy(&host, "dev", "request_timeout = \"10m\"\nqueue_max = 2");
    let neighbour = Neighbour::beside(&host);
    let slow = host.begin_event("greedy", "never", Queue::Pull);
    host.until_queue("greedy", Queue::Pull, 1, 0);
    let (mut accepted, begun) = (Vec::new(), Instant::now());
    for waiting in 1..=2 {
        accepted.push(host.begin_event("greedy", "hello", Queue::Pull));
        host.until_queue("greedy", Queue::Pull, 1, waiting);
    }
    for _ in 0..5 {
        let refused = host.send_event("greedy", "hello", Queue::Pull);
        let reported = assert_retry_after(&refused);
        // No job has ended since then, so the estimate is only the time that the jobs have
        // waited.
        assert!(reported <= begun.elapsed().as_secs() + 1, "{refused}");
    }
    drop(slow);
    for wire in accepted {
        answer(wire).expect(200);
    }
    host.send_event("greedy", "hello", Queue::Pull).expect(200);
    neighbour.finish();
}

/// Jobs of disconnected clients don't count against the queue's limit.
#[test]
fn disconnected_clients_free_their_slots_in_a_full_queue() {
    let host = Host::start();
    deploy_greedy(&host, "dev", "request_timeout = \"10m\"\nqueue_max = 3");
    let held = host.hold("greedy");
    let leaving: Vec<Wire> = (0..3).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
    host.until_queue("greedy", Queue::Pull, 1, 3);
    drop(leaving);
    host.until_queue("greedy", Queue::Pull, 1, 0);
    let coming: Vec<Wire> = (0..3).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
    host.until_queue("greedy", Queue::Pull, 1, 3);
    held.release_core();
    coming.into_iter().for_each(|wire| drop(answer(wire).expect(200)));
}

/// F4: bodies of waiting jobs are held in memory, so the queue bounds their bytes as well as their
/// number.
#[test]
fn waiting_bodies_are_bounded_by_their_bytes() {
    const BODY_BYTES: usize = 1 << 20;
    let host = Host::start();
    deploy_greedy(&host, "dev", "request_timeout = \"10m\"\nqueue_max = 100000");
    let neighbour = Neighbour::beside(&host);
    let body = vec![b'x'; BODY_BYTES];
    let count = || Ask::post("/count").body("application/octet-stream", body.clone());
    // An unread response would end after some seconds while other requests wait. An event holds the
    // only core for as long as the test needs to send the bodies.
    host.set_cores("greedy", &json!({ "pull": 1 })).expect(200);
    let held = host.begin_event("greedy", "never", Queue::Pull);
    host.until_queue("greedy", Queue::Pull, 1, 0);
    // Few at a time: the bytes that the host receives concurrently from one client are bounded too.
    let mut waiting = Vec::<Wire>::new();
    for queued in [16, 32, 48, 64] {
        waiting.extend((0..16).map(|_| host.begin("greedy", count())));
        host.until_queue("greedy", Queue::Pull, 1, queued);
    }
    let refused = host.app("greedy", count());
    assert_retry_after(&refused);
    assert!(refused.text().contains("MiB"), "the response names the exceeded limit: {refused}");
    // A small body still fits.
    let small = host.begin("greedy", Ask::get("/ok"));
    host.until_queue("greedy", Queue::Pull, 1, 65);
    drop(held);
    for wire in waiting {
        assert_eq!(answer(wire).expect(200).text(), BODY_BYTES.to_string());
    }
    answer(small).expect(200);
    assert_eq!(host.app("greedy", count()).expect(200).text(), BODY_BYTES.to_string(), "a large body fits again");
    neighbour.finish();
}

/// The queue drops the job of a disconnected client.
#[test]
fn a_request_whose_client_disconnected_never_reaches_the_guest() {
    let host = Host::start();
    deploy_greedy(&host, "dev", "request_timeout = \"10m\"");
    let held = host.hold("greedy");
    let first = host.begin("greedy", Ask::get("/log-line?text=first"));
    host.until_queue("greedy", Queue::Pull, 1, 1);
    let gone: Vec<Wire> = (0..20).map(|_| host.begin("greedy", Ask::get("/log-line?text=gone"))).collect();
    host.until_queue("greedy", Queue::Pull, 1, 21);
    let last = host.begin("greedy", Ask::get("/log-line?text=last"));
    host.until_queue("greedy", Queue::Pull, 1, 22);
    drop(gone);
    host.until_queue("greedy", Queue::Pull, 1, 2);
    held.release_core();
    for wire in [first, last] {
        answer(wire).expect(200);
    }
    assert_eq!(until_written(&host, "last"), ["first", "last"]);
}

/// The running job holds the core for longer than the deadline of the waiting jobs. An overloaded
/// app is not a fault of its guest, and doesn't count against a release that is still watched.
#[test]
fn a_deadline_that_expires_in_the_queue_is_not_a_fault_of_the_guest() {
    const LATE: u64 = 8;
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    host.create("greedy", "staging");
    for release in 1..=2 {
        let manifest =
            format!("name = \"greedy\"\n[limits]\nrequest_timeout = \"6s\"\n[config]\nRELEASE = \"{release}\"\n");
        host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
    }
    let held = host.hold("greedy");
    // Makes progress for 6 s from its start, so that it isn't broken off before the deadlines.
    let mut next = host.begin("greedy", Ask::get("/drip?bytes=60"));
    host.until_queue("greedy", Queue::Pull, 1, 1);
    let late: Vec<Wire> = (0..LATE).map(|_| host.begin("greedy", Ask::get("/log-line?text=late"))).collect();
    host.until_queue("greedy", Queue::Pull, 1, 1 + LATE);
    // The core is released well after the late jobs arrived, so that its next job outlasts their
    // deadline.
    let reported = host.follow("/v1/apps/greedy/metrics").take(3);
    assert!(reported.into_iter().all(|sample: Value| sample["pull"]["buffered"] == 1 + LATE));
    held.release_core();
    assert_eq!(next.head().expect("the next job starts").status, 200);
    for wire in late {
        let late = answer(wire);
        let problem = late.problem_of("greedy", 504, "queue-timeout");
        assert_eq!(
            problem["detail"],
            "timed out after 6 s in the queue (request_timeout 6 s): the job was not started"
        );
        assert!(problem["hint"].is_string() && late.header("retry-after").is_some(), "{late}");
    }
    host.until_queue("greedy", Queue::Pull, 1, 0);
    drop(next);
    host.get("greedy", "/log-line?text=after").expect(200);
    assert_eq!(until_written(&host, "after"), ["after"]);
    let blamed: Vec<Value> = host.log("greedy").into_iter().filter(|line| line["context"] == "isopod").collect();
    assert!(blamed.is_empty(), "no guest failed: {blamed:?}");
    let faults = |kind| host.metric(&format!("isopod_faults_total{{app=\"greedy\",fault=\"{kind}\"}}"));
    assert_eq!((faults("queue-timeout"), faults("timeout")), (LATE as f64, 0.0));
    assert_eq!(host.current("greedy"), [2]);
    neighbour.finish();
}

/// Deploys an app whose guest waits as long as the request asks, with two instances and this
/// request timeout.
fn deploy_busy(host: &Host, release: u32, request_timeout: &str) {
    let scale = "[processes.web]\nentry = \"http\"\nmax = 2\n[processes.worker]\nentry = \"events\"\n";
    let limits = format!("[limits]\nrequest_timeout = \"{request_timeout}\"\n[config]\nRELEASE = \"{release}\"\n");
    host.deploy("busy", Bundle::archive(&format!("name = \"busy\"\n{scale}{limits}"), &guest("busy")));
}

/// All jobs of a burst have the same deadline. As soon as the queue knows the service time, it
/// immediately rejects each job that would start too late. Otherwise the jobs would start one after
/// the other and fail for lack of time.
#[test]
fn a_job_that_cannot_complete_in_time_is_not_started_and_causes_no_rollback() {
    const BURST: usize = 24;
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    host.create("busy", "production");
    deploy_busy(&host, 1, "4s");
    for _ in 0..BURST {
        host.get("busy", "/wait?ms=1").expect(200);
    }
    deploy_busy(&host, 2, "4s");
    let slow = |_| host.begin("busy", Ask::get("/wait?ms=2500"));
    for _ in 0..2 {
        let both: Vec<Wire> = (0..2).map(slow).collect();
        both.into_iter().for_each(|wire| drop(answer(wire).expect(200)));
    }
    let begun = Instant::now();
    let burst: Vec<Wire> = (0..BURST).map(slow).collect();
    let answers: Vec<Answer> = burst.into_iter().map(answer).collect();
    let took = begun.elapsed();
    let (done, late): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(done.len(), 2);
    for late in late {
        let problem = late.problem_of("busy", 504, "queue-timeout");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("was not started")), "{late}");
        assert!(problem["hint"].is_string() && late.header("retry-after").is_some(), "{late}");
    }
    assert!(took.as_millis() < 4_000, "a job without enough time is rejected immediately, not after {took:?}");
    let blamed: Vec<Value> = host.log("busy").into_iter().filter(|line| line["context"] == "isopod").collect();
    assert!(blamed.is_empty(), "no guest failed: {blamed:?}");
    let restarts: u64 = host.instances("busy").iter().filter_map(|instance| instance["restarts"].as_u64()).sum();
    assert_eq!(restarts, 0, "no instance was replaced");
    host.get("busy", "/wait?ms=1").expect(200);
    assert_eq!(host.current("busy"), [2]);
    neighbour.finish();
}

/// No job of the release has completed before the burst, so a few jobs start without enough time.
/// They don't count against the release.
#[test]
fn a_burst_to_a_release_with_unknown_service_time_causes_no_rollback() {
    const BURST: usize = 24;
    let host = Host::start();
    host.create("busy", "production");
    deploy_busy(&host, 1, "4s");
    for _ in 0..BURST {
        host.get("busy", "/wait?ms=1").expect(200);
    }
    deploy_busy(&host, 2, "4s");
    let burst: Vec<Wire> = (0..BURST).map(|_| host.begin("busy", Ask::get("/wait?ms=2500"))).collect();
    let answers: Vec<Answer> = burst.into_iter().map(answer).collect();
    let (done, late): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(done.len(), 2);
    let begun = late.iter().filter(|late| late.text().contains("app-timeout")).count();
    assert!(begun <= 2, "each instance starts at most one more job, not {begun}");
    for late in late.iter().filter(|late| !late.text().contains("app-timeout")) {
        late.problem_of("busy", 504, "queue-timeout");
    }
    host.get("busy", "/wait?ms=1").expect(200);
    assert_eq!(host.current("busy"), [2]);
}

/// The only completed job took most of its time. The queue must not reject the fast jobs behind it
/// because of this sample.
#[test]
fn one_slow_job_after_a_start_or_a_thaw_rejects_no_fast_job_behind_it() {
    let host = Host::start_with("", "freeze_after = \"200ms\"\n");
    host.create("busy", "dev");
    let manifest = "name = \"busy\"\n[limits]\nrequest_timeout = \"3s\"\n";
    host.deploy("busy", Bundle::archive(manifest, &guest("busy")));
    for _ in 0..2 {
        wait_for("the app to be frozen", || (host.release_state("busy", 1) == "frozen").then_some(()));
        let slow = host.begin("busy", Ask::get("/wait?ms=1900"));
        host.until_queue("busy", Queue::Pull, 1, 0);
        let fast: Vec<Wire> = (0..30).map(|_| host.begin("busy", Ask::get("/wait?ms=1"))).collect();
        answer(slow).expect(200);
        fast.into_iter().for_each(|wire| drop(answer(wire).expect(200)));
    }
}

/// The service time is unknown when the burst arrives, so some jobs start without enough time.
#[test]
fn a_guest_that_had_less_than_half_of_the_time_is_not_at_fault() {
    let host = Host::start();
    host.create("busy", "production");
    deploy_busy(&host, 1, "2s");
    for _ in 0..40 {
        host.get("busy", "/wait?ms=1").expect(200);
    }
    deploy_busy(&host, 2, "2s");
    for _ in 0..4 {
        // The short jobs lower the queue's estimate of the service time.
        (0..10).for_each(|_| drop(host.get("busy", "/wait?ms=1").expect(200)));
        let burst: Vec<Wire> = (0..6).map(|_| host.begin("busy", Ask::get("/wait?ms=800"))).collect();
        let codes: Vec<u16> = burst.into_iter().map(|wire| answer(wire).status).collect();
        assert_eq!(codes.iter().filter(|&&code| code == 504).count(), 2, "{codes:?}");
    }
    let timeouts = host.metric("isopod_faults_total{app=\"busy\",fault=\"timeout\"}");
    assert_eq!((timeouts, host.current("busy")), (8.0, vec![2]));
}
