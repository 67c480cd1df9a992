//! Measures a deep backlog of events: its creation by `isopod broadcast`, the time from a start of
//! the host until the app responds and its events are listed, and the delivery of the backlog with
//! the host's memory and the latency of requests. Never decides how deep the backlog is.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::isopod::Isopod;
use crate::client::Client;
use crate::flood;
use crate::machine::{self, Footprint};
use crate::times::Times;
use xtask::step;

/// The assumed minimum rate at which events are written to the file and stored by the command, in
/// events per second. It determines when the events are due.
const STORED_PER_SECOND: u64 = 10_000;

/// The time for the starts of the host before the events are due.
const START_TIME: Duration = Duration::from_secs(30);

/// The interval between two readings of the command's memory.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The figures of a backlog.
pub(super) struct Backlog {
    pub(super) events: u64,
    pub(super) broadcast: Broadcast,
    /// Milliseconds of the first list of events and the first response, after the host is ready.
    pub(super) open_ms: f64,
    pub(super) drain_s: f64,
    /// Memory of the host at the beginning of the delivery, and its maximum during the delivery.
    pub(super) begin_mib: f64,
    pub(super) peak_mib: f64,
    /// Latencies of requests to the app during the delivery.
    pub(super) requests: Times,
}

/// The figures of `isopod broadcast`.
pub(super) struct Broadcast {
    pub(super) lines_per_second: f64,
    /// The peak resident memory of the command, and that of the host from its start to the end of
    /// the command.
    pub(super) command_mib: f64,
    pub(super) host_mib: f64,
}

pub(super) fn measure(isopod: Isopod, program: &Path, events: u64) -> Result<Backlog> {
    let due = machine::whole_second(Duration::from_secs(events / STORED_PER_SECOND) + START_TIME)?;
    let file = isopod.write_events(events, due)?;
    // The memory of a host that has compiled the app would include that of the compiler.
    let isopod = isopod.restart(program)?;
    let broadcast = broadcast(&isopod, &file, events)?;
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    step::announce("starting the host with the backlog");
    let isopod = isopod.restart(program)?;
    let caller = isopod.caller();
    let began = Instant::now();
    let is_listed = isopod.has_events(&["delayed"])?;
    Client::open(caller.address, caller.request.clone())?.get()?;
    let open_ms = began.elapsed().as_secs_f64() * 1e3;
    let memory = || -> Result<f64> { Ok(Footprint::of(isopod.process())?.resident_mib) };
    let Some(wait) = due.duration_since(SystemTime::now()).ok().filter(|_| is_listed) else {
        bail!("the events became due before the host was started again: this machine is too slow for this backlog");
    };
    std::thread::sleep(wait);
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
    Ok(Backlog { events, broadcast, open_ms, drain_s, begin_mib, peak_mib, requests: requests? })
}

/// Sends the events of a file with `isopod broadcast`. Fails unless the host has stored each event
/// exactly once.
fn broadcast(isopod: &Isopod, file: &Path, events: u64) -> Result<Broadcast> {
    let mut command = isopod.broadcast(file);
    step::announce(&format!("isopod broadcast {}", file.display()));
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start `isopod broadcast`")?;
    let mut command_mib = f64::NAN;
    while child.try_wait()?.is_none() {
        // Read now: the figure disappears when the command exits.
        command_mib = machine::peak_resident_mib(child.id()).unwrap_or(command_mib);
        std::thread::sleep(LOOK_EVERY);
    }
    let time = began.elapsed();
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`isopod broadcast` failed ({})", output.status);
    }
    let said: Value = serde_json::from_slice(&output.stdout).context("`isopod broadcast --json` printed no JSON")?;
    if said["accepted"] != events || said["duplicates"] != 0 {
        bail!("`isopod broadcast` sent {events} distinct events, but printed {said}");
    }
    Ok(Broadcast {
        lines_per_second: events as f64 / time.as_secs_f64(),
        command_mib,
        host_mib: machine::peak_resident_mib(isopod.process()).unwrap_or(f64::NAN),
    })
}
