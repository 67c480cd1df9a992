//! The limits of the traffic address, each with the effect of reaching it. Never holds behaviour.

use std::time::Duration;

/// Concurrent connections to the traffic address, unless configured; fewer if the process's limit
/// of open files is lower. Further connections wait in the kernel's backlog, or are closed if their
/// client already holds its share.
pub(crate) const TRAFFIC_CONNECTIONS_MAX: usize = 20_000;

/// Connections in the kernel's backlog of the traffic address. The kernel refuses further
/// connections.
pub(crate) const TRAFFIC_BACKLOG: i32 = 4_096;

/// How long after a stop signal the host still accepts connections that the kernel has already
/// completed. Then it closes the traffic address.
pub(crate) const ACCEPT_AFTER_STOP: Duration = Duration::from_millis(20);

/// Accepted connections in the channel to one I/O thread. When it is full, the acceptor waits.
pub(crate) const CONNECTIONS_QUEUED_PER_THREAD_MAX: usize = 1_024;

/// Networks of proxies in the configuration. More are refused at start: each is compared with every
/// new client.
pub(crate) const TRUSTED_PROXIES_MAX: usize = 64;

/// HTTP/2 flow-control window: unread bytes of one connection or stream. Beyond it the client
/// waits. It is the protocol's initial value, since every connection may fill that much of the
/// host's memory.
pub(crate) const TRAFFIC_WINDOW_BYTES: u32 = 65_535;

/// Bodies up to this size are buffered before an instance is leased; larger bodies stream into it.
pub(crate) const BUFFERED_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Threads for blocking work of the guests on one I/O thread. Further work waits.
pub(crate) const IO_BLOCKING_THREADS: usize = 4;

/// Connections of one app that an I/O thread admits in one round. Further connections are enqueued
/// for the next round, which starts within milliseconds.
pub(crate) const ADMISSIONS_PER_APP: usize = 32;

/// Connections that an I/O thread admits in a round while no connection is enqueued. Then the next
/// round starts.
pub(crate) const ADMISSIONS_PER_ROUND: usize = 256;

/// New connections that an I/O thread receives before it polls other tasks. Further connections
/// wait in the channel.
pub(crate) const CONNECTIONS_PER_ROUND: usize = 16;

/// While an I/O thread waits less than this for its next requests on average, it yields the
/// processor before it parks. The value is longer than a wake-up, and shorter than the time slices
/// of other threads.
pub(crate) const PARK_YIELDS_BELOW: Duration = Duration::from_micros(100);

/// The longest wait in the average for `PARK_YIELDS_BELOW`. A longer wait counts as this one.
pub(crate) const PARK_COUNTED_MAX: Duration = Duration::from_millis(10);
