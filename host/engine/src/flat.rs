//! Answers a request over the flat interface, `isopod:app/http`, by one call. The guest runs only
//! while this future is polled, so no work remains afterwards. Never streams a body.

use crate::{
    answer::Answer,
    body::{BodyError, RequestBody},
    budget::{Exhausted, Reservation},
    fault::{Fault, Room},
    flat_call::{self, Pieces, Request as FlatRequest, Response as FlatResponse},
    head,
    instance::Instance,
    limits,
    program::Program,
    reply::ReplyBody,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, Response, request::Parts};
use http_body_util::BodyExt;
use std::future::poll_fn;

pub(crate) async fn answer(mut instance: Box<Instance>, request: Request<RequestBody>, request_id: &str) -> Answer {
    let (parts, body) = request.into_parts();
    let body = match whole(body, &instance.program).await {
        Ok(body) => body,
        Err(fault) => return Answer { response: Err(fault), after: Some(instance).into() },
    };
    let request_bytes: usize = body.pieces.iter().map(Bytes::len).sum();
    instance.begin(request_id);
    match call(&mut instance, lower(&parts, body.pieces)).await {
        Ok(Ok(flat)) => {
            let FlatResponse { status, headers, body } = flat;
            let body = body.into_bytes();
            let body_bytes = request_bytes + body.len();
            let response = answer_of(status, headers, body, &instance.program);
            Answer { response, after: instance.finished_with_bodies(body_bytes as u64).into() }
        }
        Ok(Err(message)) => {
            let after = instance.finished_with_bodies(request_bytes as u64).into();
            Answer { response: Err(Fault::Failed { message }), after }
        }
        Err(error) => Answer::lost(instance.fault(&error)),
    }
}

/// A request's body, charged to the memory budget unless it was read before the call.
struct Whole {
    pieces: Vec<Bytes>,
    _reservation: Reservation,
}

/// Reads the body to its end.
async fn whole(body: RequestBody, program: &Program) -> Result<Whole, Fault> {
    let bad = |error: BodyError| Fault::BadRequest { detail: error.to_string() };
    let mut reservation = Reservation::empty(program.engine().memory());
    let RequestBody::Incoming(mut incoming) = body else {
        let whole = body.collect().await.map_err(bad)?.to_bytes();
        return Ok(Whole { pieces: vec![whole], _reservation: reservation });
    };
    let mut pieces = Joined::default();
    while let Some(frame) = poll_fn(|cx| incoming.poll_next(cx)).await {
        let Ok(piece) = frame.map_err(bad)?.into_data() else { continue };
        reservation.grow(piece.len() as u64, program.sandbox().may_use_reserve).map_err(no_room)?;
        pieces.push(piece);
    }
    Ok(Whole { pieces: pieces.finish(), _reservation: reservation })
}

/// Joins the small parts of a body.
#[derive(Default)]
struct Joined {
    pieces: Vec<Bytes>,
    small: BytesMut,
}

impl Joined {
    fn push(&mut self, piece: Bytes) {
        if piece.len() < limits::FLAT_JOINED_BYTES {
            self.small.extend_from_slice(&piece);
            if self.small.len() >= limits::FLAT_JOINED_BYTES {
                self.pieces.push(self.small.split().freeze());
            }
            return;
        }
        self.end_small();
        self.pieces.push(piece);
    }

    fn end_small(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.end_small();
        self.pieces
    }
}

fn no_room(exhausted: Exhausted) -> Fault {
    let (Exhausted::Temporarily { most } | Exhausted::Permanently { most }) = exhausted;
    let detail = format!("guests, their requests and their responses use all {} MiB of this host", most >> 20);
    Fault::NoRoom { room: Room::Memory, detail }
}

async fn call(instance: &mut Instance, mut request: FlatRequest) -> wasmtime::Result<Result<FlatResponse, String>> {
    let Instance { store, ready, component, program, .. } = instance;
    if request.body.length() > limits::FLAT_PIECE_BYTES {
        request.body.pause = Some(*ready.pause.get_or_insert_with(|| flat_call::pause(store)));
    }
    if ready.flat.is_none()
        && let Some(indices) = &program.exports().flat
    {
        ready.flat = Some(indices.load(&mut *store, component)?);
    }
    let handle: &flat_call::Handle =
        ready.flat.as_ref().ok_or_else(|| wasmtime::format_err!("isopod:app/http is not exported"))?;
    handle.call(store, &request).await
}

/// Returns the response. Its body is charged to the memory budget until it is sent, since the
/// instance may already serve the next call.
fn answer_of(
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    program: &Program,
) -> Result<Response<ReplyBody>, Fault> {
    let sandbox = program.sandbox();
    let mut response = lift(status, headers, body.len(), sandbox.limits.reply_body_bytes)?;
    let mut reservation = Reservation::empty(program.engine().memory());
    if body.len() > limits::ANSWER_BYTES_UNCHARGED {
        reservation.grow(body.len() as u64, sandbox.may_use_reserve).map_err(no_room)?;
        *response.body_mut() = ReplyBody::full(Bytes::from_owner(Charged { bytes: body, _reservation: reservation }));
    } else {
        *response.body_mut() = ReplyBody::full(body);
    }
    Ok(response)
}

/// Bytes that stay charged until their last part is dropped.
struct Charged {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn lower(parts: &Parts, pieces: Vec<Bytes>) -> FlatRequest {
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
        body: Pieces { bytes: pieces, pause: None },
    }
}

/// Builds a response's head.
fn lift(
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    bytes: usize,
    body_bytes_max: u64,
) -> Result<Response<ReplyBody>, Fault> {
    let bad = |detail: String| Fault::BadAnswer { detail };
    if bytes as u64 > body_bytes_max {
        return Err(bad(format!(
            "its body of {bytes} bytes exceeds the limit of {body_bytes_max} (reply_body under [limits])"
        )));
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
            .map_err(|_| bad(format!("invalid header name `{}`", name.escape_debug())))?;
        let value = HeaderValue::from_maybe_shared(Bytes::from(value))
            .map_err(|_| bad(format!("invalid bytes in the value of header `{name}`")))?;
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
    fn small_parts_of_a_body_are_joined_in_order() {
        let part = |byte: u8, length: usize| Bytes::from(vec![byte; length]);
        let large = limits::FLAT_JOINED_BYTES;
        let mut joined = Joined::default();
        (0..2 * large).for_each(|index| joined.push(part(index as u8, 1)));
        assert_eq!(joined.pieces.len(), 2);
        for piece in [part(1, 1), part(2, large), part(3, 1), part(4, 1)] {
            joined.push(piece);
        }
        let pieces = joined.finish();
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [large, large, 1, large, 2]);
        assert_eq!(pieces.last().map(|last| last.to_vec()), Some(vec![3, 4]));
    }

    #[test]
    fn a_response_keeps_the_guests_headers() {
        let response = lifted(flat(200, &[("x-a", "1"), ("content-length", "99")]), 5).ok().unwrap();
        assert_eq!(response.headers().len(), 2);
    }

    #[test]
    fn a_body_over_its_limit_is_a_bad_answer() {
        assert!(matches!(lifted(flat(200, &[]), 4), Err(Fault::BadAnswer { .. })));
    }

    #[test]
    fn an_invalid_head_is_a_bad_answer() {
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
