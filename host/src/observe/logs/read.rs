//! Reads an app's log: pages backwards from a cursor, and lines forwards after one. Never writes,
//! and never holds a whole segment in memory.

use std::{
    fmt,
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{LineFilter, LogLine};
use crate::observe::limits;

/// A position in a log: a segment and a byte offset. Its text form is `12-3456`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

impl Cursor {
    /// The text form as a regular expression, for the OpenAPI description.
    pub(crate) const PATTERN: &str = "^[0-9]{1,18}-[0-9]{1,18}$";
    pub(crate) const CHARS_MAX: usize = 37;
    const DIGITS_MAX: usize = 18;
}

/// A page of lines, oldest first, with the cursor of the next older page.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = LogPage)]
pub(crate) struct Page {
    pub(crate) items: Vec<LogLine>,
    #[schema(value_type = Option<String>)]
    pub(crate) next: Option<Cursor>,
    /// The position after the page. A stream with this `Last-Event-ID` continues there.
    #[schema(value_type = String)]
    pub(crate) end: Cursor,
    /// Whether the search stopped at one of its limits, before it found as many lines as requested
    /// or reached the beginning of the log. `next` continues the search.
    #[serde(rename = "partial")]
    pub(crate) is_partial: bool,
    /// The positions after the items.
    #[serde(skip)]
    pub(super) ends: Vec<Cursor>,
}

/// Lines after a position, oldest first.
pub(super) struct LinesAfter {
    /// The lines, each with the position after it.
    pub(super) lines: Vec<(Cursor, LogLine)>,
    /// The number of lines that were read, selected or not.
    pub(super) read_lines: u64,
    /// The position up to which lines were read.
    pub(super) end: Cursor,
    /// Whether these are all lines.
    pub(super) is_all: bool,
    /// The new beginning of the log, if lines before it were removed unread.
    pub(super) first_kept: Option<Cursor>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.segment, self.offset)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = "invalid log cursor; use the `next` of a previous page";
        let (segment, offset) = text.split_once('-').ok_or(invalid)?;
        let number = |text: &str| {
            let is_number = text.len() <= Self::DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| is_number).ok_or(invalid)
        };
        Ok(Self { segment: number(segment)?, offset: number(offset)? })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Returns the path of a segment.
pub(super) fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:010}.ndjson"))
}

/// Returns the numbers of the existing segments, ascending.
pub(super) fn segments(dir: &Path) -> std::io::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut numbers = Vec::new();
    for app in entries {
        let name = app?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".ndjson")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns the newest `limit` selected lines before the cursor, or fewer if the search reaches a
/// limit. Skips unreadable lines, such as a line that a power failure truncated.
pub(super) fn page(dir: &Path, filter: &LineFilter, limit: usize, before: Cursor) -> std::io::Result<Page> {
    let mut found = Found { newest_first: Vec::new(), next: None, end: before };
    let (mut searched, mut found_bytes) = (0, 0);
    let numbers = segments(dir)?;
    for &segment in numbers.iter().rev().filter(|&&segment| segment <= before.segment) {
        let file = match File::open(segment_path(dir, segment)) {
            Ok(file) => file,
            // The segment expired after the folder was listed.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let metadata = file.metadata()?;
        if metadata.modified().is_ok_and(|changed| filter.is_after(changed)) {
            break;
        }
        let bytes = if segment == before.segment { before.offset.min(metadata.len()) } else { metadata.len() };
        if filter.until.is_some() {
            searched += limits::LOG_TIME_BYTES;
            if first_time(&file, bytes)?.is_some_and(|first| filter.is_before(first)) {
                found.next = Some(Cursor { segment, offset: 0 });
                if searched >= limits::LOG_SEARCH_BYTES {
                    return Ok(found.page(true));
                }
                continue;
            }
        }
        let mut lines = Backwards { file: &file, start: bytes, bytes: Vec::new(), kept: 0 };
        while let Some((start, line)) = lines.previous()? {
            if found.newest_first.len() == limit {
                return Ok(found.page(false));
            }
            if searched >= limits::LOG_SEARCH_BYTES || found_bytes >= limits::LOG_PAGE_BYTES {
                return Ok(found.page(true));
            }
            searched += line.len() as u64;
            let selected = serde_json::from_slice(line).ok().filter(|line| filter.selects(line));
            if let Some(selected) = selected {
                found_bytes += line.len() as u64;
                found.newest_first.push((selected, Cursor { segment, offset: start + line.len() as u64 }));
            }
            found.next = Some(Cursor { segment, offset: start });
        }
    }
    found.next = None;
    Ok(found.page(false))
}

/// The result of a search so far.
struct Found {
    newest_first: Vec<(LogLine, Cursor)>,
    next: Option<Cursor>,
    end: Cursor,
}

impl Found {
    fn page(self, is_partial: bool) -> Page {
        let Self { newest_first, next, end } = self;
        let (items, ends) = newest_first.into_iter().rev().unzip();
        Page { items, next, end, is_partial, ends }
    }
}

/// Returns the time of a segment's first line.
fn first_time(file: &File, bytes: u64) -> std::io::Result<Option<Timestamp>> {
    let mut head = vec![0; usize::try_from(bytes.min(limits::LOG_TIME_BYTES)).unwrap_or(0)];
    file.read_exact_at(&mut head, 0)?;
    let text = head.strip_prefix(b"{\"time\":\"").and_then(|rest| rest.split(|&byte| byte == b'"').next());
    Ok(text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()))
}

