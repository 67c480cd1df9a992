//! Secrets among config vars: sealed before they are stored, and opened only for the app's own
//! instances. Owns the file `secrets.key` and the format of a sealed secret. Never logs or shows a
//! key or a plain text.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, Generate, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use isopod_policy::{AppName, Sealed};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::StoreError;
use crate::files::write_whole;
use crate::limits::KEY_FILE_BYTES;

/// Length of the mark that identifies the key of a sealed secret.
const MARK_BYTES: usize = 8;
/// Length of the nonce; long enough that random nonces don't repeat.
const NONCE_BYTES: usize = 24;

/// Why random numbers never fail: the kernel provides them from boot on.
const RANDOM: &str = "the system provides random numbers";

/// Seals and opens secrets with the key of this data folder. Cheap to clone.
///
/// A sealed secret is bound to its app and config var: it opens only there, and only unchanged.
#[derive(Clone)]
pub struct Secrets {
    /// Shared rather than copied, so that the key is in memory once and is wiped with the last
    /// clone.
    inner: Arc<Inner>,
}

struct Inner {
    cipher: XChaCha20Poly1305,
    mark: [u8; MARK_BYTES],
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// Reads `secrets.key` in the data folder, or creates it if it doesn't exist.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("secrets.key");
        let key = match File::open(&path) {
            Ok(file) => read_key(&path, file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => make_key(&path)?,
            Err(error) => return Err(StoreError::file(&path, &error)),
        };
        let cipher = XChaCha20Poly1305::new((&*key).into());
        Ok(Self { inner: Arc::new(Inner { cipher, mark: mark(&key) }) })
    }

    /// Seals the plain text of one config var of one app. Each call returns a different ciphertext.
    #[expect(clippy::expect_used, reason = "the system provides random numbers, and memory suffices for a sealed text")]
    pub fn seal(&self, app: &AppName, key: &str, plain: &str) -> Sealed {
        let nonce = XNonce::try_generate().expect(RANDOM);
        let context = context(app, key);
        let payload = Payload { msg: plain.as_bytes(), aad: context.as_bytes() };
        let sealed = self.inner.cipher.encrypt(&nonce, payload).expect("a text that fits in memory can be sealed");
        Sealed::new(BASE64.encode([&self.inner.mark, nonce.as_slice(), &sealed].concat()))
    }

    /// Returns the plain text of a config var, if it was sealed with this key for this app and
    /// config var.
    pub fn unseal(&self, app: &AppName, key: &str, sealed: &Sealed) -> Result<String, StoreError> {
        let changed = || StoreError::SecretChanged { app: app.clone(), key: key.to_owned() };
        let bytes = BASE64.decode(sealed.as_base64()).map_err(|_| changed())?;
        let (mark, rest) = bytes.split_first_chunk::<MARK_BYTES>().ok_or_else(changed)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(changed)?;
        if *mark != self.inner.mark {
            return Err(StoreError::SecretOfOtherKey { app: app.clone(), key: key.to_owned() });
        }
        let context = context(app, key);
        let payload = Payload { msg: text, aad: context.as_bytes() };
        let plain = self.inner.cipher.decrypt(nonce.into(), payload).map_err(|_| changed())?;
        String::from_utf8(plain).map_err(|_| changed())
    }
}

/// Returns the context that a secret is bound to. An app's name has no slash, so contexts are
/// unique.
fn context(app: &AppName, key: &str) -> String {
    format!("{app}/{key}")
}

/// Returns the mark that identifies a key without revealing it.
#[expect(clippy::expect_used, reason = "a hash is longer than a mark")]
fn mark(key: &[u8; KEY_FILE_BYTES]) -> [u8; MARK_BYTES] {
    let hash = Sha256::new().chain_update("isopod secrets.key ").chain_update(key).finalize();
    *hash.first_chunk().expect("a hash is longer than a mark")
}

#[expect(clippy::expect_used, reason = "the system provides random numbers, and memory suffices for a sealed text")]
fn make_key(path: &Path) -> Result<Zeroizing<[u8; KEY_FILE_BYTES]>, StoreError> {
    let key = Zeroizing::new(<[u8; KEY_FILE_BYTES]>::try_generate().expect(RANDOM));
    write_whole(path, &path.with_extension("unfinished"), &*key)?;
    Ok(key)
}

fn read_key(path: &Path, mut file: File) -> Result<Zeroizing<[u8; KEY_FILE_BYTES]>, StoreError> {
    let failed = |error| StoreError::file(path, &error);
    let found = file.metadata().map_err(failed)?;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::KeyFileOpen { path: path.to_owned(), mode });
    }
    if found.len() != KEY_FILE_BYTES as u64 {
        return Err(StoreError::KeyFileSize { path: path.to_owned(), bytes: found.len() });
    }
    let mut key = Zeroizing::new([0; KEY_FILE_BYTES]);
    file.read_exact(&mut *key).map_err(failed)?;
    Ok(key)
}
