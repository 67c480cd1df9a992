//! Recognises the encoding of text by its first bytes. Never decodes it.

/// Returns whether text starts with a UTF-16 byte order mark, or is ASCII in two bytes per
/// character.
pub(crate) fn is_utf16(bytes: &[u8]) -> bool {
    let marked = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let pairs = bytes.chunks_exact(2).take(32);
    let ascii =
        |high: usize| pairs.clone().all(|pair| pair[high] == 0 && pair[1 - high].is_ascii() && pair[1 - high] > 8);
    marked || (bytes.len() >= 8 && (ascii(0) || ascii(1)))
}
