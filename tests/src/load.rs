//! A constant load: several closed-loop clients, each on its own persistent connection. Sends the
//! requests, counts the responses and records their durations. Never decides which response is
//! valid: the test does.

use crate::{
    Ask, Host, Wire,
    limits::{FILES_FOR_THE_REST, FILES_USUAL, LOAD_ANSWERS_AFTER, LOAD_DURATIONS_MAX, LOAD_PAUSE},
    wait_for,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Clients that send requests to an app in a loop.
#[must_use = "only `finish` reports failed requests"]
pub struct Load {
    clients: Vec<(Arc<Client>, JoinHandle<()>)>,
}

struct Client {
    to: SocketAddr,
    ask: Ask,
    answers: AtomicU64,
    stop: AtomicBool,
    /// The durations of the requests since they were last taken.
    durations: Mutex<Vec<Duration>>,
    /// The failed requests.
    failed: Mutex<Vec<String>>,
}

/// The failures of one client that are kept verbatim.
const FAILURES_KEPT: usize = 100;

impl Load {
    /// Starts to send `GET /` to an app; `well` checks each response's text.
    pub fn on(host: &Host, app: &str, clients: usize, well: impl Fn(&str) -> bool + Clone + Send + 'static) -> Self {
        Self::of(host.listen, &host.to_app(app, Ask::get("/")), clients, well)
    }

    /// Starts to send events to an app, which must respond with 200.
    pub fn of_events(host: &Host, app: &str) -> Self {
        let event = json!({ "specversion": "1.0", "id": "1", "source": "/load", "type": "load" });
        let ask = Ask::post(format!("/v1/apps/{app}/events")).body("application/cloudevents+json", event.to_string());
        Self::of(host.admin, &ask.header("authorization", format!("Bearer {}", host.token)), 1, |_| true)
    }

    /// Starts to repeat any request.
    pub fn of(to: SocketAddr, ask: &Ask, clients: usize, well: impl Fn(&str) -> bool + Clone + Send + 'static) -> Self {
        let start = |_| {
            let client = Arc::new(Client {
                to,
                ask: ask.clone(),
                answers: AtomicU64::new(0),
                stop: AtomicBool::new(false),
                durations: Mutex::default(),
                failed: Mutex::default(),
            });
            let (asking, well) = (Arc::clone(&client), well.clone());
            (client, std::thread::spawn(move || asking.run(well)))
        };
        Self { clients: (0..clients).map(start).collect() }
    }

    /// Waits until each client has received some further responses.
    pub fn wait_for_more(&self) {
        let answers = |client: &Client| client.answers.load(Ordering::Acquire);
        let enough: Vec<u64> = self.clients.iter().map(|(client, _)| answers(client) + LOAD_ANSWERS_AFTER).collect();
        wait_for("the load's answers", || {
            let has_enough = |((client, thread), enough): (&(Arc<Client>, JoinHandle<()>), &u64)| {
                answers(client) >= *enough || thread.is_finished()
            };
            self.clients.iter().zip(&enough).all(has_enough).then_some(())
        });
    }

    /// Waits until each client has received some further responses. Returns the durations of all
    /// requests that ended since the last call.
    pub fn take_durations(&self) -> Vec<Duration> {
        self.wait_for_more();
        let take = |client: &Client| std::mem::take(&mut *lock(&client.durations));
        self.clients.iter().flat_map(|(client, _)| take(client)).collect()
    }

    /// Waits for some further responses and stops. Returns the number of requests, and the
    /// failures.
    pub fn end(mut self) -> (u64, Vec<String>) {
        self.wait_for_more();
        self.stop();
        let (mut answers, mut failed) = (0, Vec::new());
        for (client, thread) in self.clients.drain(..) {
            thread.join().expect("asking does not panic");
            answers += client.answers.load(Ordering::Acquire);
            failed.append(&mut lock(&client.failed));
        }
        (answers, failed)
    }

    /// Stops the load, and returns the number of requests.
    ///
    /// # Panics
    /// If a request failed.
    #[track_caller]
    pub fn finish(self) -> u64 {
        let (requests, failed) = self.end();
        assert!(failed.is_empty(), "{} of {requests} requests failed, the first: {}", failed.len(), failed[0]);
        requests
    }

    fn stop(&self) {
        self.clients.iter().for_each(|(client, _)| client.stop.store(true, Ordering::Release));
    }
}

/// Returns the duration that 99 % of the requests don't exceed.
///
/// # Panics
/// If there are fewer than 100.
#[track_caller]
pub fn p99(mut durations: Vec<Duration>) -> Duration {
    assert!(durations.len() >= 100, "too few for a p99: {durations:?}");
    durations.sort_unstable();
    durations[(durations.len() * 99).div_ceil(100) - 1]
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how many connections a test may hold at the same time: `wanted`, capped by this
/// machine's limit of open files.
pub fn connections(wanted: usize) -> usize {
    let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes only to this structure.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files) } == 0;
    let most = if known { usize::try_from(files.rlim_cur).unwrap_or(usize::MAX) } else { FILES_USUAL };
    wanted.min(most.saturating_sub(FILES_FOR_THE_REST))
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Client {
    fn run(&self, well: impl Fn(&str) -> bool) {
        let mut wire = None;
        while !self.stop.load(Ordering::Acquire) {
            let begun = Instant::now();
            let outcome = self.ask_once(&mut wire, &well);
            let mut durations = lock(&self.durations);
            if durations.len() < LOAD_DURATIONS_MAX {
                durations.push(begun.elapsed());
            }
            drop(durations);
            if let Err(failed) = outcome {
                wire = None;
                let mut kept = lock(&self.failed);
                if kept.len() < FAILURES_KEPT {
                    kept.push(failed);
                }
            }
            self.answers.fetch_add(1, Ordering::Release);
            std::thread::sleep(LOAD_PAUSE);
        }
    }

    fn ask_once(&self, wire: &mut Option<Wire>, well: impl Fn(&str) -> bool) -> Result<(), String> {
        let wire = match wire {
            Some(wire) => wire,
            None => wire.insert(Wire::open(self.to).map_err(|error| error.to_string())?),
        };
        wire.ask(&self.ask).map_err(|error| error.to_string())?;
        let answer = wire.answer().map_err(|broken| broken.to_string())?;
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Err(format!("the host closed the connection, so the client needs a new connection: {answer}"));
        }
        if answer.status == 200 && well(&answer.text()) { Ok(()) } else { Err(answer.to_string()) }
    }
}
