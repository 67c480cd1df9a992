//! Implements `isopod:plugin/counters` for guests: takes tokens from the buckets of the app whose
//! request a plugin handles. Never stores a bucket.

use crate::{bindings::counters as wit, counter_table::NoBucket, limits, state::HostState};
use isopod_policy::{InvalidRate, Rate};
use std::time::Duration;
use wasmtime::component::{HasSelf, Linker};

/// Offers `isopod:plugin/counters` to guests.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

impl wit::Host for HostState {
    fn take(&mut self, key: String, tokens: u32, rate: wit::Rate) -> wasmtime::Result<Result<wit::State, wit::Error>> {
        Ok(self.take_tokens(&key, tokens, rate))
    }
}

impl HostState {
    fn take_tokens(&self, key: &str, tokens: u32, rate: wit::Rate) -> Result<wit::State, wit::Error> {
        let counters = self.counters.as_ref().ok_or(wit::Error::Unavailable)?;
        if key.len() > limits::COUNTER_KEY_BYTES_MAX {
            return Err(wit::Error::KeyTooLong);
        }
        let period = Duration::from_millis(rate.period_ms.into());
        let rate = Rate::new(rate.tokens, period, rate.burst).map_err(|InvalidRate| wit::Error::InvalidRate)?;
        let taken =
            counters.take(key, tokens, rate, self.account.budget()).map_err(|NoBucket| wit::Error::InvalidTokens)?;
        Ok(wit::State {
            taken: taken.is_taken,
            remaining: taken.remaining,
            // Rounded up, so that the tokens are there afterwards.
            retry_after_ms: milliseconds(taken.retry_after),
            full_after_ms: milliseconds(taken.full_after),
        })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
