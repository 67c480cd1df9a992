//! Reads an app's log: pages backwards from a cursor, and lines forwards after one. Never writes,
//! and never holds more than one segment in memory.

use std::{
    fmt,
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Serialize, Serializer};

use super::{LineFilter, LogLine};
use crate::observe::limits::{LOG_FOLLOW_READ_BYTES, LOG_SEARCH_BYTES};

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
    /// The positions after the items.
    #[serde(skip)]
    pub(super) ends: Vec<Cursor>,
}

/// Lines after a position, oldest first.
pub(super) struct LinesAfter {
    /// The lines, each with the position after it.
    pub(super) lines: Vec<(Cursor, LogLine)>,
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

/// Returns the newest `limit` selected lines before the cursor, or fewer if the search reaches its
/// limit of bytes. Skips unreadable lines, such as a line that a power failure truncated.
pub(super) fn page(dir: &Path, filter: LineFilter, limit: usize, before: Cursor) -> std::io::Result<Page> {
    let mut newest_first = Vec::new();
    let mut next = None;
    let mut searched = 0;
    let numbers = segments(dir)?;
    for &segment in numbers.iter().rev().filter(|&&segment| segment <= before.segment) {
        if searched >= LOG_SEARCH_BYTES {
            return Ok(finished(newest_first, next, before));
        }
        let bytes_max = if segment == before.segment { before.offset } else { u64::MAX };
        let mut bytes = Vec::new();
        match std::fs::File::open(segment_path(dir, segment)) {
            Ok(file) => file.take(bytes_max).read_to_end(&mut bytes)?,
            // The segment expired after the folder was listed.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        searched += bytes.len() as u64;
        let mut end = bytes.len();
        while end > 0 {
            if newest_first.len() == limit {
                return Ok(finished(newest_first, next, before));
            }
            let start = bytes[..end - 1].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            let line = serde_json::from_slice(&bytes[start..end]).ok();
            if let Some(line) = line.filter(|line| filter.selects(line)) {
                newest_first.push((line, Cursor { segment, offset: end as u64 }));
            }
            next = Some(Cursor { segment, offset: start as u64 });
            end = start;
        }
    }
    Ok(finished(newest_first, None, before))
}

fn finished(mut newest_first: Vec<(LogLine, Cursor)>, next: Option<Cursor>, end: Cursor) -> Page {
    newest_first.reverse();
    let (items, ends) = newest_first.into_iter().unzip();
    Page { items, next, end, ends }
}

/// Returns the lines from a position to `end`, limited to the size of one read.
pub(super) fn after(dir: &Path, position: Cursor, end: Cursor) -> std::io::Result<LinesAfter> {
    let numbers = segments(dir)?;
    let is_removed = position.segment > 0 && !numbers.contains(&position.segment);
    let oldest = numbers.iter().copied().find(|segment| *segment >= position.segment);
    let first_kept = oldest.filter(|_| is_removed).map(|segment| Cursor { segment, offset: 0 });
    for segment in numbers.into_iter().filter(|segment| (position.segment..=end.segment).contains(segment)) {
        let begin = if segment == position.segment { position.offset } else { 0 };
        let bytes_max = if segment == end.segment { end.offset.saturating_sub(begin) } else { u64::MAX };
        let mut bytes = Vec::new();
        match std::fs::File::open(segment_path(dir, segment)) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(begin))?;
                file.take(bytes_max.min(LOG_FOLLOW_READ_BYTES)).read_to_end(&mut bytes)?;
            }
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        }
        let Some(whole) = bytes.iter().rposition(|&byte| byte == b'\n') else { continue };
        let mut lines = Vec::new();
        let mut offset = begin;
        for line in bytes[..=whole].split_inclusive(|&byte| byte == b'\n') {
            offset += line.len() as u64;
            lines.extend(serde_json::from_slice(line).ok().map(|line| (Cursor { segment, offset }, line)));
        }
        let end_read = Cursor { segment, offset };
        return Ok(LinesAfter { lines, end: end_read, is_all: end_read >= end, first_kept });
    }
    Ok(LinesAfter { lines: Vec::new(), end: position.max(end), is_all: true, first_kept })
}
