//! Splits a stream of NDJSON into its lines, chunk by chunk. Owns the rules of line ends and the
//! limit of a line. Never parses a line, and never reads a body.

use bytes::{Bytes, BytesMut};

/// The bytes of a UTF-8 byte order mark, which some editors write at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line with content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The number of the line, counted from 1. Empty lines count too.
    pub(crate) number: u64,
    /// The line without its end.
    pub(crate) bytes: Bytes,
}

/// A line is longer than the limit. The rest of the stream can't be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line is longer than {bytes_max} bytes")]
pub(crate) struct LineTooLong {
    pub(crate) number: u64,
    pub(crate) bytes_max: usize,
}

/// The state between two chunks. It holds at most one line.
///
/// A line ends with LF, CRLF or the end of the stream. A byte order mark at the start of the stream
/// is dropped, and lines of white space are skipped.
pub(crate) struct Lines {
    /// The begun line.
    begun: BytesMut,
    /// The number of complete lines.
    complete: u64,
    bytes_max: usize,
}

impl Lines {
    /// Returns a splitter for a stream with lines of at most `bytes_max` bytes, without their ends.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self::after(0, bytes_max)
    }

    /// Returns a splitter for the rest of a stream after this number of complete lines.
    pub(crate) fn after(complete: u64, bytes_max: usize) -> Self {
        Self { begun: BytesMut::new(), complete, bytes_max }
    }

    /// Takes the next line with content from the front of `chunk`. Returns `None` if the chunk has
    /// no further line end; then the chunk is empty, and its rest begins the next line. The caller
    /// stops at an error.
    pub(crate) fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Line>, LineTooLong> {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let mut bytes = chunk.split_to(end + 1);
            bytes.truncate(end);
            if !self.begun.is_empty() {
                self.begin(&bytes)?;
                bytes = std::mem::take(&mut self.begun).freeze();
            }
            if let Some(line) = self.complete(bytes)? {
                return Ok(Some(line));
            }
        }
        let rest = std::mem::take(chunk);
        self.begin(&rest)?;
        Ok(None)
    }

    /// Returns the number of bytes in memory.
    pub(crate) fn held(&self) -> usize {
        self.begun.len()
    }

    /// Returns the last line if it has content but no end.
    pub(crate) fn finish(mut self) -> Result<Option<Line>, LineTooLong> {
        let bytes = std::mem::take(&mut self.begun).freeze();
        if bytes.is_empty() { Ok(None) } else { self.complete(bytes) }
    }

    /// Adds bytes to the begun line, if it can still be within the limit.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        // A byte order mark and the CR of the line's end don't count.
        let most = self.bytes_max.saturating_add(BYTE_ORDER_MARK.len() + 1);
        if self.begun.len() + bytes.len() > most {
            return Err(self.too_long());
        }
        self.begun.extend_from_slice(bytes);
        Ok(())
    }

    fn complete(&mut self, mut bytes: Bytes) -> Result<Option<Line>, LineTooLong> {
        if self.complete == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes = bytes.slice(BYTE_ORDER_MARK.len()..);
        }
        if bytes.ends_with(b"\r") {
            bytes.truncate(bytes.len() - 1);
        }
        if bytes.len() > self.bytes_max {
            return Err(self.too_long());
        }
        self.complete += 1;
        let is_blank = bytes.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        Ok((!is_blank).then_some(Line { number: self.complete, bytes }))
    }

    fn too_long(&self) -> LineTooLong {
        LineTooLong { number: self.complete + 1, bytes_max: self.bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splits a stream that arrives in these chunks.
    fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, bytes_max: usize) -> Result<Vec<Line>, (Vec<Line>, u64)> {
        let (mut lines, mut found) = (Lines::new(bytes_max), Vec::new());
        for chunk in chunks {
            let mut chunk = Bytes::copy_from_slice(chunk);
            loop {
                match lines.next(&mut chunk) {
                    Ok(Some(line)) => found.push(line),
                    Ok(None) => break,
                    Err(error) => return Err((found, error.number)),
                }
            }
            assert!(chunk.is_empty());
            assert!(lines.begun.len() <= bytes_max + 4, "the begun line is bounded");
        }
        match lines.finish() {
            Ok(last) => Ok(found.into_iter().chain(last).collect()),
            Err(error) => Err((found, error.number)),
        }
    }

    fn texts(stream: &[u8]) -> Vec<(u64, String)> {
        let lines = split([stream], 100).expect("no line is too long");
        lines.into_iter().map(|line| (line.number, String::from_utf8_lossy(&line.bytes).into_owned())).collect()
    }

    fn numbered(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
        lines.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
    }

    #[test]
    fn lines_end_with_lf_crlf_or_the_end_of_the_stream() {
        assert_eq!(texts(b"a\nb\r\nc"), numbered(&[(1, "a"), (2, "b"), (3, "c")]));
        assert_eq!(texts(b"a\n"), numbered(&[(1, "a")]));
        assert_eq!(texts(b"a\r"), numbered(&[(1, "a")]));
        assert_eq!(texts(b"a\rb\n"), numbered(&[(1, "a\rb")]), "a lone CR ends no line");
        assert_eq!(texts(b""), numbered(&[]));
    }

    #[test]
    fn empty_lines_are_skipped_but_counted() {
        assert_eq!(texts(b"\n\na\n \t\r\n\r\nb\n\n"), numbered(&[(3, "a"), (6, "b")]));
    }

    #[test]
    fn a_byte_order_mark_is_dropped_only_at_the_start() {
        assert_eq!(texts(b"\xef\xbb\xbfa\nb"), numbered(&[(1, "a"), (2, "b")]));
        assert_eq!(texts(b"\xef\xbb\xbf\r\nb"), numbered(&[(2, "b")]));
        assert_eq!(texts(b"a\n\xef\xbb\xbfb"), numbered(&[(1, "a"), (2, "\u{feff}b")]));
        assert_eq!(texts(b"\xef\xbb"), numbered(&[(1, "\u{fffd}")]), "an incomplete mark is content");
    }

    #[test]
    fn a_line_over_the_limit_is_refused_by_its_number() {
        assert_eq!(split([b"abcd\r\n".as_slice()], 4).map(|lines| lines.len()), Ok(1));
        assert_eq!(split([b"\xef\xbb\xbfabcd\r\n".as_slice()], 4).map(|lines| lines.len()), Ok(1));
        let (before, number) = split([b"a\n\nabcde\nb\n".as_slice()], 4).expect_err("the line is too long");
        assert_eq!((before.len(), number), (1, 3));
        assert!(split([b"abc".as_slice(), b"de"], 4).is_err(), "the last line has a limit too");
        let endless = std::iter::repeat_n(b"abcdefgh".as_slice(), 1_000);
        assert!(split(endless, 4).is_err());
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            stream in proptest::collection::vec(
                prop_oneof![
                    Just(b"\n".to_vec()), Just(b"\r".to_vec()), Just(b"\r\n".to_vec()), Just(b" ".to_vec()),
                    Just(BYTE_ORDER_MARK.to_vec()), Just(vec![0xef]), Just(vec![0xef, 0xbb]),
                    "[a-c]{1,9}".prop_map(String::into_bytes), any::<u8>().prop_map(|byte| vec![byte]),
                ],
                0..30,
            ),
            cuts in proptest::collection::vec(0..9usize, 0..60), bytes_max in 0..12usize,
        ) {
            let stream = stream.concat();
            let (mut rest, mut chunks) = (stream.as_slice(), Vec::new());
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            chunks.push(rest);
            prop_assert_eq!(split(chunks, bytes_max), split([stream.as_slice()], bytes_max));
        }

        #[test]
        fn the_lines_are_those_of_the_text(
            lines in proptest::collection::vec("[a-z ]{0,9}", 0..20), crlf in any::<bool>(), last in any::<bool>(),
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let mut stream = lines.join(end);
            if last {
                stream.push_str(end);
            }
            let with_content = (1..).zip(&lines).filter(|(_, line)| !line.trim().is_empty());
            let expected: Vec<(u64, String)> = with_content.map(|(number, line)| (number, line.clone())).collect();
            prop_assert_eq!(texts(stream.as_bytes()), expected);
        }
    }
}
