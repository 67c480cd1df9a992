//! `cargo xtask bench swap`: a production app is asked at a constant rate while new releases take the place of old ones,
//! one after another. Every request must be answered well, and about as soon as before.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::client::Client;
use super::server::{Server, free_address};
use super::variants::Code;
use super::{Common, machine, statistics};
use crate::step;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many releases take the place of the one before
    #[arg(long, default_value_t = 100)]
    swaps: u32,
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
    let (listen, admin) = (free_address()?, free_address()?);
    let mut up = Command::new(program);
    up.args(["up", "--listen", &listen.to_string(), "--admin", &admin.to_string(), "--data"]).arg(folder.join("data"));
    let mut server = Server::start(up, &folder.join("server.log"))?;
    server.wait_for_words("isopod ready ")?;
    let token = fs::read_to_string(folder.join("data/admin.token")).context("the host made no admin.token")?;
    let api = Api { address: admin, token: token.trim().to_owned() };
    api.create()?;
    code.replace()?;
    api.push(&code)?;
    server.wait_for(listen, HOST, &code.greeting())?;

    let load = Load::default();
    let swapped = std::thread::scope(|scope| {
        for _ in 0..arguments.connections {
            scope.spawn(|| load.ask_until_stopped(listen, arguments.rate));
        }
        step::announce(&format!("{} s without a swap", arguments.seconds));
        std::thread::sleep(Duration::from_secs(arguments.seconds.into()));
        load.swapping.store(true, Ordering::Relaxed);
        step::announce(&format!("{} swaps", arguments.swaps));
        let outcome = (0..arguments.swaps).try_for_each(|_| {
            code.replace()?;
            api.push(&code)
        });
        load.stopped.store(true, Ordering::Relaxed);
        outcome
    });
    swapped?;
    server.stop()?;
    let figures = Figures::of(load, arguments.swaps);
    figures.show();
    arguments.common.write_json(&figures.json())
}

/// The host's API, as far as it is needed here.
struct Api {
    address: SocketAddr,
    token: String,
}

impl Api {
    fn create(&self) -> Result<()> {
        let body = json!({ "name": APP, "type": "production" }).to_string();
        self.post("/v1/apps", "application/json", body.as_bytes())
    }

    /// Pushes the present variant, and waits until it serves.
    fn push(&self, code: &Code) -> Result<()> {
        self.post(&format!("/v1/apps/{APP}/pushes?wait=true"), "application/wasm", code.bytes())
    }

    fn post(&self, path: &str, media_type: &str, body: &[u8]) -> Result<()> {
        let request = ureq::post(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", media_type);
        let answer = request.send(body).with_context(|| format!("POST {path} failed"))?;
        if !answer.status().is_success() {
            bail!("POST {path} was answered with {}", answer.status());
        }
        Ok(())
    }
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
    before: Vec<f64>,
    during: Vec<f64>,
    failed: u64,
}

impl Figures {
    fn of(load: Load, swaps: u32) -> Figures {
        let times = |times: Mutex<Vec<f64>>| times.into_inner().unwrap_or_else(PoisonError::into_inner);
        Figures { swaps, before: times(load.before), during: times(load.during), failed: load.failed.into_inner() }
    }

    fn ratio(&self) -> f64 {
        share(&self.during, 99) / share(&self.before, 99)
    }

    fn show(&self) {
        println!("\nmilliseconds of an answer, {}\n", machine::description());
        println!("| requests          |  count |    p50 |    p99 | slowest |");
        println!("| ----------------- | -----: | -----: | -----: | ------: |");
        let during = format!("during {} swaps", self.swaps);
        for (name, times) in [("before", &self.before), (during.as_str(), &self.during)] {
            let (p50, p99, slowest) = (share(times, 50), share(times, 99), share(times, 100));
            println!("| {name:<17} | {:>6} | {p50:>6.2} | {p99:>6.2} | {slowest:>7.2} |", times.len());
        }
        println!("\n{} requests failed; p99 during swaps is {:.2} times the p99 before", self.failed, self.ratio());
        let reached = |yes: bool| if yes { "reached" } else { "not reached" };
        println!("target: no failed request: {}", reached(self.failed == 0));
        println!("target: p99 at most {P99_RATIO_MAX} times: {}", reached(self.ratio() <= P99_RATIO_MAX));
    }

    fn json(&self) -> Value {
        let times = |times: &[f64]| json!({ "requests": times.len(), "p50_ms": share(times, 50), "p99_ms": share(times, 99), "max_ms": share(times, 100) });
        json!({
            "conditions": machine::description(),
            "swaps": self.swaps,
            "before": times(&self.before),
            "during": times(&self.during),
            "p99_ratio": self.ratio(),
            "requests_failed": self.failed,
        })
    }
}

fn share(times: &[f64], share: u32) -> f64 {
    statistics::percentile(times, share).unwrap_or(f64::NAN)
}
