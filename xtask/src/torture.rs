//! `cargo xtask torture`: makes a long run of the crash test of stored events, with disk faults.
//! Never kills a host itself: the test does, and prints its progress.

use std::process::Command;

use anyhow::Result;

use crate::{guests, setup, step};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Number of kills
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Faults besides the kills. `none`: no writes are lost. `power`: each kill is a power failure,
    /// which loses some or all unsynced writes. `errors`: writes and syncs fail at random. `full`:
    /// the disk is full for a time. `all`: a mixture
    #[arg(long, default_value = "all", value_parser = FAULTS, hide_possible_values = true)]
    faults: String,
    /// Repeat the faults and kills of an earlier run, which printed this seed [default: random]
    #[arg(long)]
    seed: Option<u64>,
}

/// The names of the test's faults.
const FAULTS: [&str; 5] = ["none", "power", "errors", "full", "all"];

/// The crash test, which `cargo xtask test` runs with fewer kills.
const TEST: &str = "event_crashes::power_failures_and_failing_disks";

/// The components that the test deploys.
const GUESTS: [&str; 1] = ["outbox"];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    step::announce("building the host and the crash test (the first time takes about ten minutes)");
    step::run(crash_test().arg("--no-run"), "the compiler's message above says why")?;
    guests::build(&GUESTS.map(str::to_owned), guests::Linker::BuiltWithTheWorkspace)?;
    step::announce(&format!("killing a host {} times while it receives events", arguments.kills));
    let mut test = crash_test();
    test.env("ISOPOD_TORTURE_KILLS", arguments.kills.to_string()).env("ISOPOD_TORTURE_FAULTS", &arguments.faults);
    if let Some(seed) = arguments.seed {
        test.env("ISOPOD_TORTURE_SEED", seed.to_string());
    }
    let advice = "the first line of the torture above has its seed: repeat it with `--seed`";
    step::run(test.args(["--", TEST, "--nocapture"]), advice)?;
    step::announce("each acknowledged event was handled once");
    Ok(())
}

fn crash_test() -> Command {
    let mut cargo = step::cargo();
    cargo.args(["test", "--quiet", "--workspace", "--features", step::FEATURES, "--test", "all"]);
    cargo
}
