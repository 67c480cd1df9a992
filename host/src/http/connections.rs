//! Connections of the traffic address and the admin address: admission, timeouts, detection of
//! disconnected clients, and closing. Knows nothing of apps or routes: a handler answers requests.
//!
//! ```text
//!  Listener: admission ──> permit ──> serve: hyper <──> Socket ──> kernel
//!                                     │                 │
//!                                     └── timer <── Line: the state of the traffic
//! ```
//!
//! Each timer has one purpose. A connection between two requests may be idle for
//! [`ConnectionTimes::idle`]. [`ConnectionTimes::head`] is the timeout of a head that has begun,
//! and of the first request of a connection. At [`ConnectionTimes::age`], the host sends GOAWAY on
//! an HTTP/2 connection. It resets a connection whose client doesn't read a response for
//! [`ConnectionTimes::write`]. Responses share an HTTP/2 connection, so the host first sends GOAWAY
//! there, and resets the connection later. An idle connection is closed only while nothing is
//! readable, by shutting down this side first.

mod admission;
mod drained_body;
mod line;
mod refusal;
mod response_body;

pub(crate) use admission::{Accepted, ConnectionPermit, Listener};
pub(crate) use drained_body::{DrainedBody, expects_continue};

use crate::http::limits;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use isopod_policy::connections::{ConnectionTimes, Expiry};
use line::{Exchange, HangUp, Line, Socket};
use response_body::ResponseBody;
use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

type Builder = auto::Builder<TokioExecutor>;

/// How a listener's connections are served.
pub(crate) struct Settings {
    times: ConnectionTimes,
    regular: Builder,
    /// For connections of the reserve.
    reserve: Builder,
}

impl Settings {
    /// Creates the settings. `window_bytes` is the HTTP/2 flow-control window of a connection and
    /// of each stream.
    pub(crate) fn new(times: ConnectionTimes, window_bytes: u32) -> Self {
        let builder = || {
            let mut http = Builder::new(TokioExecutor::new());
            // hyper's head timeout is off: it would also run while the connection is idle.
            http.http1().header_read_timeout(None).half_close(true).max_buf_size(limits::HEAD_BYTES);
            http.http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits::STREAMS_MAX)
                .initial_stream_window_size(window_bytes)
                .initial_connection_window_size(window_bytes)
                .max_header_list_size(u32::try_from(limits::HEAD_BYTES).unwrap_or(u32::MAX))
                .keep_alive_interval(limits::HTTP2_PING)
                .keep_alive_timeout(times.head);
            http
        };
        let mut reserve = builder();
        reserve.http1().keep_alive(false);
        Self { times, regular: builder(), reserve }
    }

    /// Returns the timeouts of one connection. Ages vary by up to a tenth, so that connections
    /// accepted together don't all close together.
    fn times_of(&self, permit: &ConnectionPermit) -> ConnectionTimes {
        let spread = rand::random_range(0.9..1.0);
        let times = ConnectionTimes { age: self.times.age.mul_f64(spread), ..self.times };
        match permit.is_reserve() {
            true => ConnectionTimes { head: times.head.min(limits::RESERVE_HEAD_TIMEOUT), ..times },
            false => times,
        }
    }
}

