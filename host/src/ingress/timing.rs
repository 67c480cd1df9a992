//! Shows the phases of a request to clients that send a token of the host with it. The rest of the
//! response is the same for a valid and for an invalid token.

use http::{HeaderMap, HeaderName, HeaderValue};
use isopod_policy::{AppName, Timing};
use std::time::Duration;

/// The field of a request that contains the token. No guest receives it.
const REQUEST: HeaderName = HeaderName::from_static("x-isopod-timing");

/// The field of a response that lists the phases.
const RESPONSE: HeaderName = HeaderName::from_static("server-timing");

/// Decides which clients may see the phases of requests. I/O threads call it, so it must never
/// block.
pub(crate) trait TimingAccess: Send + Sync {
    /// Returns whether the token is valid for reading about the app.
    fn may_see(&self, token: &str, app: &AppName) -> bool;
}

/// Removes the token from a request. Returns whether the client may see the phases.
pub(super) fn is_requested(headers: &mut HeaderMap, access: Option<&dyn TimingAccess>, app: &AppName) -> bool {
    let Some(token) = headers.remove(REQUEST) else { return false };
    token.to_str().is_ok_and(|token| access.is_some_and(|access| access.may_see(token, app)))
}

/// Adds the phases to a response, and keeps the app's own fields.
pub(super) fn show(headers: &mut HeaderMap, timing: &Timing, total: Duration) {
    if let Ok(value) = HeaderValue::try_from(timing.server_timing(total)) {
        headers.append(RESPONSE, value);
    }
}
