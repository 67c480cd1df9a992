//! `cargo xtask bench swap`: a production app is asked at a constant rate while new releases take the place of old ones,
//! one after another. Every request must be answered well, and about as soon as before.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::client::Client;
use super::host::Host;
use super::times::Times;
use super::variants::Code;
use super::verdict::{self, Bound, Verdict};
use super::{Common, machine};
use crate::step;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many releases take the place of the one before
    #[arg(long, default_value_t = 100)]
    swaps: u32,
    /// A new release each so many milliseconds at the soonest; 0: as soon as the one before serves
    #[arg(long, default_value_t = 250)]
    every: u64,
    /// How many connections make the load
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// How many requests each connection sends in a second
    #[arg(long, default_value_t = 250)]
    rate: u32,
    /// How many seconds are measured before the first swap
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

const APP: &str = "swapped";
const HOST: &str = "swapped.localhost";
const P99_RATIO_MAX: f64 = 2.0;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let [component] = super::components(["hello"])?;
    let folder = super::fresh_folder("swap")?;
    let mut code = Code::new(&component, folder.join("built/app.wasm"))?;
    let mut host = Host::start(&program, &folder, "")?;
    let (api, listen) = (host.api(), host.listen());
    api.create(APP, "production")?;
    code.replace()?;
    api.push(APP, code.bytes())?;
    host.wait_for(APP, &code.greeting())?;

    let load = Load::default();
    let swapped = std::thread::scope(|scope| {
        for _ in 0..arguments.connections {
            scope.spawn(|| load.ask_until_stopped(listen, arguments.rate));
        }
        step::announce(&format!("{} s without a swap", arguments.seconds));
        std::thread::sleep(Duration::from_secs(arguments.seconds.into()));
        load.swapping.store(true, Ordering::Relaxed);
        step::announce(&format!("{} swaps", arguments.swaps));
        machine::stand_back();
        let began = Instant::now();
        let outcome = (0..arguments.swaps).try_for_each(|turn| {
            let due = began + Duration::from_millis(arguments.every) * turn;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            code.replace()?;
            api.push(APP, code.bytes())
        });
        load.stopped.store(true, Ordering::Relaxed);
        outcome
    });
    swapped?;
    host.stop()?;
    let figures = Figures::of(load, arguments.swaps);
    figures.show();
    arguments.common.write_json(&figures.json())
}

/// Connections that ask at a constant rate, and how they fared.
#[derive(Default)]
struct Load {
    stopped: AtomicBool,
    swapping: AtomicBool,
    failed: AtomicU64,
    /// Milliseconds of each answer, before the first swap and from then on.
    before: Mutex<Vec<f64>>,
    during: Mutex<Vec<f64>>,
}

impl Load {
    fn ask_until_stopped(&self, address: SocketAddr, rate: u32) {
        machine::run_soon();
        let every = Duration::from_secs(1) / rate.max(1);
        let (mut before, mut during) = (Vec::new(), Vec::new());
        let mut client = None;
        let mut next = Instant::now();
        while !self.stopped.load(Ordering::Relaxed) {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next += every;
            let began = Instant::now();
            let asked = match &mut client {
                Some(client) => Client::get(client),
                None => Client::connect(address, HOST).and_then(|new| client.insert(new).get()),
            };
            let milliseconds = began.elapsed().as_secs_f64() * 1e3;
            let times = if self.swapping.load(Ordering::Relaxed) { &mut during } else { &mut before };
            match asked {
                Ok(answer) if answer.status == 200 && answer.body.starts_with("Hello, ") => times.push(milliseconds),
                Ok(_) => _ = self.failed.fetch_add(1, Ordering::Relaxed),
                Err(_) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    client = None;
                }
            }
        }
        self.before.lock().unwrap_or_else(PoisonError::into_inner).extend(before);
        self.during.lock().unwrap_or_else(PoisonError::into_inner).extend(during);
    }
}

struct Figures {
    swaps: u32,
    before: Times,
    during: Times,
    failed: u64,
}

impl Figures {
    fn of(load: Load, swaps: u32) -> Figures {
        let times = |times: Mutex<Vec<f64>>| Times(times.into_inner().unwrap_or_else(PoisonError::into_inner));
        Figures { swaps, before: times(load.before), during: times(load.during), failed: load.failed.into_inner() }
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let ratio = self.during.p99() / self.before.p99();
        vec![
            Verdict::new("requests that failed", Bound::AtMost(0.0), self.failed as f64),
            Verdict::new("p99 during swaps, times that before", Bound::AtMost(P99_RATIO_MAX), ratio),
        ]
    }

    fn show(&self) {
        println!("\nmilliseconds of an answer, {}\n", machine::description());
        println!("| {:<17} |  count |      p50 |      p99 |  slowest |", "requests");
        println!("| {:-<17} | -----: | -------: | -------: | -------: |", "");
        let during = format!("during {} swaps", self.swaps);
        for (name, times) in [("before", &self.before), (during.as_str(), &self.during)] {
            println!("| {name:<17} | {} |", times.cells());
        }
        verdict::show(&self.verdicts());
    }

    fn json(&self) -> Value {
        json!({
            "conditions": machine::description(),
            "swaps": self.swaps,
            "before": self.before.json(),
            "during": self.during.json(),
            "requests_failed": self.failed,
            "targets": verdict::json(&self.verdicts()),
        })
    }
}
