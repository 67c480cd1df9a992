//! Owns every bound of the host program, each with what happens when it is reached. The bounds on what a guest or a
//! bundle may hold stand in the policy crate. Never holds behaviour.

use std::time::Duration;

/// Connections to the traffic address at one time. Further ones wait in the kernel's backlog.
pub(crate) const TRAFFIC_CONNECTIONS_MAX: usize = 20_000;

/// Connections waiting in the kernel's backlog of the traffic address. Further ones are refused by the kernel.
pub(crate) const TRAFFIC_BACKLOG: i32 = 4_096;

/// Accepted connections on their way to one I/O thread. The acceptor waits beyond it.
pub(crate) const CONNECTIONS_HANDED_MAX: usize = 1_024;

/// How long the acceptor rests after a failed accept, so that being out of file descriptors does not spin a core.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long a client may take to send a request's head, or leave a connection without a word before its first one.
/// Then the connection is closed.
pub(crate) const TRAFFIC_HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of one request's head. More is refused with 431.
pub(crate) const TRAFFIC_HEAD_BYTES: usize = 64 * 1024;

/// Requests at one time on one HTTP/2 connection. Further ones wait at the client.
pub(crate) const TRAFFIC_STREAMS_MAX: u32 = 128;

/// How often an idle HTTP/2 connection is asked whether its client is still there.
pub(crate) const TRAFFIC_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Bodies up to this size are read before they get an instance; larger ones stream into it.
pub(crate) const TRAFFIC_BODY_READ_FIRST: u64 = 1024 * 1024;

/// How long a body that is read first may take. Then 408.
pub(crate) const TRAFFIC_BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long requests under way may go on after Ctrl-C in `isopod serve`. Then they are cut off.
pub(crate) const SERVE_DRAIN: Duration = Duration::from_secs(5);
