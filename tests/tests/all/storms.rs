//! Tests floods of bad input: guests that call the host without end or never complete their start,
//! guests with too many outbound requests, and more clients than an app can serve. Each reaches its
//! limit, and the neighbour is not affected.

use crate::{bundles::http_component, outbound::Elsewhere};
use isopod_tests::{Answer, Ask, Bundle, Host, Neighbour, Queue, guest, load, wait_for};
use std::net::TcpListener;

fn bundle(more: &str) -> Bundle {
    let processes = "[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n";
    Bundle::archive(&format!("name = \"greedy\"\n{processes}{more}"), &guest("greedy"))
}

fn host_with_greedy(more: &str) -> Host {
    let host = Host::start();
    host.deploy("greedy", bundle(more));
    host
}

fn assert_healthy(host: &Host) {
    assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok");
    assert_eq!(host.state("greedy"), "running");
}

/// The handler loops on the CPU, in host calls, in polls that are always ready, and in requests for
/// unavailable memory.
#[test]
fn a_handler_that_never_ends_is_stopped_at_its_deadline() {
    let host = host_with_greedy("[limits]\nrequest_timeout = \"1s\"\nmemory = \"32MiB\"\n");
    let neighbour = Neighbour::beside(&host);
    for path in ["/spin", "/poll-storm", "/call-storm", "/growth-storm"] {
        for _ in 0..2 {
            host.get("greedy", path).problem_of("greedy", 504, "app-timeout");
            assert_healthy(&host);
        }
    }
    host.send_event("greedy", "spin", Queue::Pull).problem_of("greedy", 504, "deadline");
    host.send_event("greedy", "hello", Queue::Pull).expect(200);
    let (storm, hello) = (host.push_event("greedy", "spin"), host.push_event("greedy", "hello"));
    let failed = host.until_event("greedy", &storm, "delayed");
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("within 1 s")), "{failed}");
    host.until_event("greedy", &hello, "done");
    neighbour.finish();
}

/// More storms than the machine has processors, in an app that may run many concurrently.
#[test]
fn many_concurrent_storms_harm_only_their_app() {
    let host = Host::start();
    host.create("greedy", "production");
    host.deploy("greedy", bundle("[limits]\nrequest_timeout = \"2s\"\nmemory = \"32MiB\"\n"));
    let neighbour = Neighbour::beside(&host);
    std::thread::scope(|scope| {
        for path in ["/spin", "/poll-storm", "/call-storm", "/growth-storm"] {
            for _ in 0..4 {
                let host = &host;
                scope.spawn(move || {
                    let answer = host.get("greedy", path);
                    // Some requests time out in the queue.
                    let begun = !answer.text().contains("queue-timeout");
                    answer.problem_of("greedy", 504, if begun { "app-timeout" } else { "queue-timeout" });
                });
            }
        }
    });
    assert_healthy(&host);
    neighbour.finish();
}

/// A release that never completes its start doesn't go live, and the former release continues to
/// serve.
#[test]
fn an_instance_that_spins_during_its_start_fails_its_push() {
    let host = host_with_greedy("");
    let neighbour = Neighbour::beside(&host);
    let spins = http_component("(func $start (loop (br 0))) (start $start)");
    let manifest = "name = \"greedy\"\n[processes.web]\nentry = \"http\"\n[limits]\nrequest_timeout = \"1s\"\n";
    for _ in 0..2 {
        let (code, reason) = host.deploy_failing("greedy", &Bundle::archive(manifest, &spins));
        assert_eq!(code, "start-failed", "{reason}");
    }
    assert_healthy(&host);
    assert_eq!(host.current("greedy"), [1]);
    neighbour.finish();
}

fn granting(address: &str) -> String {
    format!("[grants]\nhttp = [\"{address}\"]\n[limits]\nrequest_timeout = \"2s\"\n")
}

/// I4: the guest receives an error, and other apps are not affected.
#[test]
fn outbound_requests_are_bounded_and_the_guest_receives_an_error() {
    let elsewhere = Elsewhere::start();
    let address = elsewhere.address.to_string();
    let host = host_with_greedy(&granting(&address).replace("2s", "1m"));
    let neighbour = Neighbour::beside(&host);
    for _ in 0..2 {
        let before = elsewhere.visits();
        let said = host.get("greedy", &format!("/fetch-many?authority={address}&count=1000")).expect(200).text();
        assert!(said.starts_with("64 answered, 936 refused") && said.contains("ConnectionLimitReached"), "{said}");
        assert!(elsewhere.visits() - before <= 64, "the upstream is not flooded");
        assert_eq!(host.get("greedy", &format!("/fetch?url=http://{address}/")).expect(200).text(), "reached");
    }
    // The resources that the guest holds for them are bounded too. At that limit the guest fails,
    // not the host.
    let far_too_many = host.get("greedy", &format!("/fetch-many?authority={address}&count=100000"));
    assert!([200, 502].contains(&far_too_many.status), "{far_too_many}");
    assert_eq!(host.get("greedy", &format!("/fetch?url=http://{address}/")).expect(200).text(), "reached");
    assert_healthy(&host);
    neighbour.finish();
}

/// The upstream accepts connections and never sends a byte.
#[test]
fn unanswered_outbound_requests_end_with_their_incoming_request() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it has an address").to_string();
    let host = host_with_greedy(&granting(&address));
    let neighbour = Neighbour::beside(&host);
    for _ in 0..3 {
        let ask = format!("/fetch-many?authority={address}&count=64");
        host.get("greedy", &ask).problem_of("greedy", 504, "app-timeout");
        assert_healthy(&host);
    }
    // All permits for outbound requests are free again.
    silent.set_nonblocking(true).expect("it can be set");
    while silent.accept().is_ok() {}
    silent.set_nonblocking(false).expect("it can be set");
    Elsewhere::serving(silent);
    let ask = format!("/fetch-many?authority={address}&count=64");
    let said = host.get("greedy", &ask).expect(200).text();
    assert!(said.starts_with("64 answered, 0 refused"), "{said}");
    neighbour.finish();
}

/// F4: as many clients as the machine permits. The queue accepts its maximum, and rejects the
/// others with a 429.
#[test]
fn thousands_of_clients_of_one_app_all_get_responses() {
    const QUEUE: usize = 300;
    let host = host_with_greedy(&format!("[limits]\nrequest_timeout = \"10m\"\nqueue_max = {QUEUE}\n"));
    let neighbour = Neighbour::beside(&host);
    let held = host.hold("greedy");
    let mut clients: Vec<_> = (0..load::connections(10_000)).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
    let refused = "isopod_faults_total{app=\"greedy\",fault=\"queue-full\"}";
    let beyond = clients.len() - QUEUE;
    wait_for("every client to be queued or rejected", || (host.metric(refused) >= beyond as f64).then_some(()));
    host.until_queue("greedy", Queue::Pull, 1, QUEUE as u64);
    // The connection of a rejected client stays usable.
    let mut refused = host.begin("greedy", Ask::get("/ok"));
    for _ in 0..3 {
        refused.answer().expect("an answer").problem_of("greedy", 429, "queue-full");
        refused.ask(&host.to_app("greedy", Ask::get("/ok"))).expect("it can be sent");
    }
    held.release_core();
    let answers: Vec<Answer> = clients.iter_mut().map(|wire| wire.answer().expect("an answer")).collect();
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((served.len(), refused.len()), (QUEUE, beyond));
    for answer in refused {
        answer.problem_of("greedy", 429, "queue-full");
        assert!(answer.header("retry-after").is_some(), "{answer}");
    }
    assert_healthy(&host);
    neighbour.finish();
}
