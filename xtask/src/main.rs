//! `cargo xtask`: the commands for contributors. Contains only the list of commands; each has its
//! own file. Never part of the product.

mod bench;
mod check;
mod demo;
mod dist;
mod test;
mod tidy;
mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{browser, guests, host, prometheus, setup, step, webhook};

/// Builds, checks and demonstrates Isopod
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install the missing tools to build Isopod and its guests
    Setup,
    /// Run all checks: format, tidiness, clippy, licences, docs, tests
    Check,
    /// Install missing tools, build host and examples, and run all tests
    Test {
        /// Arguments for `cargo test`, such as the name of a test
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build everything, start a host with the examples and plugins, and show a response from each
    Demo(demo::Arguments),
    /// Build the examples and the shipped plugins into target/guests
    Guests {
        /// Only these examples
        names: Vec<String>,
    },
    /// Measure how fast the host is
    #[command(disable_help_flag = true)]
    Bench {
        /// The benchmark and its arguments, as `cargo xtask bench --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build the host for distribution, optimised for the load of the benchmarks
    Dist,
    /// Kill a host again and again while it receives events, and verify that none is lost
    Torture(torture::Arguments),
    /// Check the project's rules for the source
    Tidy,
    /// Write the index of all limits, docs/limits.md
    Limits,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Bench { args } => return bench::run(&args).unwrap_or_else(|error| step::exit_code(Err(error))),
        Command::Setup => setup::run().map(|()| {
            browser::prepare();
            prometheus::prepare();
        }),
        Command::Check => check::run(),
        Command::Test { args } => test::run(&args),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Guests { names } => guests::run(&names),
        Command::Dist => dist::run(),
        Command::Torture(arguments) => torture::run(&arguments),
        Command::Tidy => tidy::run(),
        Command::Limits => tidy::write_limits(),
    };
    step::exit_code(result)
}
