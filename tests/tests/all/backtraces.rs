//! Tests the backtraces in an app's log: messages, files and lines beside their request, and
//! components whose debug information is damaged or whose functions have no names. `greedy` is
//! built with debug information.

use isopod_tests::{Bundle, Host, guest};
use serde_json::Value;

/// Requests a path of `greedy` that traps. Returns the line of the fault.
#[track_caller]
fn trap(host: &Host, app: &str, path: &str) -> Value {
    let id = host.get(app, path).expect(502).json()["request_id"].as_str().expect("an id").to_owned();
    host.log_line(app, path, |line| line["request_id"] == id && text(line).contains("the guest trapped"))
}

fn text(line: &Value) -> &str {
    line["message"].as_str().expect("a line has a message")
}

/// Returns the time of a line, in a form that can be compared.
fn time(line: &Value) -> (&str, String) {
    let time = line["time"].as_str().expect("a line has a time").trim_end_matches('Z');
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    (seconds, format!("{fraction:0<9}"))
}

/// Returns the lines of the backtrace in a text.
fn frames(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("    at ")).collect()
}

/// Returns the offsets behind each occurrence of `mark`, of which there is at least one.
fn ends_of(component: &[u8], mark: &[u8]) -> Vec<usize> {
    let windows = component.windows(mark.len()).enumerate();
    let ends: Vec<usize> = windows.filter(|(_, at)| *at == mark).map(|(start, _)| start + mark.len()).collect();
    assert!(!ends.is_empty(), "the component has such a section");
    ends
}

/// Returns the end of a custom section, whose content begins at `start`, behind its name.
fn end_of_section(component: &[u8], start: usize, name: &str) -> usize {
    // The size is a number of LEB128 before the name and the byte of its length.
    let first = start - name.len() - 1;
    let continued = component[..first - 1].iter().rev().take_while(|byte| **byte >= 0x80).count();
    let size = component[first - 1 - continued..first].iter().rev();
    first + size.fold(0, |size, byte| (size << 7) | usize::from(byte & 0x7f))
}

#[test]
fn the_line_of_a_panic_has_its_message_with_file_and_line_beside_its_request() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let line = trap(&host, "greedy", "/panic");
    assert_eq!((&line["level"], &line["release"]), (&"error".into(), &1.into()));
    let access = host.log_line("greedy", "the request", |access| {
        access["stream"] == "access" && access["request_id"] == line["request_id"]
    });
    assert_eq!(access["instance"], line["instance"]);
    assert!(time(&line) <= time(&access), "the line has the time of the trap: {line} {access}");
    let (text, panic) = (text(&line), "panicked at greedy/src/acts.rs:");
    assert!(text.contains(panic) && text.contains("\ngreedy was asked to panic\n"), "{text}");
    assert!(!text.contains("RUST_BACKTRACE"), "{text}");
    // The function in which the guest panicked is the first, and the panic itself is omitted.
    let frames = frames(text);
    let first = frames.first().expect("a frame");
    assert!(first.contains("greedy::acts::act") && first.contains("(greedy/src/acts.rs:"), "{text}");
}

#[test]
fn a_dead_letter_has_the_panics_message_and_place() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let event = host.push_event("greedy", "panic");
    let dead = host.until_event("greedy", &event, "dead");
    assert_eq!(dead["attempt"], 3, "the attempts end with the same trap: {dead}");
    let error = dead["error"].as_str().expect("an error");
    assert!(error.contains("\ngreedy was asked to panic\n"), "{error}");
    assert!(frames(error).iter().any(|frame| frame.contains("(greedy/src/events.rs:")), "{error}");
    let line = host.log_line("greedy", "the fault", |line| {
        line["level"] == "error" && line["event_id"] == event.as_str() && text(line).contains("the guest trapped")
    });
    assert_eq!(line["request_id"], dead["request_id"]);
    assert_eq!(frames(text(&line)), frames(error));
}

#[test]
fn the_backtrace_of_a_stack_overflow_is_bounded() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let line = trap(&host, "greedy", "/recurse");
    let (text, frames) = (text(&line), frames(text(&line)));
    assert!(frames.iter().filter(|frame| frame.contains("greedy::acts::recurse")).count() >= 10, "{text}");
    assert!(frames.len() <= 40 && text.len() <= 8 * 1024, "{text}");
    assert!(frames.last().is_some_and(|last| last.starts_with("… (")), "{text}");
}

#[test]
fn damaged_debug_information_costs_only_files_and_lines() {
    let host = Host::start();
    host.deploy("intact", Bundle::component(guest("greedy")));
    let intact = trap(&host, "intact", "/panic");
    assert!(frames(text(&intact)).iter().any(|frame| frame.contains(".rs:")), "{intact}");
    for (app, section) in [("info", ".debug_info"), ("line", ".debug_line"), ("abbrev", ".debug_abbrev")] {
        let mut component = guest("greedy");
        for start in ends_of(&component, section.as_bytes()) {
            component[start..start + 64].fill(0xff);
        }
        host.deploy(app, Bundle::component(component));
        let line = trap(&host, app, "/panic");
        let frames = frames(text(&line));
        assert!(frames.iter().any(|frame| frame.starts_with("greedy::acts::act")), "{app}: {line}");
        assert!(!frames.iter().any(|frame| frame.contains(".rs:")), "{app}: {line}");
        assert_eq!(host.get(app, "/ok").expect(200).text(), "ok");
    }
}

#[test]
fn debug_information_that_takes_long_to_search_withholds_no_line() {
    let host = Host::start();
    let mut component = guest("greedy");
    for start in ends_of(&component, b".debug_str") {
        let end = end_of_section(&component, start, ".debug_str");
        // No name has an end, so each is searched for in the rest of the section.
        component[start..end].fill(b'x');
    }
    host.deploy("hostile", Bundle::component(component));
    host.deploy("intact", Bundle::component(guest("greedy")));
    let ids = ["/panic", "/trap", "/recurse"]
        .map(|path| host.get("hostile", path).expect(502).json()["request_id"].as_str().expect("an id").to_owned());
    let line = trap(&host, "intact", "/panic");
    assert!(frames(text(&line)).iter().any(|frame| frame.contains(".rs:")), "{line}");
    for id in ids {
        let is_fault = |line: &Value| line["request_id"] == id.as_str() && text(line).contains("the guest trapped");
        host.log_line("hostile", "the trap", is_fault);
    }
}

#[test]
fn functions_without_names_are_shown_by_their_index() {
    let host = Host::start();
    let mut component = guest("greedy");
    // A section of another name is ignored. Its first part, the name of the module, begins with 0.
    for mark in [&b"\x04name\x00"[..], b".debug_line"] {
        ends_of(&component, mark).into_iter().for_each(|end| component[end - 2] = b'x');
    }
    host.deploy("greedy", Bundle::component(component));
    let line = trap(&host, "greedy", "/trap");
    let frames = frames(text(&line));
    assert!(!frames.is_empty() && frames.iter().all(|frame| !frame.contains("greedy::")), "{line}");
    assert!(frames.iter().any(|frame| frame.starts_with("function ")), "{line}");
}
