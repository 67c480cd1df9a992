//! Measures a deep backlog of events: the time from a start of the host until the app responds and
//! its events are listed, and the delivery of the backlog with the host's memory and the latency of
//! requests. Never measures the creation of the backlog.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::isopod::Isopod;
use super::queue::{Due, Queue as _};
use crate::client::Client;
use crate::flood;
use crate::machine::Footprint;
use crate::times::Times;
use xtask::step;

/// The number of events in each request that creates the backlog.
const BATCH: usize = 1_000;

/// The assumed minimum rate at which the backlog is created, in events per second. It determines
/// when its events are due.
const MADE_PER_SECOND: u64 = 15_000;

/// The time for a start of the host before the events are due.
const START_TIME: Duration = Duration::from_secs(10);

/// The figures of a backlog.
pub(super) struct Backlog {
    pub(super) events: u64,
    /// Milliseconds of the first list of events and the first response, after the host is ready.
    pub(super) open_ms: f64,
    pub(super) drain_s: f64,
    /// Memory of the host at the beginning of the delivery, and its maximum during the delivery.
    pub(super) begin_mib: f64,
    pub(super) peak_mib: f64,
    /// Latencies of requests to the app during the delivery.
    pub(super) requests: Times,
}

pub(super) fn measure(isopod: Isopod, program: &Path, events: u64) -> Result<Backlog> {
    let due = Instant::now() + Duration::from_secs(events / MADE_PER_SECOND) + START_TIME;
    let mut sender = isopod.sender(Due::At(due))?;
    for _ in 0..events / BATCH as u64 {
        sender.send(BATCH)?;
    }
    drop(sender);
    step::announce("starting the host with the backlog");
    let isopod = isopod.restart(program)?;
    let caller = isopod.caller();
    let began = Instant::now();
    isopod.has_events(&["delayed"])?;
    Client::open(caller.address, caller.request.clone())?.get()?;
    let open_ms = began.elapsed().as_secs_f64() * 1e3;
    let memory = || -> Result<f64> { Ok(Footprint::of(isopod.process())?.resident_mib) };
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
    let (began, begin_mib) = (Instant::now(), memory()?);
    let mut peak_mib = begin_mib;
    let is_over = AtomicBool::new(false);
    let (delivered, requests) = std::thread::scope(|scope| {
        let quiet = scope.spawn(|| flood::quiet_while(&caller, |_| !is_over.load(Ordering::Acquire)));
        let delivered = isopod.until_handled(|| {
            peak_mib = peak_mib.max(memory()?);
            Ok(())
        });
        is_over.store(true, Ordering::Release);
        (delivered, quiet.join().unwrap_or_else(|_| bail!("the quiet caller panicked")))
    });
    delivered?;
    let drain_s = began.elapsed().as_secs_f64();
    Ok(Backlog { events, open_ms, drain_s, begin_mib, peak_mib, requests: requests? })
}
