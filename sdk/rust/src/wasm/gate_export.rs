//! The canonical ABI of the export `isopod:plugin/gate`, and of `isopod:plugin/config` of a gate.
//! Never decides about a release.

use serde::de::DeserializeOwned;
use std::cell::UnsafeCell;

use super::abi::{Area, RawOption, Slice, free_list};
use super::event_export::done_or_not;
use super::exports::run_constructors;
use super::reactor;
use crate::plugin::gate::{Cause, Decision, Release};
use crate::plugin::{parse_settings, settings};
use crate::{Result, logging};

/// The parameters of `before-activate`. They are passed by pointer because they exceed the number
/// of flat parameters of a call.
#[repr(C)]
struct RawParameters {
    config: Slice,
    // The alignment of a record is that of its widest field, `size-bytes`.
    release: RawRelease,
}

#[repr(C, align(8))]
struct RawRelease {
    app: Slice,
    app_type: Slice,
    number: u32,
    has_current: u8,
    current: u32,
    cause: u8,
    description: Slice,
    created_by: Slice,
    manifest_name: Slice,
    digest: Slice,
    size_bytes: u64,
    middleware: RawTexts,
    grants: Slice,
    current_grants: RawOption,
    widened_grants: RawTexts,
}

const _: () = assert!(size_of::<RawParameters>() == 120);

/// `list<string>`.
#[repr(C)]
struct RawTexts {
    pointer: *mut Slice,
    count: usize,
}

impl RawTexts {
    /// # Safety
    /// The host wrote the list for this call, and the caller takes it only once.
    unsafe fn into_strings(self) -> Vec<String> {
        // SAFETY: the caller's promise.
        unsafe {
            let texts = (0..self.count).map(|index| self.pointer.add(index).read().into_string()).collect();
            free_list(self.pointer, self.count);
            texts
        }
    }
}

/// The result that the host reads after a call has returned. It remains valid until the next call.
struct Last {
    area: Area<4>,
    _text: String,
}

struct Cell(UnsafeCell<Last>);

// SAFETY: a component's instance has one thread, and an export is never entered while another runs.
unsafe impl Sync for Cell {}

static LAST: Cell = Cell(UnsafeCell::new(Last { area: Area::new(), _text: String::new() }));

/// Decides about a release and returns a pointer to the decision.
///
/// Only the export may call this, with the pointer that the host passed.
pub unsafe fn before_activate<C, F>(parameters: *mut u8, decide: F) -> *const u8
where
    C: DeserializeOwned + 'static,
    F: AsyncFn(&Release, &C) -> Result<Decision>,
{
    // A plugin has no `_initialize`; see `__start!`.
    run_constructors();
    logging::install();
    // SAFETY: the host passes parameters that it allocated for this call.
    let (config, release) = unsafe { lift(parameters.cast()) };
    let decided = reactor::run(async {
        let settings = settings::cached::<C>(config)?;
        decide(&release, &settings).await
    });
    // SAFETY: see `Cell`. No other reference is alive, since the handler has returned and the host
    // has read the last result.
    let last = unsafe { &mut *LAST.0.get() };
    // result<decision, string>: tag; then a decision's case and text, or the text of an error.
    last.area.0 = [0; 4];
    match decided.unwrap_or_else(|stuck| Err(stuck.into())) {
        Ok(Decision::Allow) => {}
        Ok(Decision::Refuse(reason)) => last.set([0, 1], 2, reason),
        Err(error) => last.set([1, 0], 1, error.to_string()),
    }
    last.area.pointer()
}

impl Last {
    /// Sets the first two words, and then the words of a text at an index.
    fn set(&mut self, tags: [usize; 2], index: usize, text: String) {
        self.area.0[..2].copy_from_slice(&tags);
        let slice = Slice::of(text.as_bytes());
        self.area.0[index..index + 2].copy_from_slice(&[slice.pointer as usize, slice.length]);
        self._text = text;
    }
}

/// Checks a config and returns a pointer to the outcome. The handler determines the type of the
/// settings.
///
/// Only the export may call this, with the string that the host passed.
pub unsafe fn validate_gate_config<C, F>((pointer, length): (*mut u8, usize), _handler: F) -> *const u8
where
    C: DeserializeOwned + 'static,
    F: AsyncFn(&Release, &C) -> Result<Decision>,
{
    // SAFETY: the host passes a string that it allocated for this call.
    let config = unsafe { Slice { pointer, length }.into_string() };
    done_or_not(async || parse_settings::<C>(&config).map(drop))
}

/// Returns the config and the release.
///
/// # Safety
/// The host has allocated the parameters with `cabi_realloc`, and every value is taken once.
unsafe fn lift(parameters: *mut RawParameters) -> (String, Release) {
    // SAFETY: the caller's promise.
    unsafe {
        let RawParameters { config, release: raw } = parameters.read();
        free_list(parameters, 1);
        let release = Release {
            app: raw.app.into_string(),
            app_type: raw.app_type.into_string(),
            number: raw.number,
            current: (raw.has_current != 0).then_some(raw.current),
            cause: match raw.cause {
                0 => Cause::Push,
                1 => Cause::Rollback,
                2 => Cause::Config,
                3 => Cause::Formation,
                4 => Cause::Grants,
                _ => Cause::Approval,
            },
            description: raw.description.into_string(),
            created_by: raw.created_by.into_string(),
            manifest_name: raw.manifest_name.into_string(),
            digest: raw.digest.into_string(),
            size_bytes: raw.size_bytes,
            middleware: raw.middleware.into_strings(),
            grants: raw.grants.into_string(),
            current_grants: raw.current_grants.into_string(),
            widened_grants: raw.widened_grants.into_strings(),
        };
        (config.into_string(), release)
    }
}
