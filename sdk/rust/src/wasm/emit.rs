//! The import `isopod:app/emit`. Never completes or checks an event.

use std::time::Duration;

use super::abi::{Area, Slice, host_error};
use super::event_export::milliseconds;
use crate::events::{NewEvent, Reply};
use crate::{Error, Result};

#[link(wasm_import_module = "isopod:app/emit@0.1.0")]
unsafe extern "C" {
    #[link_name = "emit"]
    fn raw_emit(event: *const RawNewEvent, result: *mut u8);
    #[link_name = "ask"]
    fn raw_ask(question: *const RawQuestion, result: *mut u8);
}

/// `option<string>` or `option<list<u8>>`.
#[repr(C)]
struct RawOption {
    is_some: u8,
    value: Slice,
}

impl RawOption {
    fn of(value: Option<&[u8]>) -> Self {
        Self { is_some: u8::from(value.is_some()), value: Slice::of(value.unwrap_or_default()) }
    }

    fn of_text(value: Option<&String>) -> Self {
        Self::of(value.map(String::as_bytes))
    }
}

/// `option<u64>`.
#[repr(C)]
struct RawNumber {
    is_some: u8,
    value: u64,
}

impl RawNumber {
    fn of(delay: Option<Duration>) -> Self {
        Self { is_some: u8::from(delay.is_some()), value: milliseconds(delay.unwrap_or_default()) }
    }
}

/// The record `new-event`. It is passed by pointer, since it has more words than a call's
/// parameters.
#[repr(C)]
struct RawNewEvent {
    id: RawOption,
    source: RawOption,
    kind: Slice,
    subject: RawOption,
    time: RawOption,
    data_content_type: RawOption,
    data_schema: RawOption,
    data: RawOption,
    extensions: *const [Slice; 2],
    extension_count: usize,
    delay: RawNumber,
    expiry: RawNumber,
    app: RawOption,
}

/// The parameters of `ask`.
#[repr(C)]
struct RawQuestion {
    event: RawNewEvent,
    timeout: RawNumber,
}

const _: () = assert!(size_of::<RawNewEvent>() == 152 && size_of::<RawQuestion>() == 168);

/// Returns a view of an event and of the views of its extensions, which the caller keeps alive.
fn lower(event: &NewEvent, extensions: &[[Slice; 2]]) -> RawNewEvent {
    RawNewEvent {
        id: RawOption::of_text(event.id.as_ref()),
        source: RawOption::of_text(event.source.as_ref()),
        kind: Slice::of(event.kind.as_bytes()),
        subject: RawOption::of_text(event.subject.as_ref()),
        time: RawOption::of_text(event.time.as_ref()),
        data_content_type: RawOption::of_text(event.data_content_type.as_ref()),
        data_schema: RawOption::of_text(event.data_schema.as_ref()),
        data: RawOption::of(event.data.as_deref()),
        extensions: extensions.as_ptr(),
        extension_count: extensions.len(),
        delay: RawNumber::of(event.delay),
        expiry: RawNumber::of(event.expiry),
        app: RawOption::of_text(event.app.as_ref()),
    }
}

fn views(event: &NewEvent) -> Vec<[Slice; 2]> {
    event.extensions.iter().map(|(name, value)| [Slice::of(name.as_bytes()), Slice::of(value.as_bytes())]).collect()
}

/// Reads the variant `error` at the second word: the case, then its text. The text of each case is
/// complete.
///
/// The host has written an error there.
unsafe fn error<const WORDS: usize>(area: &Area<WORDS>) -> Error {
    // SAFETY: the caller's promise.
    unsafe { host_error(area.slice(2)) }
}

pub(crate) fn emit(event: NewEvent) -> Result<String> {
    super::worlds::link();
    let mut area = Area::<4>::new();
    let extensions = views(&event);
    // SAFETY: the area has room for the result, the host reads the event during the call, and the
    // text in the result is ours.
    unsafe {
        raw_emit(&lower(&event, &extensions), area.pointer());
        if area.tag(0) == 0 { Ok(area.slice(1).into_string()) } else { Err(error(&area)) }
    }
}

pub(crate) fn ask(event: NewEvent, timeout: Duration) -> Result<Option<Reply>> {
    super::worlds::link();
    let mut area = Area::<6>::new();
    let extensions = views(&event);
    let question = RawQuestion { event: lower(&event, &extensions), timeout: RawNumber::of(Some(timeout)) };
    // SAFETY: the area has room for the result, the host reads the question during the call, and
    // the bytes in the result are ours.
    unsafe {
        raw_ask(&question, area.pointer());
        match (area.tag(0), area.tag(1)) {
            (0, 0) => Ok(None),
            (0, _) => {
                Ok(Some(Reply { data_content_type: area.slice(2).into_string(), data: area.slice(4).into_vec() }))
            }
            _ => Err(error(&area)),
        }
    }
}
