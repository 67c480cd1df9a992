//! The pause that a server requests of its clients with `Retry-After`. Never waits.

use std::time::Duration;

use http::{HeaderMap, header};

/// Returns the pause that a response requests in seconds, at most `longest`. A date is ignored.
pub(crate) fn retry_after(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_pause_is_limited() {
        let longest = Duration::from_secs(30);
        let pause = |value: &'static str| {
            let headers = [(header::RETRY_AFTER, value.parse().expect("a value"))].into_iter().collect();
            retry_after(&headers, longest)
        };
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("86400"), Some(longest));
        assert_eq!((pause("-1"), pause("Wed, 21 Oct 2026 07:28:00 GMT")), (None, None));
        assert_eq!(retry_after(&HeaderMap::new(), longest), None);
    }
}
