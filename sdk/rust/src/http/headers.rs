//! Header fields in the order in which they arrived. Never checks what HTTP permits in them; the
//! host does.

use std::borrow::Cow;

use super::packed;

/// One header field.
pub(crate) type Field = (Cow<'static, str>, Cow<'static, [u8]>);

/// Header fields in order. Names are case-insensitive and may repeat.
#[derive(Clone, Default)]
pub struct Headers {
    /// The first fields, as the host passed them: most handlers read few of them.
    received: Received,
    others: Vec<Field>,
}

/// A sequence of names and values, from an index of the bytes to their end.
#[derive(Clone, Default)]
struct Received {
    bytes: Vec<u8>,
    start: usize,
}

impl Received {
    const fn none() -> Self {
        Self { bytes: Vec::new(), start: 0 }
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &self.bytes[self.start..];
        std::iter::from_fn(move || {
            let (name, after) = packed::split(rest)?;
            let (value, after) = packed::split(after)?;
            rest = after;
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }
}

impl Headers {
    /// Creates an empty list.
    pub const fn new() -> Self {
        Self { received: Received::none(), others: Vec::new() }
    }

    /// Creates a list from fields.
    pub(crate) const fn of(fields: Vec<Field>) -> Self {
        Self { received: Received::none(), others: fields }
    }

    /// Creates the list of the names and values that the host encoded, from `start` to the end of
    /// `bytes`.
    pub(crate) fn received(bytes: Vec<u8>, start: usize) -> Self {
        debug_assert!(start <= bytes.len(), "the fields are within the bytes");
        Self { received: Received { bytes, start }, others: Vec::new() }
    }

    /// Returns the first value of a name, if it is text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_bytes(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the first value of a name.
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns every value of a name.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Appends a field.
    pub fn append(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) {
        self.others.push((name.into(), value.into().0));
    }

    /// Sets a field and removes any others of its name.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) {
        let name = name.into();
        self.remove(&name);
        self.append(name, value);
    }

    /// Removes every field of a name.
    pub fn remove(&mut self, name: &str) {
        if self.received.iter().any(|(field, _)| field.eq_ignore_ascii_case(name)) {
            self.unpack();
        }
        self.others.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
    }

    /// Returns every field in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.received.iter().chain(self.others.iter().map(|(name, value)| (&**name, &**value)))
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.received.iter().count() + self.others.len()
    }

    /// Returns whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Copies the received fields, so that they can be changed.
    fn unpack(&mut self) {
        let received = std::mem::take(&mut self.received);
        let fields = received.iter().map(|(name, value)| (Cow::Owned(name.to_owned()), Cow::Owned(value.to_vec())));
        self.others.splice(..0, fields);
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)));
        formatter.debug_map().entries(fields).finish()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

/// Fields of one connection, which only the host sets.
#[cfg(target_family = "wasm")]
const OF_THE_CONNECTION: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

#[cfg(target_family = "wasm")]
impl Headers {
    /// Returns the fields except those of the connection, which make a host reject the whole list.
    pub(crate) fn into_entries(mut self) -> Vec<(String, Vec<u8>)> {
        self.unpack();
        let is_ours = |name: &str| !OF_THE_CONNECTION.iter().any(|other| name.eq_ignore_ascii_case(other));
        let entries = self.others.into_iter().filter(|(name, _)| is_ours(name));
        entries.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }
}

/// A header's value, from text or bytes, owned or `'static`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValue(Cow<'static, [u8]>);

impl HeaderValue {
    /// Returns the value's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&'static str> for HeaderValue {
    fn from(value: &'static str) -> Self {
        Self(Cow::Borrowed(value.as_bytes()))
    }
}

impl From<String> for HeaderValue {
    fn from(value: String) -> Self {
        Self(Cow::Owned(value.into_bytes()))
    }
}

impl From<Cow<'static, str>> for HeaderValue {
    fn from(value: Cow<'static, str>) -> Self {
        match value {
            Cow::Borrowed(value) => value.into(),
            Cow::Owned(value) => value.into(),
        }
    }
}

impl From<Vec<u8>> for HeaderValue {
    fn from(value: Vec<u8>) -> Self {
        Self(Cow::Owned(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_case_insensitive() {
        let mut headers = Headers::new();
        headers.append("Accept", "text/html");
        headers.append("accept", "text/plain".to_owned());
        assert_eq!(headers.get("ACCEPT"), Some("text/html"));
        assert_eq!(headers.get_all("accept").count(), 2);
        headers.set("ACCEPT", "*/*");
        assert_eq!((headers.len(), headers.get("accept")), (1, Some("*/*")));
    }

    #[test]
    fn received_fields_can_be_read_and_changed() {
        let mut bytes = b"the target".to_vec();
        let start = bytes.len();
        for text in ["accept", "*/*", "x-a", "1", "accept", "text/html"] {
            packed::push(&mut bytes, text.as_bytes());
        }
        let mut headers = Headers::received(bytes, start);
        assert_eq!((headers.len(), headers.get("Accept"), headers.is_empty()), (3, Some("*/*"), false));
        headers.append("x-b", "2");
        let copy = headers.clone();
        headers.remove("x-c");
        assert_eq!(headers, copy);
        headers.set("accept", "text/plain");
        let fields: Vec<_> = headers.iter().collect();
        assert_eq!(fields, [("x-a", &b"1"[..]), ("x-b", b"2"), ("accept", b"text/plain")]);
        assert_eq!(format!("{headers:?}"), r#"{"x-a": "1", "x-b": "2", "accept": "text/plain"}"#);
    }
}
