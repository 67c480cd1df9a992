//! `cargo xtask bench observe`: measures a greeting behind two hosts, one with all observability
//! and one with as little as its settings allow. Never runs both at the same time.

mod sink;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use self::sink::Sink;
use super::api::Scraping;
use super::contender::GREETING;
use super::host::{Host, name_of};
use super::verdict::{self, Bound, Verdict};
use super::{components, folder, options::Common, peers, statistics, wrk};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Number of rounds
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Seconds of each measurement, after a warm-up of a second
    #[arg(long, default_value_t = 5)]
    seconds: u32,
}

const WARM_UP_SECONDS: u32 = 1;

const APP: &str = "hello";

/// The interval at which the metrics are scraped and exported. Usual ones are 15 s and more.
const INTERVAL: Duration = Duration::from_secs(1);

/// The rules of alerts, which the host without observability disables.
const RULES: [&str; 11] = [
    "queue_depth",
    "queue_age",
    "drain_time",
    "error_rate",
    "crash_loop",
    "app_down",
    "failed_pushes",
    "cpu",
    "memory",
    "disk_space",
    "log_drops",
];

/// The share of requests per second that observability may cost, in percent.
const COST_PERCENT_MAX: f64 = 3.0;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    peers::wrk()?;
    let isopod = arguments.common.host()?;
    let [hello] = components::built(["hello"])?;
    let sink = Sink::start()?;
    let mut all = [Subject::Off, Subject::On].map(|subject| Figures { subject, runs: Vec::new() });
    let folders = [deploy(&isopod, &hello, Subject::Off, &sink)?, deploy(&isopod, &hello, Subject::On, &sink)?];
    for round in 1..=arguments.rounds {
        step::announce(&format!("round {round} of {}", arguments.rounds));
        let mut turns: Vec<_> = all.iter_mut().zip(&folders).collect();
        // Every second round has the reverse order.
        if round % 2 == 0 {
            turns.reverse();
        }
        for (figures, folder) in turns {
            figures.runs.push(measure(&isopod, folder, figures.subject, &sink, arguments.seconds)?);
        }
    }
    let verdicts = verdicts(&all);
    show(&all);
    verdict::show(&verdicts);
    arguments.common.write_json(&json!({
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "hosts": all.iter().map(Figures::json).collect::<Vec<_>>(),
        "targets": verdict::json(&verdicts),
    }))
}

/// The two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// No access log, alerts, telemetry, drain or scrapes. The host still counts requests and
    /// measures their phases, which no setting disables.
    Off,
    /// Everything, including a drain that sends the access log.
    On,
}

impl Subject {
    fn label(self) -> &'static str {
        match self {
            Subject::Off => "all off",
            Subject::On => "all on",
        }
    }

    fn settings(self, sink: &Sink) -> String {
        match self {
            Subject::Off => {
                let rules = RULES.map(|rule| format!("{rule}.enabled = false\n"));
                format!("[logs]\naccess = false\n[alerts]\n{}", rules.concat())
            }
            Subject::On => format!(
                "[alerts]\ninterval = \"{INTERVAL:?}\"\nwebhook = \"{url}/alert\"\n\
                 [telemetry]\nendpoint = \"{url}\"\ninterval = \"{INTERVAL:?}\"\n",
                url = sink.url()
            ),
        }
    }
}

/// Deploys the app, and returns the folder of the host.
fn deploy(isopod: &Path, hello: &Path, subject: Subject, sink: &Sink) -> Result<PathBuf> {
    let folder = folder::fresh(&format!("observe-{}", subject.label().replace(' ', "-")))?;
    let host = Host::start(isopod, &folder, &subject.settings(sink))?;
    host.deploy(APP, "type = \"production\"\n", hello)?;
    if subject == Subject::On {
        host.api().add_drain(APP, &format!("{}/drain", sink.url()))?;
    }
    host.stop()?;
    Ok(folder)
}

/// One measurement.
struct Run {
    wrk: wrk::Report,
    /// CPU time of the host per request; NaN if this machine doesn't report it.
    cpu_us: f64,
}

