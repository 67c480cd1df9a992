//! Caches compiled functions for components that share them: a new version of an app usually
//! changes only a few, and apps of one language share its runtime. Only the optimising compiler
//! uses the cache.
//!
//! The compiler names each function by a SHA-256 of all inputs of its code, so a function of one
//! app is never mistaken for another's. The cache holds only code that this process has compiled,
//! never code from a disk or an app.

use crate::limits;
use quick_cache::{Weighter, sync::Cache};
use std::{borrow::Cow, sync::Arc};
use wasmtime::CacheStore;

/// The recently compiled functions.
pub(crate) struct Functions(Cache<Box<[u8]>, Arc<[u8]>, Bytes>);

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<[u8]>, Arc<[u8]>> for Bytes {
    fn weight(&self, name: &Box<[u8]>, code: &Arc<[u8]>) -> u64 {
        (name.len() + code.len()) as u64
    }
}

impl Functions {
    pub(crate) fn new() -> Self {
        Self::of(limits::FUNCTIONS_KEPT_BYTES)
    }

    fn of(bytes: u64) -> Self {
        let usual_functions = usize::try_from(bytes / limits::FUNCTION_KEPT_BYTES_USUAL).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(usual_functions, bytes, Bytes))
    }
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Functions").field("kept", &self.0.len()).finish_non_exhaustive()
    }
}

impl CacheStore for Functions {
    fn get(&self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.0.get(name).map(|code| Cow::Owned(code.to_vec()))
    }

    fn insert(&self, name: &[u8], code: Vec<u8>) -> bool {
        self.0.insert(name.into(), code.into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiled_function_is_found_by_its_name() {
        let functions = Functions::of(1 << 20);
        assert!(functions.insert(b"one", vec![1; 100]));
        assert_eq!(functions.get(b"one").as_deref(), Some(&[1; 100][..]));
        assert_eq!(functions.get(b"other"), None);
    }

    #[test]
    fn the_cache_is_bounded_by_its_bytes() {
        let functions = Functions::of(64 << 10);
        for name in 0..10_000_u32 {
            functions.insert(&name.to_le_bytes(), vec![0; 1_000]);
        }
        assert!(functions.0.weight() <= 64 << 10, "{} bytes are kept", functions.0.weight());
        assert!(functions.0.len() > 10, "{} functions are kept", functions.0.len());
    }
}
