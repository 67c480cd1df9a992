//! Finds programs of this machine that some tests need and that may be missing. Never installs
//! them; `cargo xtask setup` does.

use std::{env, io::Write, path::PathBuf};

/// Returns the file of a program.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Prints a note that a test is skipped, since a program is missing.
///
/// # Panics
/// If the environment variable is set, as on machines that must run these tests.
#[track_caller]
pub(crate) fn skip(missing: &str, required: &str) {
    let note = format!("skipped: {missing} not found; run `cargo xtask setup`");
    assert!(env::var_os(required).is_none(), "{required} is set, but the test was {note}");
    // The test harness captures what macros print, and this test passes.
    let _ = writeln!(std::io::stderr(), "note: {note}");
}