fn measure(isopod: &Path, folder: &Path, subject: Subject, sink: &Sink, seconds: u32) -> Result<Run> {
    let mut host = Host::start(isopod, folder, &subject.settings(sink))?;
    host.wait_for(APP, GREETING)?;
    let received = sink.received();
    let scraping = (subject == Subject::On).then(|| Scraping::start(host.api(), INTERVAL));
    wrk::run(host.listen(), &name_of(APP), WARM_UP_SECONDS)?;
    let before = host.server().processor_time();
    let report = wrk::run(host.listen(), &name_of(APP), seconds)?;
    let used = host.server().processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    let scrapes = scraping.map_or(Ok(0), Scraping::stop)?;
    let dropped = host.api().log_lines_dropped()?;
    host.stop()?;
    let cpu_us = used.map_or(f64::NAN, |used| used.as_secs_f64() * 1e6 / report.requests.max(1) as f64);
    let label = subject.label();
    println!("         {:>9.0} requests/s  {cpu_us:>6.2} µs  {label}", report.requests_per_second);
    let received = sink.received().since(&received);
    println!("         {scrapes} scrapes, {received}, {dropped} dropped log lines");
    if subject == Subject::On && (scrapes == 0 || !received.has_all()) {
        bail!("the host exported nothing: {scrapes} scrapes, {received}");
    }
    Ok(Run { wrk: report, cpu_us })
}

/// The runs of one host.
struct Figures {
    subject: Subject,
    runs: Vec<Run>,
}

impl Figures {
    fn of(&self, figure: impl Fn(&Run) -> f64) -> Vec<f64> {
        self.runs.iter().map(figure).collect()
    }

    fn median(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        statistics::median(&self.of(figure)).unwrap_or(f64::NAN)
    }

    fn errors(&self) -> u64 {
        self.runs.iter().map(|run| run.wrk.errors).sum()
    }

    fn json(&self) -> Value {
        json!({
            "observability": self.subject.label(),
            "requests_per_second": self.median(|run| run.wrk.requests_per_second),
            "p50_ms": self.median(|run| run.wrk.p50_ms),
            "p99_ms": self.median(|run| run.wrk.p99_ms),
            "cpu_us_per_request": self.median(|run| run.cpu_us),
            "errors": self.errors(),
            "rounds_requests_per_second": self.of(|run| run.wrk.requests_per_second),
        })
    }
}

fn show(all: &[Figures]) {
    println!("\n| observability | requests/s | p50 ms | p99 ms | CPU/request | errors |");
    println!("| ------------- | ---------: | -----: | -----: | ----------: | -----: |");
    for figures in all {
        let label = figures.subject.label();
        let rate = figures.median(|run| run.wrk.requests_per_second);
        let (p50, p99) = (figures.median(|run| run.wrk.p50_ms), figures.median(|run| run.wrk.p99_ms));
        let (cpu_us, errors) = (figures.median(|run| run.cpu_us), figures.errors());
        println!("| {label:<13} | {rate:>10.0} | {p50:>6.2} | {p99:>6.2} | {cpu_us:>8.2} µs | {errors:>6} |");
    }
}

fn verdicts([off, on]: &[Figures; 2]) -> [Verdict; 2] {
    let cost = |figure: fn(&Run) -> f64, sign: f64| {
        let ratio = statistics::ratio(&on.of(figure), &off.of(figure)).unwrap_or(f64::NAN);
        sign * (ratio - 1.0) * 100.0
    };
    let target = |what: &str, measured| Verdict::new(what, Bound::AtMost(COST_PERCENT_MAX), measured);
    [
        target("fewer requests per second with all on, percent", cost(|run| run.wrk.requests_per_second, -1.0)),
        target("more CPU time per request with all on, percent", cost(|run| run.cpu_us, 1.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(subject: Subject, rates: [f64; 3]) -> Figures {
        let run = |requests_per_second: f64| Run {
            wrk: wrk::Report { requests: 1, requests_per_second, p50_ms: 1.0, p99_ms: 2.0, errors: 0 },
            cpu_us: 1e6 / requests_per_second,
        };
        Figures { subject, runs: rates.map(run).into() }
    }

    #[test]
    fn the_cost_is_the_median_difference_within_a_round() {
        let off = figures(Subject::Off, [100.0, 50.0, 100.0]);
        let on = figures(Subject::On, [98.0, 49.0, 90.0]);
        let [requests, cpu] = verdicts(&[off, on]).map(|verdict| verdict.to_string());
        assert!(requests.contains("|     2.00 | yes"), "{requests}");
        assert!(cpu.contains("|     2.04 | yes"), "{cpu}");
    }
}
