//! Tests starts that fail: each exits with 1, or with 2 for a wrong command line, reports the
//! reason and the remedy, and changes nothing that belongs to others.

use isopod_tests::{Ask, Bundle, Host, guest, program};
use std::net::TcpListener;

/// Starts a host that must fail, and returns its error output.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let mut all = vec!["up"];
    all.extend(args);
    let output = program::run(&all);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "a failed start must not print the ready line: {:?}", output.stdout);
    said
}

#[test]
fn a_port_in_use_is_reported_with_its_flag() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data = folder.path().to_str().expect("paths are text");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it has an address").to_string();
    for (flag, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let said = refused(&["--data", data, flag, &address, other, "127.0.0.1:0"]);
        for word in [address.as_str(), "in use", flag] {
            assert!(said.contains(word), "missing {word:?} in: {said}");
        }
    }
    // The failed start leaves nothing that would prevent a later start.
    let host = Host::on(folder.path());
    host.api_raw(&Ask::get("/livez")).expect(200);
}

#[test]
fn a_second_host_on_the_same_data_is_rejected_and_the_first_continues() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let data = host.data().to_str().expect("paths are text").to_owned();
    let said = refused(&["--data", &data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    for word in ["in use", &host.id().to_string(), "--data"] {
        assert!(said.contains(word), "missing {word:?} in: {said}");
    }
    host.get("hello", "/").expect(200);
    host.deploy("hello", Bundle::component(guest("hello-wasi02")));
    // The kernel releases the lock when its holder ends for any reason.
    let host = host.kill_and_restart();
    host.get("hello", "/").expect(200);
}

#[test]
fn invalid_settings_are_named() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data = folder.path().join("data");
    let data = data.to_str().expect("paths are text");
    let file = folder.path().join("isopod-host.toml");
    std::fs::write(&file, "listn = \"127.0.0.1:0\"\n").expect("a file can be written");
    let config = file.to_str().expect("paths are text");
    let said = refused(&["--data", data, "--config", config]);
    assert!(said.contains(config) && said.contains("listn"), "{said}");
    assert!(refused(&["--data", data, "--config", "/nowhere.toml"]).contains("/nowhere.toml"));
    std::fs::write(&file, "listen = \"127.0.0.1:99999\"\n").expect("a file can be written");
    assert!(refused(&["--data", data, "--config", config]).contains("not a number from 0 to 65535"));
    assert!(refused(&["--data", "/dev/null/data"]).contains("/dev/null/data"));
    assert!(!folder.path().join("data").exists(), "a start with invalid settings created the folder");
}

#[test]
fn an_invalid_address_is_a_usage_error() {
    let flags = ["--listen", "--admin"].into_iter();
    for (flag, address) in flags.flat_map(|flag| ["127.0.0.1:99999", "here"].map(|address| (flag, address))) {
        let output = program::run(&["up", flag, address]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag} {address}: {said}");
        assert!(said.contains(address) && said.contains(flag), "{said}");
    }
}

#[test]
fn a_damaged_data_folder_is_not_overwritten() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let (data, kept) = (host.data().to_owned(), tempfile::tempdir().expect("a folder can be made"));
    let copy = kept.path().join("data");
    let mut host = host;
    host.stop();
    let copied = std::process::Command::new("cp").arg("-a").arg(&data).arg(&copy).status().expect("cp can be run");
    assert!(copied.success());
    std::fs::write(copy.join("control.db"), "this is no database, but somebody's text".repeat(500)).expect("it exists");
    let folder = copy.to_str().expect("paths are text");
    let said = refused(&["--data", folder, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert!(said.contains("damaged") && said.contains("backup"), "{said}");
    let left = std::fs::read_to_string(copy.join("control.db")).expect("it is still text");
    assert!(left.starts_with("this is no database"));
}
