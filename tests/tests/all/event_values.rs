//! Tests that values cross the host unchanged: a handler receives JSON data, and the sender its
//! reply, with the same text.

use isopod_tests::{Ask, Bundle, Host, guest, program};

/// JSON text that a parser would change: digits, order, duplicate members, spaces and escapes.
const JSON: &str = concat!(
    r#"{"z": 18446744073709551616, "a":19.90 ,"a":1e2, "#,
    r#""deep":[{"b":-0.0,"a":"\u0041\/"}], "x":0.1000000000000000055511}"#,
);

fn host_with_greedy() -> Host {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host
}

#[test]
fn json_data_of_a_structured_event_keeps_its_text() {
    let host = host_with_greedy();
    for content_type in ["", r#""datacontenttype":"application/vnd.shop+json","#] {
        let event =
            format!(r#"{{"specversion":"1.0","id":"1","source":"/","type":"echo",{content_type}"data":  {JSON}  }}"#);
        let ask = Ask::post("/v1/apps/greedy/events");
        let reply = host.api(ask.body("application/cloudevents+json", event)).expect(200);
        assert_eq!(reply.text(), JSON);
    }
}

#[test]
fn data_of_other_types_and_of_binary_events_keeps_its_bytes() {
    let host = host_with_greedy();
    let ask = Ask::post("/v1/apps/greedy/events");
    let event =
        r#"{"specversion":"1.0","id":"1","source":"/","type":"echo","datacontenttype":"text/csv","data":19.90}"#;
    let reply = host.api(ask.clone().body("application/cloudevents+json", event)).expect(200);
    assert_eq!(reply.text(), "19.90");
    let mut binary = ask.body("application/json", JSON);
    for (name, value) in [("specversion", "1.0"), ("id", "1"), ("source", "/"), ("type", "echo")] {
        binary = binary.header(&format!("ce-{name}"), value);
    }
    assert_eq!(host.api(binary).expect(200).text(), JSON);
}

#[test]
fn the_command_line_sends_and_shows_json_unchanged() {
    let host = host_with_greedy();
    for options in [&[] as &[&str], &["--json"]] {
        let (address, mut args) = (format!("http://{}", host.admin), vec!["events", "send", "echo", "--data", JSON]);
        args.extend(["--app", "greedy", "--host", &address, "--token", &host.token]);
        args.extend(options);
        let output = program::run(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{JSON}\n"), "{options:?}");
    }
}
