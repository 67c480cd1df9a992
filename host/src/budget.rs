//! Owns how the bytes that the host holds in memory are counted against a bound. Never holds any itself, and never waits.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes may be held at one time.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicU64,
    most: u64,
}

/// Bytes that count until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(crate) const fn of(most: u64) -> Self {
        Self { held: AtomicU64::new(0), most }
    }

    /// Counts bytes until they are given back; false, and nothing is counted, if these would be too many.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let with_these = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.most);
        self.held.try_update(Ordering::Relaxed, Ordering::Relaxed, with_these).is_ok()
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts bytes while they are held; none if these would be too many.
    pub(crate) fn hold(&self, bytes: u64) -> Option<Held<'_>> {
        self.take(bytes).then(|| Held { budget: self, bytes })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_it_is_let_go() {
        let budget = Budget::of(10);
        let six = budget.hold(6).expect("there is room");
        assert!(budget.hold(5).is_none());
        let four = budget.hold(4).expect("what was refused does not count");
        drop(six);
        assert!(budget.take(6) && !budget.take(1));
        budget.give_back(6);
        drop(four);
        assert!(budget.take(10));
        assert!(!budget.take(u64::MAX), "no sum is too large to be compared");
    }
}
