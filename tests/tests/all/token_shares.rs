//! Tests that one API token can't take all permits and all memory of the API, and that a body of
//! the API which arrives too slowly is refused.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use isopod_tests::{Ask, Bundle, Host, Wire, guest, wait_for};
use serde_json::json;

const BODY_BYTES: usize = 1 << 20;

fn token(host: &Host, name: &str) -> String {
    let body = json!({ "name": name, "role": "deploy" });
    let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    made["token"].as_str().expect("a token").to_owned()
}

fn head(request: &str, token: &str, content_type: &str, bytes: usize) -> String {
    format!(
        "{request} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: {content_type}\r\n\
         content-length: {bytes}\r\n\r\n"
    )
}

/// Announces an upload and sends its first bytes.
fn begin_upload(host: &Host, app: &str, token: &str) -> Wire {
    let head = head(&format!("POST /v1/apps/{app}/pushes"), token, "application/wasm", 60_000_000);
    let mut wire = Wire::open(host.admin).expect("the API accepts connections");
    wire.send(&[head.as_bytes(), b"\0a"].concat()).expect("it can be sent");
    wire
}

/// Begins `count` uploads. Returns them once the host receives them all.
fn uploads(host: &Host, count: usize, begin: impl Fn(usize) -> Wire) -> Vec<Wire> {
    let before = received(host);
    let begun = (0..count).map(begin).collect();
    wait_for("the uploads", || (received(host) == before + count).then_some(()));
    begun
}

fn received(host: &Host) -> usize {
    std::fs::read_dir(host.data().join("tmp")).expect("the host has made it").count()
}

#[test]
fn one_token_cannot_take_all_uploads_and_its_bodies_end_with_it() {
    let host = Host::start();
    let ci = token(&host, "ci");
    let slow = uploads(&host, 8, |number| begin_upload(&host, &format!("app-{number}"), &ci));
    let refused = begin_upload(&host, "another", &ci).answer().expect("an answer");
    let problem = refused.problem(429, "too-many-pushes");
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("8 uploads with the token `ci`")),
        "{refused}"
    );
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("after an upload with the token")), "{refused}");
    assert_eq!(refused.header("retry-after"), Some("2"));
    host.deploy("shop", Bundle::component(guest("hello")));

    let bodies = ["PATCH /v1/apps/shop/config", "POST /v1/apps/shop/events"].map(|request| {
        let mut wire = Wire::open(host.admin).expect("the API accepts connections");
        let head = head(request, &ci, "application/json", BODY_BYTES);
        wire.send(&[head.as_bytes(), b"{"].concat()).expect("it can be sent");
        wire
    });
    host.api(Ask::new("DELETE", "/v1/tokens/ci")).expect(204);
    for mut wire in slow.into_iter().chain(bodies) {
        wire.answer().expect("an answer").problem(401, "unknown-token");
    }
    wait_for("the removal of the uploads", || (received(&host) == 0).then_some(()));
}

#[test]
fn the_tokens_of_one_app_cannot_take_all_uploads() {
    let host = Host::start();
    let tokens = ["ci", "ann"].map(|name| token(&host, name));
    let _slow = uploads(&host, 8, |number| begin_upload(&host, "shop", &tokens[number % 2]));
    let refused = begin_upload(&host, "shop", &host.token).answer().expect("an answer");
    let problem = refused.problem(429, "too-many-pushes");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("8 uploads to `shop`")), "{refused}");
    let client = |app| begin_upload(&host, app, &tokens[0]);
    let _others = uploads(&host, 4, |_| client("other"));
    host.deploy("third", Bundle::component(guest("hello")));
}

