//! The import `isopod:plugin/counters`. Never decides whether a request is refused.

use std::time::Duration;

use crate::plugin::counters::{Rate, Taken};
use crate::{Error, Result};

#[link(wasm_import_module = "isopod:plugin/counters@0.1.0")]
unsafe extern "C" {
    #[link_name = "take"]
    fn raw_take(
        key: *const u8,
        key_length: usize,
        count: u32,
        tokens: u32,
        period_ms: u32,
        burst: u32,
        result: *mut RawResult,
    );
}

/// `result<state, error>`. An error is in the first byte of the state.
#[repr(C, align(8))]
#[derive(Default)]
struct RawResult {
    is_error: u8,
    state: RawState,
}

#[repr(C, align(8))]
#[derive(Default)]
struct RawState {
    taken: u8,
    remaining: u32,
    retry_after_ms: u64,
    full_after_ms: u64,
}

const _: () = assert!(size_of::<RawResult>() == 32);

/// Takes tokens from the bucket with a key.
pub(crate) fn take_tokens(key: &str, tokens: u32, rate: &Rate) -> Result<Taken> {
    super::worlds::link();
    let period_ms = u32::try_from(rate.period.as_millis()).unwrap_or(u32::MAX);
    let mut result = RawResult::default();
    // SAFETY: the host reads the key during the call, and the result has room for its outcome.
    unsafe { raw_take(key.as_ptr(), key.len(), tokens, rate.tokens, period_ms, rate.burst, &mut result) };
    let RawResult { is_error, state } = result;
    match (is_error, state.taken) {
        (0, taken) => Ok(Taken {
            is_taken: taken != 0,
            remaining: state.remaining,
            retry_after: Duration::from_millis(state.retry_after_ms),
            full_after: Duration::from_millis(state.full_after_ms),
        }),
        (_, 0) => Err(Error::msg("token buckets are available only while a middleware handles a request of an app")),
        (_, 1) => Err(Error::msg("the key of the token bucket is longer than 256 bytes")),
        (_, 2) => Err(Error::msg(format!("{rate:?} is outside the permitted range"))),
        _ => Err(Error::msg(format!("a bucket of {} tokens can't yield {tokens}", rate.burst))),
    }
}
