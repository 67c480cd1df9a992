//! `cargo xtask bench reload`: replaces the file of a component that `isopod dev` watches, and
//! measures the time until the new code responds: first without other requests, then under load,
//! where each request must succeed with the old or the new code. Never compiles the component's
//! source.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::client::Client;
use super::server::{Server, free_address};
use super::variants::Code;
use super::{components, folder, machine, options::Common, statistics};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Number of replacements without load, and again under load
    #[arg(long, default_value_t = 50)]
    reloads: u32,
    /// Number of connections of the load, each sending the next request after a response
    #[arg(long, default_value_t = 4)]
    connections: u32,
}

const HOST: &str = "reload.localhost";
const MANIFEST: &str = "name = \"reload\"\ntype = \"dev\"\ncomponent = \"built/app.wasm\"\n";

/// The timeout for the first response of new code.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// The resolution of the measurement.
const ASK_EVERY: Duration = Duration::from_micros(500);

/// The pause between two reloads, so that each starts on an idle host.
const PAUSE: Duration = Duration::from_millis(100);

const MEDIAN_MS_BELOW: f64 = 60.0;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let [component] = components::built(["hello"])?;
    let folder = folder::fresh("reload")?;
    let mut code = Code::new(&component, folder.join("built/app.wasm"))?;
    code.replace()?;
    fs::write(folder.join("isopod.toml"), MANIFEST)?;
    let address = free_address()?;
    let mut dev = Command::new(program);
    dev.arg("dev").arg(&folder).args(["--listen", &address.to_string()]);
    let mut server = Server::start(dev, &folder.join("dev.log"))?;
    server.wait_for(address, HOST, &code.greeting())?;

    step::announce(&format!("{} reloads without load", arguments.reloads));
    let quiet = reload_often(&mut code, address, arguments.reloads)?;
    step::announce(&format!(
        "{} reloads, {} connections with continuous requests",
        arguments.reloads, arguments.connections
    ));
    let load = Load::default();
    let loaded = std::thread::scope(|scope| {
        for _ in 0..arguments.connections {
            scope.spawn(|| load.ask_until_stopped(address));
        }
        let outcome = reload_often(&mut code, address, arguments.reloads);
        load.stopped.store(true, Ordering::Relaxed);
        outcome
    })?;
    server.stop()?;
    let figures = Figures { quiet, loaded, answered: load.answered.into_inner(), failed: load.failed.into_inner() };
    figures.show();
    arguments.common.write_json(&figures.json())
}

/// Replaces the code repeatedly. Returns the milliseconds until each new version responds.
fn reload_often(code: &mut Code, address: SocketAddr, reloads: u32) -> Result<Vec<f64>> {
    let mut client = Client::connect(address, HOST)?;
    let mut milliseconds = Vec::new();
    for _ in 0..reloads {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        code.replace()?;
        let expected = code.greeting();
        while client.get()?.body != expected {
            if began.elapsed() > ANSWERS_WITHIN {
                bail!("the new code did not respond within {ANSWERS_WITHIN:?}; see `dev.log` beside the component");
            }
            std::thread::sleep(ASK_EVERY);
        }
        milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(milliseconds)
}

/// Connections that send requests without a pause, and their results.
#[derive(Default)]
struct Load {
    stopped: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    fn ask_until_stopped(&self, address: SocketAddr) {
        let mut client = None;
        while !self.stopped.load(Ordering::Relaxed) {
            let asked = match &mut client {
                Some(client) => Client::get(client),
                None => Client::connect(address, HOST).and_then(|new| client.insert(new).get()),
            };
            let good = asked.as_ref().is_ok_and(|answer| answer.status == 200 && answer.body.starts_with("Hello, "));
            let counter = if good { &self.answered } else { &self.failed };
            counter.fetch_add(1, Ordering::Relaxed);
            if asked.is_err() {
                client = None;
            }
        }
    }
}

struct Figures {
    quiet: Vec<f64>,
    loaded: Vec<f64>,
    answered: u64,
    failed: u64,
}

impl Figures {
    fn show(&self) {
        println!("\nmilliseconds from the file's change to the new code's first answer, {}\n", machine::description());
        println!("| reloads       | median |    p95 | slowest |");
        println!("| ------------- | -----: | -----: | ------: |");
        for (name, times) in [("without load", &self.quiet), ("under load", &self.loaded)] {
            println!(
                "| {name:<13} | {:>6.1} | {:>6.1} | {:>7.1} |",
                median(times),
                share(times, 95),
                share(times, 100)
            );
        }
        println!("\n{} requests were answered under load, {} failed", self.answered, self.failed);
        let reached = |yes: bool| if yes { "reached" } else { "not reached" };
        println!("target: median below {MEDIAN_MS_BELOW} ms: {}", reached(median(&self.quiet) < MEDIAN_MS_BELOW));
        println!("target: no failed request: {}", reached(self.failed == 0));
    }

    fn json(&self) -> Value {
        let times = |times: &[f64]| {
            let (p95, max) = (share(times, 95), share(times, 100));
            json!({ "median_ms": median(times), "p95_ms": p95, "max_ms": max, "all_ms": times })
        };
        json!({
            "conditions": machine::description(),
            "without_load": times(&self.quiet),
            "under_load": times(&self.loaded),
            "requests_answered": self.answered,
            "requests_failed": self.failed,
        })
    }
}

fn median(times: &[f64]) -> f64 {
    statistics::median(times).unwrap_or(f64::NAN)
}

fn share(times: &[f64], share: u32) -> f64 {
    statistics::percentile(times, share).unwrap_or(f64::NAN)
}
