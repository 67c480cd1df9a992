//! `cargo xtask bench plugins`: measures an SDK app with no, one and three middlewares, and native
//! axum with the same number; deploys without and with a gate; and the deliveries of a hook. Each
//! middleware sets a header of the request. Never runs two servers at the same time.

mod gates;
mod hooks;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::contender::GREETING;
use super::host::{Host, PLUGIN, name_of};
use super::peers::{self, Peers};
use super::server::{Server, free_address};
use super::verdict::{self, Bound, Verdict};
use super::{components, folder, options::Common, statistics, wrk};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Folder of the other server's program, which is built if missing [default: target/peers]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Number of rounds of requests; 0 measures only the gate and the hook
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each measurement, after a warm-up of a second
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Number of deploys without and with a gate
    #[arg(long, default_value_t = 20)]
    deploys: u32,
    /// Number of events for the hook
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..=5000))]
    events: u32,
}

const WARM_UP_SECONDS: u32 = 1;

/// The numbers of middlewares that are compared.
const MIDDLEWARES: [u32; 3] = [0, 1, 3];

/// The limit of the CPU time of one call of a middleware, in microseconds.
const CALL_US_MAX: f64 = 8.0;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let isopod = arguments.common.host()?;
    let [hello, plugin, gate, hook] = components::built(["hello", "probe-plugin", "probe-gate", "notify"])?;
    let deploys = gates::measure(&isopod, &hello, &gate, arguments.deploys)?;
    let deliveries = hooks::measure(&isopod, &hook, arguments.events)?;
    let mut figures = [Subject::Isopod, Subject::Axum].map(Figures::new);
    if arguments.rounds > 0 {
        measure_requests(arguments, &isopod, &hello, &plugin, &mut figures)?;
    }
    let verdicts = verdicts(&figures);
    figures.iter().filter(|figures| !figures.runs[0].is_empty()).for_each(Figures::show);
    verdict::show(&verdicts);
    deploys.show();
    deliveries.show();
    arguments.common.write_json(&json!({
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "servers": figures.iter().map(Figures::json).collect::<Vec<_>>(),
        "deploys": deploys.json(),
        "hook": deliveries.json(),
        "targets": verdict::json(&verdicts),
    }))
}

fn measure_requests(
    arguments: &Arguments,
    isopod: &Path,
    hello: &Path,
    plugin: &Path,
    figures: &mut [Figures; 2],
) -> Result<()> {
    peers::wrk()?;
    let axum = Peers::find(arguments.peers.as_deref())?.axum()?;
    let folder = folder::fresh("plugins")?;
    deploy(isopod, &folder, hello, plugin)?;
    for round in 1..=arguments.rounds {
        step::announce(&format!("round {round} of {}", arguments.rounds));
        for number in MIDDLEWARES {
            let mut host = Host::start(isopod, &folder, "")?;
            host.wait_for(&app(number), GREETING)?;
            let run = measure(host.server(), host.listen(), &name_of(&app(number)), arguments.seconds)?;
            host.stop()?;
            figures[0].add(number, run);
            let address = free_address()?;
            let mut command = Command::new(&axum);
            command.arg(address.to_string()).arg(number.to_string());
            let mut server = Server::start(command, &folder.join("axum.log"))?;
            server.wait_for(address, "localhost", GREETING)?;
            let run = measure(&server, address, "localhost", arguments.seconds)?;
            server.stop()?;
            figures[1].add(number, run);
        }
    }
    Ok(())
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

/// One measurement.
struct Run {
    requests_per_second: f64,
    /// CPU time of the server per request; NaN if this machine doesn't report it.
    cpu_us: f64,
    errors: u64,
}

fn measure(server: &Server, address: SocketAddr, host: &str, seconds: u32) -> Result<Run> {
    wrk::run(address, host, WARM_UP_SECONDS)?;
    let before = server.processor_time();
    let report = wrk::run(address, host, seconds).with_context(|| host.to_owned())?;
    let used = server.processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    let cpu_us = used.map_or(f64::NAN, |used| used.as_secs_f64() * 1e6 / report.requests.max(1) as f64);
    println!("         {:>9.0} requests/s  {cpu_us:>6.2} µs  {host}", report.requests_per_second);
    Ok(Run { requests_per_second: report.requests_per_second, cpu_us, errors: report.errors })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Isopod,
    Axum,
}

impl Subject {
    fn label(self) -> &'static str {
        match self {
            Subject::Isopod => "isopod, SDK app",
            Subject::Axum => "native axum",
        }
    }
}

