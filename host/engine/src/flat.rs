//! The flat road: one call per request, `isopod:app/http`. The guest works only while this future is polled, so there
//! is nothing to hand over afterwards.

use crate::{
    Answer, Fault, Instance, Program, Room,
    body::RequestBody,
    budget::{NoMore, Taken},
    flat_call::{self, Request as FlatRequest, Response as FlatResponse},
    head, limits,
    reply::ReplyBody,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, request::Parts};
use http_body::Body;
use http_body_util::BodyExt;

pub(crate) async fn answer(mut instance: Box<Instance>, request: Request<RequestBody>, request_id: &str) -> Answer {
    let (parts, body) = request.into_parts();
    let body = match whole(body).await {
        Ok(body) => body,
        Err(fault) => return Answer { response: Err(fault), after: Some(instance).into() },
    };
    instance.begin(request_id);
    match call(&mut instance, &lower(&parts, &body)).await {
        Ok(Ok(flat)) => {
            let response = answer_of(flat, &instance.program);
            Answer { response, after: instance.finished().into() }
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
    let handle: &flat_call::Handle =
        ready.flat.as_ref().ok_or_else(|| wasmtime::format_err!("isopod:app/http is not exported"))?;
    handle.call(store, request).await
}

/// The response. Its body is charged to the memory budget until it is sent, since the instance may
/// already serve the next call.
fn answer_of(flat: FlatResponse, program: &Program) -> Result<Response<ReplyBody>, Fault> {
    let FlatResponse { status, headers, body } = flat;
    let sandbox = program.sandbox();
    let mut response = lift(status, headers, body.0.len(), sandbox.limits.reply_body_bytes)?;
    let mut taken = Taken::nothing(program.engine().memory());
    if body.0.len() > limits::ANSWER_BYTES_UNCHARGED {
        taken.grow(body.0.len() as u64, sandbox.may_use_reserve).map_err(|no_more| {
            let (NoMore::Now { most } | NoMore::Ever { most }) = no_more;
            let detail = format!("guests and their responses use all {} MiB of this host", most >> 20);
            Fault::NoRoom { room: Room::Memory, detail }
        })?;
        *response.body_mut() = ReplyBody::full(Bytes::from_owner(Charged { bytes: body.0, _taken: taken }));
    } else {
        *response.body_mut() = ReplyBody::full(body.0);
    }
    Ok(response)
}

/// Bytes that stay charged until their last part is dropped.
struct Charged {
    bytes: Vec<u8>,
    _taken: Taken,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn lower(parts: &Parts, body: &[u8]) -> FlatRequest {
    FlatRequest {
        method: parts.method.as_str().to_owned(),
        scheme: parts.uri.scheme_str().unwrap_or("http").to_owned(),
        authority: parts.uri.authority().map_or("", |authority| authority.as_str()).to_owned(),
        path_with_query: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body: body.to_vec(),
    }
}

/// The head of an answer.
fn lift(
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    bytes: usize,
    body_bytes_max: u64,
) -> Result<Response<ReplyBody>, Fault> {
    let bad = |detail: String| Fault::BadAnswer { detail };
    if bytes as u64 > body_bytes_max {
        return Err(bad(format!("{bytes} bytes are more than {body_bytes_max}, which is reply_body under [limits]")));
    }
    let size: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if fields.len() > limits::REPLY_HEADERS_MAX || size > limits::REPLY_HEADERS_BYTES_MAX {
        return Err(bad(format!("too many headers: {} with {size} bytes", fields.len())));
    }
    let status = head::final_status(status)?;
    let mut response = Response::new(ReplyBody::full(Bytes::new()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| bad(format!("`{}` is no header name", name.escape_debug())))?;
        let value = HeaderValue::from_maybe_shared(Bytes::from(value))
            .map_err(|_| bad(format!("the value of header `{name}` has bytes that headers cannot have")))?;
        headers.append(name, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Head = (u16, Vec<(String, Vec<u8>)>);

    fn flat(status: u16, headers: &[(&str, &str)]) -> Head {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        (status, headers)
    }

    fn lifted((status, headers): Head, body_bytes_max: u64) -> Result<Response<ReplyBody>, Fault> {
        lift(status, headers, b"hello".len(), body_bytes_max)
    }

    #[test]
    fn a_response_keeps_the_headers_of_the_guest() {
        let response = lifted(flat(200, &[("x-a", "1"), ("content-length", "99")]), 5).ok().unwrap();
        assert_eq!(response.headers().len(), 2);
    }

    #[test]
    fn a_body_over_its_limit_is_a_bad_answer() {
        assert!(matches!(lifted(flat(200, &[]), 4), Err(Fault::BadAnswer { .. })));
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
            assert!(matches!(lifted(bad, 1_000), Err(Fault::BadAnswer { .. })));
        }
    }
}
