//! Decides whether a server that refused a request may accept it later. Never waits.

use http::StatusCode;

/// Returns whether a response refuses this request permanently. After any other failure, the same
/// request may succeed later. Wrong credentials, a missing route and a redirect concern all
/// requests to the server, and its operator can fix them. 403 often refuses the content of one
/// request: a firewall sends it.
pub(crate) fn is_permanent(status: StatusCode) -> bool {
    let may_end = matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::NOT_FOUND
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS
    );
    status.is_client_error() && !may_end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_of_the_request_is_permanent() {
        let permanent = |status: u16| is_permanent(StatusCode::from_u16(status).expect("a status"));
        for status in [400, 403, 405, 410, 413, 415, 422] {
            assert!(permanent(status), "{status}");
        }
        for status in [302, 401, 404, 407, 408, 425, 429, 500, 503] {
            assert!(!permanent(status), "{status}");
        }
    }
}
