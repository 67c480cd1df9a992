//! Tests of the stored values without a host.

use crate::{app, on_event};
use isopod_sdk::prelude::*;
use isopod_sdk::testing::{TestHost, answer};

#[test]
fn two_notes_that_are_added_at_the_same_time_are_both_kept() {
    let host = TestHost::new();
    let add = |text: &'static str| answer(app(Request::post("/notes").with_body(text))).body_text().unwrap().to_owned();
    host.conflict(move || assert_eq!(add("meanwhile"), "1"));
    assert_eq!(add("first"), "2");
    let notes: Vec<String> = answer(app(Request::get("/notes"))).body_json().unwrap();
    assert_eq!(notes, ["meanwhile", "first"]);
}

#[test]
fn a_tick_that_conflicts_with_another_is_counted_once() {
    let host = TestHost::new();
    let count = || kv::open("default").unwrap().increment("ticks", 1).unwrap();
    host.conflict(move || assert_eq!(count(), 1));
    let reply = host.deliver(Event::new("isopod.schedule"), on_event).reply().unwrap();
    assert_eq!(reply.data, b"2");
}
