//! The assets of a release in memory: the index of its pack, read when it is first needed, and the
//! responses that middlewares send with them. Reads the pack only; the store writes and removes it.

mod body;
mod response;

use body::AssetBody;
use bytes::Bytes;
use http::{Method, Response, request};
use isopod_engine::{AssetResponse, ResponseBody};
use isopod_policy::{
    AssetIndex,
    assets::{HEAD_BYTES, index_length},
};
use response::Content;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::OnceCell;

/// The assets of a release.
pub(crate) struct Assets {
    /// The pack: a file that is complete or absent, and never changes.
    pack: PathBuf,
    index: OnceCell<Arc<AssetIndex>>,
}

impl Assets {
    pub(crate) fn new(pack: PathBuf) -> Self {
        Self { pack, index: OnceCell::new() }
    }

    /// Returns the path of the pack.
    pub(super) fn pack(&self) -> &Path {
        &self.pack
    }

    /// Returns the index. It is read by the first call that succeeds.
    pub(super) async fn index(&self) -> io::Result<&Arc<AssetIndex>> {
        let read = || async {
            let pack = self.pack.clone();
            blocking(move || read_index(&pack)).await.map(Arc::new)
        };
        self.index.get_or_try_init(read).await
    }

    /// Returns the response to a request that a middleware answers with an asset. The first part of
    /// its content has been read.
    pub(super) async fn respond(
        &self,
        request: &request::Parts,
        response: AssetResponse,
    ) -> io::Result<Response<ResponseBody>> {
        let index = Arc::clone(self.index().await?);
        let asset = index.get(&response.path).ok_or(io::ErrorKind::NotFound)?;
        let (head, content) = response::respond(request, &index, asset, response);
        let body = match content {
            // A response to HEAD has the length of the content in its head.
            Content::Bytes { .. } if request.method == Method::HEAD => ResponseBody::full(Bytes::new()),
            Content::Bytes { offset, length } => {
                let pack = self.pack.clone();
                let body = blocking(move || AssetBody::open(&pack, offset, length)).await?;
                body.into_response_body()
            }
            Content::None => ResponseBody::full(Bytes::new()),
        };
        Ok(Response::from_parts(head, body))
    }
}

fn read_index(pack: &Path) -> io::Result<AssetIndex> {
    let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut file = File::open(pack)?;
    let mut head = [0; HEAD_BYTES];
    file.read_exact(&mut head)?;
    let mut index = vec![0; index_length(&head).map_err(damaged)?];
    file.read_exact(&mut index)?;
    AssetIndex::parse(&index).map_err(damaged)
}

/// Runs a read on a thread for blocking work.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
