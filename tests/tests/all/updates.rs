//! Tests that concurrent updates of one key by several instances are not lost.

use isopod_tests::{Ask, Bundle, Host, bundle::QUICK_WEB, guests::guest_path, program};
use serde_json::Value;
use std::{collections::BTreeSet, net::SocketAddr};

const NOTES: usize = 200;
const SENDERS: usize = 8;

/// Sends all notes, from several threads concurrently.
fn send_notes(to: SocketAddr, app: &str) {
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn(move || {
                for note in (sender..NOTES).step_by(SENDERS) {
                    let ask = Ask::post("/notes").header("host", format!("{app}.localhost"));
                    ask.body("text/plain", note.to_string()).send(to).expect("an answer").expect(201);
                }
            });
        }
    });
}

#[track_caller]
fn assert_all_kept(notes: Value) {
    let notes: Vec<String> = serde_json::from_value(notes).expect("a list of texts");
    let kept: BTreeSet<&str> = notes.iter().map(String::as_str).collect();
    assert_eq!((notes.len(), kept.len()), (NOTES, NOTES), "{notes:?}");
}

#[test]
fn notes_posted_to_four_instances_are_all_stored() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}min = 4\nmax = 4\n")));
    host.running_ids("shop", "web", 4);
    send_notes(host.listen, "shop");
    assert_all_kept(host.get("shop", "/notes").expect(200).json());
    let worked = host.instances("shop").iter().filter(|instance| instance["requests"].as_u64() > Some(0)).count();
    assert!(worked > 1, "only {worked} of four instances served requests");
}

#[test]
fn notes_posted_to_isopod_serve_are_all_stored() {
    let file = guest_path("shapes");
    let mut server =
        program::Running::start(program::command(&["serve", &file.to_string_lossy(), "--addr", "127.0.0.1:0"]));
    let address = server.line_on_stderr("Serving HTTP on http://");
    let address: SocketAddr = address.trim_end_matches('/').parse().expect("an address");
    send_notes(address, "shapes");
    assert_all_kept(Ask::get("/notes").send(address).expect("an answer").expect(200).json());
}
