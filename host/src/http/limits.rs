//! The limits of connections and bodies of both addresses, each with the effect of reaching it.
//! Never holds behaviour.

use std::time::Duration;

/// Pause of the acceptor after a failed accept, so that a lack of file descriptors doesn't cause a
/// busy loop.
pub(crate) const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(20);

/// Idle timeout of a connection between two requests, unless configured. Then it is closed, once
/// nothing is readable. Load balancers keep connections for 60 s and more, and must be the first to
/// close them.
pub(crate) const CONNECTION_IDLE: Duration = Duration::from_secs(75);

/// Timeout of a request's head from its first byte, and of a new connection until its first
/// request, unless configured. Then 408, or the connection is closed if nothing was sent. On a
/// crowded listener this is also the idle timeout.
pub(crate) const CONNECTION_HEAD: Duration = Duration::from_secs(10);

/// The age at which GOAWAY is sent on an HTTP/2 connection, unless configured. Requests in progress
/// are finished.
pub(crate) const CONNECTION_AGE: Duration = Duration::from_secs(3600);

/// How long bytes of a response wait for a client that doesn't read, unless configured. Then the
/// connection is reset; an HTTP/2 connection gets GOAWAY first. On a crowded listener, the head
/// timeout applies instead.
pub(crate) const CONNECTION_WRITE: Duration = Duration::from_secs(60);

/// Pieces of a response that hyper holds for an HTTP/2 client. The next piece waits until one of
/// them is sent: hyper limits their bytes only, and a piece of one byte takes hundreds.
pub(crate) const HTTP2_PIECES_HELD_MAX: usize = 256;

/// Bytes of one request's head. A larger head is refused with 431.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;

/// Fields in one HTTP/1 request head, which is hyper's default. A head with more is refused with
/// 431.
pub(crate) const HEAD_FIELDS: usize = 100;

/// Concurrent requests on one HTTP/2 connection. Further requests wait at the client.
pub(crate) const STREAMS_MAX: u32 = 128;

/// Interval of HTTP/2 keepalive pings.
pub(crate) const HTTP2_PING: Duration = Duration::from_secs(30);

/// TCP keepalive: idle time before the kernel's first probe.
pub(crate) const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// TCP keepalive: interval between probes. After several unanswered probes the connection is
/// closed.
pub(crate) const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Delay between the first and second probe of a client that has shut down its write side; it
/// doubles for each later probe. Each probe sends one byte ahead of the response. After the last
/// byte, the response itself shows whether the client has disconnected.
pub(crate) const HALF_CLOSE_PROBE_DELAY: Duration = Duration::from_secs(1);

/// How long incoming data is discarded after the host has shut down its side of a connection. Then
/// the socket is closed, and later bytes reset the connection.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Bytes of incoming data that are discarded after the host has shut down its side of a connection.
/// Then the socket is closed, and later bytes reset the connection.
pub(crate) const CLOSE_BYTES_MAX: usize = 1 << 20;

/// Timeout of a reserved connection until its request is read. Then it is closed.
pub(crate) const RESERVE_HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// `Retry-After` of a body that was refused because the byte budget was used up: most bodies arrive
/// within this time.
pub(crate) const BODIES_RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long an unread body is drained, so that its client sees the response. Then the connection is
/// closed.
pub(crate) const BODY_DRAIN_TIME: Duration = Duration::from_secs(10);
/// Bytes of an unread body that are drained, so that its client sees the response. Then the
/// connection is closed.
pub(crate) const BODY_DRAIN_BYTES: u64 = 256 * 1024 * 1024;

/// `Retry-After` of a request that a stopping host has refused.
pub(crate) const STOPPING_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a response body without a recipient (HEAD, 204, 304, or replaced by a plugin) is read
/// after the head is known, so that its guest can finish. Then the guest is cancelled as if its
/// client had disconnected.
pub(crate) const DISCARDED_BODY_TIMEOUT: Duration = Duration::from_secs(1);
