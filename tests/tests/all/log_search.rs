//! Tests the search in an app's log: filters by time, text, level, source, instance and request,
//! their errors, hostile lines and filters, and the bounds of one search.

use isopod_tests::{Ask, Bundle, Host, Neighbour, guest, outbox::outbox, program, wait_for};
use serde_json::{Value, json};
use std::{
    fs,
    process::Output,
    time::{Duration, SystemTime},
};

/// Encodes a text for a query.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn host_with_greedy(limits: &str) -> Host {
    let host = Host::start();
    let manifest = format!("name = \"greedy\"\n[limits]\n{limits}\n");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
    host
}

/// Makes the guest log a line at a level, and returns the line.
fn log_at(host: &Host, level: &str, text: &str) -> Value {
    host.get("greedy", &format!("/log-at?level={level}&text={}", encoded(text))).expect(200);
    host.log_line("greedy", text, |line| message(line) == text)
}

fn message(line: &Value) -> &str {
    line["message"].as_str().expect("a line has a message")
}

fn text(line: &Value, member: &str) -> String {
    line[member].as_str().unwrap_or_else(|| panic!("{member} is missing: {line}")).to_owned()
}

/// Returns the lines that a query selects, oldest first.
fn found(host: &Host, query: &str) -> Vec<Value> {
    let page = host.api(Ask::get(format!("/v1/apps/greedy/logs?limit=1000&{query}"))).expect(200).json();
    assert_eq!(page["partial"], false, "{page}");
    page["items"].as_array().expect("a page has items").clone()
}

fn messages(host: &Host, query: &str) -> Vec<String> {
    found(host, query).iter().map(|line| message(line).to_owned()).collect()
}

fn isopod(host: &Host, args: &[&str]) -> Output {
    let address = format!("http://{}", host.admin);
    program::run(&[&["logs", "--app", "greedy"][..], args, &["--host", &address, "--token", &host.token]].concat())
}

#[test]
fn a_line_has_its_level_release_instance_and_request() {
    let host = host_with_greedy("");
    let line = log_at(&host, "warn", "low on paper");
    let instances = host.api(Ask::get("/v1/apps/greedy/instances")).expect(200).json();
    let id = &instances["items"][0]["id"];
    assert_eq!((&line["level"], &line["release"], &line["instance"]), (&json!("warn"), &json!(1), id));
    let request = host.log_line("greedy", "the request", |found| {
        found["stream"] == "access" && found["request_id"] == line["request_id"]
    });
    assert_eq!((&request["instance"], &request["status"]), (id, &json!(200)));
    host.get("greedy", "/trap").expect(502);
    let trap = host.log_line("greedy", "the trap", |found| message(found).contains("guest trapped"));
    assert_eq!((&trap["instance"], &trap["level"]), (id, &json!("error")));
}

#[test]
fn the_lines_of_an_event_have_its_id() {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", "retry = { attempts = 1 }", ""));
    let event = host.push_steps("outbox", None, &json!([["trap"]]));
    host.until_event("outbox", &event, "dead");
    for words in ["outbox was asked to trap", "guest trapped", &format!("event `{event}`")] {
        let line = host.log_line("outbox", words, |line| message(line).contains(words));
        assert_eq!(line["event_id"], event.as_str(), "{line}");
    }
}

#[test]
fn a_search_is_literal_and_ignores_case() {
    let host = host_with_greedy("");
    for text in ["Disk ERROR 7", "disk error.7", "größe: 100%", "<b>bold</b>"] {
        log_at(&host, "info", text);
    }
    let of_guest = |text: &str| messages(&host, &format!("stream=log&grep={}", encoded(text)));
    assert_eq!(of_guest("error"), ["Disk ERROR 7", "disk error.7"]);
    assert_eq!(of_guest("R.7"), ["disk error.7"]);
    assert_eq!(of_guest("GRÖSSE"), [""; 0]);
    assert_eq!(of_guest("GRÖßE"), ["größe: 100%"]);
    assert_eq!(of_guest("100%"), ["größe: 100%"]);
    assert_eq!(of_guest("<B>"), ["<b>bold</b>"]);
    assert_eq!(of_guest(".*"), [""; 0]);
}

