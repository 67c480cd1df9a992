//! The encoding of heads in `isopod:app/http-packed`: a sequence of strings, each preceded by its
//! length as a 32-bit integer in little-endian order. Never interprets a head.

/// Appends a string to a sequence.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only a host receives such a head"))]
pub(crate) fn push(sequence: &mut Vec<u8>, text: &[u8]) {
    sequence.extend_from_slice(&(text.len() as u32).to_le_bytes());
    sequence.extend_from_slice(text);
}

/// Returns the first string of a sequence and the rest of the sequence; `None` at the end.
pub(crate) fn split(sequence: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = sequence.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_split_as_they_were_pushed() {
        let mut sequence = Vec::new();
        push(&mut sequence, b"a");
        push(&mut sequence, b"");
        let (first, rest) = split(&sequence).unwrap();
        assert_eq!((first, split(rest)), (&b"a"[..], Some((&b""[..], &b""[..]))));
        assert_eq!(split(b""), None);
    }
}
