//! Sessions of browsers: a token in two parts, each of which is useless alone. Never stores a
//! session, so that it survives a restart of the host and ends with its token.
//!
//! A session is a token that is masked with a random key (a one-time pad). The masked token is in a
//! cookie, which scripts can't read. The key is in the page's storage, which servers on other ports
//! of the same machine can't read, although browsers send the cookie to these servers.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header, uri::Authority},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use headers::{Cookie, HeaderMapExt};

use super::browser::{self, AdminNames, RequestAuthority};

/// The header with the key of a session.
const KEY: HeaderName = HeaderName::from_static("x-isopod-session");

/// Returns the name of the cookie. Browsers share cookies among all ports of a machine, which may
/// run several hosts.
pub(super) fn cookie_name(authority: Option<&Authority>) -> String {
    match authority.and_then(Authority::port_u16) {
        Some(port) => format!("isopod-session-{port}"),
        None => "isopod-session".to_owned(),
    }
}

/// Returns the header `authorization` of a request with a session; `None` for any other request.
/// Refuses a session's request to an unknown host name, or of another website.
pub(super) fn authorization(names: &AdminNames, request: &Request) -> Result<Option<HeaderValue>, browser::Refused> {
    let headers = request.headers();
    let authority = RequestAuthority::of(request.extensions());
    let Some(key) = headers.get(KEY).filter(|_| !headers.contains_key(header::AUTHORIZATION)) else { return Ok(None) };
    let cookies = headers.typed_get::<Cookie>();
    let Some(masked) = cookies.as_ref().and_then(|cookies| cookies.get(&cookie_name(authority))) else {
        return Ok(None);
    };
    names.ensure(authority)?;
    browser::ensure_same_origin(headers, authority)?;
    let token = key.to_str().ok().and_then(|key| joined(masked, key));
    Ok(token.and_then(|token| {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }))
}

/// Splits a token into the masked token and the key.
pub(super) fn split(token: &[u8]) -> (String, String) {
    let mut key = vec![0; token.len()];
    rand::fill(&mut key);
    (BASE64.encode(masked(token, &key)), BASE64.encode(key))
}

/// Returns the token of a session.
fn joined(masked_token: &str, key: &str) -> Option<String> {
    let (token, key) = (BASE64.decode(masked_token).ok()?, BASE64.decode(key).ok()?);
    if token.len() != key.len() {
        return None;
    }
    String::from_utf8(masked(&token, &key)).ok()
}

fn masked(bytes: &[u8], key: &[u8]) -> Vec<u8> {
    bytes.iter().zip(key).map(|(byte, key)| byte ^ key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_both_parts_of_its_session() {
        let ((masked, key), (other_masked, other_key)) = (split(b"iso_secret"), split(b"iso_secret"));
        assert_eq!(joined(&masked, &key).as_deref(), Some("iso_secret"));
        assert!(masked != other_masked && key != other_key, "each session has its own key");
        assert_ne!(joined(&masked, &other_key).as_deref(), Some("iso_secret"));
        for (masked, key) in [("", key.as_str()), (&masked, ""), (&masked, "not Base64!"), (&masked, &key[..4])] {
            assert_eq!(joined(masked, key), None, "{masked} {key}");
        }
    }

    #[test]
    fn the_hosts_of_a_machine_have_different_cookies() {
        let name = |text: &'static str| cookie_name(Some(&Authority::from_static(text)));
        assert_eq!(name("localhost:8081"), "isopod-session-8081");
        assert_eq!(name("isopod.example.org"), "isopod-session");
    }
}
