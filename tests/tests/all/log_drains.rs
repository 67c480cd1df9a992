//! Tests log drains: the formats that endpoints receive, endpoints that fail or hang, and the
//! ceiling on outbound hosts.

use isopod_tests::{
    Ask, Bundle, Host, guest, program,
    tls::{Authority, Unreading},
    upstream::{Arrived, Then, Upstream, response},
    wait_for,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

/// Starts a host with an app that writes a line for each request to `/log-line?text=…`.
fn host() -> Host {
    host_with("")
}

/// Starts such a host with these settings.
fn host_with(settings: &str) -> Host {
    let host = Host::start_with("", settings);
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host
}

#[track_caller]
fn add(host: &Host, url: &str) -> Value {
    host.api(Ask::post("/v1/apps/greedy/drains").json(&json!({ "url": url }))).expect(201).json()
}

#[track_caller]
fn drain(host: &Host) -> Value {
    host.api(Ask::get("/v1/apps/greedy/drains")).expect(200).json()["items"][0].clone()
}

/// Writes lines until `arrived` returns one: a new drain starts with the next line.
#[track_caller]
fn until_arrived<T>(host: &Host, arrived: impl Fn() -> Option<T>) -> T {
    wait_for("a line at the endpoint", || {
        host.get("greedy", "/log-line?text=needle").expect(200);
        arrived()
    })
}

fn has_needle(request: &Arrived) -> bool {
    String::from_utf8_lossy(&request.body).contains("needle")
}

/// Receives the framed messages of a connection, on a thread of its own.
fn syslog_messages<S: Read + 'static>(accept: impl FnOnce() -> Option<S> + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1_000);
    std::thread::spawn(move || {
        let mut stream = BufReader::new(accept().expect("a connection"));
        loop {
            let mut length = Vec::new();
            if stream.read_until(b' ', &mut length).is_ok_and(|read| read == 0) {
                return;
            }
            let length = String::from_utf8(length).expect("text").trim().parse().expect("a length");
            let mut message = vec![0; length];
            stream.read_exact(&mut message).expect("a whole message");
            drop(sender.send(String::from_utf8(message).expect("text")));
        }
    });
    receiver
}

#[test]
fn an_http_endpoint_receives_ndjson() {
    let endpoint = Upstream::start(|_| Then::Send(response("ok")));
    let host = host();
    let added = add(&host, &format!("http://ci:secret@{}/in?key=hidden", endpoint.address));
    assert_eq!(added["url"], format!("http://***@{}/***", endpoint.address));
    let request = until_arrived(&host, || endpoint.requests().into_iter().find(has_needle));
    assert!(request.head.starts_with("POST /in?key=hidden "), "{}", request.head);
    assert_eq!(request.header("authorization"), ["Basic Y2k6c2VjcmV0"]);
    assert_eq!(request.header("content-type"), ["application/x-ndjson"]);
    let lines = String::from_utf8(request.body).expect("text");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.iter().any(|line| line["message"] == "needle" && line["app"] == "greedy"), "{lines:?}");
    wait_for("a counted line", || (drain(&host)["sent"].as_u64() > Some(0)).then_some(()));
    let recorded = host.activity_of("greedy", "drain-added").to_string();
    assert!(["secret", "/in", "hidden"].into_iter().all(|part| !recorded.contains(part)), "{recorded}");
}

#[test]
fn an_otlp_endpoint_receives_log_records() {
    let endpoint = Upstream::start(|_| Then::Send(response("{}")));
    let host = host();
    add(&host, &format!("otlp+http://{}", endpoint.address));
    let request = until_arrived(&host, || endpoint.requests().into_iter().find(has_needle));
    assert!(request.head.starts_with("POST /v1/logs "), "{}", request.head);
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let attributes = &body["resourceLogs"][0]["resource"]["attributes"];
    assert_eq!(attributes[0], json!({ "key": "service.name", "value": { "stringValue": "greedy" } }));
}

