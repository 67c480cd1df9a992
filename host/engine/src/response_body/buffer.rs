//! Reads a response's body to its end, for a middleware that asked for it. Never sends it.

use super::{ResponseBody, Streamed};
use crate::{
    body::BodyError,
    budget::Reservation,
    charged::{MemoryCharge, charged},
    limits,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use std::{io, mem, time::Duration};
use tokio::time::timeout;

/// Why a body couldn't be buffered.
#[derive(Debug)]
pub enum NotBuffered {
    /// The body is longer than the limit. It can still be sent.
    TooLarge,
    /// The body didn't end in time. It can still be sent.
    TooSlow,
    /// The memory budget has no room for the body. It can still be sent.
    NoRoom,
    Failed(BodyError),
}

/// The part of a body that has been read, charged to the memory budget as a flat response is.
struct Content<'a> {
    bytes: Vec<u8>,
    charge: &'a MemoryCharge,
    reservation: Reservation,
    /// The bytes of the reservation.
    charged: u64,
    /// The part that found no room.
    unheld: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl ResponseBody {
    /// Reads the body to its end, if it has at most this many bytes and ends within this time. The
    /// body is then in memory, and `charge` pays for it. Returns its bytes.
    pub async fn buffer(
        &mut self,
        bytes_max: u64,
        time: Duration,
        charge: &MemoryCharge,
    ) -> Result<Bytes, NotBuffered> {
        if self.least_length() > bytes_max {
            return Err(NotBuffered::TooLarge);
        }
        if let Self::Full(full) = self {
            let bytes = mem::take(full).collect().await.map_or_else(|never| match never {}, |whole| whole.to_bytes());
            *full = bytes.clone().into();
            return Ok(bytes);
        }
        let mut content = Content::new(charge);
        if !matches!(self, Self::Streamed(_)) {
            // A part that was read of these can't be put back, so the room is reserved before the
            // first read.
            content.reserve(usize::try_from(self.least_length()).unwrap_or(usize::MAX))?;
        }
        let read = timeout(time, content.read(self, bytes_max)).await.unwrap_or(Err(NotBuffered::TooSlow));
        match (read, &mut *self) {
            (Ok(()), _) => {}
            (Err(NotBuffered::Failed(error)), _) => return Err(NotBuffered::Failed(error)),
            (Err(error), Self::Streamed(streamed)) => {
                streamed.put_back(content);
                return Err(error);
            }
            // All other bodies have a known length, which was checked above. Only a file can be too
            // slow.
            (Err(_), _) => return Err(NotBuffered::Failed(BodyError::File(io::ErrorKind::TimedOut.into()))),
        }
        let (bytes, trailers) = content.finish();
        let data = (!bytes.is_empty()).then(|| Frame::data(bytes.clone()));
        *self = Self::whole(data.into_iter().chain(trailers.map(Frame::trailers)).collect());
        Ok(bytes)
    }

    /// Returns the number of bytes that the body has at least.
    fn least_length(&self) -> u64 {
        match self {
            Self::Full(full) => full.size_hint().lower(),
            Self::File(file) => file.size_hint().lower(),
            Self::Pieces(pieces) => pieces.left(),
            Self::Streamed(streamed) => streamed.length.unwrap_or(0),
        }
    }
}

impl<'a> Content<'a> {
    fn new(charge: &'a MemoryCharge) -> Self {
        let reservation = charge.empty();
        Self { bytes: Vec::new(), charge, reservation, charged: 0, unheld: None, trailers: None }
    }

    async fn read(&mut self, body: &mut ResponseBody, bytes_max: u64) -> Result<(), NotBuffered> {
        while let Some(frame) = body.frame().await {
            match frame.map_err(NotBuffered::Failed)?.into_data() {
                Ok(data) => {
                    if let Err(error) = self.push(&data, bytes_max) {
                        self.unheld = Some(data);
                        return Err(error);
                    }
                    if self.bytes.len() as u64 > bytes_max {
                        return Err(NotBuffered::TooLarge);
                    }
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(())
    }

    fn push(&mut self, data: &[u8], bytes_max: u64) -> Result<(), NotBuffered> {
        let needed = self.bytes.len() + data.len();
        if needed > self.bytes.capacity() {
            let most = usize::try_from(bytes_max).unwrap_or(usize::MAX);
            self.reserve(needed.saturating_mul(2).min(most).max(needed))?;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Charges a buffer of this many bytes, and allocates it.
    fn reserve(&mut self, room: usize) -> Result<(), NotBuffered> {
        if room > limits::RESPONSE_BYTES_UNCHARGED {
            let more = (room as u64).saturating_sub(self.charged);
            self.charge.grow(&mut self.reservation, more).map_err(|_| NotBuffered::NoRoom)?;
            self.charged += more;
        }
        self.bytes.reserve_exact(room.saturating_sub(self.bytes.len()));
        Ok(())
    }

    fn finish(self) -> (Bytes, Option<HeaderMap>) {
        let Self { bytes, reservation, trailers, .. } = self;
        (charged(bytes, reservation), trailers)
    }
}

impl Streamed {
    /// Puts what has been read in front of the rest of the body.
    fn put_back(&mut self, mut content: Content<'_>) {
        let unheld = content.unheld.take();
        // Trailers end a body, so it has none that could be put back.
        let (bytes, _) = content.finish();
        for part in unheld.into_iter().chain([bytes]).filter(|part| !part.is_empty()) {
            debug_assert!(self.bytes >= part.len() as u64, "only bytes that were read can be put back");
            self.bytes -= part.len() as u64;
            self.begun.push_front(Frame::data(part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_streamed_body_that_finds_no_room_can_still_be_sent() {
        let charge = MemoryCharge { budget: Arc::new(Budget::new(100_000)), may_use_reserve: true };
        let parts = [b'a', b'b', b'c'].map(|byte| Bytes::from(vec![byte; 40_000]));
        let begun = parts.clone().map(Frame::data).into();
        let mut body = ResponseBody::streamed(begun, Arc::default(), 1_000_000, None);
        let read = body.buffer(1_000_000, Duration::from_secs(60), &charge).await;
        assert!(matches!(read, Err(NotBuffered::NoRoom)), "the buffer for the third part is too large");
        assert_eq!(charge.budget.reserved(), 80_000);
        let mut sent = Vec::new();
        while sent.len() < 120_000 {
            let frame = body.frame().await.expect("a frame").expect("it is not broken");
            sent.extend_from_slice(&frame.into_data().expect("data"));
        }
        assert_eq!(sent, parts.concat());
        assert_eq!(charge.budget.reserved(), 0);
    }
}
