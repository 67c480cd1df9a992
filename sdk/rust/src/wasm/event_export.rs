//! The exports `isopod:app/event-handler`, `isopod:plugin/hook`, `isopod:app/health` and
//! `isopod:app/init`: the canonical ABI of their functions. Never decides what an error means.

use std::cell::UnsafeCell;
use std::future::Future;
use std::time::Duration;

use super::abi::{Area, RawOption, Slice, free_list};
use super::exports::run_constructors;
use super::reactor;
use crate::events::{Event, EventError, Next, Reply};
use crate::{Result, logging};

/// The record `event`. It is passed by pointer, since it has more words than a call's parameters.
#[repr(C)]
struct RawEvent {
    id: Slice,
    source: Slice,
    kind: Slice,
    subject: RawOption,
    time: RawOption,
    data_content_type: RawOption,
    data_schema: RawOption,
    data: RawOption,
    extensions: *mut [Slice; 2],
    extension_count: usize,
    attempt: u32,
}

const _: () = assert!(size_of::<RawEvent>() == 96);

/// The result that the host reads after a call has returned. It remains valid until the next call.
struct Last {
    area: Area<8>,
    _owner: (String, Vec<u8>),
}

struct Cell(UnsafeCell<Last>);

// SAFETY: a component's instance has one thread, and an export is never entered while another runs.
unsafe impl Sync for Cell {}

static LAST: Cell = Cell(UnsafeCell::new(Last { area: Area::new(), _owner: (String::new(), Vec::new()) }));

/// Stores text and bytes, and returns the words that point to them.
fn keep(last: &mut Last, text: String, bytes: Vec<u8>) -> [usize; 4] {
    last._owner = (text, bytes);
    let (text, bytes) = (Slice::of(last._owner.0.as_bytes()), Slice::of(&last._owner.1));
    [text.pointer as usize, text.length, bytes.pointer as usize, bytes.length]
}

/// Handles one event and returns a pointer to the outcome.
///
/// Only the export may call this, with the pointer that the host passed.
pub unsafe fn handle_event<F, Fut>(event: *mut u8, handler: F) -> *const u8
where
    F: FnOnce(Event) -> Fut,
    Fut: Future<Output = Result<Option<Reply>, EventError>>,
{
    // An app without HTTP has no `_initialize`, see `__start!`.
    run_constructors();
    logging::install();
    // SAFETY: the host passes an event, allocated for this call.
    let event = unsafe { lift(event.cast()) };
    let outcome = match reactor::run(handler(event)) {
        Ok(outcome) => outcome,
        Err(stuck) => Err(stuck.into()),
    };
    // SAFETY: see `Cell`.
    let last = unsafe { &mut *LAST.0.get() };
    // result<option<reply>, failure>: tag; then, since a failure can hold a u64, the payload at the
    // third word.
    let words = &mut last.area.0;
    *words = [0; 8];
    match outcome {
        Ok(None) => {}
        Ok(Some(reply)) => {
            let kept = keep(last, reply.data_content_type, reply.data);
            last.area.0[2] = 1;
            last.area.0[3..7].copy_from_slice(&kept);
        }
        Err(error) => {
            let [text, length, ..] = keep(last, error.to_string(), Vec::new());
            let (case, delay) = match error.next() {
                Next::Never => (0, Duration::ZERO),
                Next::Retry => (1, Duration::ZERO),
                Next::RetryAfter(delay) => (2, delay),
                Next::Snooze(delay) => (3, delay),
            };
            let milliseconds = milliseconds(delay);
            last.area.0 =
                [1, 0, case, 0, text, length, milliseconds as u32 as usize, (milliseconds >> 32) as u32 as usize];
        }
    }
    last.area.pointer()
}

pub(super) fn milliseconds(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

unsafe fn lift(event: *mut RawEvent) -> Event {
    // SAFETY: the caller's promise; every value is taken once, then the lists' own memory is freed.
    unsafe {
        let raw = event.read();
        free_list(event, 1);
        let (extensions, count) = (raw.extensions, raw.extension_count);
        let lifted = (0..count).map(|index| {
            let [name, value] = extensions.add(index).read();
            (name.into_string(), value.into_string())
        });
        let lifted = lifted.collect();
        free_list(extensions, count);
        Event {
            id: raw.id.into_string(),
            source: raw.source.into_string(),
            kind: raw.kind.into_string(),
            subject: raw.subject.into_string(),
            time: raw.time.into_string(),
            data_content_type: raw.data_content_type.into_string(),
            data_schema: raw.data_schema.into_string(),
            data: raw.data.into_vec(),
            extensions: lifted,
            attempt: raw.attempt,
        }
    }
}

/// Calls a function that only succeeds or fails, `check` or `init`, and returns a pointer to the
/// outcome.
pub fn done_or_not<F, Fut>(call: F) -> *const u8
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<()>>,
{
    run_constructors();
    logging::install();
    let outcome = match reactor::run(call()) {
        Ok(outcome) => outcome,
        Err(stuck) => Err(stuck.into()),
    };
    // SAFETY: see `Cell`.
    let last = unsafe { &mut *LAST.0.get() };
    last.area.0 = [0; 8];
    if let Err(error) = outcome {
        let [text, length, ..] = keep(last, error.to_string(), Vec::new());
        last.area.0[..3].copy_from_slice(&[1, text, length]);
    }
    last.area.pointer()
}
