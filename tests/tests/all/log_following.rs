//! Tests following a log: a slow reader loses no line, nor does a reader whose connection breaks.

use isopod_tests::{
    Ask, Bundle, Host, guest,
    program::{self, Running},
    wait_for,
};
use serde_json::Value;
use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Returns all stored lines of an app's log, oldest first.
fn stored(host: &Host, app: &str) -> Vec<Value> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = host.api(Ask::get(format!("/v1/apps/{app}/logs?limit=1000{cursor}"))).expect(200).json();
        pages.push(page["items"].as_array().expect("a page has items").clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages.into_iter().rev().flatten().collect(),
        }
    }
}

#[test]
fn a_follower_that_reads_late_gets_every_stored_line() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let following = host.follow("/v1/apps/greedy/logs");
    // More than connections and queues hold. The test reads nothing before the guest has written
    // all lines.
    host.get("greedy", "/log-flood?lines=10000&bytes=100");
    // A line that arrives while the log's queue is full is dropped and counted.
    wait_for("the last line", || {
        host.get("greedy", "/log-line?text=the-last-line").expect(200);
        host.log("greedy").iter().any(|line| line["message"] == "the-last-line").then_some(())
    });
    let mut followed = Vec::new();
    for line in following {
        let is_last = line["message"] == "the-last-line";
        followed.push(line);
        if is_last {
            break;
        }
    }
    let mut stored = stored(&host, "greedy");
    let last = stored.iter().position(|line| line["message"] == "the-last-line").expect("it was seen before");
    stored.truncate(last + 1);
    assert!(stored.len() > 5_000, "the flood was written: {}", stored.len());
    assert_eq!(followed.len(), stored.len());
    assert!(followed == stored, "the lines are the same, in the same order");
}

/// A proxy that keeps its address while the host behind it changes.
struct Front {
    address: SocketAddr,
    behind: Arc<Mutex<SocketAddr>>,
}

impl Front {
    fn of(host: &Host) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let behind = Arc::new(Mutex::new(host.admin));
        let to = Arc::clone(&behind);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(host) = TcpStream::connect(*to.lock().expect("not poisoned")) else { continue };
                let pairs = [(client.try_clone(), host.try_clone()), (Ok(host), Ok(client))];
                for (from, into) in pairs {
                    let (mut from, mut into) = (from.expect("can be cloned"), into.expect("can be cloned"));
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut into);
                        let _ = into.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, behind }
    }

    fn switch_to(&self, host: &Host) {
        *self.behind.lock().expect("not poisoned") = host.admin;
    }
}

fn follow(front: &Front, host: &Host, command: &str) -> Running {
    let address = format!("http://{}", front.address);
    let args = [command, "-f", "--app", "greedy", "--host", &address, "--token", &host.token];
    Running::start(program::command(&args))
}

fn wait_for_output(running: &Running, what: &str) {
    wait_for(what, || running.said().contains(what).then_some(()));
}

#[test]
fn a_followed_log_and_activity_continue_after_the_last_line_when_the_host_is_back() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host.get("greedy", "/log-line?text=before-the-stop").expect(200);
    let front = Front::of(&host);
    let (mut logs, mut activity) = (follow(&front, &host, "logs"), follow(&front, &host, "activity"));
    wait_for_output(&logs, "before-the-stop");
    // Both commands follow when this entry is printed.
    wait_for("an entry of the activity", || {
        host.set_config("greedy", &serde_json::json!({ "A": rand() })).expect(200);
        activity.said().contains("config changed").then_some(())
    });
    let host = host.restart();
    host.get("greedy", "/log-line?text=while-away").expect(200);
    host.log_line("greedy", "the line", |line| line["message"] == "while-away");
    front.switch_to(&host);
    wait_for_output(&logs, "while-away");
    host.get("greedy", "/log-line?text=after-it").expect(200);
    wait_for_output(&logs, "after-it");
    host.set_config("greedy", &serde_json::json!({ "AFTERWARDS": "1" })).expect(200);
    wait_for_output(&activity, "AFTERWARDS");
    let said = logs.said();
    for line in ["before-the-stop", "while-away", "after-it"] {
        assert_eq!(said.lines().filter(|said| said.contains(&format!("stdout {line}"))).count(), 1, "{line}: {said}");
    }
    assert!(said.contains("ended the stream; reconnecting") && said.contains("connected again"), "{said}");
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    for ended in [&mut logs, &mut activity] {
        let status = Running::end(ended);
        assert_eq!(status.code(), Some(1), "a destroyed app must not be a success: {}", ended.said());
    }
}

/// Returns a different value on each call.
fn rand() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}

#[test]
fn an_invalid_last_event_id_is_rejected() {
    let host = Host::start();
    host.create("shop", "dev");
    let ask = Ask::get("/v1/apps/shop/logs?follow=true").header("last-event-id", "nonsense");
    assert_eq!(host.api(ask).status, 400);
}
