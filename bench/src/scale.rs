//! `cargo xtask bench scale`: sends a step of load to a production app without instances, and
//! removes it again. Measures the time until latency reaches its steady value, the time until all
//! instances run, and the time until the last instance has ended. Checks that instances never
//! exceed the app's maximum or the number of clients. Never measures more than one app.

mod windows;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::api::Api;
use super::client::{Client, Request};
use super::host::{Host, name_of};
use super::verdict::{self, Bound, Verdict};
use super::{components, folder, machine, options::Common};
use windows::{Growth, Sample};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Number of clients that start at the same time, each sending the next request after a
    /// response
    #[arg(long, default_value_t = 64)]
    clients: u32,
    /// Maximum of the app's instances
    #[arg(long, default_value_t = 64)]
    max: u32,
    /// Milliseconds that each request waits in its instance
    #[arg(long, default_value_t = 10)]
    wait_ms: u32,
    /// Seconds of load
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Don't wait until the app has shrunk, which takes more than a minute
    #[arg(long)]
    no_shrink: bool,
}

const APP: &str = "waiting";
const COMPONENT: &str = "busy";
const ANSWER: &str = "done";

/// The setting that freezes an app early if the shrink time is not measured.
const FREEZE_SOON: &str = "freeze_after = \"1s\"\n";

/// The timeout for the freeze: twice the usual `freeze_after`.
const FROZEN_WITHIN: Duration = Duration::from_secs(120);

/// The interval at which instances are counted while they grow, and while they shrink.
const COUNT_EVERY: Duration = Duration::from_millis(50);
const COUNT_SHRINKING_EVERY: Duration = Duration::from_millis(500);

/// The timeout for the shrinking.
const SHRUNK_WITHIN: Duration = Duration::from_secs(240);

/// The ratio to the steady p99 that still counts as settled.
const NORMAL_RATIO: f64 = 1.5;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let [component] = components::built([COMPONENT])?;
    let folder = folder::fresh("scale")?;
    // Concurrency is limited by the app's cores.
    let freeze = if arguments.no_shrink { FREEZE_SOON } else { "" };
    let mut host = Host::start(&program, &folder, &format!("{freeze}[cores]\npull = {}\n", arguments.max))?;
    let manifest = format!(
        "type = \"production\"\n[processes.web]\nentry = \"http\"\nmin = 0\nmax = {max}\n\
         [limits]\ninstances_max = {max}\n",
        max = arguments.max
    );
    host.deploy(APP, &manifest, &component)?;
    host.wait_for(APP, ANSWER)?;
    wait_until_frozen(&host.api())?;
    step::announce(&format!("{} clients for {} s", arguments.clients, arguments.seconds));
    let load = Load::default();
    let peak = load.step(&host, arguments)?;
    let ended = Instant::now();
    let shrunk = if arguments.no_shrink { None } else { wait_until_shrunk(&host.api(), ended)? };
    host.stop()?;
    let (samples, failed) = load.samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    let figures = Figures {
        growth: Growth::of(&samples, NORMAL_RATIO),
        answered: samples.len(),
        failed,
        peak,
        clients: arguments.clients,
        max: arguments.max,
        shrunk,
    };
    figures.show();
    arguments.common.write_json(&figures.json())
}

/// The peak of the instance count, and the time of its first occurrence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Peak {
    instances: usize,
    after: Duration,
}

impl Peak {
    fn or_later(self, instances: usize, after: Duration) -> Peak {
        if instances > self.instances { Peak { instances, after } } else { self }
    }

    /// Returns the peak divided by `count`.
    fn for_each_of(self, count: u32) -> f64 {
        self.instances as f64 / f64::from(count)
    }
}

#[derive(Default)]
struct Load {
    stopped: AtomicBool,
    /// All responses, and the number of failed requests.
    samples: Mutex<(Vec<Sample>, u64)>,
}

impl Load {
    /// Starts all clients at the same time, and returns the peak of the instance count meanwhile.
    fn step(&self, host: &Host, arguments: &Arguments) -> Result<Peak> {
        let request = Request::get(&name_of(APP), &format!("/wait?ms={}", arguments.wait_ms));
        let api = host.api();
        let began = Instant::now();
        let time = Duration::from_secs(arguments.seconds.into());
        std::thread::scope(|scope| {
            for _ in 0..arguments.clients {
                scope.spawn(|| self.ask_until_stopped(host.listen(), &request, began));
            }
            let mut peak = Ok(Peak::default());
            while let (Ok(before), true) = (&peak, began.elapsed() < time) {
                peak = instances(&api).map(|count| before.or_later(count, began.elapsed()));
                std::thread::sleep(COUNT_EVERY);
            }
            self.stopped.store(true, Ordering::Relaxed);
            peak
        })
    }

    fn ask_until_stopped(&self, address: SocketAddr, request: &Request, began: Instant) {
        let (mut samples, mut failed) = (Vec::new(), 0);
        let mut client = None;
        while !self.stopped.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let answer = match &mut client {
                Some(client) => Client::get(client),
                None => Client::open(address, request.clone()).and_then(|new| client.insert(new).get()),
            };
            match answer {
                Ok(answer) if answer.status == 200 => samples.push(Sample {
                    ended_ms: began.elapsed().as_secs_f64() * 1e3,
                    took_ms: asked.elapsed().as_secs_f64() * 1e3,
                }),
                Ok(_) => failed += 1,
                Err(_) => {
                    failed += 1;
                    client = None;
                }
            }
        }
        let mut all = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        all.0.extend(samples);
        all.1 += failed;
    }
}

