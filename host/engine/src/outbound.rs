//! Outbound HTTP: only to granted hosts, and only to addresses that such a grant may reach.
//!
//! The name is checked against the app's grants, and then each address it resolves to, at the moment of connecting:
//! a public name that points at a private address reaches nothing. Guests follow redirects themselves, by a new
//! request that is checked like the first. Connections are kept per program, so no app rides on another's.

use crate::{limits, sandbox::Sandbox};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioIo},
};
use isopod_policy::{Reach, address};
use std::{
    error::Error as StdError,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until, timeout},
};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// What `send_request` is asked for; the second part drives the connection and is ours to leave empty.
type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// A program's way out.
#[derive(Clone)]
pub(crate) struct Outbound {
    gate: Gate,
    client: Client<HttpsConnector<Gate>, WasiBody>,
    open: Arc<Semaphore>,
}

impl Outbound {
    pub(crate) fn new(sandbox: Arc<Sandbox>, forbidden: Arc<[SocketAddr]>) -> Self {
        let gate = Gate { sandbox, forbidden };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(gate.clone());
        let client = Client::builder(TokioExecutor::new()).set_host(false).build(connector);
        Self { gate, client, open: Arc::new(Semaphore::new(limits::OUTBOUND_REQUESTS_MAX)) }
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let this = self.clone();
        Box::new(async move { this.send(request, options.unwrap_or_default()).await })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_WRITE_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_WRITE_BYTES_MAX
    }
}

impl Outbound {
    async fn send(self, request: Request<WasiBody>, options: RequestOptions) -> Result<Sent, Error> {
        self.gate.reach(request.uri()).map_err(|refused| self.gate.report(&refused))?;
        let permit = Arc::clone(&self.open).try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
        let head_wait = bounded(options.first_byte_timeout) + limits::OUTBOUND_CONNECT_TIME_MAX;
        let answer = timeout(head_wait, self.client.request(request)).await.map_err(|_| Error::HttpResponseTimeout)?;
        let answer = answer.map_err(|error| self.gate.explain(&error))?;
        let wait = bounded(options.between_bytes_timeout);
        let body =
            |incoming| Timed { incoming, wait, alarm: Box::pin(sleep_until(Instant::now() + wait)), _permit: permit };
        Ok((answer.map(|incoming| body(incoming).boxed_unsync()), Box::new(std::future::ready(Ok(())))))
    }
}

fn bounded(asked: Option<Duration>) -> Duration {
    asked.unwrap_or(limits::OUTBOUND_WAIT_MAX).clamp(Duration::from_millis(1), limits::OUTBOUND_WAIT_MAX)
}

/// Makes connections, each only after its address was checked.
#[derive(Clone)]
pub(crate) struct Gate {
    sandbox: Arc<Sandbox>,
    forbidden: Arc<[SocketAddr]>,
}

/// Why the gate stayed shut.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the request names no host")]
    NoHost,
    #[error("{host}:{port} is not granted: add \"{}\" to http under [grants] in isopod.toml", as_granted(host, *port))]
    NotGranted { host: String, port: u16 },
    #[error(
        "{host} resolves to {address}, which is not a public address: grant it by its address or as a plain name to allow it"
    )]
    NotPublic { host: String, address: IpAddr },
    #[error("{address} belongs to this host itself and is never reachable from an app")]
    Own { address: SocketAddr },
    #[error("{host} could not be resolved: {detail}")]
    Unresolved { host: String, detail: String },
}

/// How a host is written in a grant; the ports that a grant means by itself are left out.
fn as_granted(host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if matches!(port, 80 | 443) { host } else { format!("{host}:{port}") }
}

impl Gate {
    fn reach(&self, uri: &Uri) -> Result<(String, u16, Reach), Refused> {
        let tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let host = uri.host().ok_or(Refused::NoHost)?.trim_matches(['[', ']']).to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if self.sandbox.inherit_network {
            return Ok((host, port, Reach::Private));
        }
        match self.sandbox.grants.allows_http(&host, port, tls) {
            Some(reach) => Ok((host, port, reach)),
            None => match host.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)) {
                // What no grant could open is not said to lack one.
                Ok(address) if self.is_own(address) => Err(Refused::Own { address }),
                Ok(_) | Err(_) => Err(Refused::NotGranted { host, port }),
            },
        }
    }

    async fn addresses(&self, uri: &Uri) -> Result<Vec<SocketAddr>, Refused> {
        let (host, port, reach) = self.reach(uri)?;
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), port))
            .await
            .map_err(|error| Refused::Unresolved { host: host.clone(), detail: error.to_string() })?
            .collect();
        for &address in &found {
            if self.is_own(address) {
                return Err(Refused::Own { address });
            }
            if matches!(reach, Reach::PublicOnly) && !address::is_public(address.ip()) {
                return Err(Refused::NotPublic { host, address: address.ip() });
            }
        }
        Ok(found)
    }

    /// Whether an address is one of the host's own listeners, reached by whatever name or interface.
    fn is_own(&self, address: SocketAddr) -> bool {
        self.forbidden.iter().any(|own| {
            own.port() == address.port()
                && (own.ip() == address.ip()
                    || own.ip().is_unspecified()
                    || address.ip().is_unspecified()
                    || both_loopback(own, &address))
        })
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, Box<dyn StdError + Send + Sync>> {
        let addresses = self.addresses(&uri).await?;
        let stream = timeout(limits::OUTBOUND_CONNECT_TIME_MAX, TcpStream::connect(addresses.as_slice())).await??;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }

    /// Tells the app's log what the guest is told only as a code.
    fn report(&self, refused: &Refused) -> Error {
        let text = format!("outbound request refused: {refused}");
        self.sandbox.output.line(crate::OutputLine {
            stream: crate::Stream::Log(crate::Level::Warn),
            context: "isopod",
            request_id: "",
            text: &text,
        });
        match refused {
            Refused::NoHost => Error::HttpRequestUriInvalid,
            Refused::NotGranted { .. } => Error::HttpRequestDenied,
            Refused::NotPublic { .. } | Refused::Own { .. } => Error::DestinationIpProhibited,
            Refused::Unresolved { .. } => Error::DnsError { rcode: None, info_code: None },
        }
    }

    fn explain(&self, error: &legacy::Error) -> Error {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(refused) = inner.downcast_ref::<Refused>() {
                return self.report(refused);
            }
            if inner.is::<tokio::time::error::Elapsed>() {
                return Error::ConnectionTimeout;
            }
            if let Some(rustls) = inner.downcast_ref::<rustls::Error>() {
                return match rustls {
                    rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
                    _ => Error::TlsProtocolError,
                };
            }
            cause = inner.source();
        }
        if error.is_connect() { Error::ConnectionRefused } else { Error::HttpProtocolError }
    }
}

fn both_loopback(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.ip().is_loopback() && other.ip().to_canonical().is_loopback()
}

impl tower_service::Service<Uri> for Gate {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// An answer's body that fails when its next part takes too long.
struct Timed {
    incoming: hyper::body::Incoming,
    wait: Duration,
    alarm: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                let deadline = Instant::now() + self.wait;
                self.alarm.as_mut().reset(deadline);
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Poll::Pending => {
                ready!(self.alarm.as_mut().poll(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}
