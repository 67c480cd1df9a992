//! The flat road: one call per request, `isopod:app/http`. The guest works only while this future is polled, so there
//! is nothing to hand over afterwards.

use crate::{
    Answer, Fault, Instance,
    bindings::http::{Request as FlatRequest, Response as FlatResponse},
    body::{ReplyBody, RequestBody},
    limits,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::BodyExt;

/// Headers of the connection, which are the host's to set.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

pub(crate) async fn answer(mut instance: Box<Instance>, request: Request<RequestBody>, request_id: &str) -> Answer {
    let (parts, body) = request.into_parts();
    let body = match whole(body).await {
        Ok(body) => body,
        Err(fault) => return Answer { response: Err(fault), after: Some(instance).into() },
    };
    instance.begin(request_id);
    match call(&mut instance, &lower(&parts, &body)).await {
        Ok(Ok(flat)) => {
            let limit = instance.program.sandbox().limits.reply_body_bytes;
            Answer { response: lift(flat, limit), after: instance.finished().into() }
        }
        Ok(Err(message)) => Answer { response: Err(Fault::Failed { message }), after: instance.finished().into() },
        Err(error) => Answer::lost(instance.fault(&error)),
    }
}

async fn whole(body: RequestBody) -> Result<Bytes, Fault> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let collected = body.collect().await.map_err(|error| Fault::BadRequest { detail: error.to_string() })?;
    Ok(collected.to_bytes())
}

async fn call(instance: &mut Instance, request: &FlatRequest) -> wasmtime::Result<Result<FlatResponse, String>> {
    let Instance { store, ready, component, program, .. } = instance;
    if ready.flat.is_none()
        && let Some(indices) = &program.exports().flat
    {
        ready.flat = Some(indices.load(&mut *store, component)?);
    }
    let app = ready.flat.as_ref().ok_or_else(|| wasmtime::format_err!("isopod:app/http is not exported"))?;
    app.isopod_app_http().call_handle(store, request).await
}

fn lower(parts: &Parts, body: &[u8]) -> FlatRequest {
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str().to_owned(),
        None => header_text(&parts.headers, &header::HOST),
    };
    FlatRequest {
        method: parts.method.as_str().to_owned(),
        scheme: parts.uri.scheme_str().unwrap_or("http").to_owned(),
        authority,
        path_with_query: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body: body.to_vec(),
    }
}

fn header_text(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn lift(flat: FlatResponse, body_bytes_max: u64) -> Result<Response<ReplyBody>, Fault> {
    let bad = |detail: String| Fault::BadAnswer { detail };
    if flat.body.len() as u64 > body_bytes_max {
        let bytes = flat.body.len();
        return Err(bad(format!("{bytes} bytes are more than {body_bytes_max}, which is reply_body under [limits]")));
    }
    let size: usize = flat.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if flat.headers.len() > limits::REPLY_HEADERS_MAX || size > limits::REPLY_HEADERS_BYTES_MAX {
        return Err(bad(format!("{} headers of {size} bytes are too many", flat.headers.len())));
    }
    let status = StatusCode::from_u16(flat.status).ok().filter(|status| (200..600).contains(&status.as_u16()));
    let mut response = Response::new(ReplyBody::full(flat.body));
    *response.status_mut() = status.ok_or_else(|| bad(format!("status {} is not between 200 and 599", flat.status)))?;
    let headers = response.headers_mut();
    for (name, value) in flat.headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| bad(format!("`{}` is no header name", name.escape_debug())))?;
        let value = HeaderValue::from_maybe_shared(Bytes::from(value))
            .map_err(|_| bad(format!("the value of header `{name}` has bytes that headers cannot have")))?;
        if !HOP_BY_HOP.contains(&name) {
            headers.append(name, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(status: u16, headers: &[(&str, &str)]) -> FlatResponse {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        FlatResponse { status, headers, body: b"hello".to_vec() }
    }

    #[test]
    fn headers_of_the_connection_are_left_to_the_host() {
        let response =
            lift(flat(200, &[("x-a", "1"), ("content-length", "99"), ("connection", "close")]), 5).ok().unwrap();
        assert_eq!(response.headers().len(), 1);
        assert_eq!(response.body().size_hint().exact(), Some(5));
    }

    #[test]
    fn a_body_over_its_limit_is_a_bad_answer() {
        assert!(matches!(lift(flat(200, &[]), 4), Err(Fault::BadAnswer { .. })));
    }

    #[test]
    fn what_is_no_http_is_a_bad_answer() {
        let many = vec![("a", "b"); limits::REPLY_HEADERS_MAX + 1];
        for bad in [
            flat(200, &many),
            flat(42, &[]),
            flat(700, &[]),
            flat(101, &[]),
            flat(200, &[("a b", "")]),
            flat(200, &[("a", "x\r\ny")]),
        ] {
            assert!(matches!(lift(bad, 1_000), Err(Fault::BadAnswer { .. })));
        }
    }
}
