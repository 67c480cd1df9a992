//! Starts that cannot be: each ends with 1, or with 2 where the command line is wrong, says why and what to do, and touches
//! nothing of anybody else.

use isopod_tests::{Ask, Bundle, Host, guest, program};
use std::net::TcpListener;

/// Starts a host that is to fail, and gives what it said.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let mut all = vec!["up"];
    all.extend(args);
    let output = program::run(&all);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "a host that does not start is not ready: {:?}", output.stdout);
    said
}

#[test]
fn a_port_in_use_is_told_with_the_flag_that_changes_it() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data = folder.path().to_str().expect("paths are text");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it has an address").to_string();
    for (flag, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let said = refused(&["--data", data, flag, &address, other, "127.0.0.1:0"]);
        for word in [address.as_str(), "in use", flag] {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
    }
    // Nothing is left that would keep a later start from working.
    let host = Host::on(folder.path());
    host.api_as_it_is(&Ask::get("/livez")).expect(200);
}

#[test]
fn a_second_host_on_the_same_data_is_refused_and_the_first_goes_on() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let data = host.data().to_str().expect("paths are text").to_owned();
    let said = refused(&["--data", &data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    for word in ["in use", &host.id().to_string(), "--data"] {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    host.get("hello", "/").expect(200);
    host.deploy("hello", Bundle::component(guest("hello-wasi02")));
    // The lock goes with its holder, however that ends.
    let host = host.kill_and_restart();
    host.get("hello", "/").expect(200);
}

#[test]
fn settings_that_are_wrong_are_named() {
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
    assert!(!folder.path().join("data").exists(), "a start with wrong settings makes nothing");
}

#[test]
fn an_address_that_can_not_be_is_wrong_usage() {
    let flags = ["--listen", "--admin"].into_iter();
    for (flag, address) in flags.flat_map(|flag| ["127.0.0.1:99999", "here"].map(|address| (flag, address))) {
        let output = program::run(&["up", flag, address]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag} {address}: {said}");
        assert!(said.contains(address) && said.contains(flag), "{said}");
    }
}

#[test]
fn a_data_folder_that_is_damaged_is_not_overwritten() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let (data, kept) = (host.data().to_owned(), tempfile::tempdir().expect("a folder can be made"));
    let copy = kept.path().join("data");
    let mut host = host;
    host.stop();
    let copied = std::process::Command::new("cp").arg("-a").arg(&data).arg(&copy).status().expect("cp can be run");
    assert!(copied.success());
    std::fs::write(copy.join("control.db"), "this is no database, but somebody's text".repeat(500))
        .expect("it is there");
    let folder = copy.to_str().expect("paths are text");
    let said = refused(&["--data", folder, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert!(said.contains("damaged") && said.contains("backup"), "{said}");
    let left = std::fs::read_to_string(copy.join("control.db")).expect("it is text still");
    assert!(left.starts_with("this is no database"));
}
