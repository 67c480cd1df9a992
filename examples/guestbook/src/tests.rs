//! Tests of the guestbook without a host.

use super::*;
use isopod_sdk::testing::{TestHost, answer};

fn sign_as(name: &str, text: &str) -> Response {
    answer(app(Request::post("/entries").with_body(format!("name={name}&text={text}"))))
}

#[test]
fn entries_are_shown_newest_first() {
    TestHost::new();
    assert_eq!(sign_as("Ada", "First!").status, 303);
    assert_eq!(sign_as("Bob", "Second+%26+last").status, 303);
    let page = answer(app(Request::get("/")));
    let page = page.body_text().unwrap();
    assert!(page.contains("2 entries"), "{page}");
    assert!(page.find("Second &amp; last").unwrap() < page.find("First!").unwrap());
}

#[test]
fn two_visitors_who_sign_at_the_same_time_have_an_entry_each() {
    let host = TestHost::new();
    host.conflict(|| assert_eq!(sign_as("Bob", "Meanwhile").status, 303));
    assert_eq!(sign_as("Ada", "First!").status, 303);
    let entries: Vec<Entry> = answer(app(Request::get("/entries"))).body_json().unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["Ada", "Bob"]);
}

#[test]
fn markup_is_shown_as_text() {
    TestHost::new();
    sign_as("Eve", "%3Cscript%3E");
    assert!(answer(app(Request::get("/"))).body_text().unwrap().contains("&lt;script&gt;"));
}

#[test]
fn an_entry_without_a_name_is_refused() {
    TestHost::new();
    let refused = sign_as("+", "text");
    assert_eq!((refused.status, refused.body_text().unwrap()), (400, "an entry needs a name"));
}
