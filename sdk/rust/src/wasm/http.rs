//! Bodies and outgoing requests over `wasi:http` 0.2. Never retries a request.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, Method as WasiMethod, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use super::NOT_GRANTED;
use super::reactor::wait;
use crate::http::{Body, BodyWriter, Headers, Kind, Method, Request, Response, Sink};
use crate::{Error, Result, limits};

/// An incoming body. The stream is dropped before the body that it belongs to.
pub(crate) struct Source {
    stream: InputStream,
    body: IncomingBody,
}

impl Source {
    pub(super) fn new(body: IncomingBody) -> Result<Self> {
        let stream = body.stream().map_err(|()| Error::msg("the body has already been read"))?;
        Ok(Self { stream, body })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            match self.stream.read(limits::READ_BYTES) {
                Ok(bytes) if bytes.is_empty() => wait(self.stream.subscribe()).await,
                Ok(bytes) => return Ok(Some(bytes)),
                Err(StreamError::Closed) => return Ok(None),
                Err(error) => return Err(stream_error("reading a body", error)),
            }
        }
    }

    pub(crate) async fn trailers(self) -> Result<Headers> {
        drop(self.stream);
        let trailers = IncomingBody::finish(self.body);
        loop {
            match trailers.get() {
                None => wait(trailers.subscribe()).await,
                Some(Ok(Ok(fields))) => return Ok(fields.map(|fields| headers(&fields)).unwrap_or_default()),
                Some(Ok(Err(code))) => return Err(Error::from(code).context("reading trailers")),
                Some(Err(())) => return Err(Error::msg("the trailers have already been read")),
            }
        }
    }
}

/// An outgoing body.
pub(crate) struct SinkStream {
    stream: OutputStream,
    trailers: Rc<RefCell<Headers>>,
}

impl SinkStream {
    pub(crate) fn set_trailers(&mut self, trailers: Headers) {
        *self.trailers.borrow_mut() = trailers;
    }

    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room().await?;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.stream.write(now).map_err(|error| stream_error("writing a body", error))?;
            bytes = later;
        }
        match self.stream.flush() {
            // The host accepts no more bytes: a body of known length was sent completely.
            Ok(()) | Err(StreamError::Closed) => Ok(()),
            Err(error) => Err(stream_error("writing a body", error)),
        }
    }

    async fn room(&self) -> Result<usize> {
        loop {
            match self.stream.check_write() {
                Ok(0) => wait(self.stream.subscribe()).await,
                Ok(room) => return Ok(usize::try_from(room).unwrap_or(usize::MAX)),
                Err(error) => return Err(stream_error("writing a body", error)),
            }
        }
    }
}

fn stream_error(what: &str, error: StreamError) -> Error {
    match error {
        StreamError::Closed => Error::msg(format!("{what}: the receiver closed the stream")),
        StreamError::LastOperationFailed(error) => Error::msg(format!("{what}: {}", error.to_debug_string())),
    }
}

/// The largest write that `blocking-write-and-flush` accepts.
const ONE_WRITE_BYTES_MAX: usize = 4096;

/// Sends a body to its end. On error the body is dropped unfinished, which signals to the receiver
/// that it is truncated.
pub(super) async fn send(outgoing: OutgoingBody, body: Body) -> Result<()> {
    let mut trailers = Headers::new();
    match body.0 {
        Kind::Whole(bytes) if bytes.is_empty() => {}
        Kind::Whole(bytes) if bytes.len() <= ONE_WRITE_BYTES_MAX => {
            let stream = open(&outgoing)?;
            stream.blocking_write_and_flush(&bytes).map_err(|error| stream_error("writing a body", error))?;
        }
        Kind::Whole(bytes) => {
            SinkStream { stream: open(&outgoing)?, trailers: Rc::default() }.write(&bytes).await?;
        }
        Kind::Produced(producer) => {
            let set = Rc::new(RefCell::new(Headers::new()));
            let sink = SinkStream { stream: open(&outgoing)?, trailers: set.clone() };
            producer(BodyWriter(Sink::Send(sink.into()))).await?;
            trailers = Rc::try_unwrap(set)
                .map_err(|_| Error::msg("the body's writer outlived its producer, so the body is truncated"))?
                .into_inner();
        }
    }
    let trailers = if trailers.is_empty() { None } else { Some(fields(trailers)?) };
    OutgoingBody::finish(outgoing, trailers).map_err(|code| Error::from(code).context("ending a body"))
}

