//! The servers of the comparison: their labels, requirements and commands. Never measures.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::folder;
use super::server::{Server, free_address};
use xtask::step;

/// The response of every contender.
pub(super) const GREETING: &str = "Hello, world!";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Axum,
    IsopodSdk,
    IsopodWasi02,
    IsopodWasi02Fresh,
    IsopodWasi03,
    WasmtimeWasi02,
    WasmtimeWasi02Tuned,
    WasmtimeWasi02TunedReused,
    WasmtimeWasi03,
    WasmtimeWasi03Tuned,
    Workerd,
}

impl Contender {
    pub(super) const ALL: [Contender; 11] = [
        Contender::Axum,
        Contender::IsopodSdk,
        Contender::IsopodWasi02,
        Contender::IsopodWasi02Fresh,
        Contender::IsopodWasi03,
        Contender::WasmtimeWasi02,
        Contender::WasmtimeWasi02Tuned,
        Contender::WasmtimeWasi02TunedReused,
        Contender::WasmtimeWasi03,
        Contender::WasmtimeWasi03Tuned,
        Contender::Workerd,
    ];

    fn label(self) -> &'static str {
        match self {
            Contender::Axum => "native axum",
            Contender::IsopodSdk => "isopod, SDK app",
            Contender::IsopodWasi02 => "isopod, wasi:http 0.2",
            Contender::IsopodWasi02Fresh => "isopod, wasi:http 0.2, instance per request",
            Contender::IsopodWasi03 => "isopod, wasi:http 0.3",
            Contender::WasmtimeWasi02 => "wasmtime serve, 0.2, defaults",
            Contender::WasmtimeWasi02Tuned => "wasmtime serve, 0.2, pool tuned",
            Contender::WasmtimeWasi02TunedReused => "wasmtime serve, 0.2, pool tuned, reused",
            Contender::WasmtimeWasi03 => "wasmtime serve, 0.3, defaults",
            Contender::WasmtimeWasi03Tuned => "wasmtime serve, 0.3, pool tuned",
            Contender::Workerd => "workerd",
        }
    }

    /// Returns the name of the app, if the contender is the host.
    fn app(self) -> Option<&'static str> {
        match self {
            Contender::IsopodSdk => Some("hello"),
            Contender::IsopodWasi02 => Some("hello-wasi02"),
            Contender::IsopodWasi02Fresh => Some("hello-wasi02-fresh"),
            Contender::IsopodWasi03 => Some("hello-wasi03"),
            Contender::Axum
            | Contender::WasmtimeWasi02
            | Contender::WasmtimeWasi02Tuned
            | Contender::WasmtimeWasi02TunedReused
            | Contender::WasmtimeWasi03
            | Contender::WasmtimeWasi03Tuned
            | Contender::Workerd => None,
        }
    }

    pub(super) fn needs_wasmtime_cli(self) -> bool {
        matches!(
            self,
            Contender::WasmtimeWasi02
                | Contender::WasmtimeWasi02Tuned
                | Contender::WasmtimeWasi02TunedReused
                | Contender::WasmtimeWasi03
                | Contender::WasmtimeWasi03Tuned
        )
    }

    pub(super) fn needs_workerd(self) -> bool {
        self == Contender::Workerd
    }

    /// Returns the host name of the requests.
    pub(super) fn host(self) -> String {
        self.app().map_or_else(|| "localhost".to_owned(), |app| format!("{app}.localhost"))
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.label())
    }
}

/// Every program and component of the comparison. A peer that can't be installed is `None`.
pub(super) struct Programs {
    pub(super) axum: PathBuf,
    pub(super) isopod: PathBuf,
    pub(super) wasmtime_cli: Option<PathBuf>,
    pub(super) workerd: Option<PathBuf>,
    pub(super) sdk: PathBuf,
    pub(super) wasi02: PathBuf,
    pub(super) wasi03: PathBuf,
    /// The folder of the contenders' files.
    pub(super) folder: PathBuf,
}

/// The pool settings of `wasmtime serve` that performed best in our own search for the host's
/// settings.
pub(super) const WASMTIME_TUNED: [&str; 8] = [
    "-O",
    "pooling-allocator=y",
    "-O",
    "pooling-memory-keep-resident=1048576",
    "-O",
    "pooling-table-keep-resident=65536",
    "-O",
    "pooling-pagemap-scan=y",
];

/// More requests than a run sends, so that no instance is replaced during it.
const WASMTIME_REUSED: [&str; 2] = ["--max-instance-reuse-count", "1000000000"];

impl Programs {
    /// Returns whether all requirements of a contender are installed.
    pub(super) fn has(&self, contender: Contender) -> bool {
        (self.wasmtime_cli.is_some() || !contender.needs_wasmtime_cli())
            && (self.workerd.is_some() || !contender.needs_workerd())
    }