#[test]
fn a_syslog_endpoint_receives_framed_messages() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let host = host();
    add(&host, &format!("syslog://{address}"));
    let receiver = syslog_messages(move || listener.accept().ok().map(|(client, _)| client));
    let message = until_arrived(&host, || receiver.try_iter().find(|message| message.ends_with("needle")));
    assert!(message.starts_with("<14>1 ") && message.contains(" isopod greedy "), "{message}");
}

#[test]
fn endpoints_with_tls_receive_lines() {
    let authority = Authority::new();
    let identity = authority.identity(90);
    let endpoint = Upstream::start_tls(&identity, |_| Then::Send(response("ok")));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let syslog = listener.local_addr().expect("an address");
    let receiver = syslog_messages(move || identity.accept(listener.accept().ok()?.0));
    let host = host_with(&authority.settings());
    add(&host, &format!("https://{}/in", endpoint.address));
    add(&host, &format!("syslog+tls://{syslog}"));
    let request = until_arrived(&host, || endpoint.requests().into_iter().find(has_needle));
    assert!(request.head.starts_with("POST /in "), "{}", request.head);
    let message = until_arrived(&host, || receiver.try_iter().find(|message| message.ends_with("needle")));
    assert!(message.starts_with("<14>1 "), "{message}");
}

#[test]
fn no_line_is_sent_to_an_endpoint_whose_certificate_is_invalid() {
    let (trusted, unknown) = (Authority::new(), Authority::new());
    for (identity, reason) in [(trusted.identity(-3), "expired"), (unknown.identity(90), "UnknownIssuer")] {
        let endpoint = Upstream::start_tls(&identity, |_| Then::Send(response("ok")));
        let host = host_with(&trusted.settings());
        add(&host, &format!("https://{}/", endpoint.address));
        let failing = until_arrived(&host, || Some(drain(&host)).filter(|drain| drain["error"].is_string()));
        assert!(failing["error"].as_str().is_some_and(|error| error.contains(reason)), "{reason}: {failing}");
        assert_eq!((&failing["sent"], endpoint.requests().len()), (&json!(0), 0));
    }
}

#[test]
fn requests_of_an_app_do_not_trust_the_authorities_of_the_host() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(&authority.identity(90), |_| Then::Send(response("ok")));
    let host = Host::start_with("", &authority.settings());
    let manifest = format!("name = \"greedy\"\n[grants]\nhttp = [\"{}\"]\n", upstream.address);
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
    host.get("greedy", &format!("/fetch?url=https://{}/", upstream.address)).expect(502);
    assert!(upstream.requests().is_empty(), "the app has sent a request");
}

#[test]
fn an_endpoint_with_tls_that_reads_nothing_holds_one_connection() {
    let authority = Authority::new();
    let endpoints = ["https", "syslog+tls"].map(|scheme| (scheme, Unreading::start(&authority.identity(90))));
    let host = host_with(&authority.settings());
    for (scheme, endpoint) in &endpoints {
        add(&host, &format!("{scheme}://{}", endpoint.address));
    }
    // More than the buffers of the connections and of the drains.
    host.get("greedy", "/log-flood?lines=3000&bytes=1000").expect(200);
    for (scheme, endpoint) in &endpoints {
        wait_for(&format!("a second attempt over {scheme}"), || {
            host.get("greedy", "/log-flood?lines=10&bytes=1000").expect(200);
            (endpoint.accepted() >= 2).then_some(())
        });
        wait_for(&format!("a closed connection over {scheme}"), || (endpoint.open() <= 1).then_some(()));
    }
    host.get("greedy", "/ok").expect(200);
}

#[test]
fn a_syslog_endpoint_receives_datagrams() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("it can be set");
    let host = host();
    add(&host, &format!("syslog+udp://{}", socket.local_addr().expect("an address")));
    let message = until_arrived(&host, || {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned()).filter(|message| message.ends_with("needle"))
    });
    assert!(message.starts_with("<14>1 "), "{message}");
}

