//! The platform of components: WASI 0.2 and the host's interfaces. Never knows what handlers do.

mod abi;
mod assets;
mod body;
mod config;
mod counters;
mod emit;
mod event_export;
pub(crate) mod exports;
mod fetch;
#[cfg_attr(feature = "wasi-03", allow(dead_code, reason = "0.3 replaces it"))]
mod flat;
mod gate_export;
#[cfg(feature = "wasi-03")]
mod handler03;
mod http;
#[cfg(feature = "wasi-03")]
mod http03;
#[cfg_attr(feature = "wasi-03", allow(dead_code, reason = "0.3 replaces it"))]
mod incoming;
mod keyvalue;
mod logging;
mod plugin_export;
mod reactor;
pub mod worlds;

use std::time::{Duration, SystemTime};

pub(crate) use assets::find_asset;
pub(crate) use body::{BodySink, BodySource};
pub(crate) use config::config_get;
pub(crate) use counters::take_tokens;
pub(crate) use emit::{ask, emit};
pub(crate) use fetch::fetch;
pub(crate) use keyvalue::Bucket;
pub(crate) use logging::log;

#[cfg(all(feature = "allocator", not(target_feature = "atomics")))]
#[global_allocator]
static ALLOCATOR: crate::allocator::Allocator<std::alloc::System> =
    crate::allocator::Allocator::new(std::alloc::System);

/// The error text of a request that the host denies.
const NOT_GRANTED: &str = "denied by the host; add the server's name to `[grants] http = [\"…\"]` in the manifest";

/// Marks the component as one that streams responses, with bytes in its data that Isopod searches
/// for. The linker keeps them only if this function is used.
#[inline(never)]
pub(crate) fn mark_streaming() {
    static MARK: [u8; 52] = *b"isopod-sdk: a response of this component is streamed";
    std::hint::black_box(&MARK);
}

/// Returns the current time.
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Waits on the monotonic clock.
pub(crate) async fn sleep(duration: Duration) {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    #[cfg(feature = "wasi-03")]
    if !reactor::is_running() {
        return wasip3::clocks::monotonic_clock::wait_for(nanoseconds).await;
    }
    reactor::wait(wasip2::clocks::monotonic_clock::subscribe_duration(nanoseconds)).await;
}
