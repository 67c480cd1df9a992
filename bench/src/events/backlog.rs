//! Measures a deep backlog of events: the time from a start of the host until the app responds and
//! its events are listed, and the delivery of the backlog with the host's memory. Never measures
//! how the backlog is made.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::isopod::Isopod;
use crate::client::Client;
use crate::machine::Footprint;
use xtask::step;

/// The events that one handler sends.
const MULTIPLIED: u64 = 1_000;

/// The figures of a backlog.
pub(super) struct Backlog {
    pub(super) events: u64,
    /// Milliseconds of the first list of events and the first response, after the host is ready.
    pub(super) open_ms: f64,
    pub(super) drain_s: f64,
    /// Memory of the host at the begin of the delivery, and the most during it.
    pub(super) begin_mib: f64,
    pub(super) peak_mib: f64,
}

pub(super) fn measure(isopod: Isopod, program: &Path, events: u64) -> Result<Backlog> {
    let mut left = events;
    while left > 0 {
        // The handlers of these events come before all that they send.
        isopod.multiply(left.min(MULTIPLIED))?;
        left -= left.min(MULTIPLIED);
    }
    step::announce("starting the host with the backlog");
    let isopod = isopod.restart(program)?;
    let caller = isopod.caller();
    let began = Instant::now();
    isopod.has_events(&["ready"])?;
    Client::open(caller.address, caller.request)?.get()?;
    let open_ms = began.elapsed().as_secs_f64() * 1e3;
    let memory = || -> Result<f64> { Ok(Footprint::of(isopod.process())?.resident_mib) };
    let (began, begin_mib) = (Instant::now(), memory()?);
    let mut peak_mib = begin_mib;
    isopod.until_handled(|| {
        peak_mib = peak_mib.max(memory()?);
        Ok(())
    })?;
    Ok(Backlog { events, open_ms, drain_s: began.elapsed().as_secs_f64(), begin_mib, peak_mib })
}
