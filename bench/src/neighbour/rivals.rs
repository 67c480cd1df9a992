//! Runs the same component, or the closest equivalent, behind other servers beside a flood. Never
//! judges the result.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::report::RivalFigures;
use super::{ANSWER, SPIN_MS, SPINNING_CLIENTS, turn};
use crate::burn::Pace;
use crate::client::Request;
use crate::flood::{Caller, SampleWindow};
use crate::peers::{self, Peers};
use crate::server::{Server, free_address};

/// Another server, with the path of its program.
pub(super) enum Rival {
    /// One process serves one component, so the flood goes to the quiet app itself.
    WasmtimeServe(PathBuf),
    /// Two services in one process, in JavaScript.
    Workerd(PathBuf),
}

/// The measurement continues until this many responses or this timeout, since a response may take
/// seconds beside the flood.
const FLOODED_ANSWERS: usize = 9;
const FLOODED_AT_MOST: Duration = Duration::from_secs(60);

const HOST: &str = "localhost";

impl Rival {
    /// Returns the servers that are installed or can be installed.
    pub(super) fn find(peers: &Peers) -> Vec<Rival> {
        let wasmtime_cli = peers::or_skipped(peers.wasmtime_cli()).map(Rival::WasmtimeServe);
        let workerd = peers::or_skipped(peers.workerd()).map(Rival::Workerd);
        wasmtime_cli.into_iter().chain(workerd).collect()
    }

    pub(super) fn measure(&self, component: &Path, folder: &Path, seconds: u32) -> Result<RivalFigures> {
        let (command, quiet, noisy) = self.command(component, folder)?;
        let mut server = Server::start(command, &folder.join("rival.log"))?;
        for address in [quiet, noisy] {
            server.wait_for(address, HOST, ANSWER)?;
        }
        let pace = Pace::measure(noisy, HOST)?;
        let spinning = vec![Caller::of(noisy, pace.request(HOST, SPIN_MS)); SPINNING_CLIENTS];
        let quiet = Caller::of(quiet, Request::get(HOST, "/"));
        let alone = turn(&quiet, &[], SampleWindow::seconds(seconds))?;
        let window =
            SampleWindow { answers: FLOODED_ANSWERS, at_most: FLOODED_AT_MOST, ..SampleWindow::seconds(seconds) };
        let spinning = turn(&quiet, &spinning, window)?;
        server.stop()?;
        Ok(RivalFigures { name: self.to_string(), alone, spinning })
    }

    /// Returns the command, the address of the quiet app, and that of the flooded app.
    fn command(&self, component: &Path, folder: &Path) -> Result<(Command, SocketAddr, SocketAddr)> {
        let quiet = free_address()?;
        match self {
            Rival::WasmtimeServe(program) => {
                let mut command = Command::new(program);
                command.args(["serve", "-S", "cli", "-S", "config", "--addr", &quiet.to_string()]).arg(component);
                Ok((command, quiet, quiet))
            }
            Rival::Workerd(program) => {
                let noisy = free_address()?;
                let config = folder.join("busy.capnp");
                let text = include_str!("busy.capnp").replace("ANSWER", ANSWER);
                fs::write(&config, text.replace("QUIET", &quiet.to_string()).replace("NOISY", &noisy.to_string()))?;
                let mut command = Command::new(program);
                command.arg("serve").arg(config);
                Ok((command, quiet, noisy))
            }
        }
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Rival::WasmtimeServe(_) => "wasmtime serve",
            Rival::Workerd(_) => "workerd",
        })
    }
}
