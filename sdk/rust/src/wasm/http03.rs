//! Bodies and outgoing requests over `wasi:http` 0.3, which waits with the component model's async
//! functions. Never retries a request.

use std::borrow::Cow;

use wasip3::http::client;
use wasip3::http::types::{
    ErrorCode, Fields, Method as WasiMethod, Request as WasiRequest, Response as WasiResponse, Scheme,
};
use wasip3::wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter, spawn_local};
use wasip3::{wit_future, wit_stream};

use super::NOT_GRANTED;
use crate::http::{Body, BodyWriter, Headers, Kind, Method, Request, Response, Sink};
use crate::{Error, Result, limits, logging};

type Trailers = std::result::Result<Option<Fields>, ErrorCode>;

/// An incoming body, and a future of its end: complete or truncated.
pub(crate) struct Source {
    stream: StreamReader<u8>,
    end: FutureReader<Trailers>,
}

impl Source {
    pub(super) fn of_request(request: WasiRequest) -> Self {
        let (stream, end) = WasiRequest::consume_body(request, done());
        Self { stream, end }
    }

    fn of_response(response: WasiResponse) -> Self {
        let (stream, end) = WasiResponse::consume_body(response, done());
        Self { stream, end }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let (result, bytes) = self.stream.read(Vec::with_capacity(limits::READ_BYTES as usize)).await;
            match result {
                _ if !bytes.is_empty() => return Ok(Some(bytes)),
                StreamResult::Complete(_) => {}
                StreamResult::Dropped | StreamResult::Cancelled => return Ok(None),
            }
        }
    }

    pub(crate) async fn trailers(self) -> Result<Headers> {
        drop(self.stream);
        let fields = self.end.await.map_err(|code| Error::from(code).context("reading a body to its end"))?;
        Ok(fields.map(|fields| headers(&fields)).unwrap_or_default())
    }
}

/// Returns the future that reports success to the body's sender.
fn done() -> FutureReader<std::result::Result<(), ErrorCode>> {
    let (writer, reader) = wit_future::new(|| Ok(()));
    drop(writer);
    reader
}

/// An outgoing body.
pub(crate) struct SinkStream {
    stream: StreamWriter<u8>,
    trailers: std::rc::Rc<std::cell::RefCell<Headers>>,
}

impl SinkStream {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.stream.write_all(bytes.to_vec()).await;
        if left.is_empty() { Ok(()) } else { Err(Error::msg("writing a body: the receiver closed the stream")) }
    }

    pub(crate) fn set_trailers(&mut self, trailers: Headers) {
        *self.trailers.borrow_mut() = trailers;
    }
}

/// The two ends of a body that the host receives.
type Outgoing = (Option<StreamReader<u8>>, FutureReader<Trailers>);

/// Starts to send a body. A task sends the rest and outlives the handler.
pub(super) fn send(body: Body) -> Outgoing {
    let truncated = || Err(ErrorCode::InternalError(Some("the body is truncated".to_owned())));
    match body.0 {
        Kind::Whole(bytes) if bytes.is_empty() => {
            let (end, end_reader) = wit_future::new(|| Ok(None));
            drop(end);
            (None, end_reader)
        }
        Kind::Whole(bytes) => {
            let (mut stream, reader) = wit_stream::new();
            let (end, end_reader) = wit_future::new(truncated);
            spawn_local(async move {
                let left = stream.write_all(bytes.into_owned()).await;
                drop(stream);
                finish(end, if left.is_empty() { Ok(None) } else { truncated() }).await;
            });
            (Some(reader), end_reader)
        }
        Kind::Produced(producer) => {
            let (stream, reader) = wit_stream::new();
            let (end, end_reader) = wit_future::new(truncated);
            spawn_local(async move {
                let trailers = std::rc::Rc::default();
                let sink = SinkStream { stream, trailers: std::rc::Rc::clone(&trailers) };
                let outcome = match producer(BodyWriter(Sink::Send(sink.into()))).await {
                    Ok(()) => ended(trailers.take()),
                    Err(error) => {
                        logging::report("sending the body failed", error);
                        truncated()
                    }
                };
                finish(end, outcome).await;
            });
            (Some(reader), end_reader)
        }
    }
}

fn ended(trailers: Headers) -> Trailers {
    if trailers.is_empty() {
        return Ok(None);
    }
    fields(trailers).map(Some).map_err(|error| ErrorCode::InternalError(Some(error.to_string())))
}

/// Reports how the body ended. Ignores a receiver that has disconnected.
async fn finish(end: FutureWriter<Trailers>, outcome: Trailers) {
    let _ = end.write(outcome).await;
}

/// Converts the host's header fields to the SDK's.
pub(super) fn headers(fields: &Fields) -> Headers {
    let entries = fields.copy_all().into_iter();
    Headers::of(entries.map(|(name, value)| (Cow::Owned(name), Cow::Owned(value))).collect())
}

/// Converts the SDK's header fields to the host's.
pub(super) fn fields(headers: Headers) -> Result<Fields> {
    Fields::from_list(&headers.into_entries()).map_err(|error| Error::from(error).context("setting header fields"))
}

/// Sends a request. Returns the response's head, and its body to be read.
pub(super) async fn fetch(request: Request) -> Result<(Response, Source)> {
    let Request { method, headers: sent, body, scheme, target, .. } = request;
    if target.authority().is_empty() {
        return Err(Error::msg("invalid URL: it must begin with http:// or https://"));
    }
    let (contents, end) = send(body);
    let (outgoing, _sent) = WasiRequest::new(fields(sent)?, contents, end, None);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let path = if target.path_with_query().is_empty() { "/" } else { target.path_with_query() };
    let set = outgoing
        .set_method(&wasi_method(method))
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(target.authority())))
        .and_then(|()| outgoing.set_path_with_query(Some(path)));
    set.map_err(|()| Error::msg("the host rejects the request's method or URL"))?;
    let incoming = client::send(outgoing).await.map_err(|code| match code {
        ErrorCode::HttpRequestDenied => Error::msg(NOT_GRANTED),
        code => Error::from(code),
    })?;
    let mut head = Response::new(incoming.get_status_code());
    head.headers = headers(&incoming.get_headers());
    Ok((head, Source::of_response(incoming)))
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
