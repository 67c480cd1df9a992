//! `cargo xtask`: what a contributor types. Owns only the list of commands; each has a file. Never part of the product.

mod bench;
mod check;
mod demo;
mod guests;
mod host;
mod setup;
mod step;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, checks and shows Isopod
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing here to build Isopod and its guests
    Setup,
    /// Everything a change must pass: format, tidiness, clippy, licences, docs, tests
    Check,
    /// Install what is missing, build host and examples, and run all tests
    Test {
        /// Passed on to `cargo test`, such as the name of a test
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build everything, start a host with the examples deployed, and show an answer from each
    Demo(demo::Arguments),
    /// Build the examples into target/guests
    Guests {
        /// Only these examples
        names: Vec<String>,
    },
    /// Measure how fast the host is
    #[command(subcommand)]
    Bench(bench::Benchmark),
    /// Look whether the source keeps the project's rules
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Check => check::run(),
        Command::Test { args } => test::run(&args),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Guests { names } => guests::run(&names),
        Command::Bench(benchmark) => bench::run(&benchmark),
        Command::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
