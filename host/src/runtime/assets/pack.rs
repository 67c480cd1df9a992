//! The pack of a release's assets: verifies it, and reads its parts within the limits of its app.
//! Never keeps the file open: a response that its client doesn't read holds no open file.

use crate::runtime::{limits, resources::AppAssets};
use isopod_policy::{
    AppName, AssetIndex,
    assets::{HEAD_BYTES, index_length},
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// A pack of assets.
pub(crate) struct Pack {
    app: AppName,
    /// A file that is complete or absent, and never changes.
    path: PathBuf,
    /// The SHA-256 of the file, in hexadecimal.
    digest: Box<str>,
    /// Whether the file had its digest when it was read. Also known after a freeze.
    is_verified: AtomicBool,
    /// When a failed read was last logged.
    logged_at: Mutex<Option<Instant>>,
    /// The budgets of the app.
    pub(super) budgets: Arc<AppAssets>,
}

impl Pack {
    pub(crate) fn new(app: AppName, path: PathBuf, digest: &str, budgets: Arc<AppAssets>) -> Self {
        let (is_verified, logged_at) = Default::default();
        Self { app, path, digest: digest.into(), is_verified, logged_at, budgets }
    }

    /// Reads a part of the content. A pack that ends earlier is damaged.
    pub(super) async fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let read = self.read_with(move |file| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        });
        read.await.inspect_err(|error| self.log(error))
    }

    /// Returns the index if it is in memory, and the file was verified.
    pub(super) fn known_index(&self) -> Option<Arc<AssetIndex>> {
        if self.is_verified.load(Ordering::Acquire) { self.budgets.index(&self.digest) } else { None }
    }

    /// Verifies the file unless that was done before, and reads its index.
    pub(super) async fn read_index(&self) -> io::Result<Arc<AssetIndex>> {
        let read = async {
            if !self.is_verified.load(Ordering::Acquire) {
                self.verify().await?;
                self.is_verified.store(true, Ordering::Release);
            }
            self.read_with(|mut file| {
                let mut head = [0; HEAD_BYTES];
                file.read_exact(&mut head)?;
                let mut index = vec![0; index_length(&head).map_err(damaged)?];
                file.read_exact(&mut index)?;
                AssetIndex::parse(&index).map_err(damaged)
            })
            .await
        };
        let index = Arc::new(read.await.inspect_err(|error| self.log(error))?);
        self.budgets.keep_index(&self.digest, &index);
        Ok(index)
    }

    /// Compares the content with its digest, in pieces: the reads of other apps don't wait for a
    /// large file.
    async fn verify(&self) -> io::Result<()> {
        let (mut hash, mut offset) = (Sha256::new(), 0);
        loop {
            let mut hashed = hash;
            let read = self.read_with(move |file| {
                let mut bytes = vec![0; limits::ASSET_VERIFIED_BYTES];
                let length = file.read_at(&mut bytes, offset)?;
                hashed.update(bytes.get(..length).unwrap_or_default());
                Ok((hashed, length))
            });
            let length;
            (hash, length) = read.await?;
            if length == 0 {
                break;
            }
            offset += length as u64;
        }
        let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if *digest == *self.digest { Ok(()) } else { Err(damaged("its content doesn't match its digest")) }
    }

    async fn read_with<T: Send + 'static>(
        &self,
        read: impl FnOnce(File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = self.path.clone();
        self.budgets.read(move || read(File::open(path)?)).await
    }

    /// Logs a failed read, unless one was logged recently: clients can repeat requests.
    fn log(&self, error: &io::Error) {
        if self.budgets.is_closed() {
            return;
        }
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_some_and(|at| at.elapsed() < limits::ASSET_FAILURES_LOGGED) {
            return;
        }
        *logged_at = Some(Instant::now());
        tracing::warn!(app = %self.app, path = %self.path.display(), %error, "static files can't be read");
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{budgets, pack_of, varied};
    use super::*;
    use isopod_policy::assets;

    #[tokio::test]
    async fn a_pack_is_verified_only_before_its_first_use() {
        let content = varied(3 * limits::ASSET_VERIFIED_BYTES / 2);
        let packed = assets::pack(&[("large".to_owned(), content)].into());
        let mut damaged = packed.clone();
        *damaged.last_mut().expect("it has content") ^= 1;
        let (file, pack) = pack_of(&packed, budgets());
        std::fs::write(file.path(), &damaged).expect("it is written");
        let error = pack.read_index().await.expect_err("it is damaged").to_string();
        assert!(error.contains("digest"), "{error}");
        std::fs::write(file.path(), &packed).expect("it is written");
        let index = pack.read_index().await.expect("it is whole");
        assert!(index.get("large").is_some());
        std::fs::write(file.path(), &damaged).expect("it is written");
        assert_eq!(pack.read_index().await.expect("it was verified"), index);
    }
}
