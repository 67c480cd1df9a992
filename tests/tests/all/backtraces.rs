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
