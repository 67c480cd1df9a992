//! Outbound HTTP of guests: sends one request over one of the program's connections, within the
//! timeouts of guest and host. Never decides grants (`gate.rs`) or the number of open connections
//! (`pool.rs`), and never knows the call that sends it (`call.rs`).
//!
//! Guests follow redirects themselves, by a new request that is checked like the first.

mod call;
mod connect;
mod gate;
mod network;
mod pool;
mod replay;
mod resolver;
mod response;

pub(crate) use call::InstanceOutbound;
pub use connect::{OutboundServer, OutboundStream};
pub(crate) use connect::{addresses, connect};
pub(crate) use network::Network;

use crate::{limits, sandbox::Sandbox, waits::CallWaits};
use gate::Gate;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use pool::{Acquired, Connection, Owner, Upstream};
use replay::{Replay, Transmission};
use response::TimedBody;
use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use tower_service::Service;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// The result of `send_request`. The second part is the result of the request's transmission. It
/// doesn't drive the connection, which has its own task.
type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// A response whose head has arrived, and the transmission of its request, which may still run.
type Exchanged = (Response<Incoming>, Transmission);

/// A program's access to the network.
#[derive(Clone)]
pub(crate) struct Outbound(Arc<Inner>);

struct Inner {
    network: Arc<Network>,
    gate: Gate,
    /// Created for the first `https` request: its session cache takes many times the memory of a
    /// frozen app.
    tls: OnceLock<Arc<rustls::ClientConfig>>,
    owner: Owner,
    /// Incremented when the program's connections are closed; connections opened before are not
    /// kept again.
    generation: AtomicU64,
}

impl Outbound {
    pub(crate) fn new(sandbox: Arc<Sandbox>, network: &Arc<Network>) -> Self {
        let owner = network.pool().owner(&sandbox.app);
        let gate = Gate::new(sandbox, Arc::clone(network), owner.clone());
        let (network, tls) = (Arc::clone(network), OnceLock::new());
        Self(Arc::new(Inner { network, gate, tls, owner, generation: AtomicU64::new(0) }))
    }

    /// Closes the connections that no request uses, and those in use once their requests have
    /// ended.
    pub(crate) fn close_connections(&self) {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        self.0.network.pool().close_of(&self.0.owner);
    }
}

impl Inner {
    fn tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(self.tls.get_or_init(|| Arc::new(self.network.tls_of_a_program())))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.network.pool().close_of(&self.owner);
    }
}

/// The timeout of each step of a request: the guest's, up to the host's maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timeouts {
    /// From the request to the connection: waiting for a connection permit, name lookup, TCP and
    /// TLS.
    connect: Duration,
    /// From the last sent part of the request to the response's head.
    first_byte: Duration,
    between_bytes: Duration,
}

impl Timeouts {
    fn of(options: RequestOptions) -> Self {
        let bounded =
            |asked: Option<Duration>, most: Duration| asked.unwrap_or(most).clamp(limits::OUTBOUND_WAIT_MIN, most);
        Self {
            connect: bounded(options.connect_timeout, limits::OUTBOUND_CONNECT_TIME_MAX),
            first_byte: bounded(options.first_byte_timeout, limits::OUTBOUND_WAIT_MAX),
            between_bytes: bounded(options.between_bytes_timeout, limits::OUTBOUND_WAIT_MAX),
        }
    }
}

/// Why an exchange on one connection has no response.
struct Failed {
    error: Error,
    /// Whether the connection ended before any byte of a response, so the request may be retried if
    /// it is idempotent.
    is_closed: bool,
    /// Whether nothing of the request was sent.
    is_unsent: bool,
}

