//! `cargo xtask bench scale`: many clients come at once to a production app that stands at its minimum, and go again. How
//! long until answers come as soon as they do in the end, how many instances were made for so many clients, and when the
//! app is back at its minimum.

mod windows;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::api::Api;
use super::client::{Client, Request};
use super::host::{Host, name_of};
use super::verdict::{self, Bound, Verdict};
use super::{Common, machine};
use crate::step;
use windows::{Growth, Sample};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many clients come at once, each asking again as soon as it is answered
    #[arg(long, default_value_t = 64)]
    clients: u32,
    /// How many instances the app may have
    #[arg(long, default_value_t = 100)]
    max: u32,
    /// How long each request waits in its instance
    #[arg(long, default_value_t = 10)]
    wait_ms: u32,
    /// How long the clients stay
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Do not wait until the app has shrunk again, which takes more than a minute
    #[arg(long)]
    no_shrink: bool,
}

const APP: &str = "waiting";
const COMPONENT: &str = "busy";
const ANSWER: &str = "done";
const MIN: usize = 1;

/// How often the instances are counted while they grow, and while they shrink.
const COUNT_EVERY: Duration = Duration::from_millis(50);
const COUNT_SHRINKING_EVERY: Duration = Duration::from_millis(500);

/// An app that has not shrunk by then won't.
const SHRUNK_WITHIN: Duration = Duration::from_secs(240);

/// How many times the steady p99 still counts as back to normal.
const NORMAL_RATIO: f64 = 1.5;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let [component] = super::components([COMPONENT])?;
    let folder = super::fresh_folder("scale")?;
    // An app never runs more at a time than it has cores.
    let mut host = Host::start(&program, &folder, &format!("[cores]\npull = {}\n", arguments.max))?;
    let manifest = format!(
        "type = \"production\"\n[processes.web]\nentry = \"http\"\nmin = {MIN}\nmax = {max}\n\
         [limits]\ninstances_max = {max}\n",
        max = arguments.max
    );
    host.deploy(APP, &manifest, &component)?;
    host.wait_for(APP, ANSWER)?;
    step::announce(&format!("{} clients for {} s", arguments.clients, arguments.seconds));
    let load = Load::default();
    let most = load.step(&host, arguments)?;
    let ended = Instant::now();
    let shrunk = if arguments.no_shrink { None } else { wait_until_shrunk(&host.api(), ended)? };
    host.stop()?;
    let (samples, failed) = load.samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    let figures = Figures {
        growth: Growth::of(&samples, NORMAL_RATIO),
        answered: samples.len(),
        failed,
        most,
        clients: arguments.clients,
        shrunk,
    };
    figures.show();
    arguments.common.write_json(&figures.json())
}

#[derive(Default)]
struct Load {
    stopped: AtomicBool,
    /// Every answer, and how many requests failed.
    samples: Mutex<(Vec<Sample>, u64)>,
}

impl Load {
    /// Has all clients ask at once, and returns the most instances that were seen meanwhile.
    fn step(&self, host: &Host, arguments: &Arguments) -> Result<usize> {
        let request = Request::get(&name_of(APP), &format!("/wait?ms={}", arguments.wait_ms));
        let api = host.api();
        let began = Instant::now();
        let time = Duration::from_secs(arguments.seconds.into());
        std::thread::scope(|scope| {
            for _ in 0..arguments.clients {
                scope.spawn(|| self.ask_until_stopped(host.listen(), &request, began));
            }
            let mut most = Ok(0);
            while let (Ok(before), true) = (&most, began.elapsed() < time) {
                most = instances(&api).map(|count| count.max(*before));
                std::thread::sleep(COUNT_EVERY);
            }
            self.stopped.store(true, Ordering::Relaxed);
            most
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
    Ok(page["items"].as_array().context("the instances are no list")?.len())
}

/// How long it took since `ended`, or none if it did not happen.
fn wait_until_shrunk(api: &Api, ended: Instant) -> Result<Option<Duration>> {
    step::announce("waiting until the app has shrunk");
    while ended.elapsed() < SHRUNK_WITHIN {
        if instances(api)? <= MIN {
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
    most: usize,
    clients: u32,
    shrunk: Option<Duration>,
}

impl Figures {
    fn overshoot(&self) -> f64 {
        self.most as f64 / f64::from(self.clients)
    }

    fn verdicts(&self) -> Vec<Verdict> {
        vec![
            Verdict::new("requests that failed", Bound::AtMost(0.0), self.failed as f64),
            Verdict::new("most instances for each client", Bound::AtMost(1.0), self.overshoot()),
        ]
    }

    fn show(&self) {
        let growth = &self.growth;
        println!("\na step of load from none to {} clients, {}\n", self.clients, machine::description());
        println!("| figure                                        |    value |");
        println!("| --------------------------------------------- | -------: |");
        let row = |figure: &str, value: String| println!("| {figure:<45} | {value:>8} |");
        row("requests answered", self.answered.to_string());
        row("p99 of the first 250 ms, ms", format!("{:.2}", growth.first_p99_ms));
        row("p99 in the end, ms", format!("{:.2}", growth.steady_p99_ms));
        row("until p99 is at most 1.5 times that, ms", shown(growth.settled_ms));
        row("most instances", self.most.to_string());
        row("from the load's end to the minimum, s", shown(self.shrunk.map(|time| time.as_secs_f64())));
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
            "instances_most": self.most,
            "shrunk_after_ms": self.shrunk.map(|time| time.as_secs_f64() * 1e3),
            "targets": verdict::json(&self.verdicts()),
        })
    }
}

fn shown(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.1}"))
}
