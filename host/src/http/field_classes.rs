//! Classes of header fields that the host removes or replaces on their way between client and app.
//! Never changes a message.

use http::{HeaderName, header};

/// Fields that describe a connection, not a message (RFC 9110, section 7.6.1). The host removes
/// them in both directions.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// The address of the client, which the host sets on every request.
pub(crate) const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Returns whether a field is hop-by-hop.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Returns whether a field describes the client. Some gateways treat `_` as `-`, so both spellings
/// count.
pub(crate) fn is_about_client(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let same = |wanted: &[u8], given: &[u8]| {
        let dash = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
        given.iter().map(dash).eq(wanted.iter().copied())
    };
    let prefix = b"x-forwarded-";
    same(b"forwarded", name)
        || same(b"x-real-ip", name)
        || name.len() >= prefix.len() && same(prefix, &name[..prefix.len()])
}
