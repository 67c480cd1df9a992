//! The code of programs that were frozen last. It stays mapped for as long as there is room for it, since who was asked
//! lately is the one to be asked again: its instances then start without their code being mapped and linked first.

use crate::{limits, program::Linked};
use quick_cache::{Weighter, sync::Cache};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Code by the file it was mapped from; nothing where no room is given.
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
        Self((places > 0).then(|| Cache::with_weighter(places, bytes, Bytes)))
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
