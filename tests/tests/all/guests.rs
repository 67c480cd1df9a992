//! Tests that standard components and the project's examples run unchanged, and that their data
//! persists and is isolated per app.

use isopod_tests::{Answer, Ask, Bundle, Host, guest, guests::guest_if_built};
use serde_json::json;

/// I2, I5: every HTTP interface in one host, with the requests of `cargo xtask demo`.
#[test]
fn every_kind_of_http_guest_responds() {
    let host = Host::start();
    for (app, greeting) in [
        ("busy", "done"),
        ("search", "Finds numbers by the words in their names: ask for /?q=forty+two\n"),
        ("hello", "Hello, world!"),
        ("hello-wasi02", "Hello, world!"),
        ("hello-wasi03", "Hello, world!"),
        ("greedy", "ok"),
        ("greedy-flat", "ok"),
    ] {
        host.deploy(app, Bundle::component(guest(app)));
        for _ in 0..3 {
            assert_eq!(host.get(app, "/").expect(200).text(), greeting, "{app}");
        }
    }
}

#[test]
fn a_javascript_guest_responds() {
    let Some(component) = guest_if_built("hello-js") else { return };
    let host = Host::start();
    host.deploy("hello-js", Bundle::component(component));
    // An instance of its engine can serve only one request. The host must detect this.
    for _ in 0..3 {
        assert_eq!(host.get("hello-js", "/").expect(200).text(), "Hello from JavaScript!\n");
    }
    let echoed = host.app("hello-js", Ask::post("/echo").body("text/plain", "again and again")).expect(200);
    assert_eq!(echoed.text(), "again and again");
    host.get("hello-js", "/nowhere").expect(404);
}

/// The flat interface works for every language; the component contains the complete runtime.
#[test]
fn a_python_guest_responds() {
    let Some(component) = guest_if_built("hello-py") else { return };
    let host = Host::start();
    host.deploy("hello-py", Bundle::component(component));
    assert_eq!(host.get("hello-py", "/").expect(200).text(), "Hello from Python!\n");
    let echoed = host.app("hello-py", Ask::post("/echo").body("text/plain", "again and again")).expect(200);
    assert_eq!(echoed.text(), "again and again");
    host.get("hello-py", "/nowhere").expect(404);
}

#[test]
fn a_flat_guest_echoes_bodies_and_headers() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    let echoed = host.app("hello", Ask::post("/echo").body("image/x-test", bytes.clone())).expect(200);
    assert_eq!(echoed.header("content-type"), Some("image/x-test"));
    assert!(echoed.body == bytes, "the body came back changed");
    // Larger than a single buffer, so the host uses another code path.
    let bytes: Vec<u8> = (0..=255).rev().cycle().take(3_000_000).collect();
    let echoed = host.app("hello", Ask::new("PUT", "/echo").body("image/x-test", bytes.clone())).expect(200);
    assert!(echoed.body == bytes, "the large body came back changed");
    host.get("hello", "/nowhere").expect(404);
    host.app("hello", Ask::post("/")).expect(405);
}

fn sign(host: &Host, app: &str, name: &str, text: &str) -> Answer {
    let form = format!("name={name}&text={text}");
    host.app(app, Ask::post("/entries").body("application/x-www-form-urlencoded", form))
}

/// A2, I5: key-value data belongs to one app, and persists across restarts.
#[test]
fn a_guestbook_persists_and_belongs_to_its_app() {
    let host = Host::start();
    let granted = |app: &str| format!("name = \"{app}\"\n[grants]\nkeyvalue = true\n");
    for app in ["mine", "yours"] {
        host.deploy(app, Bundle::archive(&granted(app), &guest("guestbook")));
        assert_eq!(host.get(app, "/entries").expect(200).json(), json!([]));
    }
    sign(&host, "mine", "Ada", "first").expect(303);
    sign(&host, "mine", "Bob", "second").expect(303);
    sign(&host, "yours", "Eve", "elsewhere").expect(303);
    let mine = json!([{ "name": "Bob", "text": "second" }, { "name": "Ada", "text": "first" }]);
    let yours = json!([{ "name": "Eve", "text": "elsewhere" }]);
    assert_eq!(host.get("mine", "/entries").json(), mine);
    assert_eq!(host.get("yours", "/entries").json(), yours);
    let host = host.restart();
    assert_eq!(host.get("mine", "/entries").json(), mine);
    let host = host.kill_and_restart();
    assert_eq!(host.get("mine", "/entries").json(), mine);
    assert_eq!(host.get("yours", "/entries").json(), yours);
    assert!(host.get("mine", "/").text().contains("2 entries"));
}

/// I4: without the grant the app has no storage.
#[test]
fn storage_without_a_grant_is_rejected() {
    let host = Host::start();
    let push = host.deploy("book", Bundle::component(guest("guestbook")));
    assert!(push.log.iter().any(|line| line.contains("isopod grants set --keyvalue true")), "{push:?}");
    host.get("book", "/entries").problem_of("book", 500, "app-failed");
    host.log_line("book", "the reason of the failure", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("opening the bucket default"))
    });
    assert_eq!(host.state("book"), "running");
}
