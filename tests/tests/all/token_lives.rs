//! Tests the lives of tokens: expiry, rotation with and without a grace period, and the last use.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    process::Output,
    time::Duration,
};

use isopod_tests::{Answer, Ask, Host, Wire, limits::MINUTE_PATIENCE, program, wait_for, wait_up_to};
use serde_json::{Value, json};

/// Runs `isopod tokens` with the administrator's token.
fn tokens(host: &Host, args: &[&str]) -> Output {
    let address = format!("http://{}", host.admin);
    let file = std::fs::read_to_string(host.data().join("admin.token")).expect("the host has made it");
    program::run(&[&["tokens"], args, &["--host", &address, "--token", file.trim()]].concat())
}

/// Returns the JSON that `isopod tokens` prints.
fn tokens_json(host: &Host, args: &[&str]) -> Value {
    let output = tokens(host, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

fn secret(answer: &Value) -> String {
    answer["token"].as_str().expect("it is shown once").to_owned()
}

fn rotate(host: &Host, name: &str, body: &Value) -> Answer {
    host.api(Ask::post(format!("/v1/tokens/{name}/rotate")).json(body))
}

fn listed(host: &Host, name: &str) -> Value {
    let page = host.api(Ask::get("/v1/tokens")).expect(200).json();
    let found = page["items"].as_array().expect("a page has items").iter().find(|token| token["name"] == name);
    found.expect("it is listed").clone()
}

/// Opens a stream of the app's activity.
fn follow(host: &Host, token: &str) -> Wire {
    let mut wire = Wire::open(host.admin).expect("a connection");
    let ask = Ask::get("/v1/apps/shop/activity?follow=true").header("authorization", format!("Bearer {token}"));
    wire.ask(&ask).expect("it can be sent");
    assert_eq!(wire.head().expect("a head").status, 200);
    wire
}

/// Announces a bundle and sends its first bytes.
fn begin_upload(host: &Host, token: &str) -> Wire {
    let head = format!(
        "POST /v1/apps/shop/pushes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/wasm\r\ncontent-length: 60000\r\n\r\n"
    );
    let mut wire = Wire::open(host.admin).expect("a connection");
    wire.send(&[head.as_bytes(), b"\0a"].concat()).expect("it can be sent");
    wire
}

/// Returns the text of a stream up to its end.
fn rest(mut stream: Wire) -> String {
    let mut text = String::new();
    while let Some(piece) = stream.piece().expect("the stream is whole") {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    text
}

#[test]
fn an_expired_token_is_refused_and_its_streams_and_uploads_end() {
    let host = Host::start_with_faults("");
    host.create("shop", "dev");
    let made = tokens_json(&host, &["create", "ci", "--role", "deploy", "--expires", "1h"]);
    let (ci, expires_at) = (secret(&made), made["expires_at"].clone());
    assert!(expires_at.is_string(), "{made}");
    let (stream, mut upload) = (follow(&host, &ci), begin_upload(&host, &ci));
    host.faults().shift_clock_by_hours(2);
    let refused = host.api_with(&ci, Ask::get("/v1/apps/shop"));
    let problem = refused.problem(401, "token-expired");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("`ci` expired at")), "{problem}");
    assert!(refused.header("www-authenticate").is_some_and(|challenge| challenge.contains("invalid_token")));
    let end = rest(stream);
    assert!(end.ends_with("event: end\ndata: {\"reason\":\"token-expired\"}\n\n"), "{end}");
    upload.answer().expect("an answer").problem(401, "token-expired");
    assert_eq!(listed(&host, "ci")["expires_at"], expires_at);
    rotate(&host, "ci", &json!({})).problem(422, "bad-expiry");
    host.faults().shift_clock_by_hours(0);
    host.api_with(&ci, Ask::get("/v1/apps/shop")).problem(401, "token-expired");
    let rotated = rotate(&host, "ci", &json!({ "expires_at": null })).expect(200).json();
    assert_eq!(rotated["expires_at"], Value::Null);
    host.api_with(&secret(&rotated), Ask::get("/v1/apps/shop")).expect(200);
}

#[test]
fn the_streams_of_an_expired_token_end_while_the_disk_hangs() {
    let host = Host::start_pausing_with_faults("token-uses=return(50)", "");
    host.create("shop", "dev");
    let ci = secret(&tokens_json(&host, &["create", "ci", "--role", "deploy", "--expires", "1h"]));
    host.faults().delay_syncs(MINUTE_PATIENCE);
    // The last use of the token is now stored.
    let stream = follow(&host, &ci);
    wait_for("a sync that hangs", || (host.faults().delayed_syncs() > 0).then_some(()));
    host.faults().shift_clock_by_hours(2);
    let end = rest(stream);
    assert!(end.ends_with("event: end\ndata: {\"reason\":\"token-expired\"}\n\n"), "{end}");
    assert!(host.faults().delayed_syncs() > 0, "the disk still hangs");
    host.faults().delay_syncs(Duration::ZERO);
}

#[test]
fn a_rotated_secret_ends_immediately_with_its_streams_and_uploads() {
    let host = Host::start();
    host.create("shop", "dev");
    let old = secret(&tokens_json(&host, &["create", "ci", "--role", "deploy", "--app", "shop"]));
    let (stream, mut upload) = (follow(&host, &old), begin_upload(&host, &old));
    let new = secret(&rotate(&host, "ci", &json!({})).expect(200).json());
    let end = rest(stream);
    assert!(end.ends_with("event: end\ndata: {\"reason\":\"token-revoked\"}\n\n"), "{end}");
    upload.answer().expect("an answer").problem(401, "unknown-token");
    host.api_with(&old, Ask::get("/v1/apps/shop")).problem(401, "unknown-token");
    let host = host.restart();
    host.api_with(&old, Ask::get("/v1/apps/shop")).problem(401, "unknown-token");
    host.api_with(&new, Ask::get("/v1/apps/shop")).expect(200);
    let shown = listed(&host, "ci");
    assert_eq!((&shown["role"], &shown["apps"]), (&json!("deploy"), &json!(["shop"])));
}

#[test]
fn a_former_secret_is_valid_during_its_grace_period() {
    let host = Host::start_with_faults("");
    host.create("shop", "dev");
    let old = secret(&tokens_json(&host, &["create", "ci", "--role", "deploy"]));
    let rotated = tokens_json(&host, &["rotate", "ci", "--grace", "2h"]);
    assert!(rotated["former_secret_until"].is_string(), "{rotated}");
    let host = host.restart();
    let ask = |token: &str| host.api_with(token, Ask::get("/v1/apps/shop"));
    ask(&old).expect(200);
    ask(&secret(&rotated)).expect(200);
    let stream = follow(&host, &old);
    host.faults().shift_clock_by_hours(3);
    ask(&old).problem(401, "unknown-token");
    ask(&secret(&rotated)).expect(200);
    assert!(rest(stream).ends_with("{\"reason\":\"token-revoked\"}\n\n"));
    assert_eq!(listed(&host, "ci")["former_secret_until"], Value::Null);
}

#[test]
fn concurrent_rotations_leave_exactly_one_valid_secret() {
    let host = Host::start();
    tokens_json(&host, &["create", "ci", "--role", "read"]);
    let secrets: Vec<String> = std::thread::scope(|scope| {
        let rotating: Vec<_> =
            (0..8).map(|_| scope.spawn(|| secret(&rotate(&host, "ci", &json!({})).expect(200).json()))).collect();
        rotating.into_iter().map(|rotated| rotated.join().expect("it gets a response")).collect()
    });
    let valid = |host: &Host| -> Vec<bool> {
        secrets.iter().map(|secret| host.api_with(secret, Ask::get("/v1/apps")).status == 200).collect()
    };
    let before = valid(&host);
    assert_eq!(before.iter().filter(|valid| **valid).count(), 1, "{before:?}");
    assert_eq!(valid(&host.restart()), before);
}

#[test]
fn the_administrators_token_rotates_without_a_restart() {
    let host = Host::start();
    let path = host.data().join("admin.token");
    let old = std::fs::read_to_string(&path).expect("it exists").trim().to_owned();
    let output = tokens(&host, &["rotate", "admin"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let new = std::fs::read_to_string(&path).expect("it exists");
    assert_eq!(String::from_utf8_lossy(&output.stdout), new);
    assert_eq!(std::fs::metadata(&path).expect("it exists").permissions().mode() & 0o777, 0o600);
    host.api_with(&old, Ask::get("/v1/apps")).problem(401, "unknown-token");
    host.api_with(new.trim(), Ask::get("/v1/apps")).expect(200);
    host.api_with(new.trim(), Ask::new("DELETE", "/v1/tokens/admin")).problem(409, "admin-token");
    let expiring = json!({ "expires_at": "2999-01-01T00:00:00Z" });
    host.api_with(new.trim(), Ask::post("/v1/tokens/admin/rotate").json(&expiring)).problem(409, "admin-token");
    assert!(!temporary_files(&host));
    let host = host.restart();
    host.api(Ask::get("/v1/apps")).expect(200);
    host.api_with(&old, Ask::get("/v1/apps")).problem(401, "unknown-token");
}

/// Returns the stored hash of the administrator's token.
fn admin_hash(host: &Host) -> String {
    let database = rusqlite::Connection::open(host.data().join("control.db")).expect("it opens");
    database.query_row("SELECT hash FROM tokens WHERE name = 'admin'", [], |row| row.get(0)).expect("it is read")
}

#[test]
fn a_rotation_of_the_administrators_token_that_a_crash_interrupts_leaves_the_token_of_the_file() {
    let mut host = Host::start_pausing("admin-token-rotated=pause");
    let before = admin_hash(&host);
    let (address, token) = (host.admin, host.token.clone());
    let rotating = std::thread::spawn(move || {
        let ask = Ask::post("/v1/tokens/admin/rotate").header("authorization", format!("Bearer {token}"));
        ask.send(address)
    });
    wait_up_to(MINUTE_PATIENCE, "the new hash in the store", || (admin_hash(&host) != before).then_some(()));
    host.api(Ask::get("/v1/apps")).expect(200);
    host.kill();
    assert!(rotating.join().expect("the thread ends").is_err(), "the host was killed");
    let token = host.token.clone();
    let host = host.again();
    assert_eq!(host.token, token, "the file has the former secret");
    host.api(Ask::get("/v1/apps")).expect(200);
    assert!(!temporary_files(&host));
}

#[test]
fn a_rotation_whose_file_cannot_be_replaced_changes_nothing() {
    let host = Host::start();
    let path = host.data().join("admin.token");
    std::fs::remove_file(&path).expect("it can be removed");
    // A file can't replace a folder.
    std::fs::create_dir(&path).expect("a folder can be made");
    let before = admin_hash(&host);
    host.api(Ask::post("/v1/tokens/admin/rotate")).problem(500, "disk");
    host.api(Ask::get("/v1/apps")).expect(200);
    assert_eq!(admin_hash(&host), before);
    assert!(!temporary_files(&host));
    std::fs::remove_dir(&path).expect("it can be removed");
    let rotated = secret(&host.api(Ask::post("/v1/tokens/admin/rotate")).expect(200).json());
    assert_eq!(std::fs::read_to_string(&path).expect("it is written again").trim(), rotated);
}

/// Returns whether a rotation has left a file beside that of the token.
fn temporary_files(host: &Host) -> bool {
    let mut entries = std::fs::read_dir(host.data()).expect("it is a folder").filter_map(Result::ok);
    entries.any(|entry| entry.file_name().to_string_lossy().contains("admin.token-"))
}

#[test]
fn the_last_use_of_a_token_is_shown_and_outlasts_a_restart() {
    let host = Host::start();
    let ci = secret(&tokens_json(&host, &["create", "ci", "--role", "read"]));
    assert_eq!(listed(&host, "ci")["last_used_at"], Value::Null);
    host.api_with(&ci, Ask::get("/v1/apps")).expect(200);
    let used = listed(&host, "ci")["last_used_at"].clone();
    assert!(used.is_string(), "{used}");
    let mut host = host.restart();
    assert_eq!(listed(&host, "ci")["last_used_at"], used);
    host.kill();
    let host = host.again();
    assert_eq!(listed(&host, "ci")["last_used_at"], used, "the end of the first host stored it");
}

#[test]
fn the_last_use_of_a_token_is_stored_at_an_interval() {
    let mut host = Host::start_pausing("token-uses=return(50)");
    let ci = secret(&tokens_json(&host, &["create", "ci", "--role", "read"]));
    host.api_with(&ci, Ask::get("/v1/apps")).expect(200);
    let stored = || {
        let database = rusqlite::Connection::open(host.data().join("control.db")).expect("it opens");
        let sql = "SELECT last_used_at FROM tokens WHERE name = 'ci'";
        database.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).expect("it is read")
    };
    let used = wait_up_to(MINUTE_PATIENCE, "the last use in the store", stored);
    host.kill();
    assert_eq!(listed(&host.again(), "ci")["last_used_at"], used);
}

#[test]
fn invalid_requests_about_tokens_are_refused_with_the_reason() {
    let host = Host::start();
    tokens_json(&host, &["create", "ci", "--role", "read"]);
    let create = |body: &Value| host.api(Ask::post("/v1/tokens").json(body));
    for name in ["", "a\u{1b}[31mb", "a\nb", "../admin", "a\u{202e}b"] {
        let problem = create(&json!({ "name": name, "role": "read" })).problem(422, "bad-token-name");
        assert!(!problem.to_string().contains("\\u001b["), "{problem}");
    }
    let past = json!({ "name": "late", "role": "read", "expires_at": "2001-01-01T00:00:00Z" });
    create(&past).problem(422, "bad-expiry");
    for expires_at in [json!("soon"), json!(7), json!("99999-01-01T00:00:00Z")] {
        create(&json!({ "name": "x", "role": "read", "expires_at": expires_at })).problem(400, "bad-json");
    }
    create(&json!({ "name": "x", "role": "owner" })).problem(400, "bad-json");
    rotate(&host, "ci", &json!({ "grace_ms": 604_800_001_u64 })).problem(422, "bad-grace");
    rotate(&host, "ci", &json!({ "grace_ms": -1 })).problem(400, "bad-json");
    rotate(&host, "ci", &json!({ "expires_at": "2001-01-01T00:00:00Z" })).problem(422, "bad-expiry");
    rotate(&host, "nobody", &json!({})).problem(404, "unknown-token");
    let large = vec![b' '; 10 << 20];
    host.api(Ask::post("/v1/tokens").body("application/json", large.clone())).problem(413, "too-large");
    host.api(Ask::post("/v1/tokens/ci/rotate").body("application/json", large)).problem(413, "too-large");
    host.api(Ask::post("/v1/tokens/ci/rotate")).expect(200);
}

#[test]
fn tokens_are_listed_created_and_revoked_by_the_command_line() {
    let host = Host::start();
    host.create("shop", "dev");
    let made = tokens(&host, &["create", "ci", "--role", "send", "--app", "shop", "--expires", "30d"]);
    let secret = String::from_utf8(made.stdout).expect("it is text");
    assert!(secret.starts_with("iso_") && secret.lines().count() == 1, "{secret}");
    let note = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(note.contains("created the token ci, which expires at") && !note.contains(secret.trim()), "{note}");
    let list = String::from_utf8(tokens(&host, &[]).stdout).expect("it is text");
    assert!(list.lines().any(|line| line.starts_with("ci     send   shop  ")), "{list}");
    assert!(!list.contains("iso_"), "{list}");
    assert!(tokens(&host, &["revoke", "ci"]).status.success());
    host.api_with(secret.trim(), Ask::get("/v1/apps/shop/events/1")).problem(401, "unknown-token");
    for (args, status) in [(&["revoke", "ci"][..], 1), (&["create", "x"], 2), (&["rotate", "A B"], 2)] {
        assert_eq!(tokens(&host, args).status.code(), Some(status), "{args:?}");
    }
}

#[test]
fn the_administrators_token_is_not_rotated_through_a_link() {
    let host = Host::start();
    let (file, secret) = (host.data().join("admin.token"), host.data().join("mounted"));
    std::fs::rename(&file, &secret).expect("it is moved");
    symlink(&secret, &file).expect("it is created");
    rotate(&host, "admin", &json!({})).problem(409, "admin-token");
    assert!(file.is_symlink());
    let host = host.restart();
    host.api(Ask::get("/v1/tokens")).expect(200);
}
