//! Limits of the SDK. They don't protect the host, which has its own.

#[cfg(not(target_family = "wasm"))]
use std::time::Duration;

/// The largest request body that a handler receives whole. A larger request gets 413, since an
/// instance's memory is small. `http_streaming!` has no such limit.
pub const REQUEST_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The largest response that `fetch` reads whole. A larger response is an error that names
/// `fetch_streaming`.
pub const FETCH_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The number of parsed settings of each size class that an instance of a middleware caches. Other
/// settings are parsed again when they are needed.
pub(crate) const SETTINGS_KEPT: usize = 256;

/// The total bytes of the JSON texts of the cached settings of a size class. Beyond it, the oldest
/// are evicted, but never the latest.
pub(crate) const SETTINGS_KEPT_BYTES: usize = 1024 * 1024;

/// The largest JSON text of small settings. Larger settings are cached separately, so that a few of
/// them don't evict those of many apps.
pub(crate) const SETTINGS_SMALL_BYTES: usize = 4 * 1024;

/// Attempts of an update before it fails with status 503. Of concurrent writers one succeeds each
/// time, so an update fails only if hundreds of instances keep changing one key.
pub(crate) const UPDATE_TRIES_MAX: u32 = 1_000;

/// The longest delay and expiry of an event in native tests: the host refuses longer ones too.
#[cfg(not(target_family = "wasm"))]
pub(crate) const TEST_EVENT_TIME_AHEAD_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// The size of one read of a body from the host.
#[cfg(target_family = "wasm")]
pub(crate) const READ_BYTES: u64 = 64 * 1024;
