//! F4, J5: tests the commands for stored events: `events`, `broadcast` and `dead-letters`.

use isopod_tests::{
    Bundle, Host, Queue, guest,
    outbox::outbox,
    program::{self, Running},
    pty::run_on_terminal,
    wait_for,
};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

fn start() -> Host {
    start_with("")
}

/// Starts a host with `greedy`, with these settings of its worker.
fn start_with(worker: &str) -> Host {
    let host = Host::start();
    host.create("greedy", "production");
    let processes = format!("[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n{worker}\n");
    let manifest = format!("name = \"greedy\"\n{processes}[limits]\nrequest_timeout = \"10m\"\n");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
    host
}

fn command(host: &Host, args: &[&str]) -> std::process::Command {
    command_for(host, "greedy", args)
}

fn command_for(host: &Host, app: &str, args: &[&str]) -> std::process::Command {
    let mut command = program::command(args);
    command.args(["--app", app, "--host", &format!("http://{}", host.admin)]).env("ISOPOD_TOKEN", &host.token);
    command
}

/// Runs a command that succeeds, and returns its standard output.
#[track_caller]
fn said(host: &Host, args: &[&str]) -> String {
    let output = command(host, args).output().expect("it can be run");
    assert!(output.status.success(), "{args:?}: {}", errors(&output));
    String::from_utf8(output.stdout).expect("is text")
}

