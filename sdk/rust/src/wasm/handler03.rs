//! The export `wasi:http/handler` 0.3: one instance may handle several requests concurrently. Never
//! decides the status of an error.

use std::borrow::Cow;
use std::future::Future;

use wasip3::http::types::{ErrorCode, Method as WasiMethod, Request as WasiRequest, Response as WasiResponse, Scheme};

use super::body::{BodySource, announced_bytes};
use super::http03::{Source, fields, headers, send};
use crate::http::{Body, IncomingBody, Kind, Method, Request, Response, Target};
use crate::{Result, limits, logging};

type Answer = std::result::Result<WasiResponse, ErrorCode>;

/// Answers a request with a handler that receives the whole body.
pub async fn handle_whole<F, Fut>(request: WasiRequest, handler: F) -> Answer
where
    F: FnOnce(Request) -> Fut,
    Fut: Future<Output = Result<Response>>,
{
    answer(async move {
        let (mut head, mut body) = lift(request);
        head.body = Body::from(body.read_announced(limits::REQUEST_BODY_BYTES_MAX, announced_bytes(&head)).await?);
        handler(head).await
    })
    .await
}

/// Answers a request with a handler that reads the body itself.
pub async fn handle_streaming<F, Fut>(request: WasiRequest, handler: F) -> Answer
where
    F: FnOnce(Request, IncomingBody) -> Fut,
    Fut: Future<Output = Result<Response>>,
{
    answer(async move {
        let (head, body) = lift(request);
        handler(head, body).await
    })
    .await
}

async fn answer(response: impl Future<Output = Result<Response>>) -> Answer {
    logging::install();
    match response.await {
        // As on the flat interface: the host logs the text, and answers with 500.
        Err(error) if !error.is_for_client() => Err(ErrorCode::InternalError(Some(error.to_string()))),
        response => lower(response.unwrap_or_else(|error| Response::from_error(&error))),
    }
}

fn lift(request: WasiRequest) -> (Request, IncomingBody) {
    let head = Request {
        method: lift_method(request.get_method()),
        headers: headers(&request.get_headers()),
        body: Body::empty(),
        scheme: Cow::Borrowed(if matches!(request.get_scheme(), Some(Scheme::Https)) { "https" } else { "http" }),
        target: Target::new(
            &request.get_authority().unwrap_or_default(),
            &request.get_path_with_query().unwrap_or_default(),
        ),
        params: Vec::new(),
        timeout: None,
    };
    (head, IncomingBody(BodySource::V3(Source::of_request(request))))
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

/// Creates the response. If the host rejects its headers or status, that is an error of the app.
fn lower(mut response: Response) -> Answer {
    if let Kind::Whole(bytes) = &response.body.0
        && response.headers.get_bytes("content-length").is_none()
    {
        response.headers.append("content-length", bytes.len().to_string());
    }
    let refused = |what: String| {
        logging::report("no response", &what);
        // Not the handler's own error: the host distinguishes the two by the code.
        ErrorCode::HttpProtocolError
    };
    let fields = fields(response.headers).map_err(|error| refused(error.to_string()))?;
    let (contents, end) = send(response.body);
    let (answer, _sent) = WasiResponse::new(fields, contents, end);
    let status = response.status;
    answer.set_status_code(status).map_err(|()| refused(format!("the host rejects the status {status}")))?;
    Ok(answer)
}
