//! Tests `isopod serve` as a service: it drains on shutdown, and caches compiled code for its next
//! start.

use isopod_tests::{
    Ask, Wire,
    guests::guest_path,
    program::{self, Running},
};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

fn command(guest: &str, cache: &Path) -> Command {
    let file = guest_path(guest);
    let mut command = program::command(&["serve", file.to_str().expect("paths are text"), "--addr", "127.0.0.1:0"]);
    command.env("XDG_CACHE_HOME", cache);
    command
}

fn serve(guest: &str, cache: &Path) -> (Running, SocketAddr) {
    let mut serving = Running::start(command(guest, cache));
    let address = serving.line_on_stderr("Serving HTTP on http://");
    (serving, address.trim_end_matches('/').parse().expect("an address"))
}

fn kept(cache: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(cache.join("isopod/compiled")).expect("the folder exists");
    let mut files: Vec<_> = files.map(|file| file.expect("it can be read").path()).collect();
    files.sort();
    files
}

fn stop(mut serving: Running, signal: i32) {
    serving.signal(signal);
    let status = serving.end();
    assert!(status.success(), "it ended with {status}: {}", serving.said());
}

#[test]
fn requests_in_progress_complete_after_either_signal() {
    let cache = tempfile::tempdir().expect("a folder can be made");
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let (serving, address) = serve("greedy", cache.path());
        let mut streamed = Wire::open(address).expect("a connection");
        streamed.ask(&Ask::get("/slow-reply")).expect("it can be sent");
        assert_eq!(streamed.head().expect("a head").status, 200);
        let mut idle = Wire::open(address).expect("a connection");
        idle.ask(&Ask::get("/ok")).expect("it can be sent");
        assert_eq!(idle.answer().expect("an answer").status, 200);
        serving.signal(signal);
        let mut body = Vec::new();
        while let Some(piece) = streamed.piece().expect("the response continues") {
            body.extend(piece);
        }
        assert_eq!(String::from_utf8_lossy(&body), "one two three four five");
        assert!(idle.until_end().expect("no reset").is_empty());
        stop(serving, 0);
    }
}

#[test]
fn the_next_start_of_the_same_file_reuses_compiled_code() {
    let cache = tempfile::tempdir().expect("a folder can be made");
    let (serving, _) = serve("hello", cache.path());
    let first = kept(cache.path());
    assert!(first.iter().any(|file| file.extension().is_some_and(|kind| kind == "cwasm")), "{first:?}");
    let folder = cache.path().join("isopod/compiled");
    assert_eq!(fs::metadata(&folder).expect("it exists").permissions().mode() & 0o777, 0o700);
    for file in &first {
        assert_eq!(fs::metadata(file).expect("it exists").permissions().mode() & 0o777, 0o600);
    }
    let inode = |file: &PathBuf| std::os::unix::fs::MetadataExt::ino(&fs::metadata(file).expect("it exists"));
    let inodes: Vec<_> = first.iter().map(inode).collect();
    stop(serving, libc::SIGTERM);
    let (serving, address) = serve("hello", cache.path());
    assert_eq!(Ask::get("/").send(address).expect("an answer").expect(200).text(), "Hello, world!");
    assert_eq!((kept(cache.path()), first.iter().map(inode).collect::<Vec<_>>()), (first, inodes));
    stop(serving, libc::SIGTERM);
}

#[test]
fn code_in_a_folder_that_others_can_write_is_not_loaded() {
    let cache = tempfile::tempdir().expect("a folder can be made");
    let folder = cache.path().join("isopod/compiled");
    fs::create_dir_all(&folder).expect("a folder can be made");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("a mode can be set");
    let (serving, address) = serve("hello", cache.path());
    Ask::get("/").send(address).expect("an answer").expect(200);
    assert!(kept(cache.path()).is_empty(), "the folder is not used");
    stop(serving, libc::SIGTERM);
    // Modified code is compiled again.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("a mode can be set");
    stop(serve("hello", cache.path()).0, libc::SIGTERM);
    let is_code = |file: &&PathBuf| file.extension().is_some_and(|kind| kind == "cwasm");
    let files = kept(cache.path());
    let code = files.iter().find(is_code).expect("compiled code");
    fs::write(code, "changed").expect("it can be written");
    let (serving, address) = serve("hello", cache.path());
    Ask::get("/").send(address).expect("an answer").expect(200);
    assert!(fs::metadata(code).expect("it exists").len() > 1_000);
    stop(serving, libc::SIGTERM);
}

#[test]
fn a_component_cannot_be_granted_the_folder_of_compiled_code() {
    let cache = tempfile::tempdir().expect("a folder can be made");
    let inside = cache.path().join("isopod/compiled");
    fs::create_dir_all(&inside).expect("a folder can be made");
    for folder in [cache.path(), inside.as_path()] {
        let mut refused = command("hello", cache.path());
        refused.arg("--dir").arg(format!("{}::/x", folder.display()));
        let said = refused.output().expect("it runs");
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(!said.status.success() && text.contains("compiled code") && text.contains("::ro"), "{text}");
    }
}
