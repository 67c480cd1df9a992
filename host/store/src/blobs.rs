//! Content-addressed files: bundles and components, named by their SHA-256. Owns the folder
//! `blobs/`. A blob is either complete or absent after any crash. Never changes a blob.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::StoreError;
use crate::error::shown;
use crate::files::{blocking, names, private_file, private_folder, sync_folder, was_idle, write_whole};
use crate::limits::BLOBS_PER_PAGE;

/// The name of a blob: SHA-256 as 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Returns the digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = Sha256::digest(bytes);
        Self(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns the digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(StoreError::BadDigest { given: shown(text) })
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = StoreError;

    fn try_from(text: String) -> Result<Self, StoreError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

/// The files under `blobs/`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// Counter for distinct names of files that are being written.
    written: AtomicU64,
}

/// The result of a sweep of unused blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweptBlobs {
    /// Removed blobs that this database had put.
    pub removed: Vec<Digest>,
    /// The number of blobs unknown to the database, which were moved to the folder `lost`.
    pub moved: usize,
    pub lost: PathBuf,
}

/// The folder of the blobs in the data folder.
pub(crate) const BLOBS: &str = "blobs";

/// Returns how many of these blobs have no file below a data folder.
pub(crate) fn missing_blobs(data_folder: &Path, named: &HashSet<Digest>) -> usize {
    let folder = data_folder.join(BLOBS);
    // A blob that can't be inspected isn't missing.
    let may_exist = |digest: &Digest| folder.join(digest.as_str()).try_exists().unwrap_or(true);
    named.iter().filter(|digest| !may_exist(digest)).count()
}

/// Prefix of files that are being written. Those that a crash leaves behind are removed.
const UNFINISHED: &str = ".unfinished-";

impl Blobs {
    /// Opens or creates the folder, and removes files that a crash left unfinished.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        private_folder(folder)?;
        for name in names(folder)? {
            if name.starts_with(UNFINISHED) {
                let path = folder.join(name);
                fs::remove_file(&path).map_err(|error| StoreError::file(&path, &error))?;
            }
        }
        Ok(Self { inner: Arc::new(Inner { folder: folder.to_owned(), written: AtomicU64::new(0) }) })
    }

    /// Stores the bytes and returns their digest once they are on disk. Bytes that are already
    /// stored are verified and not written again; a damaged file is replaced.
    pub async fn put(&self, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<Digest, StoreError> {
        let inner = self.inner.clone();
        blocking(move || inner.put(bytes.as_ref())).await
    }

    /// Returns the path of the blob, whether or not it exists.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.folder.join(digest.as_str())
    }

    /// Returns the verified bytes of a blob.
    pub async fn get(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let (path, digest) = (self.path(digest), digest.clone());
        blocking(move || {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(StoreError::UnknownBlob { digest: digest.into() });
                }
                Err(error) => return Err(StoreError::file(&path, &error)),
            };
            if Digest::of(&bytes) == digest {
                return Ok(bytes);
            }
            Err(StoreError::damaged(format_args!("the content of blob {digest} doesn't match its digest")))
        })
        .await
    }

    /// Renews the modification time of a blob, so that a sweep doesn't remove it before its use is
    /// recorded.
    pub async fn touch(&self, digest: &Digest) -> Result<(), StoreError> {
        let (path, digest) = (self.path(digest), digest.clone());
        blocking(move || {
            let opened = fs::OpenOptions::new().write(true).open(&path);
            opened.and_then(|file| file.set_modified(SystemTime::now())).map_err(|error| match error.kind() {
                ErrorKind::NotFound => StoreError::UnknownBlob { digest: digest.into() },
                _ => StoreError::file(&path, &error),
            })
        })
        .await
    }

    /// Removes a blob. Returns whether it existed.
    pub async fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.path(digest);
        let inner = self.inner.clone();
        blocking(move || match fs::remove_file(&path) {
            Ok(()) => sync_folder(&inner.folder).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::file(&path, &error)),
        })
        .await
    }

    /// Removes blobs in `put` that are unused and have not been put within `idle`. Unused blobs
    /// that aren't in `put` have another origin, such as a later database: they are moved to the
    /// folder `lost`.
    pub(crate) async fn sweep(
        &self,
        in_use: HashSet<Digest>,
        put: HashSet<Digest>,
        idle: Duration,
        lost: PathBuf,
    ) -> Result<SweptBlobs, StoreError> {
        let inner = self.inner.clone();
        blocking(move || {
            let mut swept = SweptBlobs { removed: Vec::new(), moved: 0, lost };
            for name in names(&inner.folder)? {
                let (path, Ok(digest)) = (inner.folder.join(&name), name.parse::<Digest>()) else { continue };
                if in_use.contains(&digest) || !was_idle(&path, idle) {
                    continue;
                }
                if put.contains(&digest) {
                    fs::remove_file(&path).map_err(|error| StoreError::file(&path, &error))?;
                    swept.removed.push(digest);
                } else {
                    private_folder(&swept.lost)?;
                    fs::rename(&path, swept.lost.join(&name)).map_err(|error| StoreError::file(&path, &error))?;
                    swept.moved += 1;
                }
            }
            Ok(swept)
        })
        .await
    }

    /// Returns the digests of all stored blobs.
    pub(crate) fn all(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(names(&self.inner.folder)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Returns the next digests after the given digest in order, at most `BLOBS_PER_PAGE`.
    pub async fn list(&self, after: Option<&Digest>) -> Result<Vec<Digest>, StoreError> {
        let (inner, after) = (self.inner.clone(), after.cloned());
        blocking(move || {
            let mut smallest = BTreeSet::new();
            for name in names(&inner.folder)? {
                let Ok(digest) = name.parse::<Digest>() else { continue };
                if after.as_ref().is_none_or(|after| digest > *after) {
                    smallest.insert(digest);
                }
                if smallest.len() > BLOBS_PER_PAGE {
                    smallest.pop_last();
                }
            }
            Ok(smallest.into_iter().collect())
        })
        .await
    }
}

impl Inner {
    fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.folder.join(digest.as_str());
        if holds(&path, bytes) {
            // Its modification time is renewed, so that a sweep doesn't remove it before its use is
            // recorded.
            let touched = private_file(&path)?.set_modified(SystemTime::now());
            return touched.map(|()| digest).map_err(|error| StoreError::file(&path, &error));
        }
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!("{UNFINISHED}{number}-{digest}"));
        write_whole(&path, &unfinished, bytes).map(|()| digest)
    }
}

/// Returns whether the file contains exactly these bytes. The length is compared first, since it
/// usually differs. A file that can't be read is written again, since its name determines its
/// content.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    let holds = || -> io::Result<bool> {
        let same_length = usize::try_from(fs::metadata(path)?.len()) == Ok(bytes.len());
        Ok(same_length && fs::read(path)? == bytes)
    };
    holds().unwrap_or_else(|error| {
        if error.kind() != ErrorKind::NotFound {
            tracing::warn!(path = %path.display(), %error, "a stored blob can't be read; it is written again");
        }
        false
    })
}
