//! Handles a request over the flat interface, by one call. The guest runs only while this future is
//! polled, so no work remains afterwards. Never streams a body.

use crate::{
    body::{BodyError, RequestBody},
    budget::Reservation,
    charged::{charged, no_room},
    fault::Fault,
    flat_call::{self, Headers, Pieces, Response as FlatResponse},
    head,
    http_outcome::HttpOutcome,
    instance::Instance,
    limits, packed,
    program::Program,
    response_body::ResponseBody,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt;
use std::future::poll_fn;

pub(crate) async fn handle(
    mut instance: Box<Instance>,
    request: Request<RequestBody>,
    request_id: &str,
) -> HttpOutcome {
    let (parts, body) = request.into_parts();
    let body = match whole(body, &instance.program).await {
        Ok(body) => body,
        Err(fault) => return HttpOutcome { response: Err(fault), after: Some(instance).into() },
    };
    let request_bytes: usize = body.pieces.iter().map(Bytes::len).sum();
    instance.begin(request_id);
    let pieces = Pieces { bytes: body.pieces, pause: None };
    match call(&mut instance, &parts, pieces).await {
        Ok(Ok(flat)) => {
            let FlatResponse { status, headers, body } = flat;
            let body = body.into_bytes();
            let body_bytes = request_bytes + body.len();
            let response = response_of(status, headers, body, &instance.program);
            HttpOutcome { response, after: instance.finished_with_bodies(body_bytes as u64).into() }
        }
        Ok(Err(message)) => {
            let after = instance.finished_with_bodies(request_bytes as u64).into();
            HttpOutcome { response: Err(Fault::Failed { message }), after }
        }
        Err(error) => HttpOutcome::lost(instance.fault(&error)),
    }
}

/// A request's body, charged to the memory budget unless it was read before the call.
#[derive(Default)]
struct Whole {
    pieces: Vec<Bytes>,
    _reservation: Option<Reservation>,
}

/// Reads the body to its end.
async fn whole(body: RequestBody, program: &Program) -> Result<Whole, Fault> {
    if body.is_end_stream() {
        return Ok(Whole::default());
    }
    let bad = |error: BodyError| Fault::BadRequest { detail: error.to_string() };
    let RequestBody::Incoming(mut incoming) = body else {
        let whole = body.collect().await.map_err(bad)?.to_bytes();
        return Ok(Whole { pieces: vec![whole], _reservation: None });
    };
    let mut reservation = Reservation::empty(program.engine().memory());
    let mut pieces = Joined::default();
    while let Some(frame) = poll_fn(|cx| incoming.poll_next(cx)).await {
        let Ok(piece) = frame.map_err(bad)?.into_data() else { continue };
        reservation.grow(piece.len() as u64, program.sandbox().may_use_reserve).map_err(no_room)?;
        pieces.push(piece);
    }
    Ok(Whole { pieces: pieces.finish(), _reservation: Some(reservation) })
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

async fn call(
    instance: &mut Instance,
    parts: &Parts,
    mut body: Pieces,
) -> wasmtime::Result<Result<FlatResponse, String>> {
    let Instance { store, ready, component, program, .. } = instance;
    if body.length() > limits::FLAT_PIECE_BYTES {
        body.pause = Some(*ready.pause.get_or_insert_with(|| flat_call::pause(store)));
    }
    let handle = match (ready.flat, &program.exports().flat) {
        (Some(handle), _) => handle,
        (None, Some(indices)) => *ready.flat.insert(indices.load(&mut *store, component)?),
        (None, None) => wasmtime::bail!("the flat interface is not exported"),
    };
    handle.call(store, parts, body).await
}

/// Returns the response. Its body is charged to the memory budget until it is sent, since the
/// instance may already serve the next call.
pub(crate) fn response_of(
    status: u16,
    headers: Headers,
    body: Vec<u8>,
    program: &Program,
) -> Result<Response<ResponseBody>, Fault> {
    let mut response = lift(status, headers, body.len(), program.sandbox().limits.reply_body_bytes)?;
    *response.body_mut() = charged_body(body, program)?;
    Ok(response)
}

/// Returns the new body of another response, within the program's limit.
pub(crate) fn body_of(body: Vec<u8>, program: &Program) -> Result<ResponseBody, Fault> {
    check_length(body.len(), program.sandbox().limits.reply_body_bytes)?;
    charged_body(body, program)
}

fn check_length(bytes: usize, bytes_max: u64) -> Result<(), Fault> {
    if bytes as u64 <= bytes_max {
        return Ok(());
    }
    Err(bad(format!("its body of {bytes} bytes exceeds the limit of {bytes_max} (reply_body under [limits])")))
}

fn charged_body(body: Vec<u8>, program: &Program) -> Result<ResponseBody, Fault> {
    if body.len() <= limits::RESPONSE_BYTES_UNCHARGED {
        return Ok(ResponseBody::full(body));
    }
    let charge = program.memory_charge();
    let mut reservation = charge.empty();
    charge.grow(&mut reservation, body.len() as u64)?;
    Ok(ResponseBody::full(charged(body, reservation)))
}

/// Builds a response's head.
fn lift(status: u16, fields: Headers, bytes: usize, body_bytes_max: u64) -> Result<Response<ResponseBody>, Fault> {
    check_length(bytes, body_bytes_max)?;
    let status = head::final_status(status)?;
    let mut response = Response::new(ResponseBody::full(Bytes::new()));
    *response.status_mut() = status;
    let mut headers = BoundedHeaders { map: response.headers_mut(), count: 0, bytes: 0 };
    match fields {
        Headers::Listed(fields) => {
            fields.iter().try_for_each(|(name, value)| headers.append(name.as_bytes(), value))?;
        }
        Headers::Packed(fields) => {
            let mut strings = packed::Strings::new(&fields);
            let incomplete = || bad("its headers are not a sequence of names and values".to_owned());
            while let Some(name) = strings.next() {
                let pair = name.ok().zip(strings.next().and_then(Result::ok));
                let (name, value) = pair.ok_or_else(incomplete)?;
                headers.append(name, value)?;
            }
        }
    }
    Ok(response)
}

fn bad(detail: String) -> Fault {
    Fault::InvalidResponse { detail }
}

/// The headers of a response, which must stay within the limits.
struct BoundedHeaders<'a> {
    map: &'a mut HeaderMap,
    count: usize,
    bytes: usize,
}

impl BoundedHeaders<'_> {
    fn append(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.count += 1;
        self.bytes += name.len() + value.len();
        let (count_max, bytes_max) = (limits::RESPONSE_HEADERS_MAX, limits::RESPONSE_HEADERS_BYTES_MAX);
        if self.count > count_max || self.bytes > bytes_max {
            return Err(bad(format!("too many headers: more than {count_max}, or {bytes_max} bytes")));
        }
        let name = HeaderName::from_bytes(name)
            .map_err(|_| bad(format!("invalid header name `{}`", String::from_utf8_lossy(name).escape_debug())))?;
        let value = HeaderValue::from_bytes(value)
            .map_err(|_| bad(format!("invalid bytes in the value of header `{name}`")))?;
        self.map.append(name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Head<'a> = (u16, &'a [(&'a str, &'a str)]);

    fn packed(headers: &[(&str, &str)]) -> Vec<u8> {
        let texts = headers.iter().flat_map(|(name, value)| [name, value]);
        texts.flat_map(|text| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()).collect()
    }

    /// Lifts a response over both interfaces, which must agree.
    fn lifted((status, headers): Head<'_>, body_bytes_max: u64) -> Result<Response<ResponseBody>, Fault> {
        let listed = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        let [listed, packed] = [Headers::Listed(listed), Headers::Packed(packed(headers))]
            .map(|headers| lift(status, headers, b"hello".len(), body_bytes_max));
        match (&listed, &packed) {
            (Ok(listed), Ok(packed)) => assert_eq!(listed.headers(), packed.headers()),
            (Err(listed), Err(packed)) => assert_eq!(listed.to_string(), packed.to_string()),
            _ => panic!("the interfaces differ for {status} {headers:?}"),
        }
        packed
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
        let response = lifted((200, &[("x-a", "1"), ("content-length", "99"), ("x-a", "")]), 5).ok().unwrap();
        assert_eq!(response.headers().len(), 3);
        assert_eq!(response.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", ""]);
    }

    #[test]
    fn a_body_over_its_limit_is_an_invalid_response() {
        assert!(matches!(lifted((200, &[]), 4), Err(Fault::InvalidResponse { .. })));
    }

    #[test]
    fn an_invalid_head_is_an_invalid_response() {
        let many = vec![("a", "b"); limits::RESPONSE_HEADERS_MAX + 1];
        let long = "v".repeat(limits::RESPONSE_HEADERS_BYTES_MAX);
        for bad in [
            (200, &many[..]),
            (200, &[("a", &long)]),
            (42, &[]),
            (700, &[]),
            (101, &[]),
            (200, &[("a b", "")]),
            (200, &[("a", "x\r\ny")]),
        ] {
            assert!(matches!(lifted(bad, 1_000), Err(Fault::InvalidResponse { .. })));
        }
    }

    #[test]
    fn packed_headers_must_be_complete_pairs() {
        let whole = packed(&[("x-a", "1")]);
        for end in 1..whole.len() {
            let lifted = lift(200, Headers::Packed(whole[..end].to_vec()), 0, 0);
            assert!(matches!(lifted, Err(Fault::InvalidResponse { .. })), "{end}");
        }
    }

    #[test]
    fn the_future_of_a_request_is_small() {
        fn size_of_future<'a, F>(_: impl Fn(Box<Instance>, Request<RequestBody>, &'a str) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_future(handle);
        assert!(size <= 3 * 1024, "{size} bytes");
    }
}
