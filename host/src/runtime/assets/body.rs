//! The body of a response with an asset: a part of a pack, read in chunks while it is sent. Holds
//! at most one chunk in memory: it reads the next one after the last byte of the previous one is
//! sent.

use super::pack::Pack;
use crate::runtime::{limits, resources::AssetBytes};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// A part of a pack that is being sent.
pub(super) struct AssetBody {
    pack: Arc<Pack>,
    /// The position after the last chunk.
    offset: u64,
    /// The bytes after the last chunk.
    left: u64,
    /// The bytes of one chunk.
    reserved: Arc<AssetBytes>,
    /// The read in progress. No read begins before the first poll, so a client that accepts no
    /// content causes none.
    reading: Option<Reading>,
    /// Completes once the memory of the last chunk is free.
    sending: Option<oneshot::Receiver<()>>,
}

type Reading = Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + Send>>;

/// The bytes of a chunk, which stay charged until the last one is dropped.
pub(super) struct Chunk {
    bytes: Vec<u8>,
    _reserved: Arc<AssetBytes>,
    _sent: Option<oneshot::Sender<()>>,
}

impl Chunk {
    /// Returns content that is read in one piece.
    pub(super) fn whole(bytes: Vec<u8>, reserved: AssetBytes) -> Bytes {
        Bytes::from_owner(Self { bytes, _reserved: Arc::new(reserved), _sent: None })
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AssetBody {
    /// Creates the body of a part of a pack. `reserved` is for one chunk.
    pub(super) fn new(pack: Arc<Pack>, offset: u64, length: u64, reserved: AssetBytes) -> Self {
        Self { pack, offset, left: length, reserved: Arc::new(reserved), reading: None, sending: None }
    }

    /// Begins to read the next chunk.
    fn read(&self) -> Reading {
        let (pack, offset) = (Arc::clone(&self.pack), self.offset);
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(limits::ASSET_CHUNK_BYTES);
        Box::pin(async move { pack.read(offset, length).await })
    }
}

impl Body for AssetBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(sending) = &mut self.sending {
            // The sender is dropped with the chunk, and never sends.
            let _ = ready!(Pin::new(sending).poll(cx));
            self.sending = None;
        }
        let mut reading = self.reading.take().unwrap_or_else(|| self.read());
        let Poll::Ready(read) = reading.as_mut().poll(cx) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        let bytes = read?;
        self.offset += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        let (sent, sending) = oneshot::channel();
        self.sending = Some(sending);
        let chunk = Chunk { bytes, _reserved: Arc::clone(&self.reserved), _sent: Some(sent) };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::assets::tests::{budgets, pack_of, varied};
    use http_body_util::BodyExt;

    fn body(pack: &Arc<Pack>, offset: usize, length: usize) -> AssetBody {
        let reserved = pack.budgets.reserve(limits::ASSET_CHUNK_BYTES as u64, None).expect("there is room");
        AssetBody::new(Arc::clone(pack), offset as u64, length as u64, reserved)
    }

    #[tokio::test]
    async fn a_part_is_read_in_chunks() {
        let content = varied(3 * limits::ASSET_CHUNK_BYTES);
        let (_file, pack) = pack_of(&content, budgets());
        let (start, length) = (5, 2 * limits::ASSET_CHUNK_BYTES + 7);
        let mut body = body(&pack, start, length);
        assert_eq!(body.size_hint().exact(), Some(length as u64));
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            read.extend_from_slice(&frame.expect("it is read").into_data().expect("data"));
        }
        assert!(read == content[start..start + length] && body.is_end_stream());
    }

    #[tokio::test]
    async fn the_next_chunk_is_read_after_the_previous_one_is_sent() {
        let (_file, pack) = pack_of(&varied(2 * limits::ASSET_CHUNK_BYTES), budgets());
        let mut body = body(&pack, 0, 2 * limits::ASSET_CHUNK_BYTES);
        let mut next = async || body.frame().await.expect("a frame").expect("it is read").into_data().expect("data");
        let first = next().await;
        let second = {
            let mut reading = Box::pin(next());
            assert!(futures::poll!(reading.as_mut()).is_pending());
            assert_eq!(pack.budgets.reads_in_progress(), 0, "nothing is read meanwhile");
            let part = first.slice(1..2);
            drop(first);
            assert!(futures::poll!(reading.as_mut()).is_pending());
            assert_eq!(pack.budgets.reads_in_progress(), 0, "a part of it isn't sent");
            drop(part);
            reading.await
        };
        drop(body);
        assert!(!pack.budgets.has_room_for(limits::ASSET_BYTES_PER_CLIENT), "the chunk counts longer than its body");
        drop(second);
        assert!(pack.budgets.has_room_for(limits::ASSET_BYTES_PER_CLIENT));
    }

    #[tokio::test]
    async fn a_pack_that_is_too_short_is_an_error() {
        let content = varied(limits::ASSET_CHUNK_BYTES + 1);
        let (file, pack) = pack_of(&content, budgets());
        let mut too_long = body(&pack, 0, content.len() + 1);
        assert!(too_long.frame().await.expect("a frame").is_ok(), "the first chunk is whole");
        assert!(too_long.frame().await.expect("a frame").is_err());
        drop(file);
        assert!(body(&pack, 0, 1).frame().await.expect("a frame").is_err());
    }
}
