//! Owns how the bytes that the host holds in memory are counted against a bound. Never holds any itself, and never waits.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes may be held at one time.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    held: AtomicU64,
    most: u64,
}

/// Bytes that count until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    budget: &'a ByteBudget,
    bytes: u64,
}

/// Bytes that become more, which count against a bound of their owner and one of all owners until this is dropped.
#[derive(Debug)]
pub(crate) struct Growing<'a> {
    own: &'a ByteBudget,
    all: &'a ByteBudget,
    bytes: u64,
}

/// Which bound would be crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crossed {
    Own,
    All,
}

impl ByteBudget {
    pub(crate) const fn of(most: u64) -> Self {
        Self { held: AtomicU64::new(0), most }
    }

    /// Counts bytes until they are given back; false, and nothing is counted, if these would be too many.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let with_these = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.most);
        self.held.try_update(Ordering::Relaxed, Ordering::Relaxed, with_these).is_ok()
    }

    /// Whether there is room for so many more now. Nothing is counted by it.
    fn has_room_for(&self, bytes: u64) -> bool {
        bytes <= self.most.saturating_sub(self.held.load(Ordering::Relaxed))
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts bytes while they are held; none if these would be too many.
    pub(crate) fn hold(&self, bytes: u64) -> Option<Held<'_>> {
        self.take(bytes).then(|| Held { budget: self, bytes })
    }
}

impl<'a> Growing<'a> {
    /// Nothing yet, of what is to be so many bytes. Refused where there is no room for these now.
    pub(crate) fn up_to(bytes: u64, own: &'a ByteBudget, all: &'a ByteBudget) -> Result<Self, Crossed> {
        if !own.has_room_for(bytes) {
            return Err(Crossed::Own);
        }
        if !all.has_room_for(bytes) {
            return Err(Crossed::All);
        }
        Ok(Self { own, all, bytes: 0 })
    }

    /// Counts so many in all from now on. What counted before still does where these would be too many.
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
    fn what_is_held_counts_until_it_is_let_go() {
        let budget = ByteBudget::of(10);
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
    #[test]
    fn what_has_not_come_yet_does_not_count() {
        let (own, all) = (ByteBudget::of(10), ByteBudget::of(100));
        let announced: Vec<_> = (0..50).map(|_| Growing::up_to(10, &own, &all)).collect();
        assert!(announced.iter().all(Result::is_ok), "nothing of them has come");
        let mut first = Growing::up_to(10, &own, &all).expect("there is room");
        assert_eq!(first.grow_to(4), Ok(()));
        assert_eq!(Growing::up_to(7, &own, &all).err(), Some(Crossed::Own));
        let mut second = Growing::up_to(6, &own, &all).expect("there is room");
        assert_eq!((first.grow_to(7), second.grow_to(4)), (Ok(()), Err(Crossed::Own)));
        assert_eq!(second.grow_to(3), Ok(()), "what was refused does not count");
        assert_eq!(first.grow_to(5), Ok(()), "it never counts less than before");
        drop(first);
        assert_eq!(second.grow_to(10), Ok(()));
        drop(second);
        assert!(own.take(10) && all.take(100));
    }

    /// Eight owners as they are have all there is for everybody, and none of them more than its own.
    #[test]
    fn no_owner_has_more_than_its_own_and_all_together_no_more_than_there_is() {
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
        assert_eq!(empty.grow_to(64), Ok(()), "and its own was not counted for what was refused");
        assert!(whole(&owners[7]).is_err() && !all.has_room_for(1));
    }
}
