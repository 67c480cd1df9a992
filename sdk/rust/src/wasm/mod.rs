//! The platform inside a component: WASI 0.2 and the host's interfaces. It never knows what handlers do.

mod abi;
mod config;
mod event_export;
pub(crate) mod exports;
mod flat;
mod http;
mod incoming;
mod keyvalue;
mod logging;
mod reactor;
pub mod worlds;

use std::time::{Duration, SystemTime};

pub(crate) use config::config_get;
pub(crate) use http::{BodySink, BodySource, fetch};
pub(crate) use keyvalue::Bucket;
pub(crate) use logging::log;

/// The time of day.
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Waits by the monotonic clock.
pub(crate) async fn sleep(duration: Duration) {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    reactor::wait(wasip2::clocks::monotonic_clock::subscribe_duration(nanoseconds)).await;
}
