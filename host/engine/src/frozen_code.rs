//! Caches the code of recently frozen programs. It stays mapped within a byte budget, because
//! recently used apps are the most likely to get the next request: their instances then start
//! without mapping and linking. Never maps code itself.

use crate::{limits, linked::Linked};
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Code by the file it was mapped from; `None` if the budget is zero.
pub(crate) struct FrozenCode(Option<Cache<PathBuf, Arc<Linked>, Bytes>>);

#[derive(Clone)]
struct Bytes;

impl Weighter<PathBuf, Arc<Linked>> for Bytes {
    fn weight(&self, _: &PathBuf, linked: &Arc<Linked>) -> u64 {
        let code = linked.pre.component().image_range();
        (code.end.addr() - code.start.addr()) as u64 + limits::FROZEN_CODE_MORE_BYTES
    }
}

impl FrozenCode {
    pub(crate) fn new(bytes: u64) -> Self {
        let most = bytes / limits::FROZEN_CODE_MORE_BYTES;
        let places = usize::try_from(most).unwrap_or(usize::MAX).min(limits::INSTANCES_MAX as usize);
        if places == 0 {
            return Self(None);
        }
        // A single shard: several shards would split the budget, and each part would be too small
        // for a large runtime's code.
        let mut options = OptionsBuilder::new();
        let options = options.shards(1).estimated_items_capacity(places).weight_capacity(bytes).build();
        Self(options.ok().map(|options| Cache::with_options(options, Bytes, Default::default(), Default::default())))
    }

    pub(crate) fn keep(&self, file: &Path, linked: &Arc<Linked>) {
        if let Some(cache) = &self.0 {
            cache.insert(file.to_owned(), Arc::clone(linked));
        }
    }

    pub(crate) fn find(&self, file: &Path) -> Option<Arc<Linked>> {
        self.0.as_ref()?.get(file)
    }
}
