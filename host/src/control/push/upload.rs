//! Owns an upload while it is written to a temporary file. Never reads its content.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use crate::{control::DeployError, http::shares::Share};

/// A bundle that is being received. Dropping it removes the file and releases the permit.
pub(crate) struct Upload {
    file: NamedTempFile,
    writer: tokio::fs::File,
    bytes: u64,
    _permit: UploadPermit,
}

/// The permits of one upload: that of its token and that of its app.
pub(in crate::control) type UploadPermit = [Share; 2];

const STORE_FAILED: &str = "the upload can't be stored";

/// A complete received bundle. Dropping it removes the file.
pub(crate) struct Received {
    file: NamedTempFile,
    pub(crate) bytes: u64,
}

impl Upload {
    pub(in crate::control) fn begin(folder: &Path, permit: UploadPermit) -> Result<Self, DeployError> {
        let failed = |source| DeployError::Disk { doing: STORE_FAILED, source };
        let file = tempfile::Builder::new().prefix("upload-").tempfile_in(folder).map_err(failed)?;
        let writer = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
        Ok(Self { file, writer, bytes: 0, _permit: permit })
    }

    pub(crate) async fn write(&mut self, chunk: &Bytes) -> Result<(), DeployError> {
        self.bytes += chunk.len() as u64;
        let written = self.writer.write_all(chunk).await;
        written.map_err(|source| DeployError::Disk { doing: STORE_FAILED, source })
    }

    pub(crate) async fn finish(mut self) -> Result<Received, DeployError> {
        let flushed = self.writer.flush().await;
        flushed.map_err(|source| DeployError::Disk { doing: STORE_FAILED, source })?;
        Ok(Received { file: self.file, bytes: self.bytes })
    }
}

impl Received {
    /// Returns the path of the file, which exists until this is dropped.
    pub(in crate::control) fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }
}

/// Creates the folder for uploads, without the files that a crash left. Blocks.
pub(in crate::control) fn prepare(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
