//! `cargo xtask bench instructions`: counts the instructions that a server executes in user mode
//! per request. Unlike latency, the count is independent of the machine's load, so it shows
//! regressions that other figures hide. Never counts kernel mode.

mod callgrind;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::client::Client;
use super::contender::GREETING;
use super::host::{Host, PLUGIN, name_of};
use super::peers::Peers;
use super::server::{Server, free_address};
use super::{components, folder, machine, options::Common, statistics};
use callgrind::Callgrind;
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Folder in which the native greeting is built [default: target/peers]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Number of requests per round
    #[arg(long, default_value_t = 500)]
    requests: u32,
    /// Number of rounds
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// Valgrind's address space suffices only for a small pool.
const SETTINGS: &str = "instances_max = 2\n";

const APP: &str = "counted";

/// The plugin that sets a header of the request.
const PASSING: &str = "probe-plugin";

/// Requests before the count, which fill pools and caches.
const WARM_UP: u32 = 100;

/// The factor for the number of requests without callgrind, since CPU time is measured in steps of
/// 10 ms.
const WITHOUT_CALLGRIND_TIMES: u32 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Axum,
    Sdk,
    SdkWithMiddleware,
    Wasi02,
    Wasi03,
}

impl Subject {
    const ALL: [Subject; 5] =
        [Subject::Axum, Subject::Sdk, Subject::SdkWithMiddleware, Subject::Wasi02, Subject::Wasi03];

    /// Returns the example that the host serves; `None` for the native greeting.
    fn example(self) -> Option<&'static str> {
        match self {
            Subject::Axum => None,
            Subject::Sdk | Subject::SdkWithMiddleware => Some("hello"),
            Subject::Wasi02 => Some("hello-wasi02"),
            Subject::Wasi03 => Some("hello-wasi03"),
        }
    }

    fn manifest(self) -> &'static str {
        match self {
            Subject::SdkWithMiddleware => {
                "type = \"production\"\n[[middleware]]\nuse = \"probe-plugin\"\n\
                 config = { request = { set = [\"x-middleware\", \"1\"] } }\n"
            }
            _ => "type = \"production\"\n",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Subject::Axum => "native axum",
            Subject::Sdk => "isopod, SDK app",
            Subject::SdkWithMiddleware => "isopod, SDK app, one middleware",
            Subject::Wasi02 => "isopod, wasi:http 0.2",
            Subject::Wasi03 => "isopod, wasi:http 0.3",
        })
    }
}

/// The measured figure: CPU time replaces instructions if callgrind is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Instructions,
    ProcessorTime,
}

impl Measure {
    fn unit(self) -> &'static str {
        match self {
            Measure::Instructions => "instructions/request",
            Measure::ProcessorTime => "CPU µs/request",
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    components::built(["hello", "hello-wasi02", "hello-wasi03", "probe-plugin"])?;
    let axum = Peers::find(arguments.peers.as_deref())?.axum()?;
    let measure = if callgrind::is_there() { Measure::Instructions } else { Measure::ProcessorTime };
    if measure == Measure::ProcessorTime {
        step::announce("valgrind can't be installed: measuring CPU time instead of instructions");
    }
    let bench = Bench { measure, requests: arguments.requests, rounds: arguments.rounds };
    let folder = folder::fresh("instructions")?;
    let mut figures = Figures { measure, counted: Vec::new() };
    for subject in Subject::ALL {
        step::announce(&format!("{subject}: {} requests, {} times", bench.requests, bench.rounds));
        let folder = folder.join(figures.counted.len().to_string());
        folder::make(&folder)?;
        let rounds = match subject.example() {
            None => bench.axum(&axum, &folder)?,
            Some(example) => bench.app(&program, example, subject.manifest(), &folder)?,
        };
        figures.counted.push((subject, rounds));
    }
    figures.show();
    arguments.common.write_json(&figures.json())
}

struct Bench {
    measure: Measure,
    requests: u32,
    rounds: u32,
}

impl Bench {
    fn axum(&self, program: &Path, folder: &Path) -> Result<Vec<f64>> {
        let callgrind = Callgrind::new(folder.join("counts"));
        let mut command = self.command(&callgrind, program);
        let address = free_address()?;
        command.arg(address.to_string());
        let mut server = Server::start(command, &folder.join("server.log"))?;
        server.wait_for(address, "localhost", GREETING)?;
        let rounds = self.count(callgrind, &server, address, "localhost")?;
        server.stop()?;
        Ok(rounds)
    }

