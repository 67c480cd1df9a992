//! Owns the two kinds of callers that share a server in the benchmarks: many that ask again as soon as they are answered,
//! and one that asks now and then and takes its time. Never judges what they found.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::{Client, Request};
use super::machine;
use super::times::Times;

/// Between two requests of the quiet caller: about 200 a second.
const QUIET_PAUSE: Duration = Duration::from_millis(5);

/// After a refusal, so that the flood is one of work and not one of refusals.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// How long a flood goes on before anything beside it is measured.
const RAMP: Duration = Duration::from_millis(500);

/// One connection of a flood.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    pub(super) request: Request,
}

/// How a flood fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) answered: u64,
    pub(super) refused: u64,
}

/// Has all callers ask without a pause while `during` goes on, and returns what it returned.
pub(super) fn beside<T>(callers: &[Caller], during: impl FnOnce() -> T) -> (T, Outcome) {
    let (stopped, answered, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        for caller in callers {
            scope.spawn(|| {
                let mut client = None;
                while !stopped.load(Ordering::Relaxed) {
                    if ask(&mut client, caller).unwrap_or(false) {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        refused.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(REFUSED_PAUSE);
                    }
                }
            });
        }
        std::thread::sleep(RAMP);
        let result = during();
        stopped.store(true, Ordering::Relaxed);
        result
    });
    (result, Outcome { answered: answered.into_inner(), refused: refused.into_inner() })
}

/// Whether the answer was a success. A connection that broke is opened anew the next time.
fn ask(client: &mut Option<Client>, caller: &Caller) -> io::Result<bool> {
    let mut open = match client.take() {
        Some(open) => open,
        None => Client::open(caller.address, caller.request.clone())?,
    };
    let answer = open.get()?;
    *client = Some(open);
    Ok(answer.is_success())
}

/// How long the quiet caller goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) at_least: Duration,
    /// Beyond `at_least`, until so many answers have come …
    pub(super) answers: usize,
    /// … or so long has gone by.
    pub(super) at_most: Duration,
}

impl Patience {
    pub(super) fn seconds(seconds: u32) -> Patience {
        let time = Duration::from_secs(seconds.into());
        Patience { at_least: time, answers: 0, at_most: time }
    }
}

/// The times of a caller that waits for each answer and pauses then, over one kept connection.
pub(super) fn quiet(caller: &Caller, patience: Patience) -> Result<Times> {
    machine::run_soon();
    let mut client = Client::open(caller.address, caller.request.clone())?;
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < patience.at_least || (times.len() < patience.answers && began.elapsed() < patience.at_most)
    {
        std::thread::sleep(QUIET_PAUSE);
        let asked = Instant::now();
        let answer = client.get().context("the quiet caller got no answer")?;
        times.push(asked.elapsed().as_secs_f64() * 1e3);
        if answer.status != 200 {
            bail!("the quiet caller was answered with {}", answer.status);
        }
    }
    Ok(Times(times))
}
