//! Tests one connection with many requests: each request reaches the app that its host names at
//! that time.

use isopod_tests::{Answer, Ask, Bundle, Host, Wire, h2c::H2c};

fn greeting(words: &str) -> Bundle {
    Bundle::shape(&[("GREETING", words)])
}

fn answer(wire: &mut Wire, host: &Host, app: &str) -> Answer {
    wire.ask(&host.to_app(app, Ask::get("/"))).expect("it is sent");
    wire.answer().expect("the connection stays open")
}

fn text(host: &Host, app: &str) -> String {
    host.get(app, "/").expect(200).text()
}

#[test]
fn each_request_of_a_connection_reaches_the_app_that_it_names() {
    let host = Host::start();
    host.deploy("one", greeting("one"));
    host.deploy("other", greeting("other"));
    let texts = [text(&host, "one"), text(&host, "other")];
    let mut wire = host.wire();
    for (app, expected) in [("one", 0), ("one", 0), ("other", 1), ("one", 0), ("none", 2), ("other", 1)] {
        let answer = answer(&mut wire, &host, app);
        match texts.get(expected) {
            Some(text) => assert_eq!(answer.expect(200).text(), *text, "{app}"),
            None => drop(answer.problem(404, "unknown-app")),
        }
    }
}

#[test]
fn a_connection_does_not_keep_a_destroyed_app() {
    let host = Host::start();
    host.deploy("app", greeting("before"));
    let mut wire = host.wire();
    let mut streams = H2c::open(host.listen).expect("the host speaks h2c");
    let mut both = |status: u16| {
        let second = streams.ask("app", &[Ask::get("/")], &[]).expect("it is answered").remove(0);
        [answer(&mut wire, &host, "app"), second].map(|answer| answer.expect(status).text())
    };
    let before = both(200);
    host.api(Ask::new("DELETE", "/v1/apps/app")).expect(204);
    assert!(both(404).iter().all(|text| text.contains("unknown-app")));
    host.deploy("app", greeting("after"));
    let after = both(200);
    assert_eq!(after, [text(&host, "app"), text(&host, "app")]);
    assert_ne!(before, after, "a new app of the same name serves");
}
