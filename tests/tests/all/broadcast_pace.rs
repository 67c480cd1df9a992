//! Tests that the host reads the body of a broadcast no faster than it stores the events. While a
//! sync doesn't end, the upload stalls, and the rest of the body stays with its sender.

use crate::broadcasts::{event, with_greedy};
use isopod_tests::{Ask, Host, Wire, wait_for};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Longer than any test, so that a sync only ends when the test ends the delay.
const ENDLESS: Duration = Duration::from_secs(3_600);

/// The size of each line.
const LINE_BYTES: usize = 1 << 10;

/// The lines of the broadcast, 32 MiB: more than the buffers of a connection hold.
const LINES: usize = 32 << 10;

/// The lines that the client sends at a time.
const PART_LINES: usize = 64;

/// The polls without a change after which the upload counts as stalled.
const STALLED_POLLS: u32 = 20;

/// The events that the host stores in one transaction.
const BATCH_LINES: usize = 1_000;

/// The bytes that the host may have read ahead of a full batch.
const AHEAD_BYTES: usize = 1 << 20;

/// The bytes of a connection in the kernel: sent by the client but not yet received by the host's
/// side, and received but not yet read by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Buffered {
    sending: usize,
    received: usize,
}

impl Buffered {
    /// Reads the kernel's table of connections.
    fn between(client: SocketAddr, host: SocketAddr) -> Self {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel lists connections");
        let (client, host) = (shown(client), shown(host));
        // Columns: number, local address, remote address, state, both queues.
        let queues = |local: &str, remote: &str| {
            let row = table
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .find(|row| row.get(1) == Some(&local) && row.get(2) == Some(&remote));
            let (sending, received) = row.as_ref().and_then(|row| row[4].split_once(':')).expect("it is connected");
            let bytes = |text| usize::from_str_radix(text, 16).expect("a number");
            (bytes(sending), bytes(received))
        };
        Self { sending: queues(&client, &host).0, received: queues(&host, &client).1 }
    }
}

/// Returns an IPv4 address as the kernel's table shows it.
fn shown(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("{address} is not an IPv4 address") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

/// Returns the lines from `first`, each of [`LINE_BYTES`].
fn lines(first: usize, count: usize) -> Vec<u8> {
    let line = |id: usize| {
        let line = event(id);
        let padding = LINE_BYTES - line.len() - ",\"data\":\"\"\n".len();
        line.replacen('}', &format!(",\"data\":\"{}\"}}\n", "x".repeat(padding)), 1)
    };
    (first..first + count).flat_map(|id| line(id).into_bytes()).collect()
}

#[test]
fn the_body_of_a_broadcast_is_read_no_faster_than_its_events_are_stored() {
    let host = with_greedy(Host::start_with_faults(""));
    host.faults().delay_syncs_of("greedy", ENDLESS);
    let ask = Ask::post("/v1/apps/greedy/broadcasts").header("content-type", "application/x-ndjson");
    let ask = ask.header("authorization", format!("Bearer {}", host.token));
    let mut wire = Wire::open(host.admin).expect("the API accepts connections");
    let client = wire.local_address().expect("it is connected");
    let written = AtomicUsize::new(0);
    let answer = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let head = ask.header("content-length", (LINES * LINE_BYTES).to_string()).head();
            wire.send(head.as_bytes()).expect("it can be sent");
            for first in (0..LINES).step_by(PART_LINES) {
                wire.send(&lines(first, PART_LINES)).expect("it can be sent");
                written.fetch_add(PART_LINES * LINE_BYTES, Ordering::Relaxed);
            }
            wire.answer().expect("it is answered")
        });
        let read = until_stalled(&host, client, &written);
        assert!(read <= BATCH_LINES * LINE_BYTES + AHEAD_BYTES, "the host has read {read} bytes");
        host.faults().delay_syncs(Duration::ZERO);
        sending.join().expect("the upload completes")
    });
    assert_eq!(answer.expect(202).json(), json!({ "accepted": LINES, "duplicates": 0 }));
}

/// Waits until no byte moves although the connection's buffers are full. Returns the bytes that the
/// host has read by then.
fn until_stalled(host: &Host, client: SocketAddr, written: &AtomicUsize) -> usize {
    let (mut last, mut repeats) = (None, 0);
    wait_for("the upload to stall", || {
        // The bytes of a `send` in progress are not counted as written.
        let sent = written.load(Ordering::Relaxed) + PART_LINES * LINE_BYTES;
        let buffered = Buffered::between(client, host.admin);
        let is_full = host.faults().delayed_syncs() > 0 && buffered.sending > 0 && buffered.received > 0;
        let is_same = last.replace((sent, buffered)) == Some((sent, buffered));
        repeats = if is_full && is_same { repeats + 1 } else { 0 };
        (repeats == STALLED_POLLS).then(|| sent.saturating_sub(buffered.sending + buffered.received))
    })
}
