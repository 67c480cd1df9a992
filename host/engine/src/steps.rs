//! Bounds the work of a search in debug information. Steps are counted where bytes are read, so the
//! bound holds for every loop over hostile input, also for those within gimli. Never interprets
//! bytes.

use crate::limits;
use gimli::{EndianSlice, Error, LittleEndian, Reader, ReaderOffsetId, Result};
use std::{borrow::Cow, cell::Cell, time::Instant};

/// Bytes in which one step searches for the end of a text.
const BYTES_PER_STEP: usize = 64;

/// The steps that a search may still take. A step is a small amount of work, such as the read of a
/// number.
#[derive(Debug)]
pub(crate) struct Steps {
    left: Cell<u64>,
    /// Steps since the clock was read.
    since_check: Cell<u64>,
    deadline: Instant,
}

impl Steps {
    pub(crate) fn new(most: u64, deadline: Instant) -> Self {
        // The first step reads the clock.
        Self { left: Cell::new(most), since_check: Cell::new(limits::SYMBOLS_STEPS_PER_CHECK), deadline }
    }

    /// Takes steps. Fails if too few are left or after the deadline, and then always.
    #[inline]
    pub(crate) fn take(&self, steps: u64) -> Result<()> {
        let (left, since_check) = (self.left.get(), self.since_check.get().saturating_add(steps));
        if steps < left && since_check < limits::SYMBOLS_STEPS_PER_CHECK {
            self.left.set(left - steps);
            self.since_check.set(since_check);
            return Ok(());
        }
        self.take_with_check(steps)
    }

    #[cold]
    fn take_with_check(&self, steps: u64) -> Result<()> {
        self.since_check.set(0);
        let left = self.left.get().checked_sub(steps).filter(|left| *left > 0 && Instant::now() < self.deadline);
        self.left.set(left.unwrap_or(0));
        // The search only needs to know that it ends.
        left.map(drop).ok_or(Error::Io)
    }

    /// Returns the steps that are left: 0 after the deadline.
    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.left.get()
    }
}

/// Bytes of debug information. Their reads are counted as steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted<'a> {
    bytes: EndianSlice<'a, LittleEndian>,
    steps: &'a Steps,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(bytes: &'a [u8], steps: &'a Steps) -> Self {
        Self { bytes: EndianSlice::new(bytes, LittleEndian), steps }
    }

    /// Returns the start of the bytes as text, within a limit.
    pub(crate) fn text(&self, bytes_max: usize) -> Result<String> {
        let bytes = self.bytes.slice();
        let bytes = &bytes[..bytes.len().min(bytes_max)];
        // Each byte is decoded, and copied a few times.
        self.steps.take(1 + (bytes.len() / 8) as u64)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Reader for Counted<'_> {
    type Endian = LittleEndian;
    type Offset = usize;

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    fn len(&self) -> usize {
        self.bytes.slice().len()
    }

    fn empty(&mut self) {
        Reader::empty(&mut self.bytes);
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        Reader::truncate(&mut self.bytes, len)
    }

    fn offset_from(&self, base: &Self) -> usize {
        Reader::offset_from(&self.bytes, &base.bytes)
    }

    fn offset_id(&self) -> ReaderOffsetId {
        Reader::offset_id(&self.bytes)
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        Reader::lookup_offset_id(&self.bytes, id)
    }

    fn find(&self, byte: u8) -> Result<usize> {
        let mut before = 0;
        for part in self.bytes.slice().chunks(BYTES_PER_STEP) {
            self.steps.take(1)?;
            if let Some(index) = part.iter().position(|other| *other == byte) {
                return Ok(before + index);
            }
            before += part.len();
        }
        Err(Error::UnexpectedEof(Reader::offset_id(&self.bytes)))
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        self.steps.take(1)?;
        Reader::skip(&mut self.bytes, len)
    }

    fn split(&mut self, len: usize) -> Result<Self> {
        self.steps.take(1)?;
        let bytes = Reader::split(&mut self.bytes, len)?;
        Ok(Self { bytes, ..*self })
    }

    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        Reader::to_slice(&self.bytes)
    }

    fn to_string(&self) -> Result<Cow<'_, str>> {
        Reader::to_string(&self.bytes)
    }

    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        Reader::to_string_lossy(&self.bytes)
    }

    fn read_slice(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.steps.take(1 + (buffer.len() / BYTES_PER_STEP) as u64)?;
        Reader::read_slice(&mut self.bytes, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn steps_end_at_their_number_and_stay_used_up() {
        let steps = Steps::new(3, soon());
        assert!(steps.take(2).is_ok());
        assert!(steps.take(7).is_err());
        assert!(steps.take(1).is_err());
        assert_eq!(steps.left(), 0);
    }

    #[test]
    fn steps_end_at_the_deadline() {
        let steps = Steps::new(u64::MAX, Instant::now());
        assert!(steps.take(1).is_err());
        assert!(steps.take(0).is_err());
    }

    #[test]
    fn a_text_without_an_end_costs_steps_for_its_length() {
        let bytes = vec![b'x'; 100 * BYTES_PER_STEP];
        let steps = Steps::new(1_000_000, soon());
        assert!(Counted::new(&bytes, &steps).read_null_terminated_slice().is_err());
        assert_eq!(1_000_000 - steps.left(), 100);
        let few = Steps::new(50, soon());
        assert_eq!(Counted::new(&bytes, &few).find(0), Err(Error::Io));
    }
}
