//! Parses the authority of a request: a host and its port. Never reads a request's other fields.

use crate::http::problem::Problem;
use http::{StatusCode, uri::Authority};
use std::net::Ipv6Addr;

/// Parses a host and its port by RFC 3986, without user information: `hello.localhost:8080`,
/// `[::1]`.
#[expect(clippy::result_large_err, reason = "a problem is rare, and is answered where it is made")]
pub(super) fn read_authority(text: &[u8]) -> Result<Authority, Problem> {
    if text.contains(&b'@') {
        return Err(bad_host("it has a user name or a password, which HTTP does not send"));
    }
    let end = match text {
        [b'[', ..] => text.iter().position(|&byte| byte == b']').map(|end| end + 1),
        _ => Some(text.iter().position(|&byte| byte == b':').unwrap_or(text.len())),
    };
    let (name, port) = end.and_then(|end| text.split_at_checked(end)).ok_or_else(|| bad_host("a `[` has no `]`"))?;
    match name {
        [] => return Err(bad_host("it is empty")),
        [b'[', address @ .., b']'] => {
            let address = std::str::from_utf8(address).ok().and_then(|address| address.parse::<Ipv6Addr>().ok());
            address.ok_or_else(|| bad_host("the text in brackets is not an IPv6 address"))?;
        }
        name if !name.iter().all(|&byte| is_name_byte(byte)) => {
            return Err(bad_host("it has characters that are invalid in a host name"));
        }
        _ => {}
    }
    let text = match port {
        [] => text,
        // An empty port means the default port.
        b":" => name,
        [b':', port @ ..] if is_port(port) => text,
        _ => return Err(bad_host("its port is not a number up to 65535")),
    };
    Authority::try_from(text).map_err(|_| bad_host("it is not a host name"))
}

/// Letters, digits and the punctuation that RFC 3986 allows in a name. Percent-encoded names have
/// no meaning in DNS.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

fn is_port(digits: &[u8]) -> bool {
    let number = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.is_some_and(|text| text.parse::<u16>().is_ok())
}

pub(super) fn bad_host(detail: &str) -> Problem {
    let detail = format!("the request's host is invalid: {detail}");
    Problem::new(StatusCode::BAD_REQUEST, "bad-host", "Invalid host", detail)
        .hint("send a host name or an address, optionally with a port up to 65535: `Host: hello.localhost:8080`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for good in
            ["a", "a.localhost:8080", "a:0", "a:65535", "a:", "127.0.0.1:80", "[::1]", "[::1]:80", "..localhost", "a_b"]
        {
            assert!(read_authority(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "",
            ":80",
            "u@a.localhost",
            "a b",
            "a\tb",
            "a:99999",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:8o",
            "a:80:80",
            "[::1",
            "[]",
            "[a]",
            "[::1]80",
            "[127.0.0.1]",
            "::1",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "%61",
            "a\u{e9}",
            "<a>",
            "http://a",
        ] {
            assert!(read_authority(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
