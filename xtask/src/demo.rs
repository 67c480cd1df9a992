//! `cargo xtask demo`: from a fresh clone to running apps. Builds everything, starts a host with a data folder of its
//! own, deploys the examples, shows one real answer from each, and stays until Ctrl-C. Never touches another host's data.

mod answers;
mod running;

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use isopod_toolchain::guest_file;

use crate::guests::{self, Example, Linker};
use crate::{host, setup, step};
use running::RunningHost;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// End once the answers are shown
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    let program = host::build()?;
    let examples = guests::build(&[], Linker::BuiltWithTheWorkspace)?;
    let stopped = running::signals();
    let mut host = RunningHost::start(Command::new(&program))?;
    let outcome = show(&host, &program, &examples);
    if outcome.is_ok() && !arguments.once {
        println!("\nThe host runs until Ctrl-C, and its data goes then. Data and log: {}", host.data().display());
        host.wait_until(stopped)?;
    }
    step::announce("stopping the host");
    host.stop()?;
    outcome
}

fn show(host: &RunningHost, program: &Path, examples: &[Example]) -> Result<()> {
    let (programs, apps): (Vec<&Example>, Vec<&Example>) =
        examples.iter().partition(|example| answers::is_program(&example.name));
    for app in &apps {
        step::announce(&format!("deploying {}", app.name));
        let mut deploy = Command::new(program);
        deploy.args(["deploy", "--no-build", "--wait"]).arg(&app.folder);
        deploy.envs(host.environment()?);
        step::run(&mut deploy, &format!("the host's own words are in {}", host.log().display()))?;
    }
    println!();
    for app in &apps {
        println!("{}", answers::of(host, &app.name)?);
    }
    for example in programs {
        println!("{}", answers::of_program(program, &guest_file(&step::root(), &example.name))?);
    }
    println!("\nTo speak to this host: {}", host.exports()?);
    Ok(())
}
