//! A connection's socket and the state of its traffic: whether a request is in progress, when the
//! last byte arrived, and whether the client is still connected. Reads and writes for hyper; never
//! parses HTTP beyond what its timers need.
//!
//! hyper owns a [`Socket`], and the connection's driver keeps the [`Line`] behind it. The line
//! counts exchanges: a request is in progress from the moment hyper hands it out until its response
//! and the rest of its body are complete.
//!
//! A client that closes only its write side still waits for its response. In TCP that looks the
//! same as a client that has closed its socket, until the host sends something: the kernel of a
//! disconnected client answers with a reset. So the line probes: it sends the first bytes of every
//! status line ahead of the response, or a leading zero of the next chunk's size ([`Line::probe`]).
//! Both are part of the response that follows.

mod exchange;
mod unread;

pub(crate) use exchange::Exchange;
pub(crate) use unread::Unread;

use super::refusal;
use crate::http::limits;
use futures::FutureExt;
use hyper::rt::{Read, ReadBufCursor, Write};
use isopod_policy::connections::Activity;
use socket2::SockRef;
use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::Shutdown,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{io::Interest, net::TcpStream};

/// The first bytes of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of every HTTP/1 response of any minor version.
const STATUS_LINE: &[u8] = b"HTTP/1.";

/// The head of the response to a request head that arrives too slowly.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\r\n";

/// The head of the response to a request head that ends early: the client has shut down its side.
const INCOMPLETE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";

/// Leading zeros that a chunk's size may have.
const ZEROS: &[u8] = b"0000000";

/// The header of a chunked response, as hyper writes it.
const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n";

/// One connection's socket and state. All state is advisory. Only the connection's own task writes
/// it, in order; for HTTP/2, also the tasks of its streams. Relaxed atomics therefore suffice.
pub(super) struct Line {
    stream: TcpStream,
    accepted: Instant,
    /// The number of [`Exchange`]s.
    exchanges: AtomicU32,
    has_asked: AtomicBool,
    /// How many bytes of [`PREFACE`] the connection began with; [`NO_PREFACE`] if it began with
    /// other bytes.
    preface: AtomicU8,
    /// When the first byte of an incomplete head arrived, in milliseconds after `accepted`, plus 1.
    /// 0 if no head is incomplete; [`UNTIMED`] until the driver reads the clock.
    head_begun_ms: AtomicU64,
    /// When the connection last became idle or was written to, in milliseconds after `accepted`.
    quiet_since_ms: AtomicU64,
    /// When the kernel first accepted no further bytes since the last write, in milliseconds after
    /// `accepted`, plus 1; 0 if it accepts them.
    write_blocked_ms: AtomicU64,
    /// The responses that the client of an HTTP/2 connection hasn't read to their end.
    unread: unread::Responses,
    ending: AtomicU8,
    /// Whether hyper has read the end of the client's side.
    has_ended: AtomicBool,
    /// Whether hyper has written all its bytes. Only then may a probe be sent.
    is_flushed: AtomicBool,
    response: AtomicU8,
    /// Whether the client of the request in progress waits for `100 Continue`.
    client_waits: AtomicBool,
    /// The part of a service's response that hyper has still to write.
    unwritten: AtomicU8,
    /// Bytes of [`STATUS_LINE`] that were sent ahead of the response.
    status_ahead: AtomicU8,
    /// Leading zeros of the next chunk's size that were sent ahead of the chunk.
    zeros_ahead: AtomicU8,
}

const NO_PREFACE: u8 = u8::MAX;

/// Marks a head that has begun since the driver last checked the timers. Most heads arrive
/// complete, so the clock isn't read for each head.
const UNTIMED: u64 = u64::MAX;

/// When hyper is made to read the end of the client's side: not yet; once nothing is readable;
/// immediately.
const OPEN: u8 = 0;
const WHEN_QUIET: u8 = 1;
const AT_ONCE: u8 = 2;

/// The unwritten part of a service's response: nothing, so that hyper's next bytes are its own
/// response; parts of an incomplete body; the rest.
const NOTHING: u8 = 0;
const PARTS: u8 = 1;
const REST: u8 = 2;

