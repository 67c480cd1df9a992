//! Tests the output of local components: a terminal never receives their escape sequences, and a
//! pipe receives the bytes of `isopod run` unchanged.

use crate::commands::serve;
use isopod_tests::{Ask, guests::guest_path, program, wait_for};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{FromRawFd, OwnedFd},
    process::Stdio,
};

const WRITTEN: &[u8] = b"a\x1b]0;title\x07b\x1b[2Jc \x1b[31mred\x1b[0m \xc2\x9b2Jd\r\n\xff";
const SHOWN: &str = "a\\x1b]0;title\\x07b\\x1b[2Jc red \\x9b2Jd";

/// Opens a terminal: the side that a program writes to, and the side that shows the output.
fn terminal() -> (OwnedFd, File) {
    let (mut shown, mut written) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: both pointers are valid; the call requests no name, attributes or size.
    let made = unsafe { libc::openpty(&mut shown, &mut written, none, none.cast(), none.cast()) };
    assert_eq!(made, 0, "a terminal can be made");
    // SAFETY: both descriptors are new, and nothing else owns them.
    unsafe { (OwnedFd::from_raw_fd(written), File::from_raw_fd(shown)) }
}

/// Returns the complete output of a terminal after its program has ended.
fn shown(mut terminal: File) -> String {
    let mut bytes = Vec::new();
    // Linux reports the end of a terminal as an error.
    let _ = terminal.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_terminal_shows_the_escapes_of_a_command_as_text_and_a_pipe_gets_the_bytes() {
    let file = guest_path("command");
    let run = |stdout: Stdio| {
        let mut command = program::command(&["run", file.to_str().expect("paths are text"), "--input"]);
        let mut child = command.stdin(Stdio::piped()).stdout(stdout).spawn().expect("it starts");
        child.stdin.take().expect("it is piped").write_all(WRITTEN).expect("it can be written");
        drop(command);
        child.wait_with_output().expect("it ends")
    };
    let piped = run(Stdio::piped());
    assert!(piped.stdout.ends_with(WRITTEN), "{:?}", String::from_utf8_lossy(&piped.stdout));
    let (written, screen) = terminal();
    assert!(run(written.into()).status.success());
    let text = shown(screen);
    assert!(text.contains(SHOWN) && text.contains('\u{fffd}'), "{text:?}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{9b}'), "{text:?}");
}

#[test]
fn lines_of_a_served_component_have_no_escapes() {
    let (serving, address) = serve(&guest_path("greedy"), &[]);
    let path = "/log-line?text=a%1b%5D0;title%07b%1b%5B2Jc%20%1b%5B31mred%1b%5B0m%20%C2%9B2Jd";
    Ask::get(path).send(address).expect("an answer").expect(200);
    wait_for("the line", || serving.said().contains(SHOWN).then_some(()));
    assert!(!serving.said().contains('\u{1b}'));
}
