//! Clients of the API that hang up in the middle of a change: it is done to its end, as if they had waited.

use isopod_tests::{Ask, Bundle, Host, Push, Wire, guest, wait_for};
use serde_json::json;
use std::{thread::sleep, time::Duration};

/// Long enough for a request to be where its step is held, and shorter than that takes.
const HANG_UP_AFTER: Duration = Duration::from_millis(200);

/// Asks the API, and hangs up before the answer can be there.
fn ask_and_hang_up(host: &Host, ask: Ask) {
    let mut wire = Wire::open(host.admin).expect("the host accepts connections");
    wire.ask(&ask.header("authorization", format!("Bearer {}", host.token))).expect("it is sent");
    sleep(HANG_UP_AFTER);
}

fn pushes(host: &Host, app: &str) -> Vec<Push> {
    let page = host.api(Ask::get(format!("/v1/apps/{app}/pushes"))).expect(200).json();
    page["items"].as_array().expect("a page has items").iter().cloned().map(Push::from).collect()
}

#[test]
fn an_app_whose_maker_hangs_up_is_made_in_full() {
    let host = Host::start_pausing("app-stored=sleep(600)");
    ask_and_hang_up(&host, Ask::post("/v1/apps").json(&json!({ "name": "shop" })));
    let shown = || (host.api(Ask::get("/v1/apps/shop")).status == 200).then_some(());
    wait_for("the app", shown);
    host.deploy("shop", Bundle::component(guest("hello")));
    host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
}

#[test]
fn a_push_whose_client_hangs_up_is_carried_out() {
    let host = Host::start_pausing("push-stored=sleep(600)");
    host.create("shop", "dev");
    let bundle = Bundle::component(guest("hello"));
    let upload = |query: &str| Ask::post(format!("/v1/apps/shop/pushes{query}")).header("idempotency-key", "once");
    ask_and_hang_up(&host, upload("").body(bundle.content_type, bundle.bytes.clone()));
    let push = wait_for("the push", || pushes(&host, "shop").pop());
    assert_eq!(host.ended(&push).state, "completed");
    let again = host.api(upload("?wait=true").body(bundle.content_type, bundle.bytes.clone())).expect(200);
    assert_eq!(Push::from(again.json()).id, push.id, "its sender may be sure of it by sending it again");
}

/// The same upload with the same key is the same push, also while that is just being accepted.
#[test]
fn a_push_that_is_sent_again_at_once_is_waited_for() {
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

/// A push is listed before all of it is in place, and even then its cancellation is one.
#[test]
fn a_push_is_cancelled_though_it_was_accepted_that_very_moment() {
    let host = Host::start_pausing("push-stored=sleep(600)->off;push-queued=sleep(1000)");
    host.create("shop", "dev");
    let bundle = Bundle::component(guest("hello"));
    ask_and_hang_up(&host, Ask::post("/v1/apps/shop/pushes").body(bundle.content_type, bundle.bytes));
    let push = wait_for("the push", || pushes(&host, "shop").pop());
    let cancelled = host.api(Ask::post(format!("{}/cancel", push.path()))).expect(200).json();
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(host.push_now(&push).state, "cancelled");
}

#[test]
fn a_start_whose_client_hangs_up_is_done() {
    let host = Host::start_pausing("app-starts=sleep(600)");
    host.deploy("shop", Bundle::component(guest("hello")));
    host.stop_app("shop");
    ask_and_hang_up(&host, Ask::post("/v1/apps/shop/start"));
    host.until_state("shop", "running");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

/// What was stored and what is in force are one, also after the host starts again.
#[test]
fn changes_whose_clients_hang_up_are_in_force_once_they_are_stored() {
    let host = Host::start();
    let token = host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "read" }))).expect(201).json();
    let token = token["token"].as_str().expect("it is shown once").to_owned();
    let names: Vec<String> = (0..20).map(|number| format!("app-{number}")).collect();
    names.iter().for_each(|name| drop(host.create(name, "dev")));
    let wire = |ask: Ask, wait: Duration| {
        let mut wire = Wire::open(host.admin).expect("the host accepts connections");
        wire.ask(&ask.header("authorization", format!("Bearer {}", host.token))).expect("it is sent");
        sleep(wait);
    };
    for (number, name) in names.iter().enumerate() {
        let wait = Duration::from_micros(150 * (number as u64 % 10));
        wire(Ask::new("PATCH", format!("/v1/apps/{name}")).json(&json!({ "type": "staging" })), wait);
        wire(Ask::new("PATCH", format!("/v1/apps/{name}/cores")).json(&json!({ "pull": 3 })), wait);
    }
    wire(Ask::new("DELETE", "/v1/tokens/ci"), Duration::from_micros(300));
    sleep(HANG_UP_AFTER);
    let listed = host.api(Ask::get("/v1/tokens")).expect(200).text().contains("\"ci\"");
    let works = host.api_with(&token, Ask::get("/v1/apps")).status == 200;
    assert_eq!(works, listed, "a token that is not listed does not work");
    let told = |host: &Host| {
        let of = |name: &String| (host.show(name)["type"].clone(), host.cores(name)["pull"].clone());
        names.iter().map(of).collect::<Vec<_>>()
    };
    let before = told(&host);
    assert_eq!(told(&host.restart()), before);
}