#[test]
fn an_endpoint_that_fails_or_hangs_delays_no_request_and_loses_no_buffered_line() {
    let status = Arc::new(AtomicU16::new(500));
    let current = Arc::clone(&status);
    let endpoint = Upstream::start(move |_| match current.load(Ordering::SeqCst) {
        0 => Then::SendAndStall(Vec::new()),
        200 => Then::Send(response("ok")),
        other => Then::Send(format!("HTTP/1.1 {other} No\r\ncontent-length: 0\r\n\r\n").into_bytes()),
    });
    let host = host();
    add(&host, &format!("http://{}/", endpoint.address));
    until_arrived(&host, || endpoint.requests().into_iter().find(has_needle));
    let failing = wait_for("a failed attempt", || Some(drain(&host)).filter(|drain| drain["error"].is_string()));
    assert!(failing["error"].as_str().is_some_and(|error| error.contains("500")), "{failing}");
    let before = endpoint.requests().len();
    status.store(0, Ordering::SeqCst);
    wait_for("an attempt that hangs", || (endpoint.requests().len() > before).then_some(()));
    host.get("greedy", "/log-line?text=while-it-hangs").expect(200);
    status.store(200, Ordering::SeqCst);
    wait_for("the line that was buffered meanwhile", || {
        let is_it = |request: &Arrived| String::from_utf8_lossy(&request.body).contains("while-it-hangs");
        endpoint.requests().iter().any(is_it).then_some(())
    });
    wait_for("an empty buffer", || {
        let drain = drain(&host);
        (drain["waiting"] == 0 && drain["error"].is_null() && drain["dropped"] == 0).then_some(())
    });
}

#[test]
fn an_endpoint_that_hangs_fills_only_the_buffer_of_its_own_drain() {
    let hanging = Upstream::start(|_| Then::SendAndStall(Vec::new()));
    let healthy = Upstream::start(|_| Then::Send(response("ok")));
    let host = host();
    for endpoint in [&hanging, &healthy] {
        add(&host, &format!("http://{}/", endpoint.address));
    }
    until_arrived(&host, || hanging.requests().into_iter().find(has_needle));
    wait_for("a full buffer", || {
        host.get("greedy", "/log-flood?lines=300&bytes=1000").expect(200);
        (drain(&host)["dropped"].as_u64() > Some(0)).then_some(())
    });
    wait_for("a line at the other endpoint", || {
        host.get("greedy", "/log-line?text=after-the-flood").expect(200);
        let is_it = |request: &Arrived| String::from_utf8_lossy(&request.body).contains("after-the-flood");
        healthy.requests().iter().any(is_it).then_some(())
    });
    let drains = host.api(Ask::get("/v1/apps/greedy/drains")).expect(200).json()["items"].clone();
    assert_eq!((&drains[0]["sent"], &drains[1]["error"]), (&json!(0), &Value::Null), "{drains}");
    assert!(drains[0]["waiting"].as_u64() > Some(1_000), "the buffer of the hanging endpoint is full: {drains}");
}

#[test]
fn the_commands_add_list_and_remove_a_drain() {
    let endpoint = Upstream::start(|_| Then::Send(response("ok")));
    let host = host();
    let address = format!("http://{}", host.admin);
    let run = |args: &[&str]| {
        let target = ["--app", "greedy", "--host", &address, "--token", &host.token];
        let output = program::run(&[&["drains"], args, &target].concat());
        assert!(output.status.success(), "{args:?}: {output:?}");
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"))
    };
    let [added, _] = run(&["add", &format!("http://ci:secret@{}/in", endpoint.address)]);
    let id = added.split_once("added the drain ").and_then(|(_, rest)| rest.split(' ').next()).expect(&added);
    assert!(!added.contains("secret"), "{added}");
    until_arrived(&host, || endpoint.requests().into_iter().find(has_needle));
    let [listed, _] = run(&["list"]);
    let row: Vec<&str> = listed.lines().nth(1).expect(&listed).split_whitespace().collect();
    assert_eq!(row[..2], [id, &format!("http://***@{}/***", endpoint.address)], "{listed}");
    let json: Value = serde_json::from_str(&run(&["list", "--json"])[0]).expect("JSON");
    assert_eq!(json["items"][0]["id"], id);
    run(&["remove", id]);
    assert_eq!(drain(&host), Value::Null);
    let [_, note] = run(&["list"]);
    assert!(note.contains("no drains"), "{note}");
}