/// Runs a command that fails, and returns its standard error.
#[track_caller]
fn failed(host: &Host, args: &[&str]) -> String {
    let output = command(host, args).output().expect("it can be run");
    assert!(!output.status.success(), "{args:?} succeeded");
    errors(&output)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn line(id: impl std::fmt::Display) -> String {
    let id = id.to_string();
    json!({ "specversion": "1.0", "id": id, "source": "/users", "type": "hello", "isopoddelay": "1h" }).to_string()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths are text")
}

#[test]
fn stored_events_are_listed_shown_and_cancelled() {
    let host = start();
    let stored = said(&host, &["events", "send", "never", "--id", "a/1", "--subject", "ann", "--no-wait"]);
    assert!(stored.contains("stored event a/1: "), "{stored}");
    host.until_queue("greedy", Queue::Push, 1, 0);
    let delayed = host.push_event("greedy", "retry");
    host.until_event("greedy", &delayed, "delayed");
    let listed = said(&host, &["events"]);
    let limited = said(&host, &["events", "-n", "1", "--state", "leased"]);
    assert!(limited.contains("a/1") && limited.lines().count() == 2, "{limited}");
    assert!(failed(&host, &["events", "-n", "1", "show", "a/1"]).contains("write the options after the subcommand"));
    assert!(failed(&host, &["events", "show", ""]).contains("a value is required for '<ID>'"));
    let conflict = failed(&host, &["events", "send", "never", "--no-wait", "--queue", "pull"]);
    assert!(conflict.contains("--no-wait can't be used with --queue pull"), "{conflict}");
    assert!(listed.contains("running (attempt 1 of 10)") && listed.contains("delayed until 2"), "{listed}");
    let running = said(&host, &["events", "list", "--state", "running", "--subject", "ann", "--json"]);
    let running: Value = serde_json::from_str(&running).expect("is JSON");
    assert_eq!((&running["items"][0]["id"], &running["items"][1]), (&json!("a/1"), &Value::Null));
    let shown = said(&host, &["events", "show", "a/1", "--source", "isopod-cli"]);
    assert!(shown.contains("subject   ann\n") && shown.contains("attempts  1 of 10\n"), "{shown}");
    assert!(said(&host, &["events", "show", &delayed]).contains("greedy was asked to put it off"));
    wait_for("the event waits", || (host.stored_event("greedy", &delayed)["state"] == "delayed").then_some(()));
    assert!(said(&host, &["events", "cancel", &delayed]).contains(&format!("cancelled event {delayed}")));
    let cancelled = said(&host, &["events", "show", &delayed]);
    let both = ["cancelled by a request", "greedy was asked to put it off"];
    assert!(both.iter().all(|text| cancelled.contains(text)), "{cancelled}");
    assert!(failed(&host, &["events", "cancel", "a/1"]).contains("being delivered"));
}

#[test]
fn an_event_is_sent_with_a_delay_and_an_expiry() {
    let host = start();
    let sent = said(&host, &["events", "send", "never", "--id", "1", "--delay", "10m", "--expires", "1h"]);
    assert!(sent.contains("stored event 1: delayed until 2"), "{sent}");
    let event = host.stored_event("greedy", "1");
    let times = ["accepted_at", "due_at", "expires_at"].map(|name| event[name].as_str().expect("a time"));
    assert!(times.is_sorted(), "{event}");
    let refused = failed(&host, &["events", "send", "never", "--delay", "soon"]);
    assert!(refused.contains("isopoddelay") && refused.contains("neither a duration"), "{refused}");
    let refused = failed(&host, &["events", "send", "never", "--delay", "1h", "--expires", "10m"]);
    assert!(refused.contains("may not be delivered before"), "{refused}");
    assert!(refused.contains("the expiry must be after the delay"), "{refused}");
}

#[test]
fn the_log_lines_of_one_event_are_shown_also_of_successful_attempts() {
    let host = start();
    let [first, second] = ["first", "second"].map(|_| host.push_event("greedy", "print"));
    for event in [&first, &second] {
        host.until_event("greedy", event, "done");
    }
    let has_only_first = |text: &str| {
        assert!(!text.contains(&format!("greedy handles {second}")), "{text}");
        text.contains(&format!("greedy handles {first}"))
    };
    wait_for("the event's line in `events show`", || {
        has_only_first(&said(&host, &["events", "show", &first])).then_some(())
    });
    assert!(has_only_first(&said(&host, &["logs", "--event", &first])));
    let request = host.stored_event("greedy", &first)["request_id"].as_str().expect("a request id").to_owned();
    assert!(has_only_first(&said(&host, &["logs", "--request", &request])));
    assert!(has_only_first(&said(&host, &["logs", "--event", &first, "--source", "/test"])));
    assert!(failed(&host, &["logs", "--event", &first, "--source", "/other"]).contains("and the source \"/other\""));
    assert!(failed(&host, &["logs", "--event", "none"]).contains("no stored event"));
    assert!(failed(&host, &["logs", "--request", "none"]).contains("request_id"));
}

#[test]
fn dead_letters_are_listed_redriven_at_a_rate_and_dropped() {
    let host = start();
    let events: Vec<String> = (0..3).map(|_| host.push_event("greedy", "fail")).collect();
    for event in &events {
        host.until_event("greedy", event, "dead");
    }
    let listed = said(&host, &["dead-letters"]);
    assert_eq!(listed.matches("dead (attempt 1 of 10)").count(), 3, "{listed}");
    assert!(!said(&host, &["dead-letters", "--type", "other"]).contains("dead (attempt"));
    let shown = said(&host, &["dead-letters", "show", &events[0]]);
    assert!(shown.contains("greedy was asked to fail"), "{shown}");
    wait_for("the log line of the attempt", || {
        let shown = said(&host, &["events", "show", &events[0]]);
        let (_, log) = shown.split_once("\nlog of its attempts\n")?;
        assert!(!log.contains(&format!("`{}`", events[1])), "{log}");
        log.contains(&format!("event `{}`: attempt 1 of 10 failed", events[0])).then_some(())
    });
    assert!(said(&host, &["dead-letters", "redrive", "--rate", "50"]).contains("redrove 3 events"));
    for event in &events {
        host.until_event("greedy", event, "dead");
    }
    assert!(said(&host, &["dead-letters", "redrive", "--type", "other"]).contains("redrove 0 events"));
    for change in [&["redrive"][..], &["redrive", "--rate", "5"], &["drop"]] {
        let refused = failed(&host, &[&["dead-letters"], change, &["--id", "typo"]].concat());
        assert!(refused.contains("no dead letter with the id `typo` was found"), "{refused}");
    }
    assert_eq!(said(&host, &["dead-letters", "--type", "other"]), "", "headings without rows");
    assert!(failed(&host, &["dead-letters", "drop"]).contains("isopod dead-letters drop --yes --app greedy"));
    assert!(said(&host, &["dead-letters", "drop", "--id", &events[0]]).contains("dropped 1 event\n"));
    assert!(said(&host, &["dead-letters", "drop", "--yes"]).contains("dropped 2 events"));
}

#[test]
fn an_interrupted_broadcast_prints_the_command_that_continues_it() {
    let host = start();
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("the events");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()), "no named pipe");
    let mut sending = Running::start(command(&host, &["broadcast", &pipe.display().to_string()]));
    let mut writer = std::fs::OpenOptions::new().write(true).open(&pipe).expect("the command reads the pipe");
    let line = |id: usize| {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"t","isopoddelay":"1h"}}"#) + "\n"
    };
    // One request has up to 20,000 lines. The pipe has no room for the other lines until the
    // command reads on.
    let lines: String = (1..=30_000).map(line).collect();
    writer.write_all(lines.as_bytes()).expect("the command reads");
    sending.signal(libc::SIGINT);
    assert_eq!(sending.end().code(), Some(130), "{}", sending.said());
    let shown = format!("isopod broadcast '{}' --from 20001 --app greedy", pipe.display());
    assert!(sending.said().contains(&shown), "{}", sending.said());
    assert!(host.has_stored_event("greedy", "id=20000") && !host.has_stored_event("greedy", "id=20001"));
}

