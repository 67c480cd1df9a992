//! Prepares, starts and measures the servers of the comparison, each with a number of middlewares.
//! Never runs two servers at the same time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::composed::Composed;
use crate::contender::GREETING;
use crate::host::{Host, PLUGIN, name_of};
use crate::peers::{self, Peers};
use crate::server::{Server, free_address};
use crate::{folder, wrk};

const WARM_UP_SECONDS: u32 = 1;

/// The numbers of middlewares that are compared.
pub(super) const MIDDLEWARES: [u32; 3] = [0, 1, 3];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Isopod,
    Axum,
    Wasmtime,
}

impl Subject {
    pub(super) const ALL: [Subject; 3] = [Subject::Isopod, Subject::Axum, Subject::Wasmtime];

    pub(super) fn label(self) -> &'static str {
        match self {
            Subject::Isopod => "isopod, SDK app",
            Subject::Axum => "native axum",
            Subject::Wasmtime => "wasmtime serve, 0.3, composed",
        }
    }
}

/// One measurement.
pub(super) struct Run {
    pub(super) requests_per_second: f64,
    /// CPU time of the server per request; NaN if this machine doesn't report it.
    pub(super) cpu_us: f64,
    pub(super) errors: u64,
}

/// The programs and components of all servers. Wasmtime is `None` if it can't be installed.
pub(super) struct Servers {
    isopod: PathBuf,
    axum: PathBuf,
    composed: Option<Composed>,
    folder: PathBuf,
}

impl Servers {
    /// Builds what is missing, and deploys the apps to the host.
    pub(super) fn prepare(peers: &Peers, isopod: &Path, hello: &Path, plugin: &Path) -> Result<Servers> {
        peers::wrk()?;
        let axum = peers.axum()?;
        let folder = folder::fresh("plugins")?;
        let wasmtime_cli = peers::or_skipped(peers.wasmtime_cli());
        let composed =
            wasmtime_cli.map(|wasmtime_cli| Composed::new(wasmtime_cli, peers, &folder, &MIDDLEWARES)).transpose()?;
        deploy(isopod, &folder, hello, plugin)?;
        Ok(Servers { isopod: isopod.to_owned(), axum, composed, folder })
    }

    /// Measures one server with a number of middlewares. `None` if it isn't installed.
    pub(super) fn measure(&self, server: Subject, middlewares: u32, seconds: u32) -> Result<Option<Run>> {
        let run = match server {
            Subject::Isopod => {
                let mut host = Host::start(&self.isopod, &self.folder, "")?;
                host.wait_for(&app(middlewares), GREETING)?;
                let run = measure(host.server(), host.listen(), &name_of(&app(middlewares)), seconds)?;
                host.stop()?;
                run
            }
            Subject::Axum => {
                let address = free_address()?;
                let mut command = Command::new(&self.axum);
                command.arg(address.to_string()).arg(middlewares.to_string());
                self.measure_program(command, address, server, seconds)?
            }
            Subject::Wasmtime => {
                let Some(composed) = &self.composed else { return Ok(None) };
                let address = free_address()?;
                self.measure_program(composed.serve(middlewares, address), address, server, seconds)?
            }
        };
        let Run { requests_per_second, cpu_us, .. } = run;
        let label = server.label();
        println!(
            "         {requests_per_second:>9.0} requests/s  {cpu_us:>6.2} µs  {label}, {middlewares} middlewares"
        );
        Ok(Some(run))
    }

    fn measure_program(&self, command: Command, address: SocketAddr, server: Subject, seconds: u32) -> Result<Run> {
        let mut process = Server::start(command, &self.folder.join("peer.log"))?;
        process.wait_for(address, "localhost", GREETING).with_context(|| server.label())?;
        let run = measure(&process, address, "localhost", seconds)?;
        process.stop()?;
        Ok(run)
    }
}

/// Returns the name of the app with this number of middlewares.
fn app(middlewares: u32) -> String {
    format!("hello-{middlewares}")
}

/// Installs the plugin and deploys the apps, which the host restores at each start.
fn deploy(isopod: &Path, folder: &Path, hello: &Path, plugin: &Path) -> Result<()> {
    let host = Host::start(isopod, folder, "")?;
    host.install("probe-plugin", PLUGIN, plugin)?;
    for number in MIDDLEWARES {
        let uses = (0..number).map(|index| {
            format!(
                "[[middleware]]\nuse = \"probe-plugin\"\n\
                 config = {{ request = {{ set = [\"x-middleware-{index}\", \"1\"] }} }}\n"
            )
        });
        let manifest = format!("type = \"production\"\n{}", uses.collect::<String>());
        host.deploy(&app(number), &manifest, hello)?;
    }
    host.stop()
}

fn measure(server: &Server, address: SocketAddr, host: &str, seconds: u32) -> Result<Run> {
    wrk::run(address, host, WARM_UP_SECONDS)?;
    let before = server.processor_time();
    let report = wrk::run(address, host, seconds).with_context(|| host.to_owned())?;
    let used = server.processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    let cpu_us = used.map_or(f64::NAN, |used| used.as_secs_f64() * 1e6 / report.requests.max(1) as f64);
    Ok(Run { requests_per_second: report.requests_per_second, cpu_us, errors: report.errors })
}