#[test]
fn a_failing_batch_is_not_repeated_without_a_pause() {
    // Each connection accepts one batch. A repetition over a new connection would succeed.
    let endpoint = Upstream::start(|request| match request.number {
        0 => Then::Send(response("ok")),
        _ => Then::Send(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec()),
    });
    let host = host();
    add(&host, &format!("http://{}/", endpoint.address));
    let failing = until_arrived(&host, || Some(drain(&host)).filter(|drain| drain["error"].is_string()));
    assert!(failing["error"].as_str().is_some_and(|error| error.contains("503")), "{failing}");
}

#[test]
fn an_endpoint_is_not_contacted_during_the_pause_that_it_requests() {
    let pause = Duration::from_secs(3);
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&attempts);
    let endpoint = Upstream::start(move |_| {
        let mut attempts = seen.lock().expect("no other test panics here");
        attempts.push(Instant::now());
        match attempts.len() {
            1 => Then::Send(b"HTTP/1.1 429 No\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n".to_vec()),
            _ => Then::Send(response("ok")),
        }
    });
    let host = host();
    add(&host, &format!("http://{}/", endpoint.address));
    until_arrived(&host, || (drain(&host)["sent"].as_u64() > Some(0)).then_some(()));
    let attempts = attempts.lock().expect("the endpoint has not panicked");
    assert!(attempts[1] - attempts[0] >= pause, "{attempts:?}");
}

#[test]
fn an_endpoint_with_a_long_response_accepts_each_line_once() {
    let long = "x".repeat(1 << 20);
    let endpoint = Upstream::start(move |_| Then::Send(response(&long)));
    let host = host();
    add(&host, &format!("http://{}/", endpoint.address));
    until_arrived(&host, || endpoint.requests().into_iter().find(has_needle));
    host.get("greedy", "/log-line?text=once").expect(200);
    wait_for("an empty buffer", || {
        let drain = drain(&host);
        (drain["waiting"] == 0 && drain["sent"].as_u64() > Some(0) && drain["error"].is_null()).then_some(())
    });
    let received = |text: &str| {
        let bodies = endpoint.requests().into_iter().map(|request| String::from_utf8_lossy(&request.body).into_owned());
        bodies.map(|body| body.matches(text).count()).sum::<usize>()
    };
    wait_for("the line", || (received("\"message\":\"once\"") > 0).then_some(()));
    assert_eq!(received("\"message\":\"once\""), 1);
}

#[test]
fn a_refused_batch_is_dropped_and_counted() {
    let no = b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n".to_vec();
    let endpoint = Upstream::start(move |_| Then::Send(no.clone()));
    let host = host();
    add(&host, &format!("http://{}/", endpoint.address));
    until_arrived(&host, || (drain(&host)["dropped"].as_u64() > Some(0)).then_some(()));
}

#[test]
fn lines_wait_while_an_endpoint_refuses_the_credentials() {
    let has_access = Arc::new(AtomicBool::new(false));
    let checked = Arc::clone(&has_access);
    let endpoint = Upstream::start(move |_| {
        Then::Send(match checked.load(Ordering::Relaxed) {
            true => response("ok"),
            false => b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".to_vec(),
        })
    });
    let host = host();
    add(&host, &format!("http://{}/", endpoint.address));
    let refused = until_arrived(&host, || {
        Some(drain(&host)).filter(|drain| drain["error"].as_str().is_some_and(|error| error.contains("401")))
    });
    assert_eq!((&refused["dropped"], &refused["sent"]), (&json!(0), &json!(0)), "{refused}");
    let before = endpoint.requests().len();
    has_access.store(true, Ordering::Relaxed);
    wait_for("the same lines", || endpoint.requests().into_iter().skip(before).find(has_needle));
    wait_for("a drain without an error", || drain(&host)["error"].is_null().then_some(()));
    assert_eq!(drain(&host)["dropped"], 0);
}