#[test]
fn filters_combine_in_the_api_and_on_the_command_line() {
    let host = host_with_greedy("");
    let wanted = log_at(&host, "error", "payment failed: timeout");
    log_at(&host, "error", "payment failed: no route");
    log_at(&host, "warn", "payment slow: timeout");
    let last = log_at(&host, "info", "timeout is 5 s");
    let at_least = |level: &str| messages(&host, &format!("stream=log&level={level}")).len();
    assert_eq!([at_least("info"), at_least("warn"), at_least("error"), at_least("critical")], [4, 3, 2, 0]);

    let (instance, request, time) = (text(&wanted, "instance"), text(&wanted, "request_id"), text(&wanted, "time"));
    let query = format!("grep=TIMEOUT&level=error&since=10m&instance={instance}&request_id={request}");
    assert_eq!(found(&host, &query), [wanted]);
    assert_eq!(found(&host, &query.replace(&instance, "web-zzzzz")), [] as [Value; 0]);
    assert_eq!(messages(&host, &format!("stream=log&since={time}&until={time}")), ["payment failed: timeout"]);
    assert_eq!(found(&host, "until=10m"), [] as [Value; 0], "all lines are newer");
    let later = text(&last, "time");
    assert_eq!(messages(&host, &format!("stream=log&since={later}")), ["timeout is 5 s"]);

    let args =
        ["--since", "10m", "--grep", "Failed", "--level", "warn", "--instance", &instance, "--request", &request];
    let output = isopod(&host, &args);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((shown.lines().count(), output.status.code()), (1, Some(0)), "{shown}");
    assert!(shown.contains(&instance) && shown.contains("payment failed: timeout"), "{shown}");
    let output = isopod(&host, &["--since", &later, "--stream", "log"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.lines().count() == 1 && shown.contains("timeout is 5 s"), "{shown}");
    let output = isopod(&host, &["--since", "10m", "--until", "5m", "--grep", "payment"]);
    assert!(output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("no line"), "{output:?}");
}

#[test]
fn an_invalid_filter_is_refused_with_the_reason() {
    let host = host_with_greedy("");
    let long = format!("grep={}", "x".repeat(1_025));
    for (query, words) in [
        ("since=yesterday", "`since` is neither a duration before now, such as 10m, nor an RFC 3339 time"),
        ("until=10", "`until` is neither a duration"),
        ("since=2026-13-01T00:00:00Z", "nor an RFC 3339 time"),
        ("since=5m&until=10m", "is after `until`"),
        ("level=loud", "`level` must be one of `trace`, `debug`, `info`, `warn`, `error`, `critical`"),
        ("stream=file", "`stream` must be one of"),
        ("instance=web", "invalid instance id \"web\""),
        ("request_id=7", "invalid request id"),
        ("grep=", "`grep` is empty"),
        ("grep=a&grep=b", "appears more than once"),
        (long.as_str(), "`grep` has 1025 bytes, but at most 1024 are possible"),
    ] {
        let problem = host.api(Ask::get(format!("/v1/apps/greedy/logs?{query}"))).problem(400, "bad-query");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(words)), "{query}: {problem}");
    }
    for args in [["--since", "yesterday"], ["--level", "loud"], ["--instance", "web"], ["--grep", ""]] {
        let output = isopod(&host, &args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
}

#[test]
fn a_filter_of_1_mib_is_refused() {
    let host = host_with_greedy("");
    let neighbour = Neighbour::beside(&host);
    let ask = Ask::get(format!("/v1/apps/greedy/logs?grep={}", "x".repeat(1 << 20)));
    let refused = ask.header("authorization", format!("Bearer {}", host.token)).send(host.admin);
    // The client may lose its connection before it has sent everything.
    assert!(refused.as_ref().is_ok_and(|answer| answer.status == 431) || refused.is_err(), "{refused:?}");
    host.api(Ask::get("/v1/apps/greedy/logs?grep=x")).expect(200);
    neighbour.finish();
}

#[test]
fn hostile_lines_are_stored_as_text_and_found() {
    let host = host_with_greedy("log_line = \"64KiB\"");
    let following = host.follow("/v1/apps/greedy/logs?limit=0");
    // Invalid UTF-8, a NUL, an escape sequence, and HTML.
    host.get("greedy", "/log-bytes?hex=ff416200c31b5b324a3c7363726970743e").expect(200);
    let wanted = "\u{fffd}Ab\0\u{fffd}\u{1b}[2J<script>";
    host.log_line("greedy", "the bytes", |line| message(line) == wanted);
    assert_eq!(messages(&host, "grep=aB%00"), [wanted]);
    assert_eq!(messages(&host, "grep=%3CSCRIPT%3E"), [wanted]);
    let shown = isopod(&host, &["--grep", "<script>"]);
    assert!(!shown.stdout.contains(&0x1b) && !shown.stdout.contains(&0), "{shown:?}");

    // A line of 10 MiB, and a line of control characters, whose JSON is six times as long.
    host.get("greedy", "/log-flood?lines=1&bytes=10485760");
    let control = "01".repeat(1 << 14);
    host.get("greedy", &format!("/log-bytes?hex={control}")).expect(200);
    host.get("greedy", "/log-line?text=the-last-line").expect(200);
    let long = host.log_line("greedy", "the long line", |line| message(line).starts_with("out 0 xxx"));
    assert_eq!(message(&long).len(), (64 << 10) + " … (line cut)".len(), "the limit of the manifest applies");
    assert!(message(&long).ends_with("x … (line cut)"));
    let mut followed = Vec::new();
    for line in following {
        let is_last = message(&line) == "the-last-line";
        followed.push(message(&line).to_owned());
        if is_last {
            break;
        }
    }
    for text in [wanted, message(&long), &"\u{1}".repeat(1 << 14)] {
        assert_eq!(followed.iter().filter(|line| *line == text).count(), 1, "{}", text.len());
    }
    host.get("greedy", "/log-flood?lines=1&bytes=100000").expect(200);
    let logged = host.log_line("greedy", "the long message", |line| message(line).contains(": log 0 xxx"));
    assert!(message(&logged).len() <= (64 << 10) + 100 && message(&logged).ends_with("x … (line cut)"));
    assert_eq!(found(&host, "stream=log&grep=%20XXX"), [logged]);
}

#[test]
fn a_follower_with_an_end_time_ends_by_itself() {
    let host = host_with_greedy("");
    log_at(&host, "error", "before");
    log_at(&host, "info", "not an error");
    let until = time_after(Duration::from_secs(5));
    let following = host.follow(&format!("/v1/apps/greedy/logs?level=error&limit=10&until={}", encoded(&until)));
    log_at(&host, "error", "meanwhile");
    let lines: Vec<String> = following.map(|line| message(&line).to_owned()).collect();
    assert_eq!(lines, ["before", "meanwhile"]);
    let output = isopod(&host, &["--follow", "--until", "0s", "--grep", "before"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && shown.contains("before"), "{output:?}");
}

fn time_after(span: Duration) -> String {
    humantime::format_rfc3339_millis(SystemTime::now() + span).to_string()
}

#[test]
fn a_follower_that_reads_late_learns_how_many_lines_it_missed() {
    let host = Host::start_with("", "[logs]\nsegment = \"64KiB\"\nkept = \"128KiB\"\n");
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let following = host.follow("/v1/apps/greedy/logs?limit=0");
    // More than connections and queues hold. The test reads nothing before.
    let folder = host.data().join("apps/greedy/logs");
    let newest_segment = || {
        let names = fs::read_dir(&folder).expect("it has a log").flatten();
        names.filter_map(|entry| entry.path().file_stem()?.to_str()?.parse::<u64>().ok()).max().unwrap_or(0)
    };
    wait_for("much output", || {
        host.get("greedy", "/log-flood?lines=300&bytes=1000").expect(200);
        (newest_segment() > 400).then_some(())
    });
    host.get("greedy", "/log-line?text=the-last-line").expect(200);
    let mut missed = 0;
    for line in following {
        if let Some(lines) =
            message(&line).strip_suffix(" lines were skipped here: they were removed before they were read")
        {
            missed += lines.parse::<u64>().expect("a number of lines");
        }
        if message(&line) == "the-last-line" {
            break;
        }
    }
    assert!(missed > 100, "{missed}");
    let segments = fs::read_dir(&folder).expect("it has a log").flatten();
    let stored: u64 = segments.map(|segment| segment.metadata().expect("it is kept").len()).sum();
    assert!((1..=128 << 10).contains(&stored), "the log has {stored} bytes, but 128 KiB are kept");
}

/// Writes a log of one old line and then this many bytes of other lines, in segments of 1 MiB.
fn write_large_log(host: &Host, bytes: usize) {
    let folder = host.data().join("apps/greedy/logs");
    let line = |text: &str| {
        let head = r#"{"time":"2026-01-01T00:00:00Z","app":"greedy","stream":"stdout","message":"#;
        format!("{head}\"{text}\"}}\n")
    };
    let segments = fs::read_dir(&folder).expect("it has a log").flatten();
    segments.for_each(|segment| fs::remove_file(segment.path()).expect("it can be removed"));
    let other = line(&"filler ".repeat(3_000));
    for number in 1..=bytes >> 20 {
        let mut segment = if number == 1 { line("the needle") } else { String::new() };
        while segment.len() < 1 << 20 {
            segment.push_str(&other);
        }
        fs::write(folder.join(format!("{number:010}.ndjson")), segment).expect("it can be written");
    }
}

/// A search holds one page, reads a bounded part of the log, and reports that it stopped.
#[test]
fn a_search_of_a_large_log_stops_at_its_bound_and_reports_it() {
    let host = Host::start_with("", "[logs]\nsegment = \"1MiB\"\nkept = \"64MiB\"\n");
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let host = host.restart_after(|host| write_large_log(host, 40 << 20));
    let neighbour = Neighbour::beside(&host);
    let (mut cursor, mut pages, mut lines) = (String::new(), 0, Vec::new());
    loop {
        let query = format!("/v1/apps/greedy/logs?grep=Needle&limit=10{cursor}");
        let page = host.api(Ask::get(query)).expect(200).json();
        pages += 1;
        lines.extend(page["items"].as_array().expect("items").clone());
        match page["next"].as_str() {
            Some(next) => {
                assert_eq!(page["partial"], true, "{page}");
                cursor = format!("&cursor={next}");
            }
            None => break,
        }
    }
    assert!(pages > 2, "{pages} pages");
    assert_eq!(lines.iter().map(message).collect::<Vec<_>>(), ["the needle"]);
    let output = isopod(&host, &["--grep", "needle"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("the needle"), "the command joins the pages: {output:?}");
    // A page has as many of the long lines as fit in 4 MiB.
    let page = host.api(Ask::get("/v1/apps/greedy/logs?stream=stdout&limit=1000")).expect(200);
    assert!(page.body.len() < 5 << 20 && page.json()["partial"] == true, "{}", page.body.len());
    neighbour.finish();
}

#[test]
fn concurrent_searches_of_a_large_log_delay_no_app() {
    let host = Host::start_with("", "[logs]\nsegment = \"1MiB\"\nkept = \"64MiB\"\n");
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let host = host.restart_after(|host| write_large_log(host, 20 << 20));
    let neighbour = Neighbour::beside(&host);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let answer = host.api(Ask::get("/v1/apps/greedy/logs?grep=absent"));
                assert!(matches!(answer.status, 200 | 503), "{answer}");
            });
        }
    });
    host.api(Ask::get("/v1/apps/greedy/logs?limit=1")).expect(200);
    neighbour.finish();
}
