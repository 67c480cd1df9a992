//! Bursts of requests: many clients that each hold a connection send a request at the same moment,
//! and again after a pause. A few threads serve all clients, since they share the machine with the
//! server. Never judges the result.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::Client;
use super::flood::{Caller, Outcome};

/// Each thread sends on its part of the connections, and then reads the responses.
const THREADS: usize = 4;

/// The pause before each burst, also before the first: the measured client is running by then.
const REST: Duration = Duration::from_millis(250);

/// Connections are opened in groups with pauses, so that opening them is not itself a burst. The
/// pauses stay short: the server closes a connection that sends nothing for ten seconds.
const OPENED_AT_ONCE: usize = 100;
const OPENING_PAUSE: Duration = Duration::from_millis(5);

/// The files that client and server open besides these connections, rounded up.
const OTHER_FILES: u64 = 1_000;

/// Clients that send the same request at the same moment.
pub(super) struct Burst {
    pub(super) caller: Caller,
    pub(super) clients: usize,
}

/// Returns the number of clients that the limit of open files permits: each uses one file here and
/// one at the server.
pub(super) fn clients(wanted: usize, open_files_max: Option<u64>) -> usize {
    let Some(most) = open_files_max else { return wanted };
    wanted.min(usize::try_from(most.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX))
}

/// Opens all connections, sends bursts while `during` runs, and returns its result. A burst that
/// has started is read to its end.
pub(super) fn beside<T>(burst: &Burst, during: impl FnOnce() -> T) -> Result<(T, Outcome)> {
    let mut lines = open(burst)?;
    let lines_each = lines.len().div_ceil(THREADS).max(1);
    let beat = Beat::new(lines.len().div_ceil(lines_each));
    std::thread::scope(|scope| {
        let parts = lines.chunks_mut(lines_each);
        let threads: Vec<_> = parts.map(|part| scope.spawn(|| bursts(part, &burst.caller, &beat))).collect();
        let result = during();
        beat.stop();
        let mut outcome = Outcome::default();
        for thread in threads {
            let part = thread.join().ok().context("a thread of the burst panicked")?;
            outcome.answered += part.answered;
            outcome.refused += part.refused;
        }
        Ok((result, outcome))
    })
}

/// A connection; `None` if it broke.
type Line = Option<Client>;

fn open(burst: &Burst) -> Result<Vec<Line>> {
    let mut lines = Vec::with_capacity(burst.clients);
    for number in 1..=burst.clients {
        let client = Client::open(burst.caller.address, burst.caller.request.clone())
            .with_context(|| format!("cannot open connection {number} of {}", burst.clients))?;
        lines.push(Some(client));
        if number % OPENED_AT_ONCE == 0 {
            std::thread::sleep(OPENING_PAUSE);
        }
    }
    Ok(lines)
}

/// Runs the bursts of one thread.
fn bursts(lines: &mut [Line], caller: &Caller, beat: &Beat) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        std::thread::sleep(REST);
        if !beat.continues() {
            return outcome;
        }
        ask_all(lines, &mut outcome);
        for line in lines.iter_mut().filter(|line| line.is_none()) {
            *line = Client::open(caller.address, caller.request.clone()).ok();
        }
    }
}

/// Sends all requests before it reads the first response. A missing response counts as refused.
fn ask_all(lines: &mut [Line], outcome: &mut Outcome) {
    for line in &mut *lines {
        line.take_if(|client| client.ask().is_err());
    }
    for line in lines {
        match line.as_mut().map(Client::answer) {
            Some(Ok(answer)) if answer.is_success() => outcome.answered += 1,
            Some(Ok(_)) => outcome.refused += 1,
            Some(Err(_)) | None => {
                *line = None;
                outcome.refused += 1;
            }
        }
    }
}

/// Starts each burst on all threads together, and stops them after the same burst.
struct Beat {
    threads: Barrier,
    stopped: AtomicBool,
    continues: AtomicBool,
}

impl Beat {
    fn new(threads: usize) -> Beat {
        Beat { threads: Barrier::new(threads), stopped: AtomicBool::new(false), continues: AtomicBool::new(true) }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Waits for all threads. Only the leader reads the stop flag: if each thread read it, some
    /// could see the stop while the rest wait forever at the barrier.
    fn continues(&self) -> bool {
        if self.threads.wait().is_leader() {
            self.continues.store(!self.stopped.load(Ordering::Acquire), Ordering::Release);
        }
        self.threads.wait();
        self.continues.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;
    use crate::client::Request;

    #[test]
    fn the_limit_of_open_files_bounds_the_clients() {
        assert_eq!(clients(10_000, None), 10_000);
        assert_eq!(clients(10_000, Some(u64::MAX)), 10_000);
        assert_eq!(clients(10_000, Some(4_096)), 3_096);
        assert_eq!(clients(10_000, Some(256)), 0);
    }

    const LINES: usize = 6;

    #[test]
    fn a_burst_sends_all_requests_first_and_reuses_its_connections() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let caller = Caller::of(listener.local_addr().expect("its address"), Request::get("here", "/"));
        let (bursts_sent, bursts_seen) = sync_channel(LINES);
        let server = std::thread::spawn(move || serve(&listener, &bursts_sent));
        let burst = Burst { caller, clients: LINES };
        let (two, outcome) = beside(&burst, || two_bursts(&bursts_seen)).expect("connections");
        drop(bursts_seen);
        server.join().expect("the server thread has not panicked");
        assert_eq!(two, Ok(()));
        let bursts = outcome.refused;
        assert!(bursts >= 2, "{outcome:?}");
        assert_eq!(outcome.answered, bursts * (LINES as u64 - 1));
    }

    fn two_bursts(seen: &Receiver<()>) -> Result<(), std::sync::mpsc::RecvError> {
        seen.recv().and_then(|()| seen.recv())
    }

    /// Responds only after all have sent a request, to the first connection with an error, until
    /// they are closed.
    fn serve(listener: &TcpListener, bursts_sent: &SyncSender<()>) {
        let mut lines: Vec<TcpStream> = (0..LINES).map(|_| listener.accept().expect("a connection").0).collect();
        while lines.iter_mut().all(|line| line.read(&mut [0; 1024]).is_ok_and(|read| read > 0)) {
            for (number, line) in lines.iter_mut().enumerate() {
                let status = if number == 0 { "503 Service Unavailable" } else { "200 OK" };
                write!(line, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").expect("an open connection");
            }
            let _ = bursts_sent.try_send(()); // The receiver stops after two bursts.
        }
    }
}
