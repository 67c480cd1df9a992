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

/// Why a body is not in memory.
#[derive(Debug)]
pub enum NotBuffered {
    /// The body is longer than the limit. It can still be sent.
    TooLarge,
    /// The body didn't end in time. It can still be sent.
    TooSlow,
    Failed(BodyError),
}

/// The part of a body that has been read, charged to the memory budget as a flat response is.
struct Content<'a> {
    bytes: Vec<u8>,
    charge: &'a MemoryCharge,
    reservation: Reservation,
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
        let mut content = Content { bytes: Vec::new(), charge, reservation: charge.empty(), trailers: None };
        let read = timeout(time, content.read(self, bytes_max)).await.unwrap_or(Err(NotBuffered::TooSlow));
        match (read, &mut *self) {
            (Ok(()), _) => {}
            (Err(error @ (NotBuffered::TooLarge | NotBuffered::TooSlow)), Self::Streamed(streamed)) => {
                streamed.put_back(content.finish().0);
                return Err(error);
            }
            (Err(NotBuffered::Failed(error)), _) => return Err(NotBuffered::Failed(error)),
            // The lengths of all other bodies are known, so only a file can be too slow.
            (Err(_), _) => return Err(NotBuffered::Failed(BodyError::File(io::ErrorKind::TimedOut.into()))),
        }
        let (bytes, trailers) = content.finish();
        let frames = [Frame::data(bytes.clone())].into_iter().chain(trailers.map(Frame::trailers));
        *self = Self::whole(frames.collect());
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

impl Content<'_> {
    async fn read(&mut self, body: &mut ResponseBody, bytes_max: u64) -> Result<(), NotBuffered> {
        while let Some(frame) = body.frame().await {
            match frame.map_err(NotBuffered::Failed)?.into_data() {
                Ok(data) => {
                    self.push(&data)?;
                    if self.bytes.len() as u64 > bytes_max {
                        return Err(NotBuffered::TooLarge);
                    }
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(())
    }

    fn push(&mut self, data: &[u8]) -> Result<(), NotBuffered> {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(data);
        if self.bytes.len() > limits::RESPONSE_BYTES_UNCHARGED {
            let held = if before > limits::RESPONSE_BYTES_UNCHARGED { before } else { 0 };
            let grown = self.charge.grow(&mut self.reservation, (self.bytes.len() - held) as u64);
            grown.map_err(|fault| NotBuffered::Failed(BodyError::Response(fault)))?;
        }
        Ok(())
    }

    fn finish(self) -> (Bytes, Option<HeaderMap>) {
        let Self { bytes, reservation, trailers, .. } = self;
        (charged(bytes, reservation), trailers)
    }
}

impl Streamed {
    /// Puts bytes that have been read in front of the rest of the body.
    fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(self.bytes >= bytes.len() as u64, "only bytes that were read can be put back");
        self.bytes -= bytes.len() as u64;
        if !bytes.is_empty() {
            self.begun.push_front(Frame::data(bytes));
        }
    }
}
