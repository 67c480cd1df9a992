//! `cargo xtask bench`: builds and runs the benchmarks, which are a separate package. Never
//! measures, and never parses their arguments.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::step;

/// Runs `isopod-bench` in the foreground. Returns its exit status; it has already printed its
/// error.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let mut cargo = step::cargo();
    cargo.args(["run", "--quiet", "--profile", "xtask", "--package", "isopod-bench", "--"]).args(args);
    let status = step::spawn(&mut cargo)?.wait().context("cannot wait for the benchmarks")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
