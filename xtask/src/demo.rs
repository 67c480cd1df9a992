//! `cargo xtask demo`: builds the host, the examples and the shipped plugins. Starts a host with
//! its own data folder, installs the plugins, deploys the examples, shows a response of each, and
//! runs until Ctrl-C. Never touches another host's data.

mod answers;
mod ask;
mod plugins;
mod running;
mod shown;

use std::process::Command;
use std::time::SystemTime;

use anyhow::Result;
use isopod_toolchain::guest_file;

use crate::guests::{self, Example, Linker};
use crate::webhook::Webhook;
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
    let examples = guests::find_all()?.into_iter().filter(|example| shown::is_shown(&example.name)).collect();
    let built = guests::build_available(examples, Linker::BuiltWithTheWorkspace)?;
    let stopped = running::signals();
    let webhook = Webhook::start()?;
    let mut host = RunningHost::start(Command::new(program), &plugins::settings(SystemTime::now()))?;
    let outcome = deploy(&host, &built, &webhook).and_then(|()| show(&host, &built, &webhook));
    if outcome.is_ok() && !arguments.once {
        println!("\nTo use this host from another terminal: {}", host.exports()?);
        println!("\nThe host runs until Ctrl-C, which also deletes its data. Data and log: {}", host.data().display());
        host.wait_until(stopped)?;
    }
    step::announce("stopping the host");
    host.stop()?;
    outcome
}

/// Installs the plugins first, since some examples use them.
fn deploy(host: &RunningHost, built: &[Example], webhook: &Webhook) -> Result<()> {
    let log = format!("the host's log is {}", host.log().display());
    for (plugin, _) in shown::plugins(built) {
        step::announce(&format!("installing {}", plugin.name));
        let mut install = host.command(&["plugins", "install", "--no-build"])?;
        step::run_quietly(install.arg(&plugin.folder), &log)?;
    }
    plugins::configure(host, webhook, &log)?;
    let apps = shown::examples(built).into_iter().filter(|(example, _)| !answers::is_program(&example.name));
    let apps = apps.map(|(app, _)| (app.name.clone(), app.folder.clone()));
    for (name, folder) in apps.chain([(plugins::SHOP.to_owned(), plugins::write_shop(host)?)]) {
        step::announce(&format!("deploying {name}"));
        step::run_quietly(host.command(&["deploy", "--no-build", "--wait"])?.arg(folder), &log)?;
    }
    Ok(())
}

fn show(host: &RunningHost, built: &[Example], webhook: &Webhook) -> Result<()> {
    println!();
    for (example, what) in shown::examples(built) {
        let answer = match answers::is_program(&example.name) {
            true => answers::of_program(host, &guest_file(&step::root(), &example.name))?,
            false => answers::of(host, &example.name)?,
        };
        println!("{}: {what}\n{answer}", example.name);
    }
    println!("\n{}", plugins::introduction(host)?);
    for (plugin, what) in shown::plugins(built) {
        println!("{}: {what}", plugin.name);
        for answer in plugins::answers(host, webhook, &plugin.name)? {
            println!("{answer}");
        }
    }
    Ok(())
}