/// The runs of one server, by the number of middlewares.
struct Figures {
    server: Subject,
    runs: [Vec<Run>; MIDDLEWARES.len()],
}

impl Figures {
    fn new(server: Subject) -> Figures {
        Figures { server, runs: Default::default() }
    }

    fn add(&mut self, middlewares: u32, run: Run) {
        if let Some(index) = MIDDLEWARES.iter().position(|number| *number == middlewares) {
            self.runs[index].push(run);
        }
    }

    fn rates(&self, index: usize) -> Vec<f64> {
        self.runs[index].iter().map(|run| run.requests_per_second).collect()
    }

    /// Returns the median CPU time of one call of a middleware, in microseconds.
    fn call_us(&self, index: usize) -> f64 {
        let calls = f64::from(MIDDLEWARES[index]);
        let costs = self.runs[index].iter().zip(&self.runs[0]);
        let costs: Vec<f64> = costs.map(|(with, without)| (with.cpu_us - without.cpu_us) / calls).collect();
        statistics::median(&costs).unwrap_or(f64::NAN)
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        (0..MIDDLEWARES.len()).map(|index| {
            let cpu: Vec<f64> = self.runs[index].iter().map(|run| run.cpu_us).collect();
            Row {
                middlewares: MIDDLEWARES[index],
                requests_per_second: statistics::median(&self.rates(index)).unwrap_or(f64::NAN),
                ratio: statistics::ratio(&self.rates(index), &self.rates(0)).unwrap_or(f64::NAN),
                cpu_us: statistics::median(&cpu).unwrap_or(f64::NAN),
                call_us: if MIDDLEWARES[index] == 0 { f64::NAN } else { self.call_us(index) },
                errors: self.runs[index].iter().map(|run| run.errors).sum(),
            }
        })
    }

    fn show(&self) {
        println!("\n| {:<18} | middlewares | requests/s | ratio | CPU/request | CPU/call | errors |", "server");
        println!("| {:-<18} | ----------: | ---------: | ----: | ----------: | -------: | -----: |", "");
        for row in self.rows() {
            let Row { middlewares, requests_per_second, ratio, cpu_us, call_us, errors } = row;
            let call = if call_us.is_nan() { "-".to_owned() } else { format!("{call_us:.2} µs") };
            let label = self.server.label();
            let first = format!("| {label:<18} | {middlewares:>11} | {requests_per_second:>10.0} | {ratio:>5.2}");
            println!("{first} | {cpu_us:>8.2} µs | {call:>8} | {errors:>6} |");
        }
    }

    fn json(&self) -> Value {
        let rows = self.rows().map(|row| {
            json!({
                "middlewares": row.middlewares,
                "requests_per_second": row.requests_per_second,
                "ratio": row.ratio,
                "cpu_us_per_request": row.cpu_us,
                "cpu_us_per_call": row.call_us,
                "errors": row.errors,
            })
        });
        json!({ "server": self.server.label(), "results": rows.collect::<Vec<_>>() })
    }
}

/// The medians of one server with one number of middlewares.
struct Row {
    middlewares: u32,
    requests_per_second: f64,
    ratio: f64,
    cpu_us: f64,
    call_us: f64,
    errors: u64,
}

fn verdicts(figures: &[Figures]) -> Vec<Verdict> {
    let isopod = figures.iter().filter(|figures| figures.server == Subject::Isopod);
    let verdicts = isopod.flat_map(|figures| {
        (1..MIDDLEWARES.len()).map(|index| {
            let number = MIDDLEWARES[index];
            let what = format!("CPU µs of a middleware call, with {number} of them");
            Verdict::new(what, Bound::AtMost(CALL_US_MAX), figures.call_us(index))
        })
    });
    verdicts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(requests_per_second: f64, cpu_us: f64) -> Run {
        Run { requests_per_second, cpu_us, errors: 0 }
    }

    #[test]
    fn the_cost_of_a_call_is_the_difference_from_no_middleware_within_a_round() {
        let mut figures = Figures::new(Subject::Isopod);
        for slowdown in [1.0, 2.0, 1.0] {
            figures.add(0, run(100.0 / slowdown, 10.0 * slowdown));
            figures.add(1, run(50.0 / slowdown, 14.0 * slowdown));
            figures.add(3, run(25.0 / slowdown, 25.0 * slowdown));
        }
        let rows: Vec<Row> = figures.rows().collect();
        assert_eq!((rows[1].ratio, rows[1].call_us, rows[2].call_us), (0.5, 4.0, 5.0));
        assert!(rows[0].call_us.is_nan());
        assert_eq!(verdict::json(&verdicts(&[figures]))[0]["reached"], true);
    }
}