#[test]
fn a_dead_letter_of_a_trap_has_a_backtrace_with_the_guests_functions() {
    let host = Host::start();
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "retry = { attempts = 1 }", ""));
    let trapped = host.push_steps("outbox", None, &json!([["trap"]]));
    let dead = host.until_event("outbox", &trapped, "dead");
    let error = dead["error"].as_str().expect("an error");
    assert!(error.contains("trapped") && error.contains("\n    at outbox::run"), "{error}");
    let mut show = command_for(&host, "outbox", &["dead-letters", "show", &trapped]);
    let output = show.output().expect("it can be run");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    // The log lines contain the backtrace too.
    let (event, _) = shown.split_once("\nlog of its attempts\n").unwrap_or((&shown, ""));
    let mut frames = error.lines().filter(|line| line.starts_with("    at "));
    assert!(frames.all(|frame| event.contains(&format!("\n  {frame}\n"))), "{shown}");
}

#[test]
fn selected_dead_letters_are_redriven_no_faster_than_the_rate() {
    let host = start_with("retry = { attempts = 1 }");
    let [trapped, failed @ ..] = ["panic", "fail", "fail", "fail"].map(|kind| host.push_event("greedy", kind));
    let ended_at = |id: &String| host.until_event("greedy", id, "dead")["ended_at"].clone();
    let before = failed.each_ref().map(ended_at);
    let other_before = ended_at(&trapped);
    let began = Instant::now();
    assert!(said(&host, &["dead-letters", "redrive", "--type", "fail", "--rate", "2"]).contains("redrove 3 events\n"));
    // The first event is redriven immediately.
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    for (id, before) in failed.iter().zip(&before) {
        wait_for("a second dead letter of the event", || (ended_at(id) != *before).then_some(()));
    }
    assert_eq!(ended_at(&trapped), other_before, "an event of another type is not redriven");
    assert!(said(&host, &["dead-letters", "redrive", "--type", "panic"]).contains("redrove 1 event\n"));
    wait_for("a second dead letter of the event", || (ended_at(&trapped) != other_before).then_some(()));
}

#[test]
fn a_broadcast_draws_a_bar_with_the_rate_on_a_terminal() {
    let (host, folder) = (start(), tempfile::tempdir().expect("a folder can be made"));
    let file = folder.path().join("users.ndjson");
    // Two requests, so that the bar is drawn before the end too.
    let lines: Vec<String> = (1..=25_000).map(line).collect();
    std::fs::write(&file, lines.join("\n")).expect("can be written");
    let output = run_on_terminal(command(&host, &["broadcast", text(&file)]));
    let drawn = errors(&output);
    assert!(output.status.success(), "{drawn}");
    let is_bar = |part: &str, events: &str| part.contains("sending events to greedy") && part.contains(events);
    let part = drawn.split('\r').find(|part| is_bar(part, " 20000 events, ")).unwrap_or_else(|| panic!("{drawn:?}"));
    assert!(part.contains('█') && part.contains('░') && part.contains(" per second"), "{part:?}");
    let whole = drawn.split('\r').find(|part| is_bar(part, "100% 25000 events, "));
    assert!(whole.is_some_and(|whole| !whole.contains('░')), "{drawn:?}");
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(summary.contains("stored 25000 events (") && summary.contains(" per second)\n"), "{summary}");
}

#[test]
fn a_file_of_events_is_checked_sent_and_continued_after_an_invalid_line() {
    let (host, folder) = (start(), tempfile::tempdir().expect("a folder can be made"));
    let file = folder.path().join("users.ndjson");
    let mut lines: Vec<String> = (1..=25_000).map(line).collect();
    lines[22_000] = "{}".to_owned();
    std::fs::write(&file, format!("\u{feff}{}\r\n", lines.join("\r\n"))).expect("can be written");
    let checked = failed(&host, &["broadcast", text(&file), "--dry-run"]);
    assert!(checked.contains("1 invalid event and 24999 valid") && checked.contains("line 22001: "), "{checked}");
    assert!(said(&host, &["events"]).is_empty(), "nothing is sent");
    let broken = failed(&host, &["broadcast", text(&file)]);
    for shown in ["invalid event on line 22001", "22000 events stored", "--from 22001"] {
        assert!(broken.contains(shown), "{broken}");
    }
    lines[22_000] = line(22_001);
    std::fs::write(&file, lines.join("\n")).expect("can be written");
    assert!(said(&host, &["broadcast", text(&file), "--dry-run"]).contains("25000 valid events"));
    let rest = said(&host, &["broadcast", text(&file), "--from", "22001", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&rest).expect("is JSON"), json!({ "accepted": 3_000, "duplicates": 0 }));
    let again = said(&host, &["broadcast", text(&file)]);
    assert!(again.contains("stored 0 events; 25000 were already stored"), "{again}");
}

#[test]
fn events_of_standard_input_are_sent() {
    let host = start();
    let mut sending =
        command(&host, &["broadcast", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    let mut stdin = sending.stdin.take().expect("is piped");
    write!(stdin, "{}\n\n{}", line(1), line(2)).expect("can be written");
    drop(stdin);
    let output = sending.wait_with_output().expect("ends");
    assert!(String::from_utf8_lossy(&output.stdout).contains("stored 2 events"), "{output:?}");
    assert_eq!(host.stored_event("greedy", "2")["state"], "delayed");
}
