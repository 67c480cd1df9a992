//! `cargo xtask bench events`: measures how many events the host acknowledges and handles per
//! second beside NATS JetStream and Redis streams, each durable before its acknowledgement; the
//! latency of requests during a flood of events; and a deep backlog. Never runs two servers at
//! once.

mod backlog;
mod isopod;
mod nats;
mod queue;
mod redis;
mod report;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::flood::{self, Caller, SampleWindow};
use super::peers::{self, Peers};
use super::times::Times;
use super::{components, folder, options::Common};
use isopod::Isopod;
use queue::{Due, Progress, Queue, Sender};
use report::{Contender, Figures, Latency, Run};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Folder of the other servers' programs, which are installed if missing [default:
    /// target/peers]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Measure the host only, not NATS and Redis
    #[arg(long)]
    alone: bool,
    /// Number of rounds
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Number of events in the backlog; 0 leaves it out
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
}

/// The number of clients in the measurements with several clients.
const CLIENTS: usize = 64;

/// The number of events of one request in the measurement with batches.
const BATCH: usize = 100;

/// The programs of all servers. A missing program is skipped.
struct Programs {
    isopod: PathBuf,
    component: PathBuf,
    nats: Option<PathBuf>,
    redis: Option<PathBuf>,
}

impl Programs {
    fn find(arguments: &Arguments) -> Result<Programs> {
        let peers = Peers::find(arguments.peers.as_deref())?;
        let [component] = components::built([isopod::COMPONENT])?;
        let is_beside = !arguments.alone;
        Ok(Programs {
            isopod: arguments.common.host()?,
            component,
            nats: is_beside.then(|| peers.nats()).and_then(peers::or_skipped),
            redis: is_beside.then(peers::redis).and_then(peers::or_skipped),
        })
    }

    fn contenders(&self) -> Vec<Contender> {
        let is_there = |contender: &Contender| match contender {
            Contender::Isopod => true,
            Contender::Nats => self.nats.is_some(),
            Contender::Redis => self.redis.is_some(),
        };
        Contender::ALL.into_iter().filter(is_there).collect()
    }

    /// Starts a server with an empty folder.
    fn start(&self, contender: Contender, folder: &Path) -> Result<Box<dyn Queue>> {
        let missing = || format!("{contender} is missing");
        Ok(match contender {
            Contender::Isopod => Box::new(Isopod::start(&self.isopod, &self.component, folder)?),
            Contender::Nats => Box::new(nats::Nats::start(self.nats.as_deref().with_context(missing)?, folder)?),
            Contender::Redis => Box::new(redis::Redis::start(self.redis.as_deref().with_context(missing)?, folder)?),
        })
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(arguments)?;
    let contenders = programs.contenders();
    let mut figures = Figures::new(&contenders, arguments.rounds, arguments.seconds);
    for round in 1..=arguments.rounds {
        step::announce(&format!("round {round} of {}", arguments.rounds));
        // Every second round has the reverse order, so that no server always follows the same other
        // server.
        let mut turns: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 0 {
            turns.reverse();
        }
        for turn in turns {
            let contender = contenders[turn];
            let run =
                measure(&programs, contender, arguments.seconds).with_context(|| format!("{contender} failed"))?;
            println!("         {run}  {contender}");
            figures.add(contender, run);
        }
        figures.latencies.push(latency(&programs, arguments.seconds)?);
    }
    if arguments.backlog > 0 {
        step::announce(&format!("a backlog of {} events", arguments.backlog));
        let isopod = Isopod::start(&programs.isopod, &programs.component, &folder::fresh("events")?)?;
        figures.backlog = Some(backlog::measure(isopod, &programs.isopod, arguments.backlog)?);
    }
    println!("\n{figures}");
    arguments.common.write_json(&figures.json())
}

/// Measures one server: first events that it only stores, then, with an empty folder, events that
/// it stores and handles.
fn measure(programs: &Programs, contender: Contender, seconds: u32) -> Result<Run> {
    let queue = programs.start(contender, &folder::fresh("events")?)?;
    let one = acknowledged_per_second(&*queue, 1, 1, seconds)?;
    let many = acknowledged_per_second(&*queue, CLIENTS, 1, seconds)?;
    let batches = queue.has_batches().then(|| acknowledged_per_second(&*queue, 1, BATCH, seconds)).transpose()?;
    drop(queue);
    let handled = handled_per_second(&*programs.start(contender, &folder::fresh("events")?)?, seconds)?;
    Ok(Run { one, many, batches: batches.unwrap_or(f64::NAN), handled })
}

fn acknowledged_per_second(queue: &dyn Queue, clients: usize, batch: usize, seconds: u32) -> Result<f64> {
    let (began, time) = (Instant::now(), Duration::from_secs(seconds.into()));
    let sender = || queue.sender(Due::later());
    let sent = send_while(sender, clients, batch, &AtomicU64::new(0), || began.elapsed() < time)?;
    Ok(sent as f64 / began.elapsed().as_secs_f64())
}

/// Returns the rate of events that are sent and handled, from the first event to the end of the
/// last.
fn handled_per_second(queue: &dyn Queue, seconds: u32) -> Result<f64> {
    let (began, time) = (Instant::now(), Duration::from_secs(seconds.into()));
    let progress = Progress::default();
    let sent = std::thread::scope(|scope| {
        let handling = scope.spawn(|| queue.handle(&progress));
        let sender = || queue.sender(Due::Now);
        let sent = send_while(sender, CLIENTS, 1, &progress.sent, || began.elapsed() < time);
        progress.is_over.store(true, Ordering::Release);
        handling.join().unwrap_or_else(|_| anyhow::bail!("the handler of events panicked"))?;
        sent
    })?;
    Ok(sent as f64 / began.elapsed().as_secs_f64())
}

/// Sends events from several clients while a condition holds, and returns their number.
fn send_while(
    sender: impl Fn() -> Result<Box<dyn Sender>> + Sync,
    clients: usize,
    batch: usize,
    sent: &AtomicU64,
    holds: impl Fn() -> bool + Sync,
) -> Result<u64> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut sender = sender()?;
                    while holds() {
                        sender.send(batch)?;
                        sent.fetch_add(batch as u64, Ordering::AcqRel);
                    }
                    Ok(())
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap_or_else(|_| anyhow::bail!("a client panicked"))?;
        }
        Ok(sent.load(Ordering::Acquire))
    })
}

/// Measures requests to the app alone, and during a flood of its events.
fn latency(programs: &Programs, seconds: u32) -> Result<Latency> {
    let isopod = Isopod::start(&programs.isopod, &programs.component, &folder::fresh("events")?)?;
    let caller = isopod.caller();
    let alone = quiet(&caller, seconds)?;
    let is_over = AtomicBool::new(false);
    let sender = || isopod.sender(Due::Now);
    let (during, events) = std::thread::scope(|scope| {
        let flood =
            scope.spawn(|| send_while(sender, CLIENTS, 1, &AtomicU64::new(0), || !is_over.load(Ordering::Acquire)));
        let during = quiet(&caller, seconds);
        is_over.store(true, Ordering::Release);
        (during, flood.join().unwrap_or_else(|_| anyhow::bail!("the flood of events panicked")))
    });
    let (during, events) = (during?, events?);
    println!("         p99 {:.2} ms alone, {:.2} ms during {events} events", alone.p99(), during.p99());
    Ok(Latency { alone, during })
}

fn quiet(caller: &Caller, seconds: u32) -> Result<Times> {
    flood::quiet(caller, SampleWindow::seconds(seconds))
}
