//! The header fields about the client that an app receives: `x-forwarded-for`, `-proto`, `-host`,
//! `x-real-ip` and `forwarded` (RFC 7239). The host appends to the fields of a trusted proxy, and
//! replaces those of every other peer. Never selects the app.

use super::{authority::read_authority, trusted::TrustedProxies};
use crate::http::field_classes::{REAL_IP, is_about_client};
use http::{HeaderMap, HeaderName, HeaderValue, header, uri::Scheme};
use std::net::{IpAddr, SocketAddr};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    address: IpAddr,
    /// The address as a field value.
    text: HeaderValue,
    is_trusted: bool,
}

impl Peer {
    #[expect(clippy::expect_used, reason = "an address is visible ASCII")]
    pub(super) fn new(address: IpAddr, proxies: &TrustedProxies) -> Self {
        let address = address.to_canonical();
        let text = HeaderValue::try_from(address.to_string()).expect("an address is visible ASCII");
        Self { address, text, is_trusted: proxies.contains(address) }
    }
}

/// Sets the fields about the client, and returns the scheme that the client used. `target_scheme`
/// is the scheme of the request's target; it overrides the connection's scheme only for a trusted
/// proxy.
pub(super) fn apply(
    headers: &mut HeaderMap,
    peer: &Peer,
    proxies: &TrustedProxies,
    host: &HeaderValue,
    target_scheme: Option<&Scheme>,
) -> Scheme {
    let has_claims = headers.keys().any(is_about_client);
    let claims = if has_claims && peer.is_trusted { Claims::read(headers) } else { Claims::default() };
    let replaced = |name: &HeaderName| is_about_client(name) && !(peer.is_trusted && is_exact(name));
    while has_claims && let Some(name) = headers.keys().find(|name| replaced(name)).cloned() {
        headers.remove(name);
    }
    let scheme = match claims.scheme.as_ref().or(target_scheme.filter(|_| peer.is_trusted)) {
        Some(scheme) if *scheme == Scheme::HTTPS => Scheme::HTTPS,
        _ => Scheme::HTTP,
    };
    let proto = if scheme == Scheme::HTTPS { "https" } else { "http" };
    headers.insert(PROTO, HeaderValue::from_static(proto));
    headers.insert(HOST, claims.host.clone().unwrap_or_else(|| host.clone()));
    headers.insert(FOR, appended(claims.addresses.iter().map(String::as_str), ", ", &peer.text));
    headers.insert(REAL_IP, claims.client(peer, proxies));
    match claims.forwarded {
        Some(forwarded) => {
            headers.insert(header::FORWARDED, appended([forwarded.as_str()], ", for=", &node(peer)));
        }
        None if has_claims => {
            headers.remove(header::FORWARDED);
        }
        None => {}
    }
    scheme
}

/// Returns the address of the client, once [`apply`] has set the fields about it.
pub(super) fn client(headers: &HeaderMap) -> Option<IpAddr> {
    headers.get(REAL_IP)?.to_str().ok()?.parse().ok()
}

/// Returns the address of a request's client: that of the peer, or the one that a trusted proxy
/// reports.
pub(crate) fn client_address(headers: &HeaderMap, peer: IpAddr, proxies: &TrustedProxies) -> IpAddr {
    let peer = Peer::new(peer, proxies);
    if !peer.is_trusted {
        return peer.address;
    }
    let client = Claims::read(headers).client(&peer, proxies);
    client.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(peer.address)
}

/// Returns whether a trusted proxy reports that its client uses HTTPS.
pub(crate) fn is_https(headers: &HeaderMap, peer: IpAddr, proxies: &TrustedProxies) -> bool {
    proxies.contains(peer) && Claims::read(headers).scheme == Some(Scheme::HTTPS)
}

/// Returns whether the field has the standard spelling, without `_`.
fn is_exact(name: &HeaderName) -> bool {
    !name.as_str().contains('_')
}

/// A trusted proxy's fields about its client.
#[derive(Debug, Default)]
struct Claims {
    /// The addresses in the order of the field, starting with the client's.
    addresses: Vec<String>,
    scheme: Option<Scheme>,
    host: Option<HeaderValue>,
    /// The original `forwarded`, if the proxy uses it.
    forwarded: Option<String>,
}

