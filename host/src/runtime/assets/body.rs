//! The body of a response with an asset: a part of a pack, read in chunks while it is sent. Holds
//! at most one chunk in memory.

use crate::runtime::limits;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use isopod_engine::ResponseBody;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::task::JoinHandle;

/// A part of a pack that is being sent.
pub(super) struct AssetBody {
    file: Arc<File>,
    /// The bytes that have been read but not yet sent.
    chunk: Bytes,
    /// The position after the chunk.
    offset: u64,
    /// The bytes after the chunk.
    left: u64,
    /// The read in progress.
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl AssetBody {
    /// Opens a pack and reads the first chunk. Blocks.
    pub(super) fn open(pack: &Path, offset: u64, length: u64) -> io::Result<Self> {
        let file = Arc::new(File::open(pack)?);
        let chunk = read(&file, offset, length)?;
        let read = chunk.len() as u64;
        Ok(Self { file, chunk, offset: offset + read, left: length - read, reading: None })
    }

    /// Returns the body of the response. If the content fits into one chunk, the file is closed.
    pub(super) fn into_response_body(self) -> ResponseBody {
        if self.left == 0 { ResponseBody::full(self.chunk) } else { ResponseBody::file(self) }
    }
}

/// Reads the next chunk of a part. A pack that ends earlier is damaged.
fn read(file: &File, offset: u64, left: u64) -> io::Result<Bytes> {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(limits::ASSET_CHUNK_BYTES);
    let mut chunk = vec![0; length];
    file.read_exact_at(&mut chunk, offset)?;
    Ok(chunk.into())
}

impl Body for AssetBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.chunk.is_empty() && self.left > 0 {
            let (file, offset, left) = (Arc::clone(&self.file), self.offset, self.left);
            let reading =
                self.reading.get_or_insert_with(|| tokio::task::spawn_blocking(move || read(&file, offset, left)));
            let chunk = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            let chunk = chunk.unwrap_or_else(|error| Err(io::Error::other(error)))?;
            self.offset += chunk.len() as u64;
            self.left -= chunk.len() as u64;
            self.chunk = chunk;
        }
        let chunk = std::mem::take(&mut self.chunk);
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunk.is_empty() && self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunk.len() as u64 + self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn pack(bytes: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
        let content: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), &content).expect("the file is written");
        (file, content)
    }

    #[tokio::test]
    async fn a_part_is_read_in_chunks() {
        let (file, content) = pack(3 * limits::ASSET_CHUNK_BYTES);
        let (start, length) = (5, 2 * limits::ASSET_CHUNK_BYTES + 7);
        let body = AssetBody::open(file.path(), start as u64, length as u64).expect("it is open");
        assert_eq!(body.size_hint().exact(), Some(length as u64));
        let read = body.collect().await.expect("it is read").to_bytes();
        assert!(read == content[start..start + length]);
    }

    #[tokio::test]
    async fn an_empty_part_has_no_frame() {
        let (file, _) = pack(1);
        let mut body = AssetBody::open(file.path(), 1, 0).expect("it is open");
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_pack_that_is_too_short_is_an_error() {
        let (file, content) = pack(limits::ASSET_CHUNK_BYTES + 1);
        assert!(AssetBody::open(file.path(), content.len() as u64, 1).is_err());
        let body = AssetBody::open(file.path(), 0, content.len() as u64 + 1).expect("the first chunk is whole");
        assert!(body.collect().await.is_err());
    }
}