/// State of the response in progress: not begun; begun, possibly chunked; chunked; anything else.
const NOT_BEGUN: u8 = 0;
const MAYBE_CHUNKED: u8 = 1;
const IN_CHUNKS: u8 = 2;
const OTHER: u8 = 3;

impl Line {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            accepted: Instant::now(),
            exchanges: AtomicU32::new(0),
            has_asked: AtomicBool::new(false),
            preface: AtomicU8::new(0),
            head_begun_ms: AtomicU64::new(0),
            quiet_since_ms: AtomicU64::new(0),
            write_blocked_ms: AtomicU64::new(0),
            unread: unread::Responses::default(),
            ending: AtomicU8::new(OPEN),
            has_ended: AtomicBool::new(false),
            is_flushed: AtomicBool::new(true),
            response: AtomicU8::new(OTHER),
            client_waits: AtomicBool::new(false),
            unwritten: AtomicU8::new(NOTHING),
            status_ahead: AtomicU8::new(0),
            zeros_ahead: AtomicU8::new(0),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the connection's current activity, for its timers.
    pub(super) fn activity(&self) -> Activity {
        let now_ms = self.now_ms();
        let since = |then_ms: u64| Duration::from_millis(now_ms.saturating_sub(then_ms));
        if self.head_begun_ms.load(Relaxed) == UNTIMED {
            self.head_begun_ms.store(now_ms + 1, Relaxed);
        }
        Activity {
            is_http2: self.is_http2(),
            age: since(0),
            has_asked: self.has_asked(),
            is_busy: self.is_busy(),
            in_head: self.head_begun_ms.load(Relaxed).checked_sub(1).map(since),
            quiet: since(self.quiet_since_ms.load(Relaxed)),
            write_blocked: self.write_blocked_ms.load(Relaxed).checked_sub(1).map(since),
            unread: unread::longest(&self.unread, now_ms),
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        usize::from(self.preface.load(Relaxed)) == PREFACE.len()
    }

    /// Returns whether the connection has ever carried a request.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Relaxed)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.exchanges.load(Relaxed) > 0
    }

    /// Returns whether a head has begun and isn't complete.
    pub(super) fn is_in_head(&self) -> bool {
        self.head_begun_ms.load(Relaxed) > 0 && !self.is_http2()
    }