    /// Measures one app. Each app has its own host, since the pool has room for one app and one
    /// plugin.
    fn app(&self, program: &Path, example: &str, manifest: &str, folder: &Path) -> Result<Vec<f64>> {
        let callgrind = Callgrind::new(folder.join("counts"));
        let mut host = Host::start_as(self.command(&callgrind, program), program, folder, SETTINGS)?;
        let guest = |name| isopod_toolchain::guest_file(&step::root(), name);
        if manifest.contains(PASSING) {
            host.install(PASSING, PLUGIN, &guest(PASSING))?;
        }
        host.deploy(APP, manifest, &guest(example))?;
        host.wait_for(APP, GREETING)?;
        let rounds = self.count(callgrind, host.server(), host.listen(), &name_of(APP))?;
        host.stop()?;
        Ok(rounds)
    }

    fn command(&self, callgrind: &Callgrind, program: &Path) -> Command {
        match self.measure {
            Measure::Instructions => callgrind.command(program),
            Measure::ProcessorTime => Command::new(program),
        }
    }

    /// Returns the figure per request, for each round.
    fn count(&self, mut callgrind: Callgrind, server: &Server, address: SocketAddr, host: &str) -> Result<Vec<f64>> {
        let mut client = Client::connect(address, host)?;
        if self.measure == Measure::Instructions {
            callgrind.begin(server.process())?;
        }
        ask(&mut client, WARM_UP)?;
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(match self.measure {
                Measure::Instructions => {
                    let counted = callgrind.count(server.process(), || ask(&mut client, self.requests))?;
                    counted as f64 / f64::from(self.requests)
                }
                Measure::ProcessorTime => {
                    let requests = self.requests * WITHOUT_CALLGRIND_TIMES;
                    let time = || server.processor_time().context("this system doesn't report a process's CPU time");
                    let before = time()?;
                    ask(&mut client, requests)?;
                    time()?.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(requests)
                }
            });
        }
        Ok(rounds)
    }
}

fn ask(client: &mut Client, requests: u32) -> Result<()> {
    for _ in 0..requests {
        let answer = client.get()?;
        if answer.status != 200 {
            bail!("a request returned {}: {}", answer.status, answer.body);
        }
    }
    Ok(())
}

struct Figures {
    measure: Measure,
    counted: Vec<(Subject, Vec<f64>)>,
}

impl Figures {
    fn conditions(&self) -> String {
        format!("{}, one connection, medians of the rounds, {}", self.measure.unit(), machine::description())
    }

    fn ratio_to_native(&self, rounds: &[f64]) -> f64 {
        let native = self.counted.iter().find(|(subject, _)| *subject == Subject::Axum);
        native.map_or(f64::NAN, |(_, native)| median(rounds) / median(native))
    }

    fn show(&self) {
        println!("\n{}\n", self.conditions());
        println!("| {:<31} | {:>20} | {:>20} | times native |", "server", self.measure.unit(), "range");
        println!("| {:-<31} | {:->19}: | {:->19}: | -----------: |", "", "", "");
        for (subject, rounds) in &self.counted {
            let range = format!("{:.1}–{:.1}", least(rounds), most(rounds));
            let ratio = self.ratio_to_native(rounds);
            println!("| {:<31} | {:>20.1} | {range:>20} | {ratio:>12.2} |", subject.to_string(), median(rounds));
        }
    }

    fn json(&self) -> Value {
        let servers = self.counted.iter().map(|(subject, rounds)| {
            json!({
                "server": subject.to_string(),
                "median": median(rounds),
                "times_native": self.ratio_to_native(rounds),
                "rounds": rounds,
            })
        });
        json!({
            "conditions": self.conditions(),
            "unit": self.measure.unit(),
            "servers": servers.collect::<Vec<_>>(),
        })
    }
}

fn median(rounds: &[f64]) -> f64 {
    statistics::median(rounds).unwrap_or(f64::NAN)
}

fn least(rounds: &[f64]) -> f64 {
    rounds.iter().copied().fold(f64::NAN, f64::min)
}

fn most(rounds: &[f64]) -> f64 {
    rounds.iter().copied().fold(f64::NAN, f64::max)
}
