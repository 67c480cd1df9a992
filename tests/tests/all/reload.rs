//! Tests hot reload: new code takes over without a failed request, and browsers see a build error
//! until the next good build.

use isopod_tests::{Ask, Bundle, Host, Neighbour, guest};

const RELOADS: u32 = 12;

fn version(number: u32) -> Bundle {
    let manifest = format!("name = \"changing\"\n[config]\nVERSION = \"{number}\"\n");
    Bundle::archive(&manifest, &guest("greedy-flat"))
}

/// A4, I3: the steps of `isopod dev` after each saved change, under load, without a failed request.
#[test]
fn no_request_fails_while_code_is_reloaded() {
    let host = Host::start();
    host.deploy("changing", version(0));
    let load: Vec<Neighbour> =
        (0..3).map(|_| Neighbour::asking(host.listen, "changing", |text| text == "ok")).collect();
    for number in 1..=RELOADS {
        host.deploy("changing", version(number));
        let answer = host.get("changing", "/config?name=VERSION").expect(200);
        assert_eq!(answer.text(), number.to_string(), "the new code serves when the push completes");
    }
    for asker in load {
        asker.finish();
    }
    assert_eq!(host.show("changing")["release"], RELOADS + 1);
    assert_eq!(host.state("changing"), "running");
}

#[test]
fn accepted_requests_are_completed_by_the_former_code() {
    let host = Host::start();
    host.deploy("changing", Bundle::component(guest("greedy")));
    let mut wire = host.wire();
    wire.ask(&host.to_app("changing", Ask::get("/slow-reply"))).expect("it can be sent");
    assert_eq!(wire.head().expect("an answer").status, 200);
    let first = wire.piece().expect("a piece").expect("there is more");
    assert_eq!(String::from_utf8_lossy(&first), "one ");
    host.deploy("changing", Bundle::component(guest("hello")));
    assert_eq!(host.get("changing", "/").text(), "Hello, world!");
    let mut rest = Vec::new();
    while let Some(piece) = wire.piece().expect("the former response continues") {
        rest.extend(piece);
    }
    assert_eq!(String::from_utf8_lossy(&rest), "two three four five");
}

/// I3: after a failed build the former code serves; only browsers see the error.
#[test]
fn a_build_error_is_shown_to_browsers_until_the_next_good_build() {
    let host = Host::start();
    host.deploy("site", Bundle::component(guest("hello")));
    let error = "error[E0425]: cannot find value `x` in this scope <here>";
    let route = "/v1/apps/site/build-error";
    host.api(Ask::new("PUT", route).body("text/plain", error)).expect(204);
    assert_eq!(host.show("site")["build_error"], error);
    assert_eq!(host.get("site", "/").expect(200).text(), "Hello, world!");
    let browser = || host.app("site", Ask::get("/").header("accept", "text/html,*/*;q=0.8"));
    let page = browser().expect(503);
    assert!(page.text().contains("E0425") && page.text().contains("&lt;here&gt;"), "{page}");
    host.deploy("site", Bundle::component(guest("hello")));
    assert_eq!(browser().expect(200).text(), "Hello, world!");
    assert!(host.show("site")["build_error"].is_null());
}
