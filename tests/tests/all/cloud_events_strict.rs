//! Tests CloudEvents 1.0: the host rejects events that the specification forbids, and names the
//! attribute.

use isopod_tests::{Answer, Ask, Bundle, Host, guest};
use serde_json::{Value, json};

/// The attributes that every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

fn host_with_greedy() -> Host {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host
}

fn structured(host: &Host, text: impl Into<String>) -> Answer {
    host.api(Ask::post("/v1/apps/greedy/events").body("application/cloudevents+json", text.into()))
}

/// Sends a valid event in binary mode with these headers changed or added.
fn binary(host: &Host, changed: &[(&str, &str)]) -> Answer {
    host.api(binary_event(changed))
}

/// Returns a valid event in binary mode with these headers changed or added.
fn binary_event(changed: &[(&str, &str)]) -> Ask {
    let usual = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/test"), ("ce-type", "hello")];
    let is_changed = |name: &str| changed.iter().any(|(other, _)| *other == name);
    let mut ask = Ask::post("/v1/apps/greedy/events");
    for (name, value) in usual.iter().filter(|(name, _)| !is_changed(name)).chain(changed) {
        ask = ask.header(name, *value);
    }
    ask.body = b"data".to_vec();
    ask
}

#[track_caller]
fn assert_names(answer: &Answer, attribute: &str) {
    let refused = answer.problem(400, "bad-event");
    assert_eq!(refused["attribute"], attribute, "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(attribute)), "{refused}");
}

#[test]
fn a_structured_event_that_violates_the_specification_is_rejected() {
    let host = host_with_greedy();
    let valid = || json!({ "specversion": "1.0", "id": "1", "source": "/test", "type": "hello" });
    structured(&host, valid().to_string()).expect(200);
    for (attribute, value) in [
        ("id", json!(5)),
        ("id", json!("")),
        ("id", json!(true)),
        ("id", json!("..")),
        ("id", Value::Null),
        ("id", json!("a".repeat(1_025))),
        ("source", json!("a".repeat(1_025))),
        ("type", json!("a".repeat(1_025))),
        ("subject", json!("a".repeat(1_025))),
        ("source", json!("")),
        ("source", json!("/a b")),
        ("source", json!({ "a": 1 })),
        ("type", json!("")),
        ("type", json!(["t"])),
        ("subject", json!("")),
        ("subject", json!(7)),
        ("specversion", json!("0.3")),
        ("specversion", json!("1.0.2")),
        ("specversion", json!(1.0)),
        ("time", json!("yesterday")),
        ("time", json!("2026-01-02 03:04:05Z")),
        ("time", json!("2026-02-30T00:00:00Z")),
        ("time", json!(1_767_225_600)),
        ("datacontenttype", json!("json")),
        ("datacontenttype", json!("")),
        ("dataschema", json!("/relative")),
        ("dataschema", json!("")),
        ("data_base64", json!("*")),
        ("data_base64", json!(5)),
        ("sequence", json!(2_147_483_648_i64)),
        ("sequence", json!(-2_147_483_649_i64)),
        ("sequence", json!(1.5)),
        ("sequence", json!([1])),
        ("sequence", json!("bell \u{7}")),
        ("Sequence", json!("1")),
        ("my-sequence", json!("1")),
        ("sequenceofsomeevents1", json!("1")),
    ] {
        let mut event = valid();
        event[attribute] = value;
        assert_names(&structured(&host, event.to_string()), attribute);
    }
    for attribute in REQUIRED {
        let mut event = valid();
        event.as_object_mut().expect("an object").remove(attribute);
        assert_names(&structured(&host, event.to_string()), attribute);
    }
    let both = r#"{"specversion":"1.0","id":"1","source":"/","type":"hello","data":1,"data_base64":"AA=="}"#;
    assert_names(&structured(&host, both), "data_base64");
    let twice = r#"{"specversion":"1.0","id":"1","source":"/","type":"hello","subject":"a","subject":"b"}"#;
    assert_names(&structured(&host, twice), "subject");
}

#[test]
fn extension_attributes_within_their_bounds_reach_the_handler() {
    let host = host_with_greedy();
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/test", "type": "extensions",
        "max": 2_147_483_647, "min": -2_147_483_648_i64, "yes": true, "unset": null, "sequenceofsomeevents": "20",
    });
    let mut extensions = structured(&host, event.to_string()).expect(200).json();
    let extensions = extensions.as_array_mut().expect("a list of pairs");
    extensions.sort_by_key(ToString::to_string);
    let expected = [["max", "2147483647"], ["min", "-2147483648"], ["sequenceofsomeevents", "20"], ["yes", "true"]];
    assert_eq!(json!(extensions), json!(expected));
}

#[test]
fn a_binary_event_that_violates_the_specification_is_rejected() {
    let host = host_with_greedy();
    binary(&host, &[("ce-subject", "J%C3%BCrgen"), ("content-type", "text/plain")]).expect(200);
    for (header, value) in [
        ("ce-subject", "%FF"),
        ("ce-subject", "%ED%A0%80"),
        ("ce-subject", ""),
        ("ce-subject", "\"unterminated"),
        ("ce-subject", "%00"),
        ("ce-id", ""),
        ("ce-source", ""),
        ("ce-type", ""),
        ("ce-specversion", "0.3"),
        ("ce-time", "20260102T030405Z"),
        ("ce-dataschema", "relative"),
        ("ce-datacontenttype", "text/plain"),
        ("ce-data", "x"),
        ("ce-sequenceofsomeevents1", "x"),
        ("ce-my_extension", "x"),
    ] {
        assert_names(&binary(&host, &[(header, value)]), header.trim_start_matches("ce-"));
    }
    for attribute in REQUIRED {
        let mut ask = binary_event(&[]);
        ask.headers.retain(|(name, _)| name.trim_start_matches("ce-") != attribute);
        assert_names(&host.api(ask), attribute);
    }
    assert_names(&binary(&host, &[("content-type", "nonsense")]), "datacontenttype");
    assert_names(&binary(&host, &[("ce-subject", "a"), ("ce-subject", "b")]), "subject");
    // An event format that the host can't read is not the data of an event.
    binary(&host, &[("content-type", "application/cloudevents+xml")]).problem(415, "wrong-content-type");
}
