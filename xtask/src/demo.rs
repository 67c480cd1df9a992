//! `cargo xtask demo`: builds everything, starts a host with its own data folder, deploys the
//! examples, shows a response of each, and runs until Ctrl-C. Never touches another host's data.

mod answers;
mod running;
mod shown;

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use isopod_toolchain::guest_file;

use crate::guests::{self, Example, Linker};
use crate::{host, setup, step};
use running::RunningHost;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Exit after showing the responses
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    let program = host::build()?;
    let examples = guests::build_examples(Linker::BuiltWithTheWorkspace)?;
    let stopped = running::signals();
    let mut host = RunningHost::start(Command::new(&program))?;
    let outcome = show(&host, &program, &examples);
    if outcome.is_ok() && !arguments.once {
        println!("\nThe host runs until Ctrl-C, which also deletes its data. Data and log: {}", host.data().display());
        host.wait_until(stopped)?;
    }
    step::announce("stopping the host");
    host.stop()?;
    outcome
}

fn show(host: &RunningHost, program: &Path, examples: &[Example]) -> Result<()> {
    let shown = shown::of(examples);
    for (app, _) in shown.iter().filter(|(example, _)| !answers::is_program(&example.name)) {
        step::announce(&format!("deploying {}", app.name));
        let mut deploy = Command::new(program);
        deploy.args(["deploy", "--no-build", "--wait"]).arg(&app.folder);
        deploy.envs(host.environment()?);
        step::run_quietly(&mut deploy, &format!("the host's log is {}", host.log().display()))?;
    }
    println!();
    for (example, what) in shown {
        let answer = match answers::is_program(&example.name) {
            true => answers::of_program(program, &guest_file(&step::root(), &example.name))?,
            false => answers::of(host, &example.name)?,
        };
        println!("{}: {what}\n{answer}", example.name);
    }
    println!("\nTo use this host from another terminal: {}", host.exports()?);
    Ok(())
}
