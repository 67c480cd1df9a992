//! Tests `isopod serve` and `isopod run`: one file, the same sandbox, no stored data.

use isopod_tests::{
    Ask,
    guests::guest_path,
    program::{self, Running},
};
use std::{net::SocketAddr, path::Path, process::Output};

pub(crate) fn serve(component: &Path, more: &[&str]) -> (Running, SocketAddr) {
    let file = component.to_str().expect("paths are text");
    let mut args = vec!["serve", file, "--addr", "127.0.0.1:0"];
    args.extend(more);
    let mut serving = Running::start(program::command(&args));
    let address = serving.line_on_stderr("Serving HTTP on http://");
    (serving, address.trim_end_matches('/').parse().expect("an address"))
}

/// I5: any component file, with any host name.
#[test]
fn serve_runs_one_component_until_sigint() {
    for guest in ["hello", "hello-wasi02", "hello-wasi03"] {
        let (mut serving, address) = serve(&guest_path(guest), &[]);
        for name in ["localhost", "whatever.example.org"] {
            let answer = Ask::get("/").header("host", name).send(address).expect("an answer").expect(200);
            assert_eq!(answer.text(), "Hello, world!");
        }
        serving.signal(libc::SIGINT);
        let status = serving.end();
        assert!(status.success(), "{guest} ended with {status}: {}", serving.said());
    }
}

#[test]
fn serve_grants_only_what_its_flags_name() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    std::fs::write(folder.path().join("note"), "granted").expect("a file can be written");
    let shared = format!("{}::/shared::ro", folder.path().display());
    let (_serving, address) = serve(&guest_path("greedy"), &["--dir", &shared, "--env", "COLOUR=green"]);
    let get = |path: &str| Ask::get(path).send(address).expect("an answer").text();
    assert_eq!(get("/read?path=/shared/note"), "granted");
    assert!(get("/write?path=/shared/more").starts_with("refused"));
    assert_eq!(get("/config?name=COLOUR"), "green");
    let (_serving, address) = serve(&guest_path("greedy"), &[]);
    let get = |path: &str| Ask::get(path).send(address).expect("an answer").text();
    assert!(get("/read?path=/shared/note").starts_with("refused"));
    assert!(get("/read?path=/etc/passwd").starts_with("refused"));
}

fn run(options: &[&str], arguments: &[&str]) -> Output {
    let file = guest_path("command");
    let mut args = vec!["run"];
    args.extend(options);
    args.extend([file.to_str().expect("paths are text"), "--"]);
    args.extend(arguments);
    program::run(&args)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn run_passes_on_arguments_and_the_exit_code() {
    let output = run(&[], &["one", "--exit", "7", "two words"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(out(&output).contains(r#"arguments: ["one", "--exit", "7", "two words"]"#), "{output:?}");
    assert_eq!(run(&[], &[]).status.code(), Some(0));
    assert_eq!(run(&[], &["--exit", "999"]).status.code(), Some(1));

    let exits = tempfile::Builder::new().suffix(".wasm").tempfile().expect("a file can be made");
    std::fs::write(exits.path(), wat::parse_str(EXITS_WITH_42).expect("it is well-formed")).expect("it can be written");
    let output = program::run(&["run", exits.path().to_str().expect("paths are text")]);
    assert_eq!(output.status.code(), Some(42), "{output:?}");
}

/// A command that exits with a full status code.
const EXITS_WITH_42: &str = r#"(component
    (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit-with-code" (func (param "status-code" u8)))))
    (core func $exit (canon lower (func $exit "exit-with-code")))
    (core module $main
        (import "host" "exit" (func $exit (param i32)))
        (func (export "run") (result i32) (call $exit (i32.const 42)) (i32.const 0)))
    (core instance $main (instantiate $main (with "host" (instance (export "exit" (func $exit))))))
    (func $run (result (result)) (canon lift (core func $main "run")))
    (instance $exported (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $exported)))"#;

/// I4: everything is denied by default, and each flag grants one capability.
#[test]
fn run_grants_only_what_its_flags_name() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    std::fs::write(folder.path().join("note"), "granted\n").expect("a file can be written");
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("way-out")).expect("a link can be made");
    let shared = format!("{}::/shared", folder.path().display());

    let bare = run(&[], &["--read", "/shared/note"]);
    assert_eq!(bare.status.code(), Some(1), "{bare:?}");
    assert!(!out(&bare).contains("env "), "the host's environment is visible: {bare:?}");

    let granted = run(&["--dir", &shared, "--env", "COLOUR=green"], &["--read", "/shared/note"]);
    assert_eq!(granted.status.code(), Some(0), "{granted:?}");
    assert!(out(&granted).contains("env COLOUR=green\ngranted\n"), "{granted:?}");

    for outside in ["/etc/passwd", "/shared/../etc/passwd", "/shared/../../../../etc/passwd", "/shared/way-out"] {
        let refused = run(&["--dir", &shared], &["--read", outside]);
        assert_eq!(refused.status.code(), Some(1), "{outside}: {refused:?}");
        assert!(!out(&refused).contains("root:"), "{outside}: {refused:?}");
    }
}

#[test]
fn a_file_that_cannot_run_is_reported_with_a_remedy() {
    let says = |args: &[&str], code: i32, words: &[&str]| {
        let output = program::run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{args:?}: missing {word:?} in: {said}");
        }
    };
    let text = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(text.path(), "hello").expect("a file can be written");
    let (hello, command) = (guest_path("hello"), guest_path("command"));
    let path = |path: &Path| path.to_str().expect("paths are text").to_owned();
    says(&["run", "/nowhere.wasm"], 1, &["/nowhere.wasm"]);
    says(&["run", &path(text.path())], 1, &["not WebAssembly"]);
    says(&["run", &path(&hello)], 1, &["is not a command", "isopod serve"]);
    says(&["serve", &path(&command)], 1, &["isopod run"]);
    says(&["run", "--dir", "/nowhere::/x", &path(&command)], 2, &["/nowhere"]);
    says(&["run", "/dev/zero"], 1, &["/dev/zero", "not a regular file"]);
    says(&["serve", "--bogus"], 2, &["--bogus"]);
}
