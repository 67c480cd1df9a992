//! The assets of a release: the index of its pack, read when it is needed, and the responses that
//! middlewares send with them. Reads the pack only; the store writes and removes it.

mod body;
mod pack;
mod response;

pub(crate) use pack::Pack;

use crate::{
    http::field_classes::REAL_IP,
    runtime::{limits, resources::AssetBudgetExceeded},
};
use body::{AssetBody, Chunk};
use bytes::Bytes;
use http::{Method, Response, request};
use isopod_engine::{AssetResponse, ResponseBody};
use isopod_policy::AssetIndex;
use response::Content;
use std::{io, net::IpAddr, sync::Arc, time::Instant};
use tokio::sync::Mutex;

/// The assets of a release.
pub(crate) struct Assets {
    pack: Arc<Pack>,
    /// Held while the index is read. Contains the last failure.
    reading: Mutex<Option<ReadFailure>>,
}

/// A read of the index that failed.
struct ReadFailure {
    at: Instant,
    kind: io::ErrorKind,
    text: String,
}

impl ReadFailure {
    fn of(error: &io::Error) -> Self {
        Self { at: Instant::now(), kind: error.kind(), text: error.to_string() }
    }

    fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.text.clone())
    }
}

/// Why the host can't send an asset.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssetFailure {
    #[error("the app's static files can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("{0}; try again later")]
    TooMany(#[from] AssetBudgetExceeded),
}

impl Assets {
    pub(crate) fn new(pack: Arc<Pack>) -> Self {
        Self { pack, reading: Mutex::default() }
    }

    pub(super) fn pack(&self) -> &Arc<Pack> {
        &self.pack
    }

    /// Verifies the pack, and reads its index.
    pub(crate) async fn open(&self) -> io::Result<()> {
        self.index().await.map(drop)
    }

    /// Returns the index, which is read if it isn't in memory. The pack is verified before its
    /// first use.
    pub(super) async fn index(&self) -> io::Result<Arc<AssetIndex>> {
        if let Some(index) = self.pack.known_index() {
            return Ok(index);
        }
        let asked = Instant::now();
        let mut failed = self.reading.lock().await;
        if let Some(index) = self.pack.known_index() {
            return Ok(index);
        }
        // A read takes up to its timeout while the disk doesn't respond. Requests that waited for
        // a failed read therefore fail too: if each of them read again, the last would wait for
        // all others.
        if let Some(failed) = failed.as_ref().filter(|failed| failed.at >= asked) {
            return Err(failed.error());
        }
        let read = self.pack.read_index().await;
        *failed = read.as_ref().err().map(ReadFailure::of);
        read
    }

    /// Returns the response to a request that a middleware answers with an asset; `None` if the
    /// asset doesn't exist. Small content has been read.
    pub(super) async fn respond(
        &self,
        request: &request::Parts,
        response: &AssetResponse,
    ) -> Result<Option<Response<ResponseBody>>, AssetFailure> {
        let index = self.index().await?;
        let Some(asset) = index.get(&response.path) else { return Ok(None) };
        let (head, content) = response::respond(request, &index, asset, response);
        let body = match content {
            // A response to HEAD has the length of the content in its head.
            Content::Bytes { offset, length } if length > 0 && request.method != Method::HEAD => {
                self.body(offset, length, client_of(request)).await?
            }
            Content::Bytes { .. } | Content::None => ResponseBody::full(Bytes::new()),
        };
        Ok(Some(Response::from_parts(head, body)))
    }

    /// Returns a body with a part of the pack. A part that fits into one chunk is read before the
    /// head is sent, so that a failed read has its own response.
    async fn body(&self, offset: u64, length: u64, client: Option<IpAddr>) -> Result<ResponseBody, AssetFailure> {
        let chunk = usize::try_from(length).unwrap_or(usize::MAX).min(limits::ASSET_CHUNK_BYTES);
        let reserved = self.pack.budgets.reserve(chunk as u64, client)?;
        if chunk as u64 == length {
            let bytes = self.pack.read(offset, chunk).await?;
            return Ok(ResponseBody::full(Chunk::whole(bytes, reserved)));
        }
        Ok(ResponseBody::file(AssetBody::new(Arc::clone(&self.pack), offset, length, reserved)))
    }
}

/// Returns the address of a request's client, as the ingress has set it.
fn client_of(request: &request::Parts) -> Option<IpAddr> {
    request.headers.get(REAL_IP)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::runtime::resources::AppAssets;
    use http::{HeaderMap, Request, StatusCode};
    use isopod_policy::assets;
    use sha2::{Digest, Sha256};
    use std::task::Poll;

    /// Content without a short period, so that a wrong part of it is noticed.
    pub(super) fn varied(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| (index % 251) as u8).collect()
    }

    pub(super) fn budgets() -> Arc<AppAssets> {
        AppAssets::alone()
    }

    pub(super) fn pack_of(content: &[u8], budgets: Arc<AppAssets>) -> (tempfile::NamedTempFile, Arc<Pack>) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), content).expect("the file is written");
        let app = "site".parse().expect("a valid name");
        let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let pack = Pack::new(app, file.path().to_owned(), &digest, budgets);
        (file, Arc::new(pack))
    }

    async fn get(assets: &Assets, path: &str) -> Result<Response<ResponseBody>, AssetFailure> {
        let (request, ()) = Request::new(()).into_parts();
        let response = AssetResponse { path: path.to_owned(), status: StatusCode::OK, headers: HeaderMap::new() };
        assets.respond(&request, &response).await.map(|response| response.expect("the asset exists"))
    }

    #[tokio::test]
    async fn requests_that_waited_for_a_failed_read_do_not_read_again() {
        let files = [("a".to_owned(), varied(1))].into();
        let (file, pack) = pack_of(&assets::pack(&files), budgets());
        let assets = Assets::new(pack);
        let content = std::fs::read(file.path()).expect("the pack is a file");
        std::fs::remove_file(file.path()).expect("the pack is a file");
        let stuck = assets.pack.budgets.occupy_reads().await;
        let (mut reading, mut waiting) = (Box::pin(assets.index()), Box::pin(assets.index()));
        assert!(futures::poll!(reading.as_mut()).is_pending() && futures::poll!(waiting.as_mut()).is_pending());
        drop(stuck);
        assert!(reading.await.is_err());
        assert!(matches!(futures::poll!(waiting.as_mut()), Poll::Ready(Err(_))));
        std::fs::write(file.path(), content).expect("it is written");
        assert!(assets.index().await.is_ok(), "a later request reads it");
    }

    #[tokio::test]
    async fn unread_responses_use_bounded_memory() {
        let files = [("small", 1_000), ("large", 2 * limits::ASSET_CHUNK_BYTES)];
        let files = files.map(|(path, bytes)| (path.to_owned(), varied(bytes))).into();
        let budgets = budgets();
        let (_file, pack) = pack_of(&assets::pack(&files), Arc::clone(&budgets));
        let assets = Assets::new(pack);
        let mut unread = Vec::new();
        let refused = loop {
            match get(&assets, "large").await {
                Ok(response) => unread.push(response),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, AssetFailure::TooMany(AssetBudgetExceeded::Client)), "{refused}");
        assert_eq!(unread.len() as u64, limits::ASSET_BYTES_PER_CLIENT / limits::ASSET_CHUNK_BYTES as u64);
        assert!(get(&assets, "small").await.is_err(), "all bytes count");
        unread.pop();
        assert!(get(&assets, "small").await.is_ok());
    }
}
