//! Tests following an app that is destroyed meanwhile: every stream ends with an event that gives
//! the reason, and commands exit.

use isopod_tests::{
    Ask, Bundle, Host, Wire, guest,
    program::{self, Running},
    wait_for,
};

fn command(host: &Host, name: &str) -> Running {
    let address = format!("http://{}", host.admin);
    Running::start(program::command(&[name, "-f", "--app", "greedy", "--host", &address, "--token", &host.token]))
}

#[test]
fn a_stream_of_a_destroyed_app_ends_with_an_event() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let mut streams: Vec<(&str, Wire)> = Vec::new();
    for name in ["logs", "activity", "metrics"] {
        let ask = Ask::get(format!("/v1/apps/greedy/{name}?follow=true"));
        let mut wire = Wire::open(host.admin).expect("a connection");
        wire.ask(&ask.header("authorization", format!("Bearer {}", host.token))).expect("it can be sent");
        assert_eq!(wire.head().expect("a head").status, 200);
        streams.push((name, wire));
    }
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    for (name, mut stream) in streams {
        let mut text = String::new();
        while let Some(piece) = stream.piece().expect("the stream is whole") {
            text.push_str(&String::from_utf8_lossy(&piece));
        }
        let end = "event: end\ndata: {\"reason\":\"app-destroyed\"}\n\n";
        assert!(text.ends_with(end), "{name}: {text}");
    }
}

#[test]
fn a_command_that_follows_a_destroyed_app_exits_with_the_reason() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host.get("greedy", "/log-line?text=a-line").expect(200);
    let mut commands = [command(&host, "logs"), command(&host, "activity")];
    wait_for("a line", || commands[0].said().contains("a-line").then_some(()));
    wait_for("an entry", || {
        host.set_config("greedy", &serde_json::json!({ "A": commands[1].said().len().to_string(), "B": null }))
            .expect(200);
        host.set_config("greedy", &serde_json::json!({ "A": null })).expect(200);
        commands[1].said().contains("config changed").then_some(())
    });
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    // Another app may take the name immediately. The command must not follow that app.
    host.deploy("greedy", Bundle::component(guest("hello")));
    for command in &mut commands {
        let status = command.end();
        let said = command.said();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("the app greedy was destroyed") && !said.contains("reconnecting"), "{said}");
    }
}
