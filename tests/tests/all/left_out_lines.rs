//! Tests the access log during a flood: each request is a line or is counted in a report, and the
//! reports need no further request.

use isopod_tests::{Bundle, Host, Wire, guest, wait_for};
use serde_json::Value;

const CONNECTIONS: usize = 2;
const REQUESTS_PER_CONNECTION: usize = 2_000;

/// Returns the number of requests that an app's log accounts for: in lines, and in reports about
/// lines that were left out.
fn accounted_for(host: &Host, app: &str) -> u64 {
    let folder = host.data().join("apps").join(app).join("logs");
    let segments = std::fs::read_dir(folder).expect("the app has a log");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(entry.expect("the folder can be read").path()).expect("logs are text")
    };
    let text: String = segments.map(read).collect();
    // The last line may be incomplete.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let requests = |line: Value| {
        let message = line["message"].as_str().unwrap_or_default();
        let is_report = message.contains("are not logged here") || message.contains("were dropped here");
        match message.split(' ').next().and_then(|number| number.parse().ok()) {
            Some(number) if is_report => number,
            _ => u64::from(line["stream"] == "access"),
        }
    };
    lines.map(requests).sum()
}

#[test]
fn every_request_of_a_flood_is_logged_or_counted() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    // Requests to a stopped app are refused fastest.
    host.stop_app("hello");
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut wire = Wire::open(host.listen).expect("a connection");
                let request = "GET / HTTP/1.1\r\nhost: hello.localhost\r\n\r\n";
                for _ in 0..REQUESTS_PER_CONNECTION / 50 {
                    wire.send(request.repeat(50).as_bytes()).expect("it can be sent");
                    for _ in 0..50 {
                        wire.answer().expect("an answer").problem_of("hello", 503, "app-unavailable");
                    }
                }
            });
        }
    });
    let sent = (CONNECTIONS * REQUESTS_PER_CONNECTION) as u64;
    wait_for("the report of the last requests", || (accounted_for(&host, "hello") == sent).then_some(()));
}
