//! The two kinds of callers in the benchmarks: many that send the next request as soon as they have
//! a response, and a quiet caller that pauses in between. Never judges the result.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::{Answer, Client, Request};
use super::machine;
use super::times::Times;

/// The pause between two requests of the quiet caller: about 200 requests per second.
const QUIET_PAUSE: Duration = Duration::from_millis(5);

/// The pause after a refusal, so that the flood consists of work and not of refusals.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// The pause between two checks of an event's state.
const STATE_PAUSE: Duration = Duration::from_millis(20);

/// The duration of a flood before the measurement starts.
const RAMP: Duration = Duration::from_millis(500);

/// One connection of a flood.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    pub(super) request: Request,
    /// Whether the request stores an event, whose end the caller waits for.
    pub(super) stored: Option<StoredEvents>,
}

/// The stored events of an app.
#[derive(Debug, Clone)]
pub(super) struct StoredEvents {
    pub(super) host: String,
    /// The route of the app's events.
    pub(super) path: String,
    pub(super) authorization: String,
}

impl Caller {
    /// Returns a caller that waits for each response.
    pub(super) fn of(address: SocketAddr, request: Request) -> Self {
        Self { address, request, stored: None }
    }
}

impl StoredEvents {
    fn show(&self, id: &str) -> Request {
        Request::get_with(&self.host, &format!("{}/{id}", self.path), &[("authorization", &self.authorization)])
    }
}

/// The result of a flood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) answered: u64,
    pub(super) refused: u64,
}

/// Sends requests from all callers without a pause while `during` runs, and returns its result.
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

/// Sends one request and returns whether it succeeded. The next call reopens a broken connection.
fn ask(client: &mut Option<Client>, caller: &Caller) -> io::Result<bool> {
    let mut open = match client.take() {
        Some(open) => open,
        None => Client::open(caller.address, caller.request.clone())?,
    };
    let answer = match &caller.stored {
        None => open.get()?,
        Some(stored) => until_done(&mut open, stored)?,
    };
    *client = Some(open);
    Ok(answer.is_success())
}

/// Stores an event, and waits until its handler has ended. Returns the response to the event.
fn until_done(client: &mut Client, stored: &StoredEvents) -> io::Result<Answer> {
    let (id, answer) = client.get_numbered()?;
    let show = stored.show(&id);
    while answer.is_success() {
        std::thread::sleep(STATE_PAUSE);
        let event = client.send(&show)?;
        if !event.is_success() || event.body.contains("\"state\":\"done\"") {
            break;
        }
    }
    Ok(answer)
}

/// The duration of the quiet caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampleWindow {
    pub(super) at_least: Duration,
    /// After `at_least`, the caller continues until it has this many responses …
    pub(super) answers: usize,
    /// … or this much time has passed.
    pub(super) at_most: Duration,
}

impl SampleWindow {
    pub(super) fn seconds(seconds: u32) -> SampleWindow {
        let time = Duration::from_secs(seconds.into());
        SampleWindow { at_least: time, answers: 0, at_most: time }
    }
}

/// Returns the latencies of a quiet caller during a window.
pub(super) fn quiet(caller: &Caller, window: SampleWindow) -> Result<Times> {
    let began = Instant::now();
    quiet_while(caller, |answers| {
        began.elapsed() < window.at_least || (answers < window.answers && began.elapsed() < window.at_most)
    })
}

/// Returns the latencies of a caller that waits for each response and then pauses. It uses one
/// connection, and stops once `holds` returns false for the number of its responses.
pub(super) fn quiet_while(caller: &Caller, holds: impl Fn(usize) -> bool) -> Result<Times> {
    machine::run_soon();
    let mut client = Client::open(caller.address, caller.request.clone())?;
    let mut times = Vec::new();
    while holds(times.len()) {
        std::thread::sleep(QUIET_PAUSE);
        let asked = Instant::now();
        let answer = client.get().context("the quiet caller got no response")?;
        times.push(asked.elapsed().as_secs_f64() * 1e3);
        if answer.status != 200 {
            bail!("the quiet caller got the status {}", answer.status);
        }
    }
    Ok(Times(times))
}
