//! `cargo xtask bench serve`: measures a greeting behind the host and behind other servers in
//! several rounds. Never runs two servers concurrently, and measures each for the same time, so
//! that the load of the machine is equal.

use std::path::PathBuf;

use anyhow::Result;

use super::contender::{Contender, Programs};
use super::peers::{self, Peers};
use super::report::{Figures, Run, Series};
use super::{components, folder, options::Common, wrk};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Folder of the other servers' programs, which are installed if missing [default:
    /// target/peers]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Measure only native axum and the servers whose names contain one of these words, such as
    /// `isopod`
    #[arg(long, value_name = "WORD", num_args = 1..)]
    only: Vec<String>,
    /// Number of rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each measurement, after a warm-up of a second
    #[arg(long, default_value_t = 5)]
    seconds: u32,
}

const WARM_UP_SECONDS: u32 = 1;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    peers::wrk()?;
    let mut contenders = wanted(&arguments.only);
    let programs = programs(arguments, &contenders)?;
    contenders.retain(|contender| programs.has(*contender));
    programs.deploy()?;
    let mut figures = Figures::new(&contenders, arguments.rounds, arguments.seconds);
    for round in 1..=arguments.rounds {
        step::announce(&format!("round {round} of {}", arguments.rounds));
        // Every second round has the reverse order, so that no server always follows the same other
        // server.
        let mut turns: Vec<&mut Series> = figures.series.iter_mut().collect();
        if round % 2 == 0 {
            turns.reverse();
        }
        for series in turns {
            series.runs.push(measure(&programs, series.contender, arguments.seconds)?);
        }
    }
    println!("\n{figures}");
    arguments.common.write_json(&figures.json())
}

/// Returns the selected servers. Native axum is always included, since the others are compared with
/// it.
fn wanted(words: &[String]) -> Vec<Contender> {
    let named = |contender: &Contender| words.iter().any(|word| contender.to_string().contains(word));
    let is_wanted = |contender: &Contender| words.is_empty() || *contender == Contender::Axum || named(contender);
    Contender::ALL.into_iter().filter(is_wanted).collect()
}

fn measure(programs: &Programs, contender: Contender, seconds: u32) -> Result<Run> {
    let (server, address) = programs.start(contender)?;
    wrk::run(address, &contender.host(), WARM_UP_SECONDS)?;
    let before = server.processor_time();
    let report = wrk::run(address, &contender.host(), seconds)?;
    let processor = server.processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    server.stop()?;
    println!("         {:>9.0} requests/s  {contender}", report.requests_per_second);
    Ok(Run { wrk: report, processor })
}

fn programs(arguments: &Arguments, contenders: &[Contender]) -> Result<Programs> {
    let peers = Peers::find(arguments.peers.as_deref())?;
    let is_among = |needed: fn(Contender) -> bool| contenders.iter().any(|contender| needed(*contender));
    let [sdk, wasi02, wasi03] = components::built(["hello", "hello-wasi02", "hello-wasi03"])?;
    Ok(Programs {
        axum: peers.axum()?,
        isopod: arguments.common.host()?,
        wasmtime_cli: is_among(Contender::needs_wasmtime_cli).then(|| peers.wasmtime_cli()).and_then(peers::or_skipped),
        workerd: is_among(Contender::needs_workerd).then(|| peers.workerd()).and_then(peers::or_skipped),
        sdk,
        wasi02,
        wasi03,
        folder: folder::fresh("serve")?,
    })
}
