//! The assets of a release: the index of its pack, read when it is needed, and the responses that
//! middlewares send with them. Reads the pack only; the store writes and removes it.

mod body;
mod pack;
mod response;

pub(crate) use pack::Pack;

use crate::{http::byte_budget::Exceeded, runtime::limits};
use body::{AssetBody, Chunk};
use bytes::Bytes;
use http::{Method, Response, request};
use isopod_engine::{AssetResponse, ResponseBody};
use isopod_policy::AssetIndex;
use response::Content;
use std::{io, sync::Arc};
use tokio::sync::Mutex;

/// The assets of a release.
pub(crate) struct Assets {
    pack: Arc<Pack>,
    /// Held while the index is read.
    reading: Mutex<()>,
}

/// Why the host can't send an asset.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssetFailure {
    #[error("the app's static files can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("{}; try again later", too_many(.0))]
    TooMany(Exceeded),
}

fn too_many(exceeded: &Exceeded) -> String {
    let (whose, most) = match exceeded {
        Exceeded::Own => ("the app's static files", limits::ASSET_BYTES_PER_APP),
        Exceeded::Shared => ("the static files of this host", limits::ASSET_BYTES_ALL),
    };
    format!("the responses with {whose} that are being sent would use more than {} MiB", most >> 20)
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
        let _reading = self.reading.lock().await;
        match self.pack.known_index() {
            Some(index) => Ok(index),
            None => self.pack.read_index().await,
        }
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
                self.body(offset, length).await?
            }
            Content::Bytes { .. } | Content::None => ResponseBody::full(Bytes::new()),
        };
        Ok(Some(Response::from_parts(head, body)))
    }

    /// Returns a body with a part of the pack. A part that fits into one chunk is read before the
    /// head is sent, so that a failed read has its own response.
    async fn body(&self, offset: u64, length: u64) -> Result<ResponseBody, AssetFailure> {
        let chunk = usize::try_from(length).unwrap_or(usize::MAX).min(limits::ASSET_CHUNK_BYTES);
        let reserved = self.pack.budgets.reserve(chunk as u64).map_err(AssetFailure::TooMany)?;
        if chunk as u64 == length {
            let bytes = self.pack.read(offset, chunk).await?;
            return Ok(ResponseBody::full(Chunk::whole(bytes, reserved)));
        }
        Ok(ResponseBody::file(AssetBody::new(Arc::clone(&self.pack), offset, length, reserved)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::runtime::resources::AppAssets;
    use http::{HeaderMap, Request, StatusCode};
    use isopod_policy::assets;
    use sha2::{Digest, Sha256};

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
    async fn responses_that_no_client_reads_use_a_bounded_memory() {
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
        assert!(matches!(refused, AssetFailure::TooMany(Exceeded::Own)), "{refused}");
        assert_eq!(unread.len() as u64, limits::ASSET_BYTES_PER_APP / limits::ASSET_CHUNK_BYTES as u64);
        assert!(get(&assets, "small").await.is_err(), "all bytes count");
        unread.pop();
        assert!(get(&assets, "small").await.is_ok());
    }
}
