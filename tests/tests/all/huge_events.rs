//! Tests events far beyond the size limit: each is refused while it arrives, so the memory of the
//! host stays small.

use isopod_tests::{
    Answer, Ask, Host, Wire,
    outbox::{event_of_steps, outbox},
};
use serde_json::json;

const MIB: usize = 1 << 20;

/// The size of each event.
const HUGE: usize = 100 * MIB;

/// The memory that a request may use: far less than the event, with room for buffers.
const COST_MIB_MAX: u64 = 40;

/// The beginning of an event whose data has not ended.
fn beginning() -> Vec<u8> {
    let event = event_of_steps("huge", None, &json!([["set", "key", ""]])).to_string();
    let (beginning, _) = event.split_once("\"\"").expect("an empty value");
    format!("{beginning}\"").into_bytes()
}

/// The content type of an event in binary mode.
const BINARY: &str = "application/octet-stream";

fn request(host: &Host, path: &str, content_type: &str) -> Ask {
    let ask = Ask::post(format!("/v1/apps/outbox/{path}")).header("authorization", format!("Bearer {}", host.token));
    let attributes = [("specversion", "1.0"), ("id", "huge"), ("source", "/test"), ("type", "steps")];
    let attributes = attributes.into_iter().filter(|_| content_type == BINARY);
    let with_header = |ask: Ask, (name, value): (&str, &str)| ask.header(&format!("ce-{name}"), value);
    attributes.fold(ask, with_header).header("content-type", content_type)
}

/// Sends a request with an event of [`HUGE`] bytes, and returns the response. `is_announced` states
/// whether the request has a `content-length`; otherwise it is chunked.
#[track_caller]
fn send(host: &Host, ask: Ask, is_announced: bool) -> Answer {
    let mut wire = Wire::open(host.admin).expect("the API accepts connections");
    let ask = match is_announced {
        true => ask.header("content-length", HUGE.to_string()),
        false => ask.header("transfer-encoding", "chunked"),
    };
    wire.ask(&ask).expect("the head can be sent");
    let mut pieces = vec![beginning()];
    pieces.resize_with(HUGE / MIB, || vec![b'x'; MIB]);
    for piece in pieces {
        let sent = if is_announced { wire.send(&piece) } else { wire.send_chunk(&piece) };
        // The host has closed the connection after its response.
        if sent.is_err() {
            break;
        }
    }
    wire.answer().expect("it is answered")
}

#[test]
fn an_event_of_100_mib_is_refused_without_being_buffered() {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", "", ""));
    let small = host.push_steps("outbox", None, &json!([["increment", "handled"]]));
    host.until_event("outbox", &small, "done");
    let (event, lines) = ("application/cloudevents+json", "application/x-ndjson");
    for (path, content_type, is_announced, status, code) in [
        ("events", event, true, 413, "too-large"),
        ("events", event, false, 413, "too-large"),
        ("events?queue=push", event, true, 413, "too-large"),
        ("events?queue=push", event, false, 413, "too-large"),
        ("events?queue=push", BINARY, true, 413, "too-large"),
        ("events?queue=push", BINARY, false, 413, "too-large"),
        ("broadcasts", lines, true, 400, "bad-event"),
        ("broadcasts", lines, false, 400, "bad-event"),
    ] {
        let before = host.peak_memory_mib();
        send(&host, request(&host, path, content_type), is_announced).problem(status, code);
        let cost = host.peak_memory_mib() - before;
        assert!(cost < COST_MIB_MAX, "{path} with announced = {is_announced} cost {cost} MiB");
    }
    assert_eq!(host.stored_events("outbox", "").len(), 1);
    let small = host.push_steps("outbox", None, &json!([["increment", "handled"]]));
    host.until_event("outbox", &small, "done");
    assert_eq!(host.value("outbox", "handled"), "2");
}
