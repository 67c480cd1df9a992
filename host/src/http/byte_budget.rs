//! Counts the bytes that the host holds in memory against a limit. Never holds the bytes itself,
//! and never waits.

use std::sync::atomic::{AtomicU64, Ordering};

/// A limit on the bytes that are held at one time.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    held: AtomicU64,
    max: u64,
}

/// Bytes that count against a budget until this guard is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    budget: &'a ByteBudget,
    bytes: u64,
}

/// A growing number of bytes that counts against the budget of its owner and the budget of all
/// owners until this guard is dropped.
#[derive(Debug)]
pub(crate) struct Growing<'a> {
    own: &'a ByteBudget,
    all: &'a ByteBudget,
    bytes: u64,
}

/// The budget that a request for bytes exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crossed {
    Own,
    All,
}

impl ByteBudget {
    pub(crate) const fn of(max: u64) -> Self {
        Self { held: AtomicU64::new(0), max }
    }

    /// Counts bytes until they are given back. Returns false, without counting them, if they would
    /// exceed the budget.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let with_these = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.max);
        self.held.try_update(Ordering::Relaxed, Ordering::Relaxed, with_these).is_ok()
    }

    /// Returns whether the budget has room for this many more bytes now. Doesn't count them.
    fn has_room_for(&self, bytes: u64) -> bool {
        bytes <= self.max.saturating_sub(self.held.load(Ordering::Relaxed))
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts bytes until the guard is dropped. Returns `None` if they would exceed the budget.
    pub(crate) fn hold(&self, bytes: u64) -> Option<Held<'_>> {
        self.take(bytes).then(|| Held { budget: self, bytes })
    }
}

impl<'a> Growing<'a> {
    /// Returns a guard that counts no bytes yet. Fails if the budgets have no room now for the
    /// final number.
    pub(crate) fn up_to(bytes: u64, own: &'a ByteBudget, all: &'a ByteBudget) -> Result<Self, Crossed> {
        if !own.has_room_for(bytes) {
            return Err(Crossed::Own);
        }
        if !all.has_room_for(bytes) {
            return Err(Crossed::All);
        }
        Ok(Self { own, all, bytes: 0 })
    }

    /// Raises the number of counted bytes to `bytes`. On failure the previous number still counts.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), Crossed> {
        let more = bytes.saturating_sub(self.bytes);
        if !self.own.take(more) {
            return Err(Crossed::Own);
        }
        if !self.all.take(more) {
            self.own.give_back(more);
            return Err(Crossed::All);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.own.give_back(self.bytes);
            self.all.give_back(self.bytes);
        }
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
    fn held_bytes_count_until_the_guard_is_dropped() {
        let budget = ByteBudget::of(10);
        let six = budget.hold(6).expect("there is room");
        assert!(budget.hold(5).is_none());
        let four = budget.hold(4).expect("refused bytes do not count");
        drop(six);
        assert!(budget.take(6) && !budget.take(1));
        budget.give_back(6);
        drop(four);
        assert!(budget.take(10));
        assert!(!budget.take(u64::MAX), "the sum does not overflow");
    }

    #[test]
    fn announced_bytes_do_not_count_before_they_arrive() {
        let (own, all) = (ByteBudget::of(10), ByteBudget::of(100));
        let announced: Vec<_> = (0..50).map(|_| Growing::up_to(10, &own, &all)).collect();
        assert!(announced.iter().all(Result::is_ok), "none of these bytes has arrived");
        let mut first = Growing::up_to(10, &own, &all).expect("there is room");
        assert_eq!(first.grow_to(4), Ok(()));
        assert_eq!(Growing::up_to(7, &own, &all).err(), Some(Crossed::Own));
        let mut second = Growing::up_to(6, &own, &all).expect("there is room");
        assert_eq!((first.grow_to(7), second.grow_to(4)), (Ok(()), Err(Crossed::Own)));
        assert_eq!(second.grow_to(3), Ok(()), "refused bytes do not count");
        assert_eq!(first.grow_to(5), Ok(()), "a refusal keeps the previous count");
        drop(first);
        assert_eq!(second.grow_to(10), Ok(()));
        drop(second);
        assert!(own.take(10) && all.take(100));
    }

    /// Eight owners together use the whole shared budget, and each its own whole budget.
    #[test]
    fn an_owner_exceeds_neither_its_own_budget_nor_the_shared_one() {
        let (owners, all): (Vec<_>, _) = ((0..9).map(|_| ByteBudget::of(64)).collect(), ByteBudget::of(512));
        let whole = |own| {
            let mut held = Growing::up_to(64, own, &all)?;
            held.grow_to(64).map(|()| held)
        };
        let mut held: Vec<_> = owners[..8].iter().map(|own| whole(own).expect("there is room")).collect();
        assert_eq!(Growing::up_to(1, &owners[0], &all).err(), Some(Crossed::Own));
        assert_eq!(Growing::up_to(1, &owners[8], &all).err(), Some(Crossed::All));
        let mut empty = Growing::up_to(0, &owners[8], &all).expect("nothing needs no room");
        assert_eq!((empty.grow_to(1), empty.grow_to(0)), (Err(Crossed::All), Ok(())));
        held.pop();
        assert_eq!(empty.grow_to(64), Ok(()), "refused bytes do not count against the owner's budget");
        assert!(whole(&owners[7]).is_err() && !all.has_room_for(1));
    }
}