impl Claims {
    /// Reads the claims of a trusted proxy. A proxy sets either `x-forwarded-*` or `forwarded`. It
    /// may pass the other form through from its client unchecked, so the other form is ignored.
    fn read(headers: &HeaderMap) -> Self {
        let scheme = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
            "https" | "wss" => Some(Scheme::HTTPS),
            "http" | "ws" => Some(Scheme::HTTP),
            _ => None,
        };
        // An invalid host is ignored, as if the proxy had sent none.
        let host = |text: String| {
            let host = read_authority(text.as_bytes()).ok()?;
            HeaderValue::try_from(host.as_str()).ok()
        };
        let list = |name: HeaderName| items(headers, &name);
        if [FOR, PROTO, HOST].iter().any(|name| headers.contains_key(name)) {
            let scheme = list(PROTO).last().and_then(|text| scheme(text));
            return Self { addresses: list(FOR), scheme, host: list(HOST).pop().and_then(host), ..Self::default() };
        }
        let elements = list(header::FORWARDED);
        if elements.is_empty() {
            return Self { addresses: list(REAL_IP), ..Self::default() };
        }
        let last = |name: &str| elements.last().and_then(|element| parameter(element, name));
        let addresses = elements.iter().map(|element| parameter(element, "for").unwrap_or("unknown".to_owned()));
        Self {
            addresses: addresses.collect(),
            scheme: last("proto").and_then(|text| scheme(&text)),
            host: last("host").and_then(host),
            forwarded: Some(elements.join(", ")),
        }
    }

    /// Returns the address of the client: the last address in the chain that isn't a trusted proxy.
    /// Earlier entries are unverified.
    #[expect(clippy::expect_used, reason = "an address is visible ASCII")]
    fn client(&self, peer: &Peer, proxies: &TrustedProxies) -> HeaderValue {
        let mut client = peer.address;
        for address in self.addresses.iter().rev() {
            match address_of(address) {
                Some(address) if proxies.contains(client) => client = address,
                _ => break,
            }
        }
        if client == peer.address {
            return peer.text.clone();
        }
        HeaderValue::try_from(client.to_string()).expect("an address is visible ASCII")
    }
}

/// Returns the items of a list field from all its lines. Only `forwarded` has quoted strings. A
/// byte that isn't visible ASCII becomes `?`: dropping its line would also drop the items that a
/// proxy has appended.
fn items(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let text = |value: &HeaderValue| -> String {
        let is_visible = |byte: &u8| matches!(byte, b' '..=b'~');
        value.as_bytes().iter().map(|byte| if is_visible(byte) { char::from(*byte) } else { '?' }).collect()
    };
    let has_quotes = *name == header::FORWARDED;
    let lines = headers.get_all(name).iter().map(text);
    lines.flat_map(|line| split(&line, ',', has_quotes)).collect()
}

