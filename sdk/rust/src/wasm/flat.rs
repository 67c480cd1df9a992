//! The export `isopod:app/http`: one call carries a request with its body, and the response. Owns
//! the canonical ABI of this function, written by hand so that a warm call allocates almost
//! nothing.

use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::future::Future;

use super::abi::{Slice, free_list};
use super::reactor;
use crate::http::{Body, Headers, Kind, Method, Request, Response, collect};
use crate::{Result, logging};

/// One element of `list<tuple<string, list<u8>>>`.
#[repr(C)]
struct RawField {
    name: Slice,
    value: Slice,
}

/// `result<response, string>` as the host reads it.
#[repr(C)]
struct RawResult {
    is_error: u8,
    payload: RawPayload,
}

#[repr(C)]
union RawPayload {
    response: RawResponse,
    error: Slice,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RawResponse {
    status: u16,
    fields: *const RawField,
    field_count: usize,
    body: Slice,
}

/// The result that the host reads after the call has returned. It remains valid until the next call
/// instead of being freed by a post-return function, which would be another call into the instance
/// for each request.
struct Last {
    result: RawResult,
    fields: Vec<RawField>,
    _owner: Owner,
}

/// Owns the memory that the raw result points to.
enum Owner {
    None,
    Response { _headers: Headers, _body: Cow<'static, [u8]> },
    Error { _text: String },
}

struct Cell(UnsafeCell<Last>);

// SAFETY: a component's instance has one thread, and only `handle` uses the cell, which is never
// entered twice.
unsafe impl Sync for Cell {}

static LAST: Cell = Cell(UnsafeCell::new(Last {
    result: RawResult {
        is_error: 0,
        payload: RawPayload { error: Slice { pointer: std::ptr::null_mut(), length: 0 } },
    },
    fields: Vec::new(),
    _owner: Owner::None,
}));

/// The twelve words of a request, in the ABI's order.
#[repr(C)]
pub struct Words {
    pub method: (*mut u8, usize),
    pub scheme: (*mut u8, usize),
    pub authority: (*mut u8, usize),
    pub path_with_query: (*mut u8, usize),
    pub headers: (*mut u8, usize),
    pub body: (*mut u8, usize),
}

/// Answers one request and returns a pointer to the response.
///
/// Only the export may call this, with the words that the host passed.
pub unsafe fn handle<F, Fut>(words: Words, handler: F) -> *const u8
where
    F: FnOnce(Request) -> Fut,
    Fut: Future<Output = Result<Response>>,
{
    logging::install();
    // SAFETY: the host passes words as the ABI defines them, allocated for this call.
    let request = unsafe { lift(words) };
    let answer = match reactor::run(whole(handler(request))) {
        Ok(answer) => answer,
        Err(stuck) => Err(stuck.into()),
    };
    lower(answer)
}

/// Returns the handler's response with its body as bytes.
async fn whole(answer: impl Future<Output = Result<Response>>) -> Result<(u16, Headers, Cow<'static, [u8]>)> {
    let answer = match answer.await {
        Err(error) if error.is_for_client() => Response::from_error(&error),
        answer => answer?,
    };
    let body = match answer.body {
        Body(Kind::Whole(bytes)) => bytes,
        Body(Kind::Produced(producer)) => Cow::Owned(collect(producer).await?),
    };
    Ok((answer.status, answer.headers, body))
}

unsafe fn lift(words: Words) -> Request {
    let slice = |(pointer, length)| Slice { pointer, length };
    // SAFETY: each pair of words is a string or list that this call owns.
    unsafe {
        let method = slice(words.method).into_vec();
        let scheme = slice(words.scheme).into_vec();
        let body = slice(words.body).into_vec();
        Request {
            method: match Method::standard(&method) {
                Some(method) => method,
                None => Method::Other(String::from_utf8_unchecked(method)),
            },
            headers: lift_headers(words.headers.0.cast(), words.headers.1),
            body: Body(Kind::Whole(Cow::Owned(body))),
            scheme: Cow::Borrowed(if scheme == b"https" { "https" } else { "http" }),
            authority: slice(words.authority).into_string(),
            path_with_query: slice(words.path_with_query).into_string(),
            params: Vec::new(),
            timeout: None,
        }
    }
}

unsafe fn lift_headers(fields: *mut RawField, count: usize) -> Headers {
    let mut headers = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: the host wrote `count` fields, and each is moved out once.
        unsafe {
            let field = fields.add(index).read();
            headers.push((Cow::Owned(field.name.into_string()), Cow::Owned(field.value.into_vec())));
        }
    }
    // SAFETY: the host allocated the list for this call, and its fields have been moved out.
    unsafe { free_list(fields, count) };
    Headers(headers)
}

fn lower(answer: Result<(u16, Headers, Cow<'static, [u8]>)>) -> *const u8 {
    // SAFETY: see `Cell`; the host has read the last response before it calls again.
    let last = unsafe { &mut *LAST.0.get() };
    last.fields.clear();
    match answer {
        Ok((status, headers, body)) => {
            let fields = headers
                .iter()
                .map(|(name, value)| RawField { name: Slice::of(name.as_bytes()), value: Slice::of(value) });
            last.fields.extend(fields);
            let response = RawResponse {
                status,
                fields: last.fields.as_ptr(),
                field_count: last.fields.len(),
                body: Slice::of(&body),
            };
            last.result = RawResult { is_error: 0, payload: RawPayload { response } };
            last._owner = Owner::Response { _headers: headers, _body: body };
        }
        Err(error) => {
            let text = error.to_string();
            last.result = RawResult { is_error: 1, payload: RawPayload { error: Slice::of(text.as_bytes()) } };
            last._owner = Owner::Error { _text: text };
        }
    }
    (&raw const last.result).cast()
}

const _: () = {
    assert!(size_of::<RawField>() == 16 && align_of::<RawField>() == 4);
    assert!(size_of::<RawResult>() == 24 && std::mem::offset_of!(RawResult, payload) == 4);
    assert!(std::mem::offset_of!(RawResponse, fields) == 4 && std::mem::offset_of!(RawResponse, body) == 12);
};
