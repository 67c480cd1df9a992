//! Tests clients of the API that disconnect in the middle of a change: the host completes the
//! change nevertheless.

use isopod_tests::{Ask, Bundle, Host, Push, Wire, guest, wait_for};
use serde_json::json;

/// Sends a request to the API. The client disconnects when the returned connection is dropped.
fn asked(host: &Host, ask: Ask) -> Wire {
    let mut wire = Wire::open(host.admin).expect("the host accepts connections");
    wire.ask(&ask.header("authorization", format!("Bearer {}", host.token))).expect("it is sent");
    wire
}

/// Sends a request to the API, and disconnects as soon as the change is visible. A failpoint delays
/// the change in the middle.
fn ask_and_hang_up<T>(host: &Host, ask: Ask, seen: impl FnMut() -> Option<T>) -> T {
    let wire = asked(host, ask);
    let seen = wait_for("the change to be visible", seen);
    drop(wire);
    seen
}

/// Returns what the store contains, independently of the host's state in memory.
fn stored(host: &Host, sql: &str) -> Vec<String> {
    let database = host.control_database();
    let mut rows = database.prepare(sql).expect("it can be asked");
    let texts = rows.query_map([], |row| row.get(0)).expect("it is asked");
    texts.map(|text| text.expect("a text")).collect()
}

fn pushes(host: &Host, app: &str) -> Vec<Push> {
    let page = host.api(Ask::get(format!("/v1/apps/{app}/pushes"))).expect(200).json();
    page["items"].as_array().expect("a page has items").iter().cloned().map(Push::from).collect()
}

#[test]
fn an_app_whose_client_disconnects_is_created_completely() {
    let host = Host::start_pausing("app-stored=sleep(600)");
    let ask = Ask::post("/v1/apps").json(&json!({ "name": "shop" }));
    ask_and_hang_up(&host, ask, || stored(&host, "SELECT name FROM apps").pop());
    let shown = || (host.api(Ask::get("/v1/apps/shop")).status == 200).then_some(());
    wait_for("the app", shown);
    host.deploy("shop", Bundle::component(guest("hello")));
    host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
}

#[test]
fn a_push_whose_client_disconnects_is_completed() {
    let host = Host::start_pausing("push-stored=sleep(600)");
    host.create("shop", "dev");
    let bundle = Bundle::component(guest("hello"));
    let upload = |query: &str| Ask::post(format!("/v1/apps/shop/pushes{query}")).header("idempotency-key", "once");
    let ask = upload("").body(bundle.content_type, bundle.bytes.clone());
    let push = ask_and_hang_up(&host, ask, || pushes(&host, "shop").pop());
    assert_eq!(host.ended(&push).state, "completed");
    let again = host.api(upload("?wait=true").body(bundle.content_type, bundle.bytes.clone())).expect(200);
    assert_eq!(Push::from(again.json()).id, push.id, "a retry returns the same push");
}

/// The same upload with the same key is the same push, also while the host accepts it.
#[test]
fn a_concurrent_retry_of_a_push_waits_for_the_first() {
    let host = Host::start_pausing("push-stored=sleep(600)->off");
    host.create("shop", "dev");
    let bundle = Bundle::component(guest("hello"));
    let upload = || {
        let ask = Ask::post("/v1/apps/shop/pushes?wait=true").header("idempotency-key", "once");
        host.api(ask.body(bundle.content_type, bundle.bytes.clone())).expect(200).json()
    };
    let (first, again) = std::thread::scope(|scope| {
        let first = scope.spawn(upload);
        wait_for("the push", || pushes(&host, "shop").pop());
        let again = upload();
        (first.join().expect("it is answered"), again)
    });
    assert_eq!((&first["id"], &first["state"]), (&again["id"], &json!("completed")));
    assert_eq!(again["state"], "completed");
}

/// The API lists a push before its job is complete. A cancellation at that moment works.
#[test]
fn a_push_can_be_cancelled_while_it_is_being_accepted() {
    let host = Host::start_pausing("push-stored=sleep(600)->off;push-queued=sleep(1000)");
    host.create("shop", "dev");
    let bundle = Bundle::component(guest("hello"));
    let ask = Ask::post("/v1/apps/shop/pushes").body(bundle.content_type, bundle.bytes);
    let push = ask_and_hang_up(&host, ask, || pushes(&host, "shop").pop());
    let cancelled = host.api(Ask::post(format!("{}/cancel", push.path()))).expect(200).json();
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(host.push_now(&push).state, "cancelled");
}

#[test]
fn a_start_whose_client_disconnects_is_completed() {
    let host = Host::start_pausing("app-starts=sleep(600)");
    host.deploy("shop", Bundle::component(guest("hello")));
    host.stop_app("shop");
    let starts = || (host.state("shop") == "starting").then_some(());
    ask_and_hang_up(&host, Ask::post("/v1/apps/shop/start"), starts);
    host.until_state("shop", "running");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

/// Every stored change takes effect, no matter when the client disconnected.
#[test]
fn stored_changes_of_disconnected_clients_take_effect() {
    let host = Host::start();
    let token = host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "read" }))).expect(201).json();
    let token = token["token"].as_str().expect("it is shown once").to_owned();
    let names: Vec<String> = (10..30).map(|number| format!("app-{number}")).collect();
    names.iter().for_each(|name| drop(host.create(name, "dev")));
    for name in &names {
        drop(asked(&host, Ask::new("PATCH", format!("/v1/apps/{name}")).json(&json!({ "type": "staging" }))));
        drop(asked(&host, Ask::new("PATCH", format!("/v1/apps/{name}/cores")).json(&json!({ "pull": 3 }))));
    }
    drop(asked(&host, Ask::new("DELETE", "/v1/tokens/ci")));
    let in_force = |name: &String| {
        let app_type = host.show(name)["type"].as_str().expect("an app has a type").to_owned();
        format!("{app_type} {}", host.cores(name)["pull"] == 3)
    };
    let all = "SELECT type || ' ' || iif(cores LIKE '%\"pull\":3%', 'true', 'false') FROM apps ORDER BY name";
    wait_for("the stored changes to take effect", || {
        (names.iter().map(in_force).collect::<Vec<_>>() == stored(&host, all)).then_some(())
    });
    wait_for("the token to work only while it is stored", || {
        let works = host.api_with(&token, Ask::get("/v1/apps")).status == 200;
        (works != stored(&host, "SELECT name FROM tokens WHERE name = 'ci'").is_empty()).then_some(())
    });
}