impl Outbound {
    async fn send(self, request: Request<WasiBody>, timeouts: Timeouts, waits: Arc<CallWaits>) -> Result<Sent, Error> {
        let upstream = self.0.gate.upstream(request.uri()).map_err(|refused| self.0.gate.report(&refused))?;
        let permit = self.0.network.pool().begin_request(&self.0.owner, &upstream);
        let permit = permit.ok_or(Error::ConnectionLimitReached)?;
        let (mut parts, body) = request.into_parts();
        let uri = std::mem::take(&mut parts.uri);
        parts.uri = origin_form(&parts.method, &uri);
        name_host(&mut parts.headers, &uri)?;
        let (response, transmission) = self.exchange(&upstream, &uri, &parts, &Replay::new(body), timeouts).await?;
        let timed = |incoming| TimedBody::new(incoming, timeouts.between_bytes, permit, waits).boxed_unsync();
        Ok((response.map(timed), Box::new(transmission.result())))
    }

    /// Sends the request. If the upstream has closed a kept connection, which shows only when it is
    /// used, the request is retried once over a new connection, provided that it can't cause a
    /// second effect.
    async fn exchange(
        &self,
        upstream: &Upstream,
        uri: &Uri,
        parts: &Parts,
        body: &Replay,
        timeouts: Timeouts,
    ) -> Result<Exchanged, Error> {
        let connection = self.connection(upstream, uri, timeouts.connect, true).await?;
        let is_reused = connection.is_reused;
        let failed = match self.exchange_on(connection, parts, body, timeouts.first_byte).await {
            Ok(exchanged) => return Ok(exchanged),
            Err(failed) => failed,
        };
        let may_repeat = failed.is_unsent || failed.is_closed && is_idempotent(&parts.method);
        if !(is_reused && may_repeat && body.can_repeat()) {
            return Err(failed.error);
        }
        let connection = self.connection(upstream, uri, timeouts.connect, false).await?;
        self.exchange_on(connection, parts, body, timeouts.first_byte).await.map_err(|failed| failed.error)
    }

    /// Returns a connection to the upstream: a kept one if available and allowed, else a new one.
    async fn connection(
        &self,
        upstream: &Upstream,
        uri: &Uri,
        wait: Duration,
        may_reuse: bool,
    ) -> Result<Connection, Error> {
        let deadline = Instant::now() + wait;
        let generation = self.0.generation.load(Ordering::Acquire);
        let acquiring = self.0.network.pool().acquire(&self.0.owner, upstream, may_reuse);
        let permit = match timeout_at(deadline, acquiring).await.map_err(|_| Error::ConnectionLimitReached)? {
            Acquired::Kept(connection) => return Ok(connection),
            Acquired::ConnectionPermit(permit) => permit,
        };
        let connecting = async {
            let mut connector = HttpsConnector::from((self.0.gate.dial(deadline), self.0.tls()));
            let stream = connector.call(uri.clone()).await.map_err(|error| self.0.gate.explain(&*error))?;
            hyper::client::conn::http1::handshake(stream).await.map_err(|error| failed(error, false).error)
        };
        let (sender, driver) = timeout_at(deadline, connecting).await.map_err(|_| Error::ConnectionTimeout)??;
        // The permit is released when the socket is closed, wherever that happens.
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = driver.await {
                tracing::debug!(%error, "an outbound connection ended");
            }
        });
        Ok(Connection { sender, upstream: upstream.clone(), generation, is_reused: false })
    }

    /// Sends the request on this connection and waits for the response's head.
    async fn exchange_on(
        &self,
        mut connection: Connection,
        parts: &Parts,
        body: &Replay,
        wait: Duration,
    ) -> Result<Exchanged, Failed> {
        let (reader, transmission) = body.reader();
        let request = Request::from_parts(parts.clone(), reader);
        let mut sending = pin!(connection.sender.try_send_request(request));
        let mut deadline = Instant::now() + wait;
        let sent = loop {
            tokio::select! {
                biased;
                sent = sending.as_mut() => break sent,
                () = sleep_until(deadline) => match body.deadline(wait) {
                    at if at <= Instant::now() => {
                        return Err(Failed { error: Error::HttpResponseTimeout, is_closed: false, is_unsent: false });
                    }
                    at => deadline = at,
                },
            }
        };
        match sent {
            Ok(response) => {
                self.keep_later(connection);
                Ok((response, transmission))
            }
            Err(mut error) => {
                let is_unsent = error.take_message().is_some();
                Err(failed(error.into_error(), is_unsent))
            }
        }
    }

    /// Keeps the connection for the next request once the response was read to its end.
    fn keep_later(&self, mut connection: Connection) {
        let this = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let is_ready = connection.sender.ready().await.is_ok();
            let Some(this) = this.upgrade() else { return };
            if is_ready && connection.generation == this.generation.load(Ordering::Acquire) {
                connection.is_reused = true;
                this.network.pool().keep(&this.owner, connection);
            }
        });
    }
}

