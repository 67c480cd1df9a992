//! The open segment of an app's log: its buffer, and its file. Detects that the file was removed.
//! Never decides when lines are written.

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    AppLog, Config, Cursor,
    read::{segment_path, segments},
};
use crate::observe::limits;

/// An app's open segment, with a buffer of lines to write.
pub(super) struct Open {
    pub(super) dir: PathBuf,
    file: File,
    /// Identifies the file, which may be removed or replaced while it is open.
    identity: (u64, u64),
    pub(super) segment: u64,
    /// When the segment received its first line.
    begun: SystemTime,
    bytes: u64,
    pub(super) waiting: Waiting,
}

/// Lines that are not written yet.
#[derive(Default)]
pub(super) struct Waiting {
    /// The log of the lines.
    pub(super) log: Option<Arc<AppLog>>,
    pub(super) bytes: Vec<u8>,
    /// The number of lines, without reports.
    pub(super) lines: u64,
    /// The number of lines that the reports among them are about.
    pub(super) reported: u64,
}

impl Open {
    /// Opens the newest segment to append to it, or a new segment if the last line is incomplete or
    /// the newest segment is before `known`.
    pub(super) fn last(dir: PathBuf, known: u64) -> std::io::Result<Self> {
        create_folder(&dir)?;
        let segment = match segments(&dir)?.last() {
            Some(&segment) if segment >= known => segment,
            Some(_) | None => return Self::begin(dir, known + 1),
        };
        let path = segment_path(&dir, segment);
        let bytes = std::fs::metadata(&path)?.len();
        if bytes > 0 && !ends_with_newline(&path, bytes)? {
            return Self::begin(dir, segment + 1);
        }
        let file = OpenOptions::new().append(true).open(&path)?;
        let found = file.metadata()?;
        let begun = found.created().or_else(|_| found.modified())?;
        let (identity, bytes) = (identity(&found), found.len());
        Ok(Self { dir, file, identity, segment, begun, bytes, waiting: Waiting::default() })
    }

    /// Creates a segment.
    pub(super) fn begin(dir: PathBuf, segment: u64) -> std::io::Result<Self> {
        let path = segment_path(&dir, segment);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        let (identity, begun) = (identity(&file.metadata()?), SystemTime::now());
        Ok(Self { dir, file, identity, segment, begun, bytes: 0, waiting: Waiting::default() })
    }

    /// Replaces this segment by the next one. The waiting lines are kept.
    pub(super) fn begin_next(&mut self) -> std::io::Result<()> {
        create_folder(&self.dir)?;
        let last = segments(&self.dir)?.last().copied().unwrap_or(0).max(self.segment);
        let next = Self::begin(self.dir.clone(), last + 1)?;
        let waiting = std::mem::take(&mut self.waiting);
        *self = Self { waiting, ..next };
        Ok(())
    }

    /// Returns whether the next line begins another segment. Small segments are closed too, so that
    /// their lines can expire.
    pub(super) fn is_full(&self, config: &Config, now: SystemTime) -> bool {
        let bytes = self.end().offset;
        let is_old = || now.duration_since(self.begun).is_ok_and(|age| age >= segment_time(config));
        bytes >= config.segment_bytes || (bytes > 0 && is_old())
    }

    /// Returns the position after the last line, written or not.
    pub(super) fn end(&self) -> Cursor {
        Cursor { segment: self.segment, offset: self.bytes + self.waiting.bytes.len() as u64 }
    }

    /// Writes the waiting lines. After an error, they are lost with this segment.
    pub(super) fn write_out(&mut self) -> std::io::Result<()> {
        if self.waiting.bytes.is_empty() {
            return Ok(());
        }
        let found = std::fs::symlink_metadata(segment_path(&self.dir, self.segment));
        if !found.is_ok_and(|found| identity(&found) == self.identity) {
            // The file was removed or replaced, so its lines would be lost.
            self.begin_next()?;
        }
        self.file.write_all(&self.waiting.bytes)?;
        self.bytes += self.waiting.bytes.len() as u64;
        let mut bytes = std::mem::take(&mut self.waiting).bytes;
        bytes.clear();
        bytes.shrink_to(limits::LOG_BUFFER_KEPT_BYTES);
        self.waiting.bytes = bytes;
        Ok(())
    }
}

fn create_folder(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Returns how long one segment receives lines, regardless of their number.
pub(super) fn segment_time(config: &Config) -> Duration {
    (config.kept_for / limits::LOG_SEGMENTS_BY_AGE).max(limits::LOG_CHECK_INTERVAL)
}

fn ends_with_newline(path: &Path, bytes: u64) -> std::io::Result<bool> {
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, bytes - 1)?;
    Ok(last == *b"\n")
}

/// Removes the oldest segments until the total size is within the limit.
pub(super) fn remove_over_size(config: &Config, open: &Open) -> std::io::Result<()> {
    let mut sizes = Vec::new();
    for segment in segments(&open.dir)? {
        let path = segment_path(&open.dir, segment);
        sizes.push((segment, std::fs::metadata(&path)?.len(), path));
    }
    let mut total: u64 = sizes.iter().map(|(_, bytes, _)| bytes).sum();
    for (segment, bytes, path) in sizes {
        if total <= config.kept_bytes.saturating_sub(config.segment_bytes) || segment == open.segment {
            break;
        }
        std::fs::remove_file(path)?;
        total -= bytes;
    }
    Ok(())
}
