//! The encoding of heads in `isopod:app/http-packed`: a sequence of strings, each preceded by its
//! length as a 32-bit integer in little-endian order. Never interprets a head.

use crate::limits;
use http::request::Parts;

/// Returns the head of a request, followed by the length of the head.
pub(crate) fn request_head(parts: &Parts) -> wasmtime::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(limits::FLAT_HEAD_BYTES_USUAL);
    for text in target(parts) {
        push(&mut head, text.as_bytes())?;
    }
    for (name, value) in &parts.headers {
        push(&mut head, name.as_str().as_bytes())?;
        push(&mut head, value.as_bytes())?;
    }
    let length = u32::try_from(head.len())?;
    head.extend_from_slice(&length.to_le_bytes());
    Ok(head)
}

/// Returns method, scheme, authority, and path with query.
pub(crate) fn target(parts: &Parts) -> [&str; 4] {
    let uri = &parts.uri;
    [
        parts.method.as_str(),
        uri.scheme_str().unwrap_or("http"),
        uri.authority().map_or("", |authority| authority.as_str()),
        uri.path_and_query().map_or("/", |path| path.as_str()),
    ]
}

fn push(head: &mut Vec<u8>, text: &[u8]) -> wasmtime::Result<()> {
    head.extend_from_slice(&u32::try_from(text.len())?.to_le_bytes());
    head.extend_from_slice(text);
    Ok(())
}

/// Reads a sequence of strings. An incomplete string is returned as an error, and ends the
/// sequence.
pub(crate) struct Strings<'a> {
    rest: &'a [u8],
}

/// The sequence ends within a string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Incomplete;

impl<'a> Strings<'a> {
    pub(crate) fn new(sequence: &'a [u8]) -> Self {
        Self { rest: sequence }
    }
}

fn split(sequence: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = sequence.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

impl<'a> Iterator for Strings<'a> {
    type Item = Result<&'a [u8], Incomplete>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((text, rest)) = split(self.rest) else {
            self.rest = &[];
            return Some(Err(Incomplete));
        };
        self.rest = rest;
        Some(Ok(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(texts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        texts.iter().for_each(|text| push(&mut bytes, text).unwrap());
        bytes
    }

    #[test]
    fn a_request_is_packed_with_its_target_and_headers() {
        let request = http::Request::builder().method("POST").uri("https://a.example/x?y=1").header("a", "1");
        let (parts, ()) = request.header("b", "").body(()).unwrap().into_parts();
        let head = request_head(&parts).unwrap();
        let (strings, length) = head.split_at(head.len() - size_of::<u32>());
        assert_eq!(length, u32::try_from(strings.len()).unwrap().to_le_bytes());
        let strings: Result<Vec<_>, _> = Strings::new(strings).collect();
        assert_eq!(strings.unwrap(), ["POST", "https", "a.example", "/x?y=1", "a", "1", "b", ""].map(str::as_bytes));
    }

    #[test]
    fn strings_are_read_as_they_were_packed() {
        let texts = [&b""[..], b"a", &[0, 255], &[7; 70_000], b""];
        let packed = sequence(&texts);
        let read: Result<Vec<_>, _> = Strings::new(&packed).collect();
        assert_eq!(read.unwrap(), texts);
        assert_eq!(Strings::new(&[]).count(), 0);
    }

    #[test]
    fn a_truncated_string_is_incomplete_and_ends_the_sequence() {
        let whole = sequence(&[b"first", b"second"]);
        let first = sequence(&[b"first"]).len();
        for end in first + 1..whole.len() {
            let read: Vec<_> = Strings::new(&whole[..end]).collect();
            assert_eq!(read, [Ok(&b"first"[..]), Err(Incomplete)], "{end}");
        }
        assert_eq!(Strings::new(&[255, 255, 255, 255, 1]).collect::<Vec<_>>(), [Err(Incomplete)]);
    }
}
