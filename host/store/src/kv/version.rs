//! The version of a value, for compare-and-swap. Never holds the value.

use sha2::{Digest, Sha256};

/// Identifies a value of a key: a digest of its bytes, or `None` for a key without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueVersion(pub Option<[u8; 32]>);

impl ValueVersion {
    pub(crate) fn of(value: Option<&[u8]>) -> Self {
        Self(value.map(|value| Sha256::digest(value).into()))
    }
}
