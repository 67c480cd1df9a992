//! `cargo xtask bench plugins`: measures an SDK app with no, one and three middlewares, native axum
//! and `wasmtime serve` with the same number; deploys without and with a gate; and the deliveries
//! of a hook. Each middleware sets a header of the request. Never runs two servers at the same
//! time.

mod composed;
mod gates;
mod hooks;
mod servers;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use self::servers::{MIDDLEWARES, Run, Servers, Subject};
use super::peers::Peers;
use super::verdict::{self, Bound, Verdict};
use super::{components, options::Common, statistics};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Folder of the other servers' programs, which are installed if missing [default:
    /// target/peers]
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

/// The limit of the CPU time of one call of a middleware, in microseconds.
const CALL_US_MAX: f64 = 8.0;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let isopod = arguments.common.host()?;
    let [hello, plugin, gate, hook] = components::built(["hello", "probe-plugin", "probe-gate", "notify"])?;
    let deploys = gates::measure(&isopod, &hello, &gate, arguments.deploys)?;
    let deliveries = hooks::measure(&isopod, &hook, arguments.events)?;
    let mut figures = Subject::ALL.map(Figures::new);
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
    figures: &mut [Figures],
) -> Result<()> {
    let servers = Servers::prepare(&Peers::find(arguments.peers.as_deref())?, isopod, hello, plugin)?;
    for round in 1..=arguments.rounds {
        step::announce(&format!("round {round} of {}", arguments.rounds));
        for number in MIDDLEWARES {
            for figures in figures.iter_mut() {
                let run = servers.measure(figures.server, number, arguments.seconds)?;
                run.into_iter().for_each(|run| figures.add(number, run));
            }
        }
    }
    Ok(())
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
        println!("\n| {:<29} | middlewares | requests/s | ratio | CPU/request | CPU/call | errors |", "server");
        println!("| {:-<29} | ----------: | ---------: | ----: | ----------: | -------: | -----: |", "");
        for row in self.rows() {
            let Row { middlewares, requests_per_second, ratio, cpu_us, call_us, errors } = row;
            let call = if call_us.is_nan() { "-".to_owned() } else { format!("{call_us:.2} µs") };
            let label = self.server.label();
            let first = format!("| {label:<29} | {middlewares:>11} | {requests_per_second:>10.0} | {ratio:>5.2}");
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
