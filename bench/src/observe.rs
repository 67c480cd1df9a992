//! `cargo xtask bench observe`: measures a greeting behind two hosts, one with all observability
//! and one with as little as its settings allow. Never runs both at the same time.

mod figures;
mod load;
mod sink;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use self::figures::{Figures, Round, Run};
use self::load::Load;
use self::sink::{Received, Sink};
use super::api::{Api, Scraping};
use super::contender::GREETING;
use super::host::{Host, name_of};
use super::{components, folder, machine, options::Common, peers, verdict, wrk};
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

/// The access lines of one app in a second that reach the drain at least, when the load exceeds
/// their limit of 1,000.
const LINES_PER_SECOND_MIN: u64 = 900;

/// The interval at which the metrics are scraped and exported. 15 s and more are usual.
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

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    peers::wrk()?;
    let isopod = arguments.common.host()?;
    let [hello] = components::built(["hello"])?;
    let sink = Sink::start()?;
    let bench = Bench { isopod: &isopod, sink: &sink, seconds: arguments.seconds };
    let mut all = Vec::new();
    for load in [Load::OneApp, Load::ManyApps] {
        let [off, on] = [bench.deploy(&hello, load, Subject::Off)?, bench.deploy(&hello, load, Subject::On)?];
        let mut rounds = Vec::new();
        for round in 1..=arguments.rounds {
            step::announce(&format!("{}, round {round} of {}", load.label(), arguments.rounds));
            let first = bench.measure(&off, load, Subject::Off)?;
            let on = bench.measure(&on, load, Subject::On)?;
            rounds.push(Round { off: [first, bench.measure(&off, load, Subject::Off)?], on });
        }
        all.push(Figures { load, rounds });
    }
    let verdicts: Vec<_> = all.iter().flat_map(Figures::verdicts).collect();
    figures::show(&all);
    verdict::show(&verdicts);
    arguments.common.write_json(&json!({
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "loads": all.iter().map(Figures::json).collect::<Vec<Value>>(),
        "targets": verdict::json(&verdicts),
    }))
}

/// The two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// Neither access log nor alerts, telemetry, drains or scrapes. The host still counts requests
    /// and measures their phases, which no setting disables.
    Off,
    /// Everything, including a drain per app that sends the access log.
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

/// The program that is measured, and with what.
struct Bench<'a> {
    isopod: &'a Path,
    sink: &'a Sink,
    seconds: u32,
}

impl Bench<'_> {
    /// Deploys the apps, and returns the folder of the host.
    fn deploy(&self, hello: &Path, load: Load, subject: Subject) -> Result<PathBuf> {
        let name = format!("observe-{}-{}", load.label(), subject.label());
        let folder = folder::fresh(&name.replace(' ', "-"))?;
        let host = Host::start(self.isopod, &folder, &subject.settings(self.sink))?;
        for app in load.apps() {
            host.deploy(&app, "type = \"production\"\n", hello)?;
            if subject == Subject::On {
                host.api().add_drain(&app, &format!("{}/drain", self.sink.url()))?;
            }
        }
        host.stop()?;
        Ok(folder)
    }

    fn measure(&self, folder: &Path, load: Load, subject: Subject) -> Result<Run> {
        let mut host = Host::start(self.isopod, folder, &subject.settings(self.sink))?;
        let apps = load.apps();
        for app in &apps {
            host.wait_for(app, GREETING)?;
        }
        let hosts: Vec<String> = apps.iter().map(|app| name_of(app)).collect();
        let scraping = (subject == Subject::On).then(|| Scraping::start(host.api(), INTERVAL));
        wrk::run_in_turn(host.listen(), &hosts, folder, WARM_UP_SECONDS)?;
        self.settled();
        let (received, before, own) = (self.sink.received(), host.server().processor_time(), own_time());
        let wrk = wrk::run_in_turn(host.listen(), &hosts, folder, self.seconds)?;
        // The log writer, the drains and the exporter work after the last response, too.
        let received = self.settled().since(&received);
        let used = host.server().processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
        let own = own_time().saturating_sub(own);
        let scrapes = scraping.map_or(Ok(0), Scraping::stop)?;
        let dropped = dropped(&host.api(), &apps, subject)?;
        host.stop()?;
        let cpu_us = used.map_or(f64::NAN, |used| used.as_secs_f64() * 1e6 / wrk.requests.max(1) as f64);
        println!("         {:>9.0} requests/s  {cpu_us:>6.2} µs  {}", wrk.requests_per_second, subject.label());
        println!("         {scrapes} scrapes, {received}, {dropped} dropped; collector and endpoint: {own:.2?} of CPU");
        if wrk.errors > 0 {
            bail!("{} requests failed", wrk.errors);
        }
        let expected = wrk.requests.min(u64::from(self.seconds) * LINES_PER_SECOND_MIN);
        if subject == Subject::On && (scrapes == 0 || !received.has_all() || received.drain_lines < expected) {
            bail!("the host exported too little: {scrapes} scrapes, {received}; expected {expected} lines at least");
        }
        Ok(Run { wrk, cpu_us, drained: received.drain_lines, dropped })
    }

    /// Waits until the drains are empty and a further interval of exports is over. Returns what the
    /// sink has received. Both subjects wait for at least as long.
    fn settled(&self) -> Received {
        let mut received = self.sink.received();
        loop {
            thread::sleep(INTERVAL + INTERVAL / 2);
            let now = self.sink.received();
            if now.drain_lines == received.drain_lines {
                return now;
            }
            received = now;
        }
    }
}

/// Returns the CPU time of the process that runs the collector and the endpoint of the drains.
fn own_time() -> Duration {
    machine::processor_time(std::process::id()).unwrap_or_default()
}

/// Returns the number of lines and telemetry that the host and its drains have dropped.
fn dropped(api: &Api, apps: &[String], subject: Subject) -> Result<u64> {
    let of_host = api.dropped()?;
    if subject == Subject::Off {
        return Ok(of_host);
    }
    apps.iter().try_fold(of_host, |sum, app| Ok(sum + api.drain_lines_dropped(app)?))
}
