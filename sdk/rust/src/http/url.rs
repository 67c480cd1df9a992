//! The parts of URLs, and percent-encoding. Never resolves a name.

use std::borrow::Cow;

use crate::{Error, Result};

/// Splits a URL into scheme, authority, and path with query.
pub(crate) fn split(url: &str) -> Result<(&'static str, &str, &str)> {
    let (scheme, rest) = if let Some(rest) = url.strip_prefix("https://") {
        ("https", rest)
    } else if let Some(rest) = url.strip_prefix("http://") {
        ("http", rest)
    } else {
        return Err(Error::msg(format!("invalid URL {url:?}: it must begin with http:// or https://")));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() {
        return Err(Error::msg(format!("invalid URL {url:?}: it has no host")));
    }
    let path = path.split('#').next().unwrap_or_default();
    Ok((scheme, authority, path))
}

/// Splits a text at the first occurrence of an ASCII byte, which neither part contains. For short
/// texts it takes less time than the searches of the standard library.
pub(crate) fn split_at_byte(text: &str, byte: u8) -> (&str, Option<&str>) {
    match text.bytes().position(|found| found == byte) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// Decodes percent-encoding, and `+` as a space in forms and queries. Invalid UTF-8 becomes `�`.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || (plus_is_space && byte == b'+')) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| (*byte as char).to_digit(16));
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) if plus_is_space => decoded.push(b' '),
            (byte, ..) => decoded.push(byte),
        }
        at += 1;
    }
    Cow::Owned(match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Returns the decoded pairs of a query or a form.
pub(crate) fn pairs(encoded: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    encoded.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name, true), decode(value, true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_at_the_first_byte() {
        for (text, parts) in
            [("", ("", None)), ("ø", ("ø", None)), ("?", ("", Some(""))), ("ø?b?c", ("ø", Some("b?c")))]
        {
            assert_eq!(split_at_byte(text, b'?'), parts);
        }
    }

    #[test]
    fn a_url_has_three_parts() {
        assert_eq!(split("https://a.example:8443/b?c=d#e").unwrap(), ("https", "a.example:8443", "/b?c=d"));
        assert_eq!(split("http://a.example?c").unwrap(), ("http", "a.example", "?c"));
        assert!(split("ftp://a.example").unwrap_err().to_string().contains("must begin with"));
        assert!(split("http:///path").unwrap_err().to_string().contains("has no host"));
    }

    #[test]
    fn percent_encoding_is_decoded_and_invalid_sequences_stay() {
        assert_eq!(decode("caf%C3%A9+au%20lait", true), "café au lait");
        assert_eq!(decode("1+1", false), "1+1");
        assert_eq!(decode("100%", true), "100%");
        assert_eq!(decode("%zz%f", true), "%zz%f");
        assert_eq!(decode("%ff", true), "\u{fffd}");
    }
}