/// Splits a list. A separator inside quotes doesn't count, unless the last quote is unclosed: such
/// a quote comes from a client, and must not hide the items that a proxy has appended.
fn split(text: &str, separator: char, has_quotes: bool) -> Vec<String> {
    let has_quotes = has_quotes && text.matches('"').count().is_multiple_of(2);
    let mut is_quoted = false;
    let parts = text.split(|symbol| {
        is_quoted ^= has_quotes && symbol == '"';
        symbol == separator && !is_quoted
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Returns a parameter of one element of `forwarded`, without its quotes.
fn parameter(element: &str, name: &str) -> Option<String> {
    let pairs = split(element, ';', true);
    let found = pairs.iter().filter_map(|pair| pair.split_once('=')).find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim_matches('"').to_owned())
}

/// Returns the address of a node, which may have a port and, for IPv6, brackets.
fn address_of(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
    let address = bare.parse().ok().or_else(|| node.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Returns a list field with an additional item.
fn appended<'a>(items: impl IntoIterator<Item = &'a str>, separator: &str, last: &HeaderValue) -> HeaderValue {
    let mut list: Vec<u8> = Vec::new();
    for item in items {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(item.as_bytes());
    }
    if list.is_empty() {
        return last.clone();
    }
    list.extend_from_slice(separator.as_bytes());
    list.extend_from_slice(last.as_bytes());
    HeaderValue::try_from(list).unwrap_or_else(|_| last.clone())
}

/// Formats a peer in the syntax of `forwarded`: an IPv6 address is in brackets and quotes.
#[expect(clippy::expect_used, reason = "an address is visible ASCII")]
fn node(peer: &Peer) -> HeaderValue {
    match peer.address {
        IpAddr::V4(_) => peer.text.clone(),
        IpAddr::V6(address) => HeaderValue::try_from(format!("\"[{address}]\"")).expect("an address is visible ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the fields that an app receives if this peer sends `fields` and 10.0.0.0/8 is
    /// trusted.
    fn seen(peer: &str, fields: &[(&'static str, &str)]) -> (Scheme, HeaderMap) {
        let proxies = TrustedProxies::read(&["10.0.0.0/8"]).expect("a network");
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let peer = Peer::new(peer.parse().expect("an address"), &proxies);
        let host = HeaderValue::from_static("app.localhost");
        let scheme = apply(&mut headers, &peer, &proxies, &host, None);
        (scheme, headers)
    }

    fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        assert!(headers.get_all(name).iter().count() <= 1, "{headers:?}");
        headers.get(name).map(|value| value.to_str().expect("text"))
    }

    #[test]
    fn forwarding_headers_of_untrusted_clients_are_replaced() {
        let claims = [
            ("forwarded", "for=6.6.6.6;proto=https"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-prefix", "/admin"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x-real_ip", "6.6.6.6"),
            ("x-forwarded", "stays"),
        ];
        let (scheme, headers) = seen("::ffff:192.0.2.1", &claims);
        assert_eq!(scheme, Scheme::HTTP);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"]);
        assert_eq!(value(&headers, "x-forwarded-for"), Some("192.0.2.1"));
        assert_eq!(value(&headers, "x-forwarded-proto"), Some("http"));
        assert_eq!(value(&headers, "x-forwarded-host"), Some("app.localhost"));
        assert_eq!(value(&headers, "x-real-ip"), Some("192.0.2.1"));
    }

    #[test]
    fn the_headers_of_a_trusted_proxy_are_kept_and_appended_to() {
        let fields = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "10.0.0.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=6.6.6.6"),
        ];
        let (scheme, headers) = seen("10.0.0.1", &fields);
        assert_eq!(scheme, Scheme::HTTPS);
        assert_eq!(value(&headers, "x-forwarded-for"), Some("192.0.2.1, 10.0.0.9, 10.0.0.1"));
        assert_eq!(value(&headers, "x-forwarded-proto"), Some("https"));
        assert_eq!(value(&headers, "x-forwarded-host"), Some("shop.example"));
        assert_eq!(value(&headers, "x-forwarded-port"), Some("443"));
        assert_eq!(value(&headers, "x-real-ip"), Some("192.0.2.1"));
        assert_eq!(value(&headers, "forwarded"), None, "the proxy doesn't set it, so it comes from the client");
    }

    #[test]
    fn an_app_receives_one_forwarded_host() {
        for (hosts, expected) in [
            (&["a.example", "b.example"][..], "b.example"),
            (&["a.example, b.example"], "b.example"),
            (&["shop.example", ""], "shop.example"),
            (&[""], "app.localhost"),
            (&[" , "], "app.localhost"),
        ] {
            let fields: Vec<_> = hosts.iter().map(|host| ("x-forwarded-host", *host)).collect();
            let (_, headers) = seen("10.0.0.1", &fields);
            assert_eq!(value(&headers, "x-forwarded-host"), Some(expected), "{hosts:?}");
        }
    }

    #[test]
    fn an_invalid_forwarded_host_is_ignored() {
        for invalid in ["a b@c", "u@a.example", "a.example:99999", "a/b", "<script>", "\u{e9}"] {
            for (name, value_sent) in
                [("x-forwarded-host", invalid.to_owned()), ("forwarded", format!("for=192.0.2.1;host=\"{invalid}\""))]
            {
                let (_, headers) = seen("10.0.0.1", &[(name, &value_sent)]);
                assert_eq!(value(&headers, "x-forwarded-host"), Some("app.localhost"), "{name}: {invalid}");
            }
        }
    }

    #[test]
    fn a_trusted_proxy_may_use_the_forwarded_header() {
        let field = ("forwarded", "for=\"[2001:db8::7]:4711\";proto=http, for=10.0.0.9;host=shop.example;Proto=https");
        let (scheme, headers) = seen("10.0.0.1", &[field]);
        assert_eq!(scheme, Scheme::HTTPS);
        assert_eq!(value(&headers, "forwarded"), Some(format!("{}, for=10.0.0.1", field.1).as_str()));
        assert_eq!(value(&headers, "x-forwarded-for"), Some("[2001:db8::7]:4711, 10.0.0.9, 10.0.0.1"));
        assert_eq!(value(&headers, "x-forwarded-host"), Some("shop.example"));
        assert_eq!(value(&headers, "x-real-ip"), Some("2001:db8::7"));
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        let client = |chain: &str| {
            let (_, headers) = seen("10.0.0.1", &[("x-forwarded-for", chain)]);
            value(&headers, "x-real-ip").expect("it is always set").to_owned()
        };
        assert_eq!(client("6.6.6.6, 192.0.2.1"), "192.0.2.1");
        assert_eq!(client("6.6.6.6, 192.0.2.1, 10.0.0.2"), "192.0.2.1");
        assert_eq!(client("192.0.2.1:5000"), "192.0.2.1");
        assert_eq!(client("[2001:db8::1]"), "2001:db8::1");
        assert_eq!(client("192.0.2.1, unknown"), "10.0.0.1");
        assert_eq!(client("10.0.0.3, 10.0.0.2"), "10.0.0.3");
        let (_, headers) = seen("10.0.0.1", &[("x-real-ip", "192.0.2.1")]);
        assert_eq!(value(&headers, "x-real-ip"), Some("192.0.2.1"), "the proxy sends no other field");
        assert_eq!(value(&headers, "x-forwarded-for"), Some("192.0.2.1, 10.0.0.1"));
    }

    #[test]
    fn a_client_cannot_hide_the_address_that_a_proxy_has_appended() {
        for (name, text) in [
            ("x-forwarded-for", "\", 192.0.2.1"),
            ("x-forwarded-for", "\"a, 192.0.2.1"),
            ("x-forwarded-for", "\u{e9}, 192.0.2.1"),
            ("x-forwarded-for", "6.6.6.6\t, 192.0.2.1"),
            ("forwarded", "for=\"a, for=192.0.2.1;proto=https"),
            ("forwarded", "for=\u{e9}, for=192.0.2.1;proto=https"),
            ("forwarded", "for=\"6.6.6.6, 7.7.7.7\", for=192.0.2.1;proto=https"),
        ] {
            let (scheme, headers) = seen("10.0.0.1", &[(name, text)]);
            assert_eq!(value(&headers, "x-real-ip"), Some("192.0.2.1"), "{name}: {text}");
            assert_eq!(scheme == Scheme::HTTPS, name == "forwarded", "{name}: {text}");
        }
    }

    #[test]
    fn only_a_trusted_peer_can_set_the_scheme_by_the_target() {
        let proxies = TrustedProxies::read(&["10.0.0.0/8"]).expect("a network");
        let host = HeaderValue::from_static("app.localhost");
        for (peer, scheme) in [("10.0.0.1", Scheme::HTTPS), ("192.0.2.1", Scheme::HTTP)] {
            let peer = Peer::new(peer.parse().expect("an address"), &proxies);
            let found = apply(&mut HeaderMap::new(), &peer, &proxies, &host, Some(&Scheme::HTTPS));
            assert_eq!(found, scheme);
        }
    }

    proptest! {
        #[test]
        fn no_forwarding_header_causes_a_panic(
            chain in "[ -~]{0,60}", forwarded in "[ -~]{0,60}", is_trusted in any::<bool>(),
        ) {
            let peer = if is_trusted { "10.0.0.1" } else { "192.0.2.1" };
            let (_, headers) = seen(peer, &[("x-forwarded-for", &chain), ("forwarded", &forwarded)]);
            prop_assert!(headers["x-real-ip"].to_str().is_ok_and(|text| text.parse::<IpAddr>().is_ok()));
            let (_, headers) = seen(peer, &[("forwarded", &forwarded)]);
            prop_assert!(headers["x-forwarded-for"].to_str().is_ok_and(|text| text.ends_with(peer)));
        }
    }
}