fn open(body: &OutgoingBody) -> Result<OutputStream> {
    body.write().map_err(|()| Error::msg("the body has already been written"))
}

/// Converts the host's header fields to the SDK's.
pub(super) fn headers(fields: &Fields) -> Headers {
    let entries = fields.entries().into_iter();
    Headers::of(entries.map(|(name, value)| (Cow::Owned(name), Cow::Owned(value))).collect())
}

/// Converts the SDK's header fields to the host's.
pub(super) fn fields(headers: Headers) -> Result<Fields> {
    Fields::from_list(&headers.into_entries()).map_err(|error| Error::from(error).context("setting header fields"))
}

/// Sends a request. Returns the response's head, and its body to be read.
pub(crate) async fn fetch(request: Request) -> Result<(Response, Source)> {
    let Request { method, headers: sent, body, scheme, target, .. } = request;
    if target.authority().is_empty() {
        return Err(Error::msg("invalid URL: it must begin with http:// or https://"));
    }
    let outgoing = OutgoingRequest::new(fields(sent)?);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let path = if target.path_with_query().is_empty() { "/" } else { target.path_with_query() };
    let set = outgoing
        .set_method(&wasi_method(method))
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(target.authority())))
        .and_then(|()| outgoing.set_path_with_query(Some(path)));
    set.map_err(|()| Error::msg("the host rejects the request's method or URL"))?;
    let to_send = unblocking(body);
    let outgoing_body = to_send.as_ref().map(|_| outgoing.body()).transpose();
    let outgoing_body = outgoing_body.map_err(|()| Error::msg("the request's body has already been taken"))?;
    let answer = outgoing_handler::handle(outgoing, None).map_err(refused)?;
    let sent = match (outgoing_body, to_send) {
        (Some(outgoing_body), Some(body)) => send(outgoing_body, body).await,
        _ => Ok(()),
    };
    let incoming = loop {
        match answer.get() {
            None => wait(answer.subscribe()).await,
            Some(Ok(incoming)) => break incoming.map_err(refused),
            Some(Err(())) => return Err(Error::msg("the response has already been read")),
        }
    };
    // A server may respond before it has read the whole body. Without a response, the body's error
    // is returned.
    let incoming = match (incoming, sent) {
        (Ok(incoming), _) => incoming,
        (Err(error), Ok(())) => return Err(error),
        (Err(error), Err(unsent)) => return Err(error.context(unsent.to_string())),
    };
    let mut head = Response::new(incoming.status());
    head.headers = headers(&incoming.headers());
    let body = incoming.consume().map_err(|()| Error::msg("the response's body has already been taken"))?;
    Ok((head, Source::new(body)?))
}

/// Converts a body so that sending it doesn't block the instance, and a timeout can cancel it.
/// Returns `None` if it is empty.
fn unblocking(body: Body) -> Option<Body> {
    match body.0 {
        Kind::Whole(bytes) if bytes.is_empty() => None,
        Kind::Whole(bytes) => Some(Body::written_by(async move |mut out| out.write(&bytes).await)),
        produced @ Kind::Produced(_) => Some(Body(produced)),
    }
}

/// Converts the reason for a missing response. A missing grant is the most common one, so its text
/// names the fix.
fn refused(code: ErrorCode) -> Error {
    match code {
        ErrorCode::HttpRequestDenied => Error::msg(NOT_GRANTED),
        code => Error::from(code),
    }
}

fn wasi_method(method: Method) -> WasiMethod {
    match method {
        Method::Get => WasiMethod::Get,
        Method::Head => WasiMethod::Head,
        Method::Post => WasiMethod::Post,
        Method::Put => WasiMethod::Put,
        Method::Delete => WasiMethod::Delete,
        Method::Patch => WasiMethod::Patch,
        Method::Options => WasiMethod::Options,
        Method::Trace => WasiMethod::Trace,
        Method::Connect => WasiMethod::Connect,
        Method::Other(name) => WasiMethod::Other(name),
    }
}
