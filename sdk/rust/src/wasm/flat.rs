//! The export `isopod:app/http-packed`: one call carries a request with its body, and the response.
//! Owns the canonical ABI of this function, written by hand so that a warm call allocates almost
//! nothing.

use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::future::Future;

use super::abi::Slice;
use super::reactor;
use crate::http::{Body, Headers, Kind, Request, Response, collect, packed};
use crate::{Error, Result, logging};

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
    headers: Slice,
    body: Slice,
}

/// The result that the host reads after the call has returned. It remains valid until the next call
/// instead of being freed by a post-return function, which would be another call into the instance
/// for each request.
struct Last {
    result: RawResult,
    headers: Vec<u8>,
    _owner: Owner,
}

/// Owns the memory that the raw result points to, beside the headers.
enum Owner {
    None,
    Body { _body: Cow<'static, [u8]> },
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
    headers: Vec::new(),
    _owner: Owner::None,
}));

/// Answers one request and returns a pointer to the response.
///
/// Only the export may call this, with the list that the host passed.
pub unsafe fn handle<F, Fut>(request: *mut u8, length: usize, handler: F) -> *const u8
where
    F: FnOnce(Request) -> Fut,
    Fut: Future<Output = Result<Response>>,
{
    logging::install();
    // SAFETY: the host passes a list that it allocated for this call.
    let request = unsafe { Slice { pointer: request, length }.into_vec() };
    let Some(request) = Request::unpack(request) else {
        return lower(Err(Error::msg("the host passed an invalid request")));
    };
    let answer = match reactor::run(whole(handler(request))) {
        Ok(answer) => answer,
        Err(stuck) => Err(stuck.into()),
    };
    lower(answer)
}

/// Returns the handler's response with its body as bytes.
pub(super) async fn whole(
    answer: impl Future<Output = Result<Response>>,
) -> Result<(u16, Headers, Cow<'static, [u8]>)> {
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

fn lower(answer: Result<(u16, Headers, Cow<'static, [u8]>)>) -> *const u8 {
    // SAFETY: see `Cell`; the host has read the last response before it calls again.
    let last = unsafe { &mut *LAST.0.get() };
    last.headers.clear();
    match answer {
        Ok((status, headers, body)) => {
            for (name, value) in headers.iter() {
                packed::push(&mut last.headers, name.as_bytes());
                packed::push(&mut last.headers, value);
            }
            let response = RawResponse { status, headers: Slice::of(&last.headers), body: Slice::of(&body) };
            last.result = RawResult { is_error: 0, payload: RawPayload { response } };
            last._owner = Owner::Body { _body: body };
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
    assert!(size_of::<RawResult>() == 24 && std::mem::offset_of!(RawResult, payload) == 4);
    assert!(std::mem::offset_of!(RawResponse, headers) == 4 && std::mem::offset_of!(RawResponse, body) == 12);
};