/// An announced length takes no memory, so it takes none of the budget either.
#[test]
fn announced_bodies_of_the_api_take_no_budget() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    let ci = token(&host, "ci");
    let head = head("PATCH /v1/apps/shop/config", &ci, "application/json", BODY_BYTES);
    let _announced: Vec<Wire> = (0..70)
        .map(|_| {
            let mut wire = Wire::open(host.admin).expect("the API accepts connections");
            wire.send(&[head.as_bytes(), b"{"].concat()).expect("it can be sent");
            wire
        })
        .collect();
    for (number, token) in [&host.token, &ci].into_iter().enumerate() {
        let change = Ask::new("PATCH", "/v1/apps/shop/config").json(&json!({ "GREETING": number.to_string() }));
        host.api_with(token, change).expect(200);
    }
}

#[test]
fn the_bodies_of_one_token_use_at_most_half_of_the_budget_of_the_api() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    let tokens = ["ci", "ann"].map(|name| token(&host, name));
    let almost = |token: &str| -> Vec<Wire> {
        let head = head("PATCH /v1/apps/shop/config", token, "application/json", BODY_BYTES);
        let open = |_| {
            let mut wire = Wire::open(host.admin).expect("the API accepts connections");
            wire.send(head.as_bytes()).and_then(|()| wire.send(&[b' '; BODY_BYTES - 1])).expect("it can be sent");
            wire
        };
        (0..32).map(open).collect()
    };
    let change = |token: &str| {
        let change = json!({ "GREETING": "hello" });
        host.api_with(token, Ask::new("PATCH", "/v1/apps/shop/config").json(&change))
    };
    let refused = |token: &str| wait_for("a rejection", || Some(change(token)).filter(|answer| answer.status != 200));
    let of_ci = almost(&tokens[0]);
    let answer = refused(&tokens[0]);
    let problem = answer.problem(429, "too-many-bodies");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("token `ci`")), "{answer}");
    assert!(problem["hint"].is_string() && answer.header("retry-after") == Some("2"), "{answer}");
    change(&host.token).expect(200);
    let _of_ann = almost(&tokens[1]);
    let answer = refused(&host.token);
    let problem = answer.problem(503, "too-many-bodies");
    let id = answer.header("x-request-id").expect("an id");
    wait_for("the line of the host's log", || host.said().contains(id).then_some(()));
    assert!(problem["hint"].is_string() && answer.header("retry-after") == Some("2"), "{answer}");
    drop(of_ci);
    wait_for("free budget for bodies", || (change(&host.token).status == 200).then_some(()));
}

/// Sends a request whose body never ends: one byte at a time, until the host responds.
fn trickle(to: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(to).expect("the API accepts connections");
    stream.write_all(head.as_bytes()).expect("it can be sent");
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("it can be set");
    let (mut response, mut part) = (Vec::new(), [0; 4096]);
    for _ in 0..120 {
        match stream.read(&mut part) {
            Ok(0) => return String::from_utf8_lossy(&response).into_owned(),
            Ok(length) => response.extend_from_slice(&part[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // The host may close the connection at any time.
                let _ = stream.write_all(b" ");
            }
            Err(_) => return String::from_utf8_lossy(&response).into_owned(),
        }
        if response.windows(13).any(|text| text == b"body-too-slow") {
            return String::from_utf8_lossy(&response).into_owned();
        }
    }
    panic!("the host waits for the body");
}

/// A byte now and then doesn't extend the time of a body.
#[test]
fn a_body_of_the_api_below_the_minimum_rate_is_refused() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    let heads = [
        head("POST /v1/apps/shop/pushes", &host.token, "application/wasm", 60_000_000),
        head("PATCH /v1/apps/shop/config", &host.token, "application/json", BODY_BYTES),
        head("POST /v1/apps/shop/events", &host.token, "application/json", BODY_BYTES),
        head("PUT /v1/apps/shop/build-error", &host.token, "text/plain", BODY_BYTES),
    ];
    std::thread::scope(|scope| {
        let slow = heads.each_ref().map(|head| scope.spawn(|| trickle(host.admin, head)));
        for (slow, head) in slow.into_iter().zip(&heads) {
            let response = slow.join().expect("it responds");
            assert!(response.starts_with("HTTP/1.1 408 ") && response.contains("body-too-slow"), "{head}: {response}");
        }
    });
}
