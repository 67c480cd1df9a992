//! Sends batches of lines to the endpoint of a drain over one connection, which it opens on use and
//! keeps. Never retries after a pause, and never decides what happens to a refused batch.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use isopod_engine::{Engine, OutboundStream};
use isopod_policy::AppName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{
    endpoint::{Endpoint, Protocol},
    format,
};
use crate::{
    control::limits,
    http::{refusal, retry_after::retry_after},
    observe::logs::LogLine,
};

/// Why a batch was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SendError {
    pub(super) why: String,
    pub(super) kind: SendErrorKind,
    /// The pause before the next attempt that the endpoint requests.
    pub(super) retry_after: Option<Duration>,
}

/// Whether a batch can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendErrorKind {
    /// The connection ended without a response. A kept connection may have been closed meanwhile.
    Disconnected,
    /// The endpoint may accept the batch later.
    Temporary,
    /// The endpoint will never accept this batch.
    Permanent,
}

impl SendError {
    fn disconnected(why: impl ToString) -> Self {
        Self { why: why.to_string(), kind: SendErrorKind::Disconnected, retry_after: None }
    }

    fn temporary(why: impl ToString) -> Self {
        Self { why: why.to_string(), kind: SendErrorKind::Temporary, retry_after: None }
    }

    fn permanent(why: String) -> Self {
        Self { why, kind: SendErrorKind::Permanent, retry_after: None }
    }
}

/// The sender of one drain.
pub(super) struct Sender {
    app: AppName,
    endpoint: Endpoint,
    engine: Engine,
    link: Option<Link>,
}

/// An open connection.
enum Link {
    Datagrams {
        socket: UdpSocket,
        /// When the name of the endpoint was looked up.
        found: Instant,
    },
    Stream(Box<TokioIo<OutboundStream>>),
    Http {
        sender: SendRequest<Full<Bytes>>,
        /// The task of the connection, which is aborted with the sender. Its own shutdown of TLS
        /// would wait for an endpoint that reads nothing.
        _connection: AbortOnDropHandle<()>,
    },
}

impl Link {
    /// Returns whether it may be used again.
    fn is_current(&self) -> bool {
        match self {
            Self::Datagrams { found, .. } => found.elapsed() < limits::DRAIN_LOOKUP_INTERVAL,
            Self::Stream(_) | Self::Http { .. } => true,
        }
    }
}

impl Sender {
    pub(super) fn new(app: AppName, endpoint: Endpoint, engine: Engine) -> Self {
        Self { app, endpoint, engine, link: None }
    }

    /// Sends a batch. If the endpoint has closed the kept connection, sends it over a new one.
    pub(super) async fn send(&mut self, lines: &[LogLine]) -> Result<(), SendError> {
        if let Some(link) = self.link.take().filter(Link::is_current) {
            match self.send_on(link, lines).await {
                Err(error) if error.kind == SendErrorKind::Disconnected => {}
                outcome => return outcome,
            }
        }
        let link = self.connect().await.map_err(SendError::temporary)?;
        self.send_on(link, lines).await
    }

    async fn connect(&self) -> Result<Link, String> {
        let (app, server, wait) = (self.app.as_str(), &self.endpoint.server, limits::DRAIN_CONNECT_TIME);
        match self.endpoint.protocol {
            Protocol::SyslogUdp => {
                let found = timeout(wait, self.engine.addresses(app, server)).await;
                let found = found.map_err(|_| "the name lookup timed out")??;
                let to = found.first().ok_or("the name has no address")?;
                let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(from).await.map_err(|error| error.to_string())?;
                socket.connect(to).await.map_err(|error| error.to_string())?;
                Ok(Link::Datagrams { socket, found: Instant::now() })
            }
            Protocol::Syslog => {
                let stream = self.engine.connect(app, server, wait).await?;
                Ok(Link::Stream(Box::new(TokioIo::new(stream))))
            }
            Protocol::Http | Protocol::Otlp => {
                let stream = self.engine.connect(app, server, wait).await?;
                let (sender, connection) = http1::handshake(stream).await.map_err(|error| error.to_string())?;
                let connection = tokio::spawn(async move { drop(connection.await) });
                Ok(Link::Http { sender, _connection: AbortOnDropHandle::new(connection) })
            }
        }
    }