fn instances(api: &Api) -> Result<usize> {
    let page = api.get(&format!("/v1/apps/{APP}/instances?limit=1000"))?;
    Ok(page["items"].as_array().context("the instances are not a list")?.len())
}

/// Waits until the app has no instance and its release is frozen: the initial state of the
/// measurement.
fn wait_until_frozen(api: &Api) -> Result<()> {
    step::announce("waiting until the app is frozen");
    let began = Instant::now();
    while api.release_state(APP)? != "frozen" || instances(api)? > 0 {
        if began.elapsed() > FROZEN_WITHIN {
            bail!("{APP} was not frozen within {FROZEN_WITHIN:?}");
        }
        std::thread::sleep(COUNT_SHRINKING_EVERY);
    }
    Ok(())
}

/// Returns the time from `ended` until there is no instance; `None` after a timeout.
fn wait_until_shrunk(api: &Api, ended: Instant) -> Result<Option<Duration>> {
    step::announce("waiting until the app has shrunk");
    while ended.elapsed() < SHRUNK_WITHIN {
        if instances(api)? == 0 {
            return Ok(Some(ended.elapsed()));
        }
        std::thread::sleep(COUNT_SHRINKING_EVERY);
    }
    Ok(None)
}

struct Figures {
    growth: Growth,
    answered: usize,
    failed: u64,
    peak: Peak,
    clients: u32,
    max: u32,
    shrunk: Option<Duration>,
}

impl Figures {
    fn verdicts(&self) -> Vec<Verdict> {
        let of_max = self.peak.for_each_of(self.max);
        // Fewer clients than the maximum need fewer instances.
        let wanted = (f64::from(self.clients) / f64::from(self.max)).min(1.0);
        vec![
            Verdict::new("requests that failed", Bound::AtMost(0.0), self.failed as f64),
            Verdict::new("most instances, relative to the maximum", Bound::AtMost(1.0), of_max),
            Verdict::new("most instances, relative to the maximum (it is reached)", Bound::AtLeast(wanted), of_max),
            Verdict::new(
                "most instances, relative to the clients",
                Bound::AtMost(1.0),
                self.peak.for_each_of(self.clients),
            ),
        ]
    }

    fn show(&self) {
        let growth = &self.growth;
        println!(
            "\na step of load from none to {} clients, from no instance to {}, {}\n",
            self.clients,
            self.max,
            machine::description()
        );
        println!("| figure                                        |    value |");
        println!("| --------------------------------------------- | -------: |");
        let row = |figure: &str, value: String| println!("| {figure:<45} | {value:>8} |");
        row("requests answered", self.answered.to_string());
        row("p99 of the first 250 ms, ms", format!("{:.2}", growth.first_p99_ms));
        row("p99 in the end, ms", format!("{:.2}", growth.steady_p99_ms));
        row("until p99 is at most 1.5 times that, ms", shown(growth.settled_ms));
        row("most instances", self.peak.instances.to_string());
        row("time until that number, ms", format!("{:.1}", self.peak.after.as_secs_f64() * 1e3));
        row("from the load's end to no instance, s", shown(self.shrunk.map(|time| time.as_secs_f64())));
        verdict::show(&self.verdicts());
    }

    fn json(&self) -> Value {
        json!({
            "conditions": machine::description(),
            "clients": self.clients,
            "requests_answered": self.answered,
            "first_p99_ms": self.growth.first_p99_ms,
            "steady_p99_ms": self.growth.steady_p99_ms,
            "settled_ms": self.growth.settled_ms,
            "instances_max": self.max,
            "instances_most": self.peak.instances,
            "instances_most_after_ms": self.peak.after.as_secs_f64() * 1e3,
            "shrunk_after_ms": self.shrunk.map(|time| time.as_secs_f64() * 1e3),
            "targets": verdict::json(&self.verdicts()),
        })
    }
}

fn shown(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(most: usize, clients: u32, max: u32) -> Figures {
        let peak = Peak { instances: most, after: Duration::from_millis(150) };
        Figures { growth: Growth::of(&[], NORMAL_RATIO), answered: 0, failed: 0, peak, clients, max, shrunk: None }
    }

    fn reached(most: usize, clients: u32, max: u32) -> Vec<bool> {
        let verdicts = verdict::json(&figures(most, clients, max).verdicts());
        let verdicts = verdicts.as_array().expect("a list");
        verdicts.iter().map(|verdict| verdict["reached"].as_bool().expect("it was measured")).collect()
    }

    #[test]
    fn the_peak_has_the_time_of_its_first_occurrence() {
        let seen = [(0, 0), (40, 50), (64, 100), (63, 150), (64, 200)];
        let peak =
            seen.into_iter().fold(Peak::default(), |peak, (count, ms)| peak.or_later(count, Duration::from_millis(ms)));
        assert_eq!(peak, Peak { instances: 64, after: Duration::from_millis(100) });
    }

    #[test]
    fn the_peak_is_judged_by_the_maximum_and_by_the_clients() {
        assert_eq!(reached(64, 64, 64), [true; 4]);
        assert_eq!(reached(64, 80, 64), [true; 4]);
        assert_eq!(reached(64, 64, 100), [true; 4]);
        assert_eq!(reached(65, 80, 64), [true, false, true, true]);
        assert_eq!(reached(63, 64, 64), [true, true, false, true]);
        assert_eq!(reached(70, 64, 100), [true, true, true, false]);
    }
}
