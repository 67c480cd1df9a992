//! HTTP/2 without TLS, as a proxy uses it towards a host. Owns one connection and the runtime that
//! drives it.

use crate::{Answer, Ask, limits::PATIENCE};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{net::TcpStream, runtime::Runtime, task::JoinHandle, time::timeout};

/// A connection that many requests share.
pub struct H2c {
    runtime: Runtime,
    sender: SendRequest<Ready>,
    /// Completes at the end of the connection.
    connection: JoinHandle<hyper::Result<()>>,
}

/// Responses whose bodies a client doesn't read.
pub type Unread = Vec<http::Response<Incoming>>;

impl H2c {
    /// Connects with prior knowledge of HTTP/2.
    pub fn open(to: SocketAddr) -> Result<Self, Box<dyn Error>> {
        Self::with(to, Builder::new(TokioExecutor::new()))
    }

    /// As [`Self::open`], but the client permits the host only one byte of each response that it
    /// doesn't read.
    pub fn open_reluctant(to: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let mut client = Builder::new(TokioExecutor::new());
        client.initial_stream_window_size(1);
        Self::with(to, client)
    }

    fn with(to: SocketAddr, client: Builder<TokioExecutor>) -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, connection) = runtime.block_on(async {
            let stream = TokioIo::new(TcpStream::connect(to).await?);
            let (sender, connection) = client.handshake(stream).await?;
            Ok::<_, Box<dyn Error>>((sender, tokio::spawn(connection)))
        })?;
        Ok(Self { runtime, sender, connection })
    }

    /// Sends these requests concurrently, and returns the responses once their heads have arrived.
    pub fn begin(&mut self, app: &str, asks: &[Ask]) -> Result<Unread, Box<dyn Error>> {
        let mut coming = Vec::new();
        for ask in asks {
            coming.push(self.sender.send_request(request(app, ask, &[])?));
        }
        self.runtime.block_on(async {
            let tasks: Vec<_> = coming.into_iter().map(tokio::spawn).collect();
            let mut responses = Vec::new();
            for task in tasks {
                responses.push(timeout(PATIENCE, task).await???);
            }
            Ok(responses)
        })
    }

    /// Waits until the host closes the connection.
    pub fn until_closed(self) -> Result<(), Box<dyn Error>> {
        // A reset and a close are both an end.
        let _ = self.runtime.block_on(async { timeout(PATIENCE, self.connection).await })?;
        Ok(())
    }

    /// Sends these requests concurrently and returns their responses. `trailers` follow each body.
    pub fn ask(&mut self, app: &str, asks: &[Ask], trailers: &[(&str, &str)]) -> Result<Vec<Answer>, Box<dyn Error>> {
        let mut coming = Vec::new();
        for ask in asks {
            coming.push(request(app, ask, trailers)?);
        }
        let sender = self.sender.clone();
        self.runtime.block_on(async move {
            let mut tasks = Vec::new();
            for request in coming {
                let mut sender = sender.clone();
                tasks.push(tokio::spawn(async move {
                    sender.ready().await?;
                    whole(sender.send_request(request).await?).await
                }));
            }
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(timeout(PATIENCE, task).await???);
            }
            Ok(answers)
        })
    }
}

fn request(app: &str, ask: &Ask, trailers: &[(&str, &str)]) -> Result<Request<Ready>, Box<dyn Error>> {
    let uri = format!("http://{app}.localhost{}", ask.path);
    let mut request = Request::builder().method(ask.method).uri(uri);
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    let mut frames = vec![];
    if !ask.body.is_empty() {
        frames.push(Frame::data(Bytes::from(ask.body.clone())));
    }
    if !trailers.is_empty() {
        let pairs = trailers.iter().map(|(name, value)| {
            Ok::<_, Box<dyn Error>>((HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?))
        });
        frames.push(Frame::trailers(pairs.collect::<Result<HeaderMap, _>>()?));
    }
    Ok(request.body(Ready(frames.into_iter()))?)
}

/// A body of prepared frames.
struct Ready(std::vec::IntoIter<Frame<Bytes>>);

impl http_body::Body for Ready {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.len() == 0
    }
}

async fn whole(response: http::Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().map(fields).unwrap_or_default();
    let body = collected.to_bytes().to_vec();
    Ok(Answer { status: parts.status.as_u16(), headers: fields(&parts.headers), body, trailers })
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}
