//! Counts the bytes that the host holds in memory against a limit. Never holds the bytes itself,
//! and never waits.

use std::sync::atomic::{AtomicU64, Ordering};

/// A limit on the bytes that are held at one time.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    held: AtomicU64,
    max: u64,
}

/// A growing number of bytes that counts against the budget of its owner and the budget of all
/// owners until this guard is dropped.
#[derive(Debug)]
pub(crate) struct SharedReservation<'a> {
    own: &'a ByteBudget,
    shared: &'a ByteBudget,
    bytes: u64,
}

/// The budget that a request for bytes exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Own,
    Shared,
}

impl ByteBudget {
    pub(crate) const fn new(max: u64) -> Self {
        Self { held: AtomicU64::new(0), max }
    }

    /// Counts bytes until they are released. Returns false, without counting them, if they would
    /// exceed the budget.
    pub(crate) fn charge(&self, bytes: u64) -> bool {
        let with_these = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.max);
        self.held.try_update(Ordering::Relaxed, Ordering::Relaxed, with_these).is_ok()
    }

    /// Returns whether the budget has room for this many more bytes now. Doesn't count them.
    fn has_room_for(&self, bytes: u64) -> bool {
        bytes <= self.max.saturating_sub(self.held.load(Ordering::Relaxed))
    }

    pub(crate) fn release(&self, bytes: u64) {
        let held = self.held.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(held >= bytes, "{bytes} bytes are given back, and {held} are held");
    }
}

impl<'a> SharedReservation<'a> {
    /// Returns a guard that counts no bytes yet. Fails if the budgets have no room now for the
    /// final number.
    pub(crate) fn up_to(bytes: u64, own: &'a ByteBudget, shared: &'a ByteBudget) -> Result<Self, Exceeded> {
        if !own.has_room_for(bytes) {
            return Err(Exceeded::Own);
        }
        if !shared.has_room_for(bytes) {
            return Err(Exceeded::Shared);
        }
        Ok(Self { own, shared, bytes: 0 })
    }

    /// Raises the number of counted bytes to `bytes`. On failure the previous number still counts.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), Exceeded> {
        let more = bytes.saturating_sub(self.bytes);
        if !self.own.charge(more) {
            return Err(Exceeded::Own);
        }
        if !self.shared.charge(more) {
            self.own.release(more);
            return Err(Exceeded::Shared);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for SharedReservation<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.own.release(self.bytes);
            self.shared.release(self.bytes);
        }
    }
}

/// Returns the capacity of a buffer once a body of this length has grown to `so_far`: twice that
/// size, so that the body is copied only a few times. The capacity isn't the whole length from the
/// start, since the client may never send the rest.
pub(crate) fn room_for(so_far: usize, length: u64) -> usize {
    let whole = usize::try_from(length).unwrap_or(usize::MAX);
    so_far.saturating_mul(2).min(whole).max(so_far)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_twice_the_received_size_up_to_the_length_of_the_body() {
        assert_eq!([2, 499, 500, 999, 1_000].map(|so_far| room_for(so_far, 1_000)), [4, 998, 1_000, 1_000, 1_000]);
        assert_eq!(room_for(1_001, 1_000), 1_001, "all received bytes fit");
    }

    #[test]
    fn charged_bytes_count_until_they_are_released() {
        let budget = ByteBudget::new(10);
        assert!(budget.charge(6) && !budget.charge(5));
        assert!(budget.charge(4), "refused bytes do not count");
        budget.release(6);
        assert!(budget.charge(6) && !budget.charge(1));
        budget.release(10);
        assert!(budget.charge(10));
        assert!(!budget.charge(u64::MAX), "the sum does not overflow");
    }

    #[test]
    fn announced_bytes_do_not_count_before_they_arrive() {
        let (own, all) = (ByteBudget::new(10), ByteBudget::new(100));
        let announced: Vec<_> = (0..50).map(|_| SharedReservation::up_to(10, &own, &all)).collect();
        assert!(announced.iter().all(Result::is_ok), "none of these bytes has arrived");
        let mut first = SharedReservation::up_to(10, &own, &all).expect("there is room");
        assert_eq!(first.grow_to(4), Ok(()));
        assert_eq!(SharedReservation::up_to(7, &own, &all).err(), Some(Exceeded::Own));
        let mut second = SharedReservation::up_to(6, &own, &all).expect("there is room");
        assert_eq!((first.grow_to(7), second.grow_to(4)), (Ok(()), Err(Exceeded::Own)));
        assert_eq!(second.grow_to(3), Ok(()), "refused bytes do not count");
        assert_eq!(first.grow_to(5), Ok(()), "a refusal keeps the previous count");
        drop(first);
        assert_eq!(second.grow_to(10), Ok(()));
        drop(second);
        assert!(own.charge(10) && all.charge(100));
    }

    /// Eight owners together use the whole shared budget, and each its own whole budget.
    #[test]
    fn an_owner_exceeds_neither_its_own_budget_nor_the_shared_one() {
        let (owners, all): (Vec<_>, _) = ((0..9).map(|_| ByteBudget::new(64)).collect(), ByteBudget::new(512));
        let whole = |own| {
            let mut held = SharedReservation::up_to(64, own, &all)?;
            held.grow_to(64).map(|()| held)
        };
        let mut held: Vec<_> = owners[..8].iter().map(|own| whole(own).expect("there is room")).collect();
        assert_eq!(SharedReservation::up_to(1, &owners[0], &all).err(), Some(Exceeded::Own));
        assert_eq!(SharedReservation::up_to(1, &owners[8], &all).err(), Some(Exceeded::Shared));
        let mut empty = SharedReservation::up_to(0, &owners[8], &all).expect("nothing needs no room");
        assert_eq!((empty.grow_to(1), empty.grow_to(0)), (Err(Exceeded::Shared), Ok(())));
        held.pop();
        assert_eq!(empty.grow_to(64), Ok(()), "refused bytes do not count against the owner's budget");
        assert!(whole(&owners[7]).is_err() && !all.has_room_for(1));
    }
}