    /// Records that a request was read. It is in progress until the exchange and all clones are
    /// dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Exchange {
        self.head_begun_ms.store(0, Relaxed);
        self.has_asked.store(true, Relaxed);
        self.response.store(NOT_BEGUN, Relaxed);
        self.client_waits.store(false, Relaxed);
        self.exchanges.fetch_add(1, Relaxed);
        Exchange(Arc::clone(self))
    }

    /// Makes hyper read the end of the client's side once nothing is readable: a request that has
    /// arrived is still served.
    pub(super) fn end_when_quiet(&self) {
        self.ending.store(WHEN_QUIET, Relaxed);
    }

    /// Makes hyper read the end of the client's side now, in the middle of a head.
    pub(super) fn end_at_once(&self) {
        self.ending.store(AT_ONCE, Relaxed);
    }

    /// Returns whether the client has closed its side, or the whole connection, while its request
    /// is in progress.
    pub(super) fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<io::Result<HangUp>> {
        ready!(self.stream.poll_read_ready(cx))?;
        // The socket is ready for bytes, their end, or both: only this call distinguishes them.
        let Poll::Ready(readiness) = std::pin::pin!(self.stream.ready(Interest::READABLE)).poll(cx) else {
            return Poll::Pending;
        };
        match readiness? {
            ready if ready.is_error() || ready.is_write_closed() => Poll::Ready(Ok(HangUp::Disconnected)),
            ready if ready.is_read_closed() => Poll::Ready(Ok(HangUp::WriteSide)),
            _ => Poll::Pending,
        }
    }

    /// Waits until the kernel reports that the client has disconnected.
    pub(super) async fn disconnected(self: Arc<Self>) {
        // An error here means the same.
        let _ = self.stream.ready(Interest::ERROR).await;
    }

    /// Returns whether the kernel reports that the client has disconnected. A write may have
    /// consumed the error, which then wakes no task.
    pub(super) fn is_disconnected(&self) -> bool {
        let readiness = self.stream.ready(Interest::ERROR | Interest::WRITABLE).now_or_never();
        readiness.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_error() || ready.is_write_closed()))
    }

    /// Sends one byte of the response ahead, if possible. A disconnected client answers with a
    /// reset. Returns whether it is already known to be disconnected.
    pub(super) fn probe(&self) -> HangUp {
        if self.is_http2() || !self.is_busy() || !self.is_flushed.load(Relaxed) {
            return HangUp::WriteSide;
        }
        let (ahead, bytes) = match self.response.load(Relaxed) {
            NOT_BEGUN => (&self.status_ahead, STATUS_LINE),
            IN_CHUNKS => (&self.zeros_ahead, ZEROS),
            _ => return HangUp::WriteSide,
        };
        let sent = ahead.load(Relaxed);
        let Some(&next) = bytes.get(usize::from(sent)) else { return HangUp::WriteSide };
        match self.stream.try_write(&[next]) {
            Ok(written) => ahead.store(sent + u8::from(written > 0), Relaxed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // This error may be the only report of the reset.
            Err(_) => return HangUp::Disconnected,
        }
        HangUp::WriteSide
    }

    /// Sends 408 for a slow head, and 400 for a head that its client has ended too early, if the
    /// host has sent no byte yet.
    pub(super) fn refuse_incomplete_head(&self) {
        let head = match () {
            () if self.is_http2() || !self.is_flushed.load(Relaxed) => return,
            () if self.ending.load(Relaxed) == AT_ONCE => TOO_SLOW,
            () if self.is_in_head() && self.has_ended.load(Relaxed) => INCOMPLETE,
            () => return,
        };
        // The client may have disconnected.
        let _ = refusal::instead_of(head).map(|response| self.stream.try_write(&response));
    }

    /// Records that the kernel accepts no further bytes of a response. The duration is counted from
    /// the first such call since the last write.
    fn write_blocks(&self) {
        if self.write_blocked_ms.load(Relaxed) == 0 {
            self.write_blocked_ms.store(self.now_ms() + 1, Relaxed);
        }
    }

    /// Makes the end of the connection a reset, so that the client doesn't mistake it for the end
    /// of a body, and the kernel discards unsent bytes.
    pub(super) fn reset_at_close(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Closes a connection after hyper has finished with it. Bytes in transit to a closed socket
    /// would reset the connection, and the client could lose the response. So the host shuts down
    /// its side first, and discards incoming bytes up to [`limits::CLOSE_TIME`].
    pub(super) async fn close(&self) {
        let socket = SockRef::from(&self.stream);
        if self.has_ended.load(Relaxed)
            || socket.linger().is_ok_and(|linger| linger.is_some())
            || socket.shutdown(Shutdown::Write).is_err()
        {
            return;
        }
        let mut left = limits::CLOSE_BYTES_MAX;
        let discard = async {
            let mut discarded = [0; 4096];
            while left > 0 && self.stream.readable().await.is_ok() {
                match self.stream.try_read(&mut discarded) {
                    Ok(0) => return,
                    Ok(read) => left = left.saturating_sub(read),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(limits::CLOSE_TIME, discard).await;
    }

    fn received(&self, bytes: &[u8]) {
        if self.is_busy() || self.is_http2() {
            return;
        }
        let seen = usize::from(self.preface.load(Relaxed));
        if seen < PREFACE.len() {
            let more = bytes.len().min(PREFACE.len() - seen);
            let is_preface = bytes[..more] == PREFACE[seen..seen + more];
            // Less than the preface's length, so it fits.
            self.preface.store(if is_preface { (seen + more) as u8 } else { NO_PREFACE }, Relaxed);
            if self.is_http2() {
                self.head_begun_ms.store(0, Relaxed);
                self.quiet_since_ms.store(self.now_ms(), Relaxed);
                return;
            }
        }
        // Empty lines before a request don't belong to it (RFC 9112, section 2.2).
        if self.head_begun_ms.load(Relaxed) == 0 && bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.head_begun_ms.store(UNTIMED, Relaxed);
        }
    }

    /// Reads the kernel's buffered bytes, even if the runtime has no readiness event. Returns the
    /// number of bytes.
    fn receive(&self, cursor: &mut ReadBufCursor<'_>) -> io::Result<usize> {
        // SAFETY: nothing is uninitialised that was initialised.
        let buffer: &mut [MaybeUninit<u8>] = unsafe { cursor.as_mut() };
        let read = SockRef::from(&self.stream).recv(buffer)?;
        let start = buffer.as_ptr().cast::<u8>();
        // SAFETY: the kernel has just written these bytes, which are inside of the buffer.
        self.received(unsafe { std::slice::from_raw_parts(start, read) });
        // SAFETY: as above.
        unsafe { cursor.advance(read) };
        if read == 0 {
            self.has_ended.store(true, Relaxed);
        }
        Ok(read)
    }

    /// Records that bytes of a response were written.
    fn sent(&self, bytes: &[u8]) {
        if self.response.load(Relaxed) == MAYBE_CHUNKED {
            let head = bytes.windows(4).position(|part| part == b"\r\n\r\n").map(|end| &bytes[..end + 2]);
            let is_chunked = head.is_some_and(|head| head.windows(CHUNKED.len()).any(|part| part == CHUNKED));
            self.response.store(if is_chunked { IN_CHUNKS } else { OTHER }, Relaxed);
        }
        if !self.is_busy() && !self.is_http2() {
            self.quiet_since_ms.store(self.now_ms(), Relaxed);
        }
    }

    /// Returns the response that replaces hyper's own response to a head that hyper can't parse.
    fn refusal(&self, first: &[u8]) -> Option<Vec<u8>> {
        let is_hypers = self.unwritten.load(Relaxed) == NOTHING && !self.is_http2();
        if is_hypers { refusal::instead_of(first) } else { None }
    }

    fn write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = buffers.first().map_or(&[][..], |first| first);
        if let Some(refusal) = self.refusal(first) {
            // The kernel's send buffer is empty, so it has room for the whole response.
            self.stream.try_write(&refusal)?;
            return Ok(first.len());
        }
        let skipped = usize::from(self.status_ahead.load(Relaxed)).min(first.len());
        debug_assert!(STATUS_LINE.starts_with(&first[..skipped]), "the bytes sent ahead begin a status line");
        let written = match skipped {
            0 => self.stream.try_write_vectored(buffers)?,
            _ => self.stream.try_write(&first[skipped..])?,
        };
        self.status_ahead.store(0, Relaxed);
        self.zeros_ahead.store(0, Relaxed);
        self.sent(first);
        Ok(skipped + written)
    }
}

/// How a client has hung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HangUp {
    /// It has shut down its write side, but may still read.
    WriteSide,
    /// It has disconnected.
    Disconnected,
}

/// The side of a line that hyper owns.
pub(super) struct Socket(pub(super) Arc<Line>);

impl Read for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let line = &*self.0;
        match line.ending.load(Relaxed) {
            OPEN => {}
            AT_ONCE => return Poll::Ready(Ok(())),
            _ => match line.receive(&mut cursor) {
                Ok(read) => {
                    if read > 0 {
                        line.ending.store(OPEN, Relaxed);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            },
        }
        loop {
            ready!(line.stream.poll_read_ready(cx))?;
            // SAFETY: only its length is read.
            let room = unsafe { cursor.as_mut() }.len();
            let mut outcome = None;
            let drained = line.stream.try_io(Interest::READABLE, || match line.receive(&mut cursor) {
                Ok(read) => {
                    outcome = Some(read);
                    // A short read means that the kernel has no more bytes, so the runtime need not
                    // try again.
                    if 0 < read && read < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
                }
                Err(error) => Err(error),
            });
            match (outcome, drained) {
                (Some(_), _) => return Poll::Ready(Ok(())),
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                (None, _) => {}
            }
        }
    }
}

impl Write for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let line = &*self.0;
        line.is_flushed.store(false, Relaxed);
        loop {
            let Poll::Ready(ready) = line.stream.poll_write_ready(cx) else {
                line.write_blocks();
                return Poll::Pending;
            };
            ready?;
            match line.write(buffers) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    line.write_blocked_ms.store(0, Relaxed);
                    return Poll::Ready(done);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Records that hyper has written all its bytes: hyper calls this afterwards.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.is_flushed.store(true, Relaxed);
        let _ = self.0.unwritten.compare_exchange(REST, NOTHING, Relaxed, Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&self.0.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (Arc<Line>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (server, _) = listener.accept().await.expect("a connection");
        (Arc::new(Line::new(server)), client)
    }

    async fn read(line: &Arc<Line>) -> Vec<u8> {
        let mut bytes = [MaybeUninit::uninit(); 64];
        let mut buffer = hyper::rt::ReadBuf::uninit(&mut bytes);
        let mut socket = Socket(Arc::clone(line));
        poll_fn(|cx| Pin::new(&mut socket).poll_read(cx, buffer.unfilled())).await.expect("it can be read");
        buffer.filled().to_vec()
    }

    async fn write(line: &Arc<Line>, bytes: &[u8]) {
        let mut socket = Socket(Arc::clone(line));
        let written = poll_fn(|cx| Pin::new(&mut socket).poll_write(cx, bytes)).await.expect("it can be written");
        assert_eq!(written, bytes.len());
        poll_fn(|cx| Pin::new(&mut socket).poll_flush(cx)).await.expect("it can be flushed");
    }

    async fn received(client: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).await.expect("the client receives `length` bytes");
        bytes
    }

    #[tokio::test]
    async fn a_request_that_has_arrived_is_read_before_an_idle_close() {
        let (line, mut client) = pair().await;
        line.end_when_quiet();
        assert!(read(&line).await.is_empty(), "nothing is readable");
        client.write_all(b"GET").await.expect("it can be written");
        // The kernel has it immediately; the runtime has no readiness event yet.
        line.end_when_quiet();
        assert_eq!(read(&line).await, b"GET");
        assert!(line.is_in_head());
        line.end_at_once();
        assert!(read(&line).await.is_empty(), "a slow head ends in any case");
    }

    #[tokio::test]
    async fn empty_lines_do_not_begin_a_head() {
        let (line, mut client) = pair().await;
        client.write_all(b"\r\n\r\n").await.expect("it can be written");
        assert_eq!(read(&line).await, b"\r\n\r\n");
        assert!(!line.is_in_head() && !line.is_http2());
        client.write_all(PREFACE).await.expect("it can be written");
        assert_eq!(read(&line).await, PREFACE);
        assert!(line.is_in_head() && !line.is_http2(), "a preface counts only at the beginning");
    }

    #[tokio::test]
    async fn a_preface_in_pieces_makes_an_http2_connection() {
        let (line, mut client) = pair().await;
        for (piece, is_http2) in [(&PREFACE[..3], false), (&PREFACE[3..], true)] {
            client.write_all(piece).await.expect("it can be written");
            assert_eq!(read(&line).await, piece);
            assert_eq!((line.is_http2(), line.is_in_head()), (is_http2, !is_http2));
        }
    }

    #[tokio::test]
    async fn bytes_sent_ahead_of_a_response_are_not_repeated() {
        let (line, mut client) = pair().await;
        let exchange = line.begin();
        (0..20).for_each(|_| assert_eq!(line.probe(), HangUp::WriteSide));
        assert_eq!(received(&mut client, STATUS_LINE.len()).await, STATUS_LINE);
        exchange.response_begins(true);
        let _ = line.probe();
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        write(&line, head).await;
        assert_eq!(received(&mut client, head.len() - STATUS_LINE.len()).await, &head[STATUS_LINE.len()..]);
        (0..20).for_each(|_| assert_eq!(line.probe(), HangUp::WriteSide));
        write(&line, b"5\r\nhello\r\n").await;
        assert_eq!(received(&mut client, 17).await, b"00000005\r\nhello\r\n");
        let _ = line.probe();
        exchange.response_ends();
        let _ = line.probe();
        write(&line, b"0\r\n\r\n").await;
        assert_eq!(received(&mut client, 6).await, b"00\r\n\r\n");
    }

    #[tokio::test]
    async fn a_response_of_known_length_is_not_probed() {
        let (line, mut client) = pair().await;
        let exchange = line.begin();
        exchange.response_begins(true);
        write(&line, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\ntransfer-encoding: chunked\r\n").await;
        let _ = line.probe();
        exchange.response_ends();
        drop(exchange);
        let _ = line.probe();
        write(&line, b"end").await;
        let response = received(&mut client, 69).await;
        assert!(response.ends_with(b"chunked\r\nend"), "{}", String::from_utf8_lossy(&response));
    }
}
