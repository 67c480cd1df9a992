//! The pack of a release's assets: reads its parts within the limits of its app. Never keeps the
//! file open: a response that its client doesn't read holds no open file.

use crate::runtime::resources::AppAssets;
use isopod_policy::{
    AppName, AssetIndex,
    assets::{HEAD_BYTES, index_length},
};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

/// A pack of assets.
pub(crate) struct Pack {
    app: AppName,
    /// A file that is complete or absent, and never changes.
    path: PathBuf,
    /// The budgets of the app.
    pub(super) budgets: Arc<AppAssets>,
}

impl Pack {
    pub(crate) fn new(app: AppName, path: PathBuf, budgets: Arc<AppAssets>) -> Self {
        Self { app, path, budgets }
    }

    /// Reads a part of the content. A pack that ends earlier is damaged.
    pub(super) async fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let path = self.path.clone();
        let read = self.budgets.read(move || {
            let mut bytes = vec![0; length];
            File::open(path)?.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        });
        read.await.inspect_err(|error| self.log(error))
    }

    pub(super) async fn read_index(&self) -> io::Result<AssetIndex> {
        let path = self.path.clone();
        let read = self.budgets.read(move || {
            let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            let mut file = File::open(path)?;
            let mut head = [0; HEAD_BYTES];
            file.read_exact(&mut head)?;
            let mut index = vec![0; index_length(&head).map_err(damaged)?];
            file.read_exact(&mut index)?;
            AssetIndex::parse(&index).map_err(damaged)
        });
        read.await.inspect_err(|error| self.log(error))
    }

    fn log(&self, error: &io::Error) {
        tracing::warn!(app = %self.app, path = %self.path.display(), %error, "static files can't be read");
    }
}
