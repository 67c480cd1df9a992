//! `cargo xtask test`: prepares and runs all tests, and prints how many passed and failed. Passes
//! cargo's output through unchanged. Never decides whether a test failed; cargo's exit status does.

use std::fmt;
use std::io::{IsTerminal as _, Read};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::{browser, guests, prometheus, setup, step};

const ADVICE: &str = "each failed test is named above; `cargo xtask test NAME` runs one of them again";
const COMPILE_ADVICE: &str = "the compiler's message above says why";
/// The workspaces of components, whose own tests run natively.
const GUEST_WORKSPACES: [&str; 2] = ["examples/Cargo.toml", "plugins/Cargo.toml"];

pub(crate) fn run(args: &[String]) -> Result<()> {
    setup::run()?;
    let optional = Optional::prepare();
    step::announce("building the host and the tests (the first time takes about ten minutes)");
    step::run(tests(&optional).arg("--no-run"), COMPILE_ADVICE)?;
    if args.is_empty() {
        for manifest in GUEST_WORKSPACES {
            step::run(guest_tests(manifest).arg("--no-run"), COMPILE_ADVICE)?;
        }
    }
    guests::build(&[], guests::Linker::BuiltWithTheWorkspace)?;
    let mut sum = Sum::default();
    // Every run completes even after a failure, so that a single call shows all failures.
    let outcomes = if args.is_empty() {
        step::announce("running the tests of the examples and the shipped plugins");
        let [examples, plugins] =
            GUEST_WORKSPACES.map(|manifest| run_counted(&mut guest_tests(manifest), &[], ADVICE, &mut sum));
        step::announce("checking all interleavings of the executor with loom");
        let mut model = step::cargo();
        model.args(["test", "--package", "isopod-executor", "--features", "loom", "--lib"]);
        vec![examples, plugins, run_counted(&mut model, &[], "the failing interleaving is printed above", &mut sum)]
    } else {
        Vec::new()
    };
    step::announce("running all tests");
    let all = run_counted(&mut tests(&optional), args, ADVICE, &mut sum);
    println!();
    step::announce("all tests have run");
    optional.skipped.iter().for_each(|what| println!("skipped, and counted as passed: {what}; the reason is above"));
    println!("{sum}");
    outcomes.into_iter().chain([all]).collect()
}

/// Returns the command that runs the native tests of a workspace of guests. The workspace has its
/// own target folder.
fn guest_tests(manifest: &str) -> Command {
    let mut cargo = step::cargo();
    cargo.args(["test", "--no-fail-fast", "--manifest-path", manifest]).env_remove("CARGO_TARGET_DIR");
    cargo
}

fn tests(optional: &Optional) -> Command {
    let mut cargo = step::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast", "--features", step::FEATURES]);
    cargo.envs(optional.required.iter().map(|variable| (variable, "1")));
    cargo
}

/// The tests that need more programs than the others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Optional {
    /// The variables of the tests that can run, and so must not be skipped.
    required: Vec<&'static str>,
    /// The tests that can't run on this machine.
    skipped: Vec<&'static str>,
}

impl Optional {
    /// Installs the programs, if that needs no permission.
    fn prepare() -> Self {
        Self::of([
            (browser::prepare(), browser::REQUIRED, "the browser tests of the dashboard"),
            (prometheus::prepare(), prometheus::REQUIRED, "the tests with Prometheus"),
        ])
    }

    fn of(found: [(bool, &'static str, &'static str); 2]) -> Self {
        let mut optional = Self::default();
        for (is_installed, variable, tests) in found {
            match is_installed {
                true => optional.required.push(variable),
                false => optional.skipped.push(tests),
            }
        }
        optional
    }
}

/// Runs `cargo test` in the foreground and adds its counts of passed and failed tests to `sum`.
fn run_counted(command: &mut Command, args: &[String], advice: &str, sum: &mut Sum) -> Result<()> {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    command.args(args).args(colour_words(args, colour)).stdout(Stdio::piped());
    let mut cargo = step::spawn(command)?;
    let output = cargo.stdout.take().context("cargo's output is not piped")?;
    let copied = copy(output, &mut std::io::stdout(), sum);
    step::wait(&mut cargo, command, advice)?;
    copied.context("cannot copy the output of the tests")
}

/// Returns the arguments that enable colours: the tests write to a pipe, so they don't detect the
/// terminal. Empty if the caller chose a colour mode.
fn colour_words(args: &[String], colour: bool) -> Vec<&'static str> {
    if !colour || args.iter().any(|arg| arg.starts_with("--color")) {
        return Vec::new();
    }
    let needs_separator = !args.iter().any(|arg| arg == "--");
    needs_separator.then_some("--").into_iter().chain(["--color=always"]).collect()
}

/// Copies output without waiting for the end of a line, and counts the results in each line.
fn copy(mut from: impl Read, to: &mut impl std::io::Write, sum: &mut Sum) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    let mut line = Vec::new();
    loop {
        let length = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&piece[..length])?;
        to.flush()?;
        for byte in &piece[..length] {
            match byte {
                b'\n' => sum.add(&String::from_utf8_lossy(&std::mem::take(&mut line))),
                other => line.push(*other),
            }
        }
    }
}

/// The number of tests that passed and failed in all runs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
}

impl Sum {
    /// Adds the counts of a line such as `test result: ok. 3 passed; 1 failed; …`. Its second word
    /// may contain colour codes.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        let count =
            |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok());
        self.passed += count("passed").unwrap_or(0);
        self.failed += count("failed").unwrap_or(0);
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_whose_programs_are_installed_must_run() {
        let optional = Optional::of([(true, "A", "the tests of a"), (false, "B", "the tests of b")]);
        assert_eq!(optional, Optional { required: vec!["A"], skipped: vec!["the tests of b"] });
        let command = tests(&optional);
        let required = |variable: &str| command.get_envs().any(|(name, value)| name == variable && value.is_some());
        assert!(required("A") && !required("B"));
    }

    #[test]
    fn the_results_of_all_runs_are_summed() {
        let output = "running 2 tests\ntest a ... ok\n\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s\n\n\
            test result: \u{1b}[31mFAILED\u{1b}(B\u{1b}[m. 40 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n\
            the words test result: ok. 9 passed; 9 failed are of no run\n";
        let (mut sum, mut shown) = (Sum::default(), Vec::new());
        copy(output.as_bytes(), &mut shown, &mut sum).expect("it is copied");
        assert_eq!(sum.to_string(), "42 passed, 2 failed");
        assert_eq!(String::from_utf8(shown).expect("text"), output);
    }

    #[test]
    fn colours_are_enabled_on_a_terminal_unless_the_caller_chose_a_mode() {
        let words =
            |args: &[&str], colour| colour_words(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>(), colour);
        assert_eq!(words(&["name"], true), ["--", "--color=always"]);
        assert_eq!(words(&["name", "--", "--nocapture"], true), ["--color=always"]);
        assert!(words(&["--", "--color=never"], true).is_empty());
        assert!(words(&[], false).is_empty());
    }
}
