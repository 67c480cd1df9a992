//! Tests of the program that need no guest; all other facts are in `tests/`. As an integration
//! test, it also makes `cargo test` build the program before those run.

use std::process::Command;

#[test]
fn the_program_prints_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_isopod")).arg("--version").output().expect("the program runs");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("isopod {}\n", env!("CARGO_PKG_VERSION")));
}
