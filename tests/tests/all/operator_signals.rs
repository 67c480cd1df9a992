//! Tests the signals that an operator's shell and terminal send.

use isopod_tests::{
    Ask, Bundle, Host, guest,
    guests::guest_path,
    program::{self, Running},
};

#[test]
fn a_hangup_drains_the_host() {
    let mut host = Host::start_with("", "drain_time = \"1s\"\n");
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let mut slow = host.wire();
    let head = b"POST /ok HTTP/1.1\r\nhost: greedy.localhost\r\ncontent-length: 4\r\n\r\nbo";
    slow.send(head).expect("it can be sent");
    host.get("greedy", "/ok").expect(200);
    host.signal(libc::SIGHUP);
    slow.send(b"dy").expect("it can be sent");
    slow.answer().expect("a response to a request in progress");
    host.until_stopped();
}

#[test]
fn a_hangup_drains_serve() {
    let file = guest_path("hello");
    let file = file.to_str().expect("paths are text");
    let mut serving = Running::start(program::command(&["serve", file, "--addr", "127.0.0.1:0"]));
    serving.line_on_stderr("Serving HTTP on http://");
    serving.signal(libc::SIGHUP);
    let status = serving.end();
    assert!(status.success(), "it ended with {status}: {}", serving.said());
}

/// `nohup` starts a program with SIGHUP ignored.
#[test]
#[cfg(target_os = "linux")]
fn a_host_that_was_started_with_nohup_ignores_a_hangup() {
    let file = guest_path("hello");
    let mut command = std::process::Command::new("nohup");
    command.arg(program::path()).args(["serve", file.to_str().expect("paths are text"), "--addr", "127.0.0.1:0"]);
    command.stdin(std::process::Stdio::null());
    let mut serving = Running::start(command);
    let address = serving.line_on_stderr("Serving HTTP on http://");
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.id())).expect("it runs");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a set of signals");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a number");
    assert_eq!(ignored >> (libc::SIGHUP - 1) & 1, 1, "{status}");
    serving.signal(libc::SIGHUP);
    let address = address.trim_end_matches('/').parse().expect("an address");
    Ask::get("/").header("host", "localhost").send(address).expect("an answer").expect(200);
}
