//! The code of the programs in memory, so that programs with the same component share it. A program
//! keeps its code alive; this list never does. Its length is at most twice the largest number of
//! programs in memory.

use crate::linked::Linked;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Code by the file it was mapped from.
#[derive(Default)]
pub(crate) struct SharedCode(Mutex<HashMap<PathBuf, Weak<Linked>>>);

impl SharedCode {
    /// Returns the code of a program in memory.
    pub(crate) fn find(&self, file: &Path) -> Option<Arc<Linked>> {
        self.lock().get(file)?.upgrade()
    }

    /// Adds the code of a program in memory, and removes code that no program uses.
    pub(crate) fn add(&self, file: &Path, linked: &Arc<Linked>) {
        let mut shared = self.lock();
        // The list grows by doubling, so a search at each growth costs little per addition.
        if shared.len() == shared.capacity() {
            shared.retain(|_, linked| linked.strong_count() > 0);
        }
        shared.insert(file.to_owned(), Arc::downgrade(linked));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Weak<Linked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
