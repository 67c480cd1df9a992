//! Tests the variables of the command line: the help names them, an option overrides them, and an
//! empty variable counts as unset.

use isopod_tests::{Host, program};

/// Runs `isopod apps` with these variables, and returns its status and both outputs.
fn apps(arguments: &[&str], host: &str, token: &str) -> (Option<i32>, String) {
    let mut command = program::command(&[&["apps"], arguments].concat());
    let output = command.env("ISOPOD_HOST", host).env("ISOPOD_TOKEN", token).output().expect("it can be run");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_help_names_the_variables_without_their_values() {
    let mut command = program::command(&["apps", "--help"]);
    let output = command.env("ISOPOD_HOST", "http://h:1").env("ISOPOD_TOKEN", "secret").output().expect("it runs");
    // The text is wrapped to the terminal's width.
    let help = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("[env: ISOPOD_HOST]") && help.contains("[env: ISOPOD_TOKEN]"), "{help}");
    assert!(!help.contains("secret"), "{help}");
}

#[test]
fn an_option_overrides_its_variable() {
    let host = Host::start();
    host.create("shop", "dev");
    let address = format!("http://{}", host.admin);
    let (status, text) = apps(&[], &address, &host.token);
    assert!(status == Some(0) && text.contains("shop"), "{text}");
    let (status, text) = apps(&["--host", &address, "--token", &host.token], "http://127.0.0.1:1", "wrong");
    assert!(status == Some(0) && text.contains("shop"), "{text}");
    let (status, text) = apps(&["--token", "wrong"], &address, &host.token);
    assert!(status == Some(1) && text.contains("ISOPOD_TOKEN"), "{text}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let host = Host::start();
    let (status, text) = apps(&["--token", &host.token, "--host", &format!("http://{}", host.admin)], "", "");
    assert_eq!(status, Some(0), "{text}");
}