/// Reads the lines of a file from its end, and holds a part of the file only.
struct Backwards<'a> {
    file: &'a File,
    /// The position of `bytes` in the file.
    start: u64,
    /// Bytes that were read, up to the end of the last returned line.
    bytes: Vec<u8>,
    /// The bytes before the last returned line.
    kept: usize,
}

impl Backwards<'_> {
    /// Returns the line before the last one, with its newline and its position. A line without an
    /// end in sight is returned in parts, which are unreadable.
    fn previous(&mut self) -> std::io::Result<Option<(u64, &[u8])>> {
        self.bytes.truncate(self.kept);
        loop {
            let before_newline = self.bytes.len().saturating_sub(1);
            let newline = self.bytes[..before_newline].iter().rposition(|&byte| byte == b'\n');
            let is_line = newline.is_some() || self.start == 0 || self.bytes.len() >= limits::LOG_READ_BYTES;
            if is_line {
                self.kept = newline.map_or(0, |at| at + 1);
                let line = &self.bytes[self.kept..];
                return Ok((!line.is_empty()).then_some((self.start + self.kept as u64, line)));
            }
            let more = self.start.min(limits::LOG_BLOCK_BYTES);
            let mut block = vec![0; usize::try_from(more).unwrap_or(0)];
            self.file.read_exact_at(&mut block, self.start - more)?;
            block.extend_from_slice(&self.bytes);
            self.bytes = block;
            self.start -= more;
        }
    }
}

/// Returns the selected lines from a position to `end`, limited to the size of one read.
pub(super) fn after(dir: &Path, filter: &LineFilter, position: Cursor, end: Cursor) -> std::io::Result<LinesAfter> {
    let numbers = segments(dir)?;
    let mut is_removed = position.segment > 0 && !numbers.contains(&position.segment);
    for segment in numbers.into_iter().filter(|segment| (position.segment..=end.segment).contains(segment)) {
        let begin = if segment == position.segment { position.offset } else { 0 };
        let bytes_max = if segment == end.segment { end.offset.saturating_sub(begin) } else { u64::MAX };
        let mut bytes = Vec::new();
        match File::open(segment_path(dir, segment)) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(begin))?;
                file.take(bytes_max.min(limits::LOG_READ_BYTES as u64)).read_to_end(&mut bytes)?;
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                is_removed = true;
                continue;
            }
            Err(e) => return Err(e),
        }
        let first_kept = is_removed.then_some(Cursor { segment, offset: 0 });
        let whole = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => newline + 1,
            // No line is that long.
            None if bytes.len() >= limits::LOG_READ_BYTES => bytes.len(),
            None => continue,
        };
        let (mut lines, mut read_lines, mut offset) = (Vec::new(), 0, begin);
        for line in bytes[..whole].split_inclusive(|&byte| byte == b'\n') {
            read_lines += 1;
            offset += line.len() as u64;
            let selected = serde_json::from_slice(line).ok().filter(|line| filter.selects(line));
            lines.extend(selected.map(|line| (Cursor { segment, offset }, line)));
        }
        let end_read = Cursor { segment, offset };
        return Ok(LinesAfter { lines, read_lines, end: end_read, is_all: end_read >= end, first_kept });
    }
    Ok(LinesAfter { lines: Vec::new(), read_lines: 0, end: position.max(end), is_all: true, first_kept: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &[&[u8]]) -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().expect("makes a folder");
        let path = dir.path().join("lines");
        std::fs::write(&path, lines.concat()).expect("writes");
        let file = File::open(path).expect("opens");
        (dir, file)
    }

    fn backwards(file: &File) -> Vec<(u64, usize)> {
        let bytes = file.metadata().expect("a size").len();
        let mut lines = Backwards { file, start: bytes, bytes: Vec::new(), kept: 0 };
        let mut found = Vec::new();
        while let Some((start, line)) = lines.previous().expect("reads") {
            found.push((start, line.len()));
        }
        found
    }

    #[test]
    fn lines_are_read_from_the_end_across_blocks() {
        let long = [vec![b'x'; 100_000], b"\n".to_vec()].concat();
        let (_dir, file) = written(&[b"one\n", &long, b"\n", &long, b"cut"]);
        assert_eq!(backwards(&file), [(200_007, 3), (100_006, 100_001), (100_005, 1), (4, 100_001), (0, 4)]);
        let (_dir, empty) = written(&[]);
        assert_eq!(backwards(&empty), []);
    }

    #[test]
    fn a_line_without_an_end_is_read_in_bounded_parts() {
        let endless = vec![b'x'; 3 * limits::LOG_READ_BYTES];
        let (_dir, file) = written(&[b"one\n", &endless]);
        let parts = backwards(&file);
        assert!(parts.iter().all(|(_, bytes)| *bytes < 2 * limits::LOG_READ_BYTES), "{parts:?}");
        let total: usize = parts.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!((total, parts.last()), (endless.len() + 4, Some(&(0, 4))));
    }

    #[test]
    fn the_time_of_the_first_line_is_read_without_the_line() {
        let time = |text: &str| {
            let (_dir, file) = written(&[text.as_bytes()]);
            first_time(&file, text.len() as u64).expect("reads").map(|time| time.to_string())
        };
        let line = format!("{{\"time\":\"2026-11-30T12:00:00.5Z\",\"app\":\"{}\"}}\n", "x".repeat(4_000));
        assert_eq!(time(&line).as_deref(), Some("2026-11-30T12:00:00.5Z"));
        assert_eq!((time(""), time("{\"time\":"), time("nonsense\n")), (None, None, None));
    }
}