/// Decides whether a connection may be polled now. Connections that share a thread fairly wait here
/// for admission.
pub(crate) trait Gate {
    fn poll_open(&self, cx: &Context<'_>) -> Poll<()>;
}

/// Always open.
pub(crate) struct Open;

impl Gate for Open {
    fn poll_open(&self, _: &Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Serves a connection until its client disconnects, a timer expires, or `stop` completes. Then
/// requests in progress are finished.
pub(crate) async fn serve<A, F, B>(
    (stream, permit): (TcpStream, &ConnectionPermit),
    settings: &Settings,
    answer: A,
    gate: &impl Gate,
    stop: impl Future<Output = ()>,
) where
    A: Fn(Request<DrainedBody>) -> F,
    F: Future<Output = Response<B>> + Unpin + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // Without this option, the connection works but is slower.
    let _ = stream.set_nodelay(true);
    let line = Arc::new(Line::new(stream));
    let service = service_fn(|request: Request<Incoming>| {
        let exchange = line.begin();
        let (version, is_head) = (request.version(), request.method() == Method::HEAD);
        let expects =
            version == Version::HTTP_11 && !request.body().is_end_stream() && expects_continue(request.headers());
        if expects {
            exchange.client_waits();
        }
        let interim = expects.then(Box::default);
        let answer = answer(DrainedBody::of(request, &exchange));
        Responding { answer, exchange: Some(exchange), version, is_head, interim }
    });
    let http = if permit.is_reserve() { &settings.reserve } else { &settings.regular };
    let may_still_read = {
        let connection = std::pin::pin!(http.serve_connection(Socket(Arc::clone(&line)), service));
        drive(connection, &line, permit, &settings.times_of(permit), gate, stop).await
    };
    if may_still_read {
        line.refuse_incomplete_head();
        line.close().await;
    }
}

/// A request in progress. Small, since HTTP/1 moves the future and reserves its size while the
/// connection is open: `answer` is boxed.
struct Responding<F, B> {
    answer: F,
    /// `None` once the response begins.
    exchange: Option<Exchange>,
    version: Version,
    is_head: bool,
    /// `None` unless the client expects `100 Continue`.
    interim: Option<Box<Interim<B>>>,
}

/// Holds a response back until hyper has sent `100 Continue`. hyper sends it after the guest has
/// begun to read the body, but not once it has the final response, which the handler may return in
/// the same poll.
struct Interim<B> {
    response: Option<Response<B>>,
    /// The polls for which the response is still held back. hyper writes `100 Continue` between the
    /// first and the second, and flushes it after the second.
    polls_left: u8,
}

impl<B> Default for Interim<B> {
    fn default() -> Self {
        Self { response: None, polls_left: 2 }
    }
}

impl<F: Future<Output = Response<B>> + Unpin, B> Responding<F, B> {
    /// Polls the response. If the body was read, `100 Continue` precedes the response.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Response<B>> {
        let Some(interim) = &mut self.interim else { return Pin::new(&mut self.answer).poll(cx) };
        let response = match interim.response.take() {
            Some(response) => response,
            None => ready!(Pin::new(&mut self.answer).poll(cx)),
        };
        let is_read = self.exchange.as_ref().is_some_and(|exchange| !exchange.is_client_waiting());
        if is_read && interim.polls_left > 0 {
            interim.polls_left -= 1;
            interim.response = Some(response);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(response)
    }
}

impl<F: Future<Output = Response<B>> + Unpin, B: Body> Future for Responding<F, B> {
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut response = ready!(this.poll_answer(cx));
        let Some(exchange) = this.exchange.take() else { return Poll::Pending };
        // The client may send the body or the next request; the host can't distinguish their bytes.
        if exchange.is_client_waiting() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let is_streamed = !this.is_head && is_streamed(&response);
        exchange.response_begins(this.version == Version::HTTP_11 && is_streamed);
        let is_ended_by_close = this.version == Version::HTTP_10 && is_streamed;
        let is_http2 = this.version == Version::HTTP_2;
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, is_http2, is_ended_by_close, exchange))))
    }
}

fn is_streamed<B: Body>(response: &Response<B>) -> bool {
    let body = response.body();
    !body.is_end_stream()
        && body.size_hint().exact().is_none()
        && !response.headers().contains_key(header::CONTENT_LENGTH)
}

/// A connection of hyper.
trait Connection: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> {
    fn shut_down_gracefully(self: Pin<&mut Self>);
}

impl<I, S, B> Connection for auto::Connection<'_, I, S, TokioExecutor>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn shut_down_gracefully(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// An event that the driver of a connection must handle.
enum Event {
    Ended,
    /// The client has disconnected.
    Disconnected,
    /// The timers must be checked: a head has begun, or the client has shut down its side.
    CheckTimers,
    /// The connection takes no further requests.
    Served,
}

/// The driver's state besides the line.
struct Watch {
    /// Completes once a client that has shut down its side has disconnected.
    disconnected: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// When the next probe is due, and the delay after it.
    probe: Option<(Instant, Duration)>,
    /// Whether the timer is set for the head that has begun.
    is_set_for_head: bool,
    /// When the connection stopped taking new requests.
    retiring: Option<Instant>,
}

/// Drives a connection to its end. Returns whether its client may still have to read the last
/// bytes. False if the client has disconnected, or if a newer connection evicts this one
/// immediately.
async fn drive<C: Connection>(
    mut connection: Pin<&mut C>,
    line: &Arc<Line>,
    permit: &ConnectionPermit,
    times: &ConnectionTimes,
    gate: &impl Gate,
    stop: impl Future<Output = ()>,
) -> bool {
    let mut watch = Watch { disconnected: None, probe: None, is_set_for_head: false, retiring: None };
    let mut timer = std::pin::pin!(sleep_until(Instant::now() + times.head));
    let (mut stop, mut is_stopping) = (std::pin::pin!(stop), false);
    let mut evicted = std::pin::pin!(permit.evicted());
    loop {
        let event = tokio::select! {
            biased;
            event = poll_fn(|cx| watch.poll(cx, connection.as_mut(), line, permit, gate)) => event,
            () = timer.as_mut() => Event::CheckTimers,
            () = evicted.as_mut() => return false,
            () = stop.as_mut(), if !is_stopping => {
                is_stopping = true;
                // A request that has arrived by now is answered: a connection without any read
                // would be closed as idle. Only a read shows whether bytes are available.
                tokio::task::yield_now().await;
                if poll_fn(|cx| poll_once(cx, connection.as_mut(), gate)).await.is_ready() {
                    return true;
                }
                Event::Served
            }
        };
        match event {
            Event::Ended => return true,
            Event::Disconnected => return false,
            Event::Served => {
                watch.retiring = Some(Instant::now());
                connection.as_mut().shut_down_gracefully();
            }
            Event::CheckTimers => {
                if watch.check_timers(line, permit, times, timer.as_mut()).is_break() {
                    return true;
                }
                if watch.retiring.is_some() && line.is_http2() {
                    connection.as_mut().shut_down_gracefully();
                }
            }
        }
    }
}

