//! The SDK's own bounds. The host has its own besides, and they are the ones that protect it.

/// The largest body that a handler gets whole; a larger request is refused with 413, since an instance's memory is
/// small. `http_streaming!` has no such bound.
pub const REQUEST_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The largest answer that `fetch` reads whole; a larger one is an error that names `fetch_streaming`.
pub const FETCH_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Attempts of an update before it fails with status 503. Of concurrent writers one succeeds each
/// time, so an update fails only if hundreds of instances keep changing one key.
pub(crate) const UPDATE_TRIES_MAX: u32 = 1_000;

/// How much of a body is asked of the host at a time.
#[cfg(target_family = "wasm")]
pub(crate) const READ_BYTES: u64 = 64 * 1024;
