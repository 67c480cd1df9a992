//! Tests that a command fails if it can't write to standard output, and reports the changes that it
//! made.

use isopod_tests::{Host, program};
use std::fs::File;

#[test]
fn a_command_that_cannot_print_reports_its_change() {
    let host = Host::start();
    let admin = format!("http://{}", host.admin);
    let run = |arguments: &[&str]| {
        let full = File::options().write(true).open("/dev/full").expect("Linux has /dev/full");
        let mut command = program::command(arguments);
        command.env("ISOPOD_HOST", &admin).env("ISOPOD_TOKEN", &host.token).stdout(full);
        command.output().expect("it runs")
    };
    for arguments in [&["apps", "create", "shop", "--json"][..], &["config", "set", "A=1", "--app", "shop", "--json"]] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("standard output cannot be written"), "{arguments:?}: {said}");
        assert!(said.contains("what the command changed before it printed is still changed"), "{arguments:?}: {said}");
    }
    assert_eq!(host.show("shop")["name"], "shop", "the app was created");
    let config = host.api(isopod_tests::Ask::get("/v1/apps/shop/config")).expect(200).text();
    assert!(config.contains("\"A\""), "{config}");
}