#[test]
fn drains_persist_until_they_or_their_app_are_removed() {
    let endpoint = Upstream::start(|_| Then::Send(response("ok")));
    let host = host();
    let id = add(&host, &format!("http://{}/", endpoint.address))["id"].as_str().expect("an id").to_owned();
    let host = host.restart();
    assert_eq!(drain(&host)["id"], id.as_str());
    until_arrived(&host, || endpoint.requests().into_iter().find(has_needle));
    let path = format!("/v1/apps/greedy/drains/{id}");
    host.api(Ask::new("DELETE", &*path)).expect(204);
    host.activity_of("greedy", "drain-removed");
    host.api(Ask::new("DELETE", &*path)).problem_of("greedy", 404, "unknown-drain");
    assert_eq!(drain(&host), Value::Null);
    add(&host, &format!("http://{}/", endpoint.address));
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    host.deploy("greedy", Bundle::component(guest("greedy")));
    assert_eq!(drain(&host), Value::Null, "a new app of the same name has no drains");
}

#[test]
fn the_url_of_a_drain_is_sealed() {
    let endpoint = Upstream::start(|_| Then::Send(response("ok")));
    let host = host();
    add(&host, &format!("http://ci:secret@{}/hidden", endpoint.address));
    let stored = |host: &Host| -> String {
        host.control_database().query_row("SELECT url FROM drains", [], |row| row.get(0)).expect("a drain")
    };
    let sealed = stored(&host);
    assert!(!sealed.contains("secret") && !sealed.contains("hidden"), "{sealed}");
    // Without its key, the drain is listed with the reason, and can be removed.
    let host = host.restart_after(|host| fs::remove_file(host.data().join("secrets.key")).expect("it can be removed"));
    let lost = drain(&host);
    assert_eq!(lost["url"], "unreadable", "{lost}");
    assert!(lost["error"].as_str().is_some_and(|error| error.contains("secrets.key")), "{lost}");
    let id = lost["id"].as_str().expect("an id");
    host.api(Ask::new("DELETE", &*format!("/v1/apps/greedy/drains/{id}"))).expect(204);
    assert_eq!(drain(&host), Value::Null);
}

#[test]
fn one_token_cannot_add_all_drains_of_the_host() {
    let host = Host::start();
    let apps: Vec<String> = (0..13).map(|number| format!("app-{number}")).collect();
    apps.iter().for_each(|app| drop(host.create(app, "dev")));
    let body = json!({ "name": "ci", "role": "deploy", "apps": apps });
    let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    let ask = |token: &str, app: &str| {
        let body = json!({ "url": "https://logs.example.org/" });
        host.api_with(token, Ask::post(format!("/v1/apps/{app}/drains")).json(&body))
    };
    let token = made["token"].as_str().expect("a secret");
    for number in 0..64 {
        ask(token, &apps[number / 5]).expect(201);
    }
    ask(token, "app-12").problem_of("app-12", 409, "too-many-drains");
    ask(&host.token, "app-12").expect(201);
}

#[test]
fn the_ceiling_on_outbound_hosts_applies_to_drains() {
    let host = host();
    let body = json!({ "name": "ci", "role": "deploy", "apps": ["greedy"] });
    let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    let ask =
        |token: &str, url: &str| host.api_with(token, Ask::post("/v1/apps/greedy/drains").json(&json!({ "url": url })));
    let token = made["token"].as_str().expect("a secret");
    ask(token, "http://127.0.0.1:9/").problem_of("greedy", 422, "grant-not-allowed");
    ask(token, "syslog+udp://10.0.0.1").problem_of("greedy", 422, "grant-not-allowed");
    ask(token, "https://logs.example.org/").expect(201);
    let admin = host.token.clone();
    ask(&admin, "ftp://logs.example.org").problem_of("greedy", 422, "bad-endpoint");
    // The host's own listeners are never reachable.
    ask(&admin, &format!("http://{}/", host.admin)).expect(201);
    let error = wait_for("a refused connection", || {
        host.get("greedy", "/log-line?text=needle").expect(200);
        let drains = host.api(Ask::get("/v1/apps/greedy/drains")).expect(200).json();
        drains["items"][1]["error"].as_str().map(str::to_owned)
    });
    assert!(error.contains("never reachable"), "{error}");
    (0..3).for_each(|_| drop(ask(&admin, "https://logs.example.org/").expect(201)));
    ask(&admin, "https://logs.example.org/").problem_of("greedy", 409, "too-many-drains");
}