/// Returns the target of the request line: path and query, or the authority for CONNECT. For an
/// empty path it is `/`, and `*` for OPTIONS (RFC 9112 §3.2).
fn origin_form(method: &Method, uri: &Uri) -> Uri {
    let authority = || uri.authority().map(|authority| Uri::from(authority.clone()));
    if method == Method::CONNECT {
        return authority().unwrap_or_default();
    }
    let target = uri.path_and_query().map(|path| Uri::from(path.clone()));
    // An empty target equals `/`, but prints as nothing.
    let target = target.filter(|target| !target.path().is_empty());
    target.unwrap_or_else(|| Uri::from_static(if method == Method::OPTIONS { "*" } else { "/" }))
}

/// Sets the request's only `host`, replacing fields that a guest copied from its client's request.
fn name_host(headers: &mut HeaderMap, uri: &Uri) -> Result<(), Error> {
    let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
    headers.insert(header::HOST, host);
    Ok(())
}

/// Returns whether a method is idempotent (RFC 9110 §9.2.2).
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE].contains(method)
}

fn failed(error: hyper::Error, is_unsent: bool) -> Failed {
    let is_closed = is_unsent || ended(&error);
    let error = if is_closed { Error::ConnectionTerminated } else { response::explain(error) };
    Failed { error, is_closed, is_unsent }
}

/// Returns whether the connection ended before a response arrived.
fn ended(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || response::is_broken(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_times_are_bounded_by_the_hosts() {
        let none = Timeouts::of(RequestOptions::default());
        assert_eq!((none.connect, none.first_byte), (limits::OUTBOUND_CONNECT_TIME_MAX, limits::OUTBOUND_WAIT_MAX));
        let of = |time| {
            Timeouts::of(RequestOptions {
                connect_timeout: Some(time),
                first_byte_timeout: Some(time),
                between_bytes_timeout: Some(time),
            })
        };
        let short = Duration::from_millis(200);
        assert_eq!(of(short), Timeouts { connect: short, first_byte: short, between_bytes: short });
        assert_eq!(of(Duration::MAX), none);
        assert_eq!(of(Duration::ZERO).connect, limits::OUTBOUND_WAIT_MIN);
    }

    #[test]
    fn only_requests_without_a_second_effect_are_retried() {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            assert!(is_idempotent(&method.parse().expect(method)), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "PURGE", "get"] {
            assert!(!is_idempotent(&method.parse().expect(method)), "{method}");
        }
    }

    /// Returns the target as sent: `Uri`'s own comparison treats an empty path as `/`.
    fn target(method: &Method, path: &str) -> String {
        let uri = Uri::builder().scheme("http").authority("a.example:8080").path_and_query(path).build();
        origin_form(method, &uri.expect(path)).to_string()
    }

    #[test]
    fn the_request_line_has_no_authority() {
        assert_eq!(target(&Method::GET, "/x?y=z"), "/x?y=z");
        assert_eq!(target(&Method::CONNECT, "/x?y=z"), "a.example:8080");
    }

    #[test]
    fn an_empty_path_is_sent_as_a_slash() {
        assert_eq!(target(&Method::GET, ""), "/");
        assert_eq!(target(&Method::GET, "/"), "/");
        assert_eq!(target(&Method::GET, "?y=z"), "/?y=z");
        assert_eq!(origin_form(&Method::POST, &Uri::from_static("http://a.example")).to_string(), "/");
    }

    #[test]
    fn options_without_a_path_has_an_asterisk_as_target() {
        assert_eq!(target(&Method::OPTIONS, ""), "*");
        assert_eq!(target(&Method::OPTIONS, "/"), "/");
        assert_eq!(target(&Method::OPTIONS, "?y=z"), "/?y=z");
    }
}
