//! The export `wasi:http/incoming-handler` 0.2, which runs on any host and streams in both
//! directions. Never decides the status of an error.

use std::borrow::Cow;
use std::future::Future;

use wasip2::http::types::{
    ErrorCode, IncomingRequest, Method as WasiMethod, OutgoingResponse, ResponseOutparam, Scheme,
};

use super::body::{BodySource, announced_bytes};
use super::http::{Source, fields, headers, send};
use super::reactor::{self, Stuck};
use crate::http::{Body, IncomingBody, Kind, Method, Request, Response, Target};
use crate::{Error, Result, limits, logging};

/// Answers a request with a handler that receives the whole body.
pub fn handle_whole<F, Fut>(request: IncomingRequest, answer: ResponseOutparam, handler: F)
where
    F: FnOnce(Request) -> Fut,
    Fut: Future<Output = Result<Response>>,
{
    run(answer, async move {
        let (mut head, body) = lift(request)?;
        if may_have_body(&head) {
            let bytes =
                IncomingBody(body()?).read_announced(limits::REQUEST_BODY_BYTES_MAX, announced_bytes(&head)).await?;
            head.body = Body::from(bytes);
        }
        handler(head).await
    });
}

/// Answers a request with a handler that reads the body itself.
pub fn handle_streaming<F, Fut>(request: IncomingRequest, answer: ResponseOutparam, handler: F)
where
    F: FnOnce(Request, IncomingBody) -> Fut,
    Fut: Future<Output = Result<Response>>,
{
    run(answer, async move {
        let (head, body) = lift(request)?;
        handler(head, IncomingBody(body()?)).await
    });
}

/// Returns whether a request may have a body. GET and HEAD have none unless a header indicates it;
/// requesting it from the host would cost four calls.
fn may_have_body(request: &Request) -> bool {
    !matches!(request.method, Method::Get | Method::Head)
        || request.header("content-length").is_some()
        || request.header("transfer-encoding").is_some()
}

fn run(answer: ResponseOutparam, response: impl Future<Output = Result<Response>>) {
    logging::install();
    let done = reactor::run(async move {
        let response = match response.await {
            // As on the flat interface: the host logs the text, and answers with 500.
            Err(error) if !error.is_for_client() => {
                let code = ErrorCode::InternalError(Some(error.to_string()));
                return ResponseOutparam::set(answer, Err(code));
            }
            response => response.unwrap_or_else(|error| Response::from_error(&error)),
        };
        if let Err(error) = lower(response, answer).await {
            logging::report("sending the response failed", error);
        }
    });
    if done.is_err() {
        logging::report("no response", Stuck);
    }
}

/// Returns the request without its body, and a function that opens the body.
fn lift(request: IncomingRequest) -> Result<(Request, impl FnOnce() -> Result<BodySource>)> {
    let head = Request {
        method: lift_method(request.method()),
        headers: headers(&request.headers()),
        body: Body::empty(),
        scheme: Cow::Borrowed(if matches!(request.scheme(), Some(Scheme::Https)) { "https" } else { "http" }),
        target: Target::new(&request.authority().unwrap_or_default(), &request.path_with_query().unwrap_or_default()),
        params: Vec::new(),
        timeout: None,
    };
    let body = move || {
        let body = request.consume().map_err(|()| Error::msg("the request's body has already been taken"))?;
        Ok(BodySource::V2(Source::new(body)?))
    };
    Ok((head, body))
}

fn lift_method(method: WasiMethod) -> Method {
    match method {
        WasiMethod::Get => Method::Get,
        WasiMethod::Head => Method::Head,
        WasiMethod::Post => Method::Post,
        WasiMethod::Put => Method::Put,
        WasiMethod::Delete => Method::Delete,
        WasiMethod::Patch => Method::Patch,
        WasiMethod::Options => Method::Options,
        WasiMethod::Trace => Method::Trace,
        WasiMethod::Connect => Method::Connect,
        WasiMethod::Other(name) => Method::Other(name),
    }
}

/// Sends a response. If the host rejects its headers or status, that is an error of the app.
async fn lower(mut response: Response, answer: ResponseOutparam) -> Result<()> {
    if let Kind::Whole(bytes) = &response.body.0
        && response.headers.get_bytes("content-length").is_none()
    {
        response.headers.append("content-length", bytes.len().to_string());
    }
    let made = fields(response.headers).and_then(|fields| {
        let outgoing = OutgoingResponse::new(fields);
        let status = response.status;
        let set = outgoing.set_status_code(status);
        set.map_err(|()| Error::msg(format!("the host rejects the status {status}")))?;
        let body = outgoing.body().map_err(|()| Error::msg("the response's body has already been taken"))?;
        Ok((outgoing, body))
    });
    match made {
        Ok((outgoing, body)) => {
            ResponseOutparam::set(answer, Ok(outgoing));
            send(body, response.body).await
        }
        Err(error) => {
            // Not the handler's own error: the host distinguishes the two by the code.
            ResponseOutparam::set(answer, Err(ErrorCode::HttpProtocolError));
            Err(error)
        }
    }
}
