//! Owns the flood that comes all at once: very many clients that each hold a connection, ask in the same moment, and do so
//! again after a rest. Few threads do it for all of them, since they share the machine with what is measured. Never judges
//! what it found.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::Client;
use super::flood::{Caller, Outcome};

/// Each asks over its part of the connections and reads the answers after that.
const THREADS: usize = 4;

/// Before each burst, the first too: whoever is beside it asks by then.
const REST: Duration = Duration::from_millis(250);

/// Connections are opened so many at a time, with a pause after each: opening them is to be no burst of its own, and
/// the server closes one that says nothing for ten seconds.
const OPENED_AT_ONCE: usize = 100;
const OPENING_PAUSE: Duration = Duration::from_millis(5);

/// What client and server open besides these connections, generously.
const OTHER_FILES: u64 = 1_000;

/// Clients that ask for the same thing in the same moment.
pub(super) struct Burst {
    pub(super) caller: Caller,
    pub(super) clients: usize,
}

/// How many clients there can be where a process may have so many files open: each is one file here and one at the server.
pub(super) fn clients(wanted: usize, open_files_max: Option<u64>) -> usize {
    let Some(most) = open_files_max else { return wanted };
    wanted.min(usize::try_from(most.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX))
}

/// Opens all connections, has bursts come over them while `during` goes on, and returns what it returned. A burst that
/// has begun is read to its end.
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

/// One connection; none where it broke.
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

/// What one thread does.
fn bursts(lines: &mut [Line], caller: &Caller, beat: &Beat) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        std::thread::sleep(REST);
        if !beat.goes_on() {
            return outcome;
        }
        ask_all(lines, &mut outcome);
        for line in lines.iter_mut().filter(|line| line.is_none()) {
            *line = Client::open(caller.address, caller.request.clone()).ok();
        }
    }
}

/// All ask before the first answer is read. What brings no answer counts as refused.
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

/// What has the threads begin each burst together, and end after the same one.
struct Beat {
    threads: Barrier,
    stopped: AtomicBool,
    goes_on: AtomicBool,
}

impl Beat {
    fn new(threads: usize) -> Beat {
        Beat { threads: Barrier::new(threads), stopped: AtomicBool::new(false), goes_on: AtomicBool::new(true) }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Waits for all threads. One of them looks and the others take its word: each for itself, some would see the stop and
    /// the rest would wait for them for ever.
    fn goes_on(&self) -> bool {
        if self.threads.wait().is_leader() {
            self.goes_on.store(!self.stopped.load(Ordering::Acquire), Ordering::Release);
        }
        self.threads.wait();
        self.goes_on.load(Ordering::Acquire)
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
    fn there_are_as_many_clients_as_files_may_be_open() {
        assert_eq!(clients(10_000, None), 10_000);
        assert_eq!(clients(10_000, Some(u64::MAX)), 10_000);
        assert_eq!(clients(10_000, Some(4_096)), 3_096);
        assert_eq!(clients(10_000, Some(256)), 0);
    }

    const LINES: usize = 6;

    #[test]
    fn all_ask_before_one_is_answered_and_again_over_the_same_connections() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let caller =
            Caller { address: listener.local_addr().expect("its address"), request: Request::get("here", "/") };
        let (told, bursts_seen) = sync_channel(LINES);
        let server = std::thread::spawn(move || serve(&listener, &told));
        let burst = Burst { caller, clients: LINES };
        let (two, outcome) = beside(&burst, || two_bursts(&bursts_seen)).expect("connections");
        drop(bursts_seen);
        server.join().expect("the server saw nothing else");
        assert_eq!(two, Ok(()));
        let bursts = outcome.refused;
        assert!(bursts >= 2, "{outcome:?}");
        assert_eq!(outcome.answered, bursts * (LINES as u64 - 1));
    }

    fn two_bursts(seen: &Receiver<()>) -> Result<(), std::sync::mpsc::RecvError> {
        seen.recv().and_then(|()| seen.recv())
    }

    /// Answers only once all have asked, the first connection with a refusal, until they are closed.
    fn serve(listener: &TcpListener, told: &SyncSender<()>) {
        let mut lines: Vec<TcpStream> = (0..LINES).map(|_| listener.accept().expect("a connection").0).collect();
        while lines.iter_mut().all(|line| line.read(&mut [0; 1024]).is_ok_and(|read| read > 0)) {
            for (number, line) in lines.iter_mut().enumerate() {
                let status = if number == 0 { "503 Service Unavailable" } else { "200 OK" };
                write!(line, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").expect("an open connection");
            }
            let _ = told.try_send(()); // Whoever waited for two bursts has left by then.
        }
    }
}
