//! `cargo xtask bench swap`: sends requests to a production app without a pause, or at a constant
//! rate, while each new release replaces its predecessor. Each request must succeed, with about the
//! same latency as before. Never stops the load during a swap.

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
use super::{components, folder, machine, options::Common};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Number of swaps under each load, each after the last release serves
    #[arg(long, default_value_t = 100)]
    swaps: u32,
    /// Number of connections of the load
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// Requests per second of each connection at the constant rate
    #[arg(long, default_value_t = 250)]
    rate: u32,
    /// Seconds of measurement before the first swap
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

/// The app that receives the requests.
const APP: &str = "asked";
const HOST: &str = "asked.localhost";

/// Another app of the same component. The effect of its swaps on the measured app comes from
/// building releases, not from swapping the release that serves.
const OTHER: &str = "other";

const P99_RATIO_MAX: f64 = 2.0;

/// A load, and the app that is swapped under it.
#[derive(Clone, Copy)]
struct Scene {
    pace: Pace,
    swapped: &'static str,
}

impl Scene {
    fn words(self) -> String {
        let of = if self.swapped == APP { "" } else { " of another app" };
        format!("swaps{of}, {}", self.pace.words())
    }
}

/// The schedule of a connection's requests.
#[derive(Clone, Copy)]
enum Pace {
    /// Sends the next request after each response: the host is saturated.
    Closed,
    /// Sends this number of requests per second.
    Rate(u32),
}

impl Pace {
    fn words(self) -> &'static str {
        match self {
            Pace::Closed => "closed loop",
            Pace::Rate(_) => "constant rate",
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let [component] = components::built(["hello"])?;
    let folder = folder::fresh("swap")?;
    let mut code = Code::new(&component, folder.join("built/app.wasm"))?;
    let mut host = Host::start(&program, &folder, "")?;
    for app in [OTHER, APP] {
        host.api().create(app, "production")?;
        code.replace()?;
        host.api().push(app, code.bytes())?;
        host.wait_for(app, &code.greeting())?;
    }

    let constant = Pace::Rate(arguments.rate);
    let scenes = [(Pace::Closed, APP), (constant, APP), (constant, OTHER)];
    let mut series = Vec::new();
    for (pace, swapped) in scenes {
        series.push(measure(arguments, Scene { pace, swapped }, &host, &mut code)?);
    }
    host.stop()?;
    let figures = Figures { swaps: arguments.swaps, series };
    figures.show();
    arguments.common.write_json(&figures.json())
}

fn measure(arguments: &Arguments, scene: Scene, host: &Host, code: &mut Code) -> Result<Series> {
    let (api, listen) = (host.api(), host.listen());
    let load = Load::default();
    let swapped = std::thread::scope(|scope| {
        for _ in 0..arguments.connections {
            scope.spawn(|| load.ask_until_stopped(listen, scene.pace));
        }
        step::announce(&format!("{} s at a {}", arguments.seconds, scene.pace.words()));
        std::thread::sleep(Duration::from_secs(arguments.seconds.into()));
        load.swapping.store(true, Ordering::Relaxed);
        step::announce(&format!("{} {}", arguments.swaps, scene.words()));
        let pushed = scope.spawn(|| {
            machine::lower_priority();
            (0..arguments.swaps).try_for_each(|_| {
                code.replace()?;
                api.push(scene.swapped, code.bytes())
            })
        });
        let outcome = pushed.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the pushing thread panicked")));
        load.stopped.store(true, Ordering::Relaxed);
        outcome
    });
    swapped?;
    Ok(Series::of(scene, load))
}

/// The connections of a load, and their results.
#[derive(Default)]
struct Load {
    stopped: AtomicBool,
    swapping: AtomicBool,
    failed: AtomicU64,
    /// Latencies in milliseconds, before the first swap and since then.
    before: Mutex<Vec<f64>>,
    during: Mutex<Vec<f64>>,
}

impl Load {
    fn ask_until_stopped(&self, address: SocketAddr, pace: Pace) {
        machine::run_soon();
        let every = match pace {
            Pace::Closed => Duration::ZERO,
            Pace::Rate(rate) => Duration::from_secs(1) / rate.max(1),
        };
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

/// The results of one load.
struct Series {
    scene: Scene,
    before: Times,
    during: Times,
    failed: u64,
}

impl Series {
    fn of(scene: Scene, load: Load) -> Series {
        let times = |times: Mutex<Vec<f64>>| Times(times.into_inner().unwrap_or_else(PoisonError::into_inner));
        Series { scene, before: times(load.before), during: times(load.during), failed: load.failed.into_inner() }
    }

    fn verdicts(&self) -> [Verdict; 2] {
        let (scene, ratio) = (self.scene.words(), self.during.p99() / self.before.p99());
        [
            Verdict::new(format!("{scene}: failed"), Bound::AtMost(0.0), self.failed as f64),
            Verdict::new(format!("{scene}: p99, times before"), Bound::AtMost(P99_RATIO_MAX), ratio),
        ]
    }
}

struct Figures {
    swaps: u32,
    series: Vec<Series>,
}

impl Figures {
    fn verdicts(&self) -> Vec<Verdict> {
        self.series.iter().flat_map(Series::verdicts).collect()
    }

    fn show(&self) {
        println!("\nmilliseconds of an answer, {}\n", machine::description());
        println!("| {:<41} |  count |      p50 |      p99 |  slowest |", "requests");
        println!("| {:-<41} | -----: | -------: | -------: | -------: |", "");
        for series in &self.series {
            let during = format!("{} {}", self.swaps, series.scene.words());
            for (name, times) in
                [(format!("{}, before", series.scene.pace.words()), &series.before), (during, &series.during)]
            {
                println!("| {name:<41} | {} |", times.cells());
            }
        }
        verdict::show(&self.verdicts());
    }

    fn json(&self) -> Value {
        let series = self.series.iter().map(|series| {
            json!({
                "scene": series.scene.words(),
                "before": series.before.json(),
                "during": series.during.json(),
                "requests_failed": series.failed,
            })
        });
        json!({
            "conditions": machine::description(),
            "swaps": self.swaps,
            "scenes": series.collect::<Vec<_>>(),
            "targets": verdict::json(&self.verdicts()),
        })
    }
}