/// Polls a connection once, after the gate has admitted it.
fn poll_once<C: Connection>(cx: &mut Context<'_>, connection: Pin<&mut C>, gate: &impl Gate) -> Poll<Poll<()>> {
    ready!(gate.poll_open(cx));
    Poll::Ready(connection.poll(cx).map(|ended| {
        if let Err(error) = ended {
            tracing::debug!(error, "a connection failed");
        }
    }))
}

impl Watch {
    fn poll<C: Connection>(
        &mut self,
        cx: &mut Context<'_>,
        connection: Pin<&mut C>,
        line: &Arc<Line>,
        permit: &ConnectionPermit,
        gate: &impl Gate,
    ) -> Poll<Event> {
        if ready!(poll_once(cx, connection, gate)).is_ready() {
            return Poll::Ready(Event::Ended);
        }
        if permit.is_reserve() && line.has_asked() && line.is_http2() && self.retiring.is_none() {
            return Poll::Ready(Event::Served);
        }
        if line.is_in_head() {
            let is_new = !std::mem::replace(&mut self.is_set_for_head, true);
            return if is_new { Poll::Ready(Event::CheckTimers) } else { Poll::Pending };
        }
        self.is_set_for_head = false;
        self.poll_client(cx, line)
    }

    /// Returns whether the client of a request in progress has disconnected. HTTP/2 always reads,
    /// so hyper detects that itself.
    fn poll_client(&mut self, cx: &mut Context<'_>, line: &Arc<Line>) -> Poll<Event> {
        if line.is_http2() || !line.is_busy() {
            (self.disconnected, self.probe) = (None, None);
            return Poll::Pending;
        }
        if let Some(disconnected) = &mut self.disconnected {
            return disconnected.as_mut().poll(cx).map(|()| Event::Disconnected);
        }
        match ready!(line.poll_hung_up(cx)) {
            Ok(HangUp::WriteSide) => {
                let mut disconnected: Pin<Box<dyn Future<Output = ()> + Send>> =
                    Box::pin(Arc::clone(line).disconnected());
                if disconnected.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Disconnected);
                }
                self.disconnected = Some(disconnected);
                self.probe = Some((Instant::now(), limits::HALF_CLOSE_PROBE_DELAY));
                Poll::Ready(Event::CheckTimers)
            }
            Ok(HangUp::Disconnected) | Err(_) => Poll::Ready(Event::Disconnected),
        }
    }

    /// Handles expired timeouts, and sets the timer for the next one. Breaks if the connection must
    /// be cut off.
    fn check_timers(
        &mut self,
        line: &Line,
        permit: &ConnectionPermit,
        times: &ConnectionTimes,
        timer: Pin<&mut Sleep>,
    ) -> std::ops::ControlFlow<()> {
        let now = Instant::now();
        if self.disconnected.is_some() && line.is_disconnected() {
            return std::ops::ControlFlow::Break(());
        }
        if let Some((due, after)) = self.probe
            && now >= due
        {
            if line.probe() == HangUp::Disconnected {
                return std::ops::ControlFlow::Break(());
            }
            self.probe = Some((now + after, after * 2));
        }
        let activity = line.activity();
        let mut next = now + times.head;
        match (times.expiry(&activity, permit.is_crowded()), self.retiring) {
            (Expiry::Unread, _) => {
                line.reset_at_close();
                return std::ops::ControlFlow::Break(());
            }
            // GOAWAY was sent. If the client leaves the connection open without a request, the host
            // cuts it off.
            (_, Some(since)) if activity.is_http2 => {
                if !activity.is_busy && now >= since + times.head && activity.quiet >= times.head {
                    return std::ops::ControlFlow::Break(());
                }
            }
            (Expiry::LookAgain(after), _) => next = now + after,
            (Expiry::Idle, _) => line.end_when_quiet(),
            (Expiry::SlowHead, _) => line.end_at_once(),
            (Expiry::Retire, _) => self.retiring = Some(now),
        }
        if let Some((due, _)) = self.probe {
            next = next.min(due);
        }
        timer.reset(next);
        std::ops::ControlFlow::Continue(())
    }
}
