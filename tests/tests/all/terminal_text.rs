//! Tests text from guests and bundles: it has no terminal escapes, is bounded, and shows visitors
//! no hints for developers.

use isopod_tests::{Answer, Ask, Bundle, Host, guest, program};
use std::process::Output;

fn isopod(host: &Host, args: &[&str]) -> Output {
    let address = format!("http://{}", host.admin);
    program::run(&[args, &["--host", &address, "--token", &host.token]].concat())
}

/// Returns whether the output has no control characters except line breaks and tabs.
fn is_harmless(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).chars().all(|c| !c.is_control() || c == '\n' || c == '\t')
}

#[test]
fn escapes_of_a_guest_never_reach_a_terminal() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host.get("greedy", "/log-line?text=a%1b%5D0;title%07b%1b%5B2Jc%C2%9B2Jd").expect(200);
    let written = "a\u{1b}]0;title\u{7}b\u{1b}[2Jc\u{9b}2Jd";
    host.log_line("greedy", "the line", |line| line["message"] == written);
    let shown = isopod(&host, &["logs", "--app", "greedy"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(is_harmless(&shown.stdout), "{text:?}");
    assert!(text.contains("a\\x1b]0;title\\x07b\\x1b[2Jc\\x9b2Jd"), "{text}");
    let json = isopod(&host, &["logs", "--app", "greedy", "--json"]);
    assert!(is_harmless(&json.stdout));
    let page: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    let lines = page["items"].as_array().expect("a page has items");
    assert!(lines.iter().any(|line| line["message"] == written), "the decoded value is unchanged");
}

#[test]
fn text_of_a_bundle_is_truncated_wherever_it_is_shown() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("hello")));
    let imports: String =
        (0..40).map(|number| format!("(import \"acme:x{number}/{}\" (instance))", "a".repeat(90_000))).collect();
    let bundle = Bundle::component(wat::parse_str(format!("(component {imports})")).expect("it is well-formed"));
    let push = host.ended(&host.push("shop", &bundle));
    assert_eq!(push.reason_code.as_deref(), Some("unknown-import"));
    let reason = push.reason.as_deref().unwrap_or_default();
    assert!(reason.len() < 10_000 && reason.contains("acme:x1/") && reason.contains("and 20 more"), "{}", reason.len());
    let tar = format!("name = \"x\"\n{} = 1\n", "k".repeat(60_000));
    let named = Bundle::archive(&tar, &guest("hello"));
    host.deploy_failing("shop", &named);
    let activity = host.activity("shop");
    assert!(activity.iter().all(|entry| entry.to_string().len() < 20_000));
    let longest = host.said().lines().map(str::len).max();
    assert!(longest.is_some_and(|bytes| bytes < 20_000), "{longest:?}");
    let component = [b"\0asm\x0d\0\x01\0".to_vec(), b"\x00\x90\x4e\x0aisopod-sdk\x1b[2J".to_vec(), vec![b'x'; 9_985]];
    let (_, reason) = host.deploy_failing("shop", &Bundle::component(component.concat()));
    assert!(!reason.contains('\u{1b}') && reason.len() < 10_000, "{reason}");
}

fn browse(host: &Host, app: &str, path: &str) -> Answer {
    host.app(app, Ask::get(path).header("accept", "text/html"))
}

#[test]
fn visitors_of_an_app_see_no_commands_and_its_developers_do() {
    let host = Host::start();
    for (app, app_type) in [("live", "production"), ("draft", "dev")] {
        host.create(app, app_type);
        host.deploy(app, Bundle::component(guest("greedy")));
    }
    host.create("empty", "staging");
    let has_commands = |text: &str| text.contains("`isopod") || text.contains("isopod.toml");
    for (app, path) in [
        ("live", "/panic"),
        ("live", "/trap"),
        ("v9--live", "/"),
        ("web-zzzzz--live", "/"),
        ("nobody", "/"),
        ("empty", "/"),
    ] {
        for text in [host.get(app, path).text(), browse(&host, app, path).text()] {
            assert!(!has_commands(&text), "{app}{path}: {text}");
            assert!(!text.contains("was asked to panic"), "{app}{path}: {text}");
        }
    }
    for text in [host.get("draft", "/panic").text(), browse(&host, "draft", "/panic").text()] {
        assert!(has_commands(&text) && text.contains("greedy was asked to panic"), "{text}");
    }
}