    /// Starts a contender and waits until it responds.
    pub(super) fn start(&self, contender: Contender) -> Result<(Server, SocketAddr)> {
        let address = free_address()?;
        let log = self.folder.join("server.log");
        let mut server = Server::start(self.command(contender, address)?, &log)?;
        server.wait_for(address, &contender.host(), GREETING).with_context(|| contender.to_string())?;
        Ok((server, address))
    }

    fn command(&self, contender: Contender, address: SocketAddr) -> Result<Command> {
        match contender {
            Contender::Axum => {
                let mut command = Command::new(&self.axum);
                command.arg(address.to_string());
                Ok(command)
            }
            Contender::IsopodSdk | Contender::IsopodWasi02 | Contender::IsopodWasi02Fresh | Contender::IsopodWasi03 => {
                Ok(self.isopod(address, free_address()?))
            }
            Contender::WasmtimeWasi02 => self.wasmtime_serve(&self.wasi02, address, &[]),
            Contender::WasmtimeWasi02Tuned => self.wasmtime_serve(&self.wasi02, address, &WASMTIME_TUNED),
            Contender::WasmtimeWasi02TunedReused => {
                self.wasmtime_serve(&self.wasi02, address, &[&WASMTIME_TUNED[..], &WASMTIME_REUSED].concat())
            }
            Contender::WasmtimeWasi03 => self.wasmtime_serve(&self.wasi03, address, &[]),
            Contender::WasmtimeWasi03Tuned => self.wasmtime_serve(&self.wasi03, address, &WASMTIME_TUNED),
            Contender::Workerd => self.workerd(address),
        }
    }

    fn isopod(&self, listen: SocketAddr, admin: SocketAddr) -> Command {
        let mut command = Command::new(&self.isopod);
        command.arg("up").arg("--data").arg(self.folder.join("data"));
        command.args(["--listen", &listen.to_string(), "--admin", &admin.to_string()]);
        command
    }

    fn wasmtime_serve(&self, component: &Path, address: SocketAddr, settings: &[&str]) -> Result<Command> {
        let program = self.wasmtime_cli.as_ref().context("wasmtime is not installed")?;
        Ok(wasmtime_serve(program, component, address, settings))
    }

    fn workerd(&self, address: SocketAddr) -> Result<Command> {
        let config = self.folder.join("workerd.capnp");
        let text = include_str!("workerd.capnp").replace("ADDRESS", &address.to_string());
        fs::write(&config, text.replace("GREETING", GREETING))?;
        let mut command = Command::new(self.workerd.as_ref().context("workerd is not installed")?);
        command.arg("serve").arg(config);
        Ok(command)
    }

    /// Deploys the apps to the host's data folder. Their type is production, as in normal
    /// operation.
    pub(super) fn deploy(&self) -> Result<()> {
        step::announce("deploying the apps");
        let (listen, admin) = (free_address()?, free_address()?);
        let mut host = Server::start(self.isopod(listen, admin), &self.folder.join("server.log"))?;
        host.wait_for_words("isopod ready ")?;
        let token = fs::read_to_string(self.folder.join("data/admin.token")).context("the host has no admin.token")?;
        let apps = [
            (Contender::IsopodSdk, &self.sdk, "reuse"),
            (Contender::IsopodWasi02, &self.wasi02, "reuse"),
            (Contender::IsopodWasi02Fresh, &self.wasi02, "request"),
            (Contender::IsopodWasi03, &self.wasi03, "reuse"),
        ];
        for (contender, component, isolation) in apps {
            let name = contender.app().context("the contender has no app")?;
            let project = self.folder.join(name);
            folder::make(&project)?;
            fs::copy(component, project.join("app.wasm"))
                .with_context(|| format!("cannot copy {}", component.display()))?;
            fs::write(project.join("isopod.toml"), manifest(name, isolation))?;
            let mut deploy = Command::new(&self.isopod);
            deploy.args(["deploy", "--no-build", "--wait"]).arg(&project);
            deploy.env("ISOPOD_HOST", format!("http://{admin}")).env("ISOPOD_TOKEN", token.trim());
            step::run(&mut deploy, "the host's message above says why")?;
        }
        host.stop()
    }
}

/// Returns the command that serves a component with wasmtime.
pub(super) fn wasmtime_serve(program: &Path, component: &Path, address: SocketAddr, settings: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("serve").arg("--addr").arg(address.to_string()).args(["-S", "cli"]).args(settings).arg(component);
    command
}

fn manifest(name: &str, isolation: &str) -> String {
    format!(
        "name = {name:?}\ntype = \"production\"\nisolation = {isolation:?}\ncomponent = \"app.wasm\"\n\n\
         [processes.web]\nentry = \"http\"\n"
    )
}