    /// Sends a batch over this connection, and keeps the connection if that succeeds.
    async fn send_on(&mut self, mut link: Link, lines: &[LogLine]) -> Result<(), SendError> {
        let sending = async {
            match &mut link {
                Link::Datagrams { socket, .. } => send_datagrams(socket, lines).await.map(|()| true),
                Link::Stream(stream) => write(stream, lines).await.map(|()| true),
                Link::Http { sender, .. } => self.post(sender, lines).await,
            }
        };
        let outcome = timeout(limits::DRAIN_SEND_TIME, sending).await;
        let is_reusable =
            outcome.unwrap_or_else(|_| Err(SendError::temporary("the endpoint didn't respond in time")))?;
        self.link = is_reusable.then_some(link);
        Ok(())
    }

    /// Posts a batch. Returns whether the connection can be used again.
    async fn post(&self, sender: &mut SendRequest<Full<Bytes>>, lines: &[LogLine]) -> Result<bool, SendError> {
        sender.ready().await.map_err(SendError::disconnected)?;
        let request = self.request(lines).map_err(SendError::permanent)?;
        let response = sender.send_request(request).await.map_err(SendError::disconnected)?;
        let status = response.status();
        let retry_after = retry_after(response.headers(), limits::DRAIN_RETRY_AFTER_MAX);
        let why = || format!("the endpoint responded with status {status}");
        match status {
            _ if status.is_success() => {
                // The lines are accepted, whatever the body is. It is read only for the sake of the
                // connection.
                let body = Limited::new(response.into_body(), limits::DRAIN_RESPONSE_BYTES_MAX).collect();
                Ok(timeout(limits::DRAIN_RESPONSE_TIME, body).await.is_ok_and(|body| body.is_ok()))
            }
            _ if refusal::is_permanent(status) => Err(SendError::permanent(why())),
            _ => Err(SendError { retry_after, ..SendError::temporary(why()) }),
        }
    }

    fn request(&self, lines: &[LogLine]) -> Result<Request<Full<Bytes>>, String> {
        let Endpoint { server, target, credentials, protocol, .. } = &self.endpoint;
        let (media_type, body) = match protocol {
            Protocol::Otlp => ("application/json", format::otlp(self.app.as_str(), lines)),
            Protocol::Http | Protocol::Syslog | Protocol::SyslogUdp => ("application/x-ndjson", format::ndjson(lines)),
        };
        let usual_port = if server.is_tls { 443 } else { 80 };
        let port = if server.port == usual_port { String::new() } else { format!(":{}", server.port) };
        let mut request = Request::post(target.as_str())
            .header(header::HOST, format!("{}{port}", server.host))
            .header(header::CONTENT_TYPE, media_type)
            .header(header::USER_AGENT, concat!("isopod/", env!("CARGO_PKG_VERSION")));
        if let Some(credentials) = credentials {
            request = request.header(header::AUTHORIZATION, format!("Basic {}", BASE64.encode(credentials)));
        }
        request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())
    }
}

/// Sends each line as a datagram. The network may lose them without an error.
async fn send_datagrams(socket: &UdpSocket, lines: &[LogLine]) -> Result<(), SendError> {
    for line in lines {
        let message = format::syslog(line);
        let end = message.floor_char_boundary(limits::DRAIN_DATAGRAM_BYTES_MAX);
        socket.send(&message.as_bytes()[..end]).await.map_err(SendError::disconnected)?;
    }
    Ok(())
}

/// Writes all lines, each with its length.
async fn write(stream: &mut TokioIo<OutboundStream>, lines: &[LogLine]) -> Result<(), SendError> {
    // A closed connection would accept the first write, and the lines would be lost.
    match timeout(Duration::ZERO, stream.read(&mut [0; 64])).await {
        Err(_) | Ok(Ok(1..)) => {}
        Ok(Ok(0)) => return Err(SendError::disconnected("the endpoint closed the connection")),
        Ok(Err(error)) => return Err(SendError::disconnected(error)),
    }
    let text: String = lines.iter().map(format::syslog_framed).collect();
    stream.write_all(text.as_bytes()).await.map_err(SendError::disconnected)?;
    stream.flush().await.map_err(SendError::disconnected)
}
