//! Host-wide budgets for guest memory and instance slots. Per-app limits don't bound their sum, so
//! every allocation is also charged here. Never evicts anything.

use crate::limits;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A budget: its size, and the amount reserved from it.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    reserved: AtomicU64,
}

impl Budget {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, reserved: AtomicU64::new(0) }
    }

    /// Returns the largest total that may be reserved by a guest with or without access to the
    /// reserve.
    pub(crate) fn most(&self, may_use_reserve: bool) -> u64 {
        let reserve = if may_use_reserve { 0 } else { self.most.saturating_mul(limits::RESERVE_PERCENT) / 100 };
        self.most - reserve
    }

    /// Returns the reserved amount.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    fn release(&self, amount: u64) {
        let before = self.reserved.fetch_sub(amount, Ordering::Relaxed);
        debug_assert!(before >= amount, "a released amount was reserved");
    }
}

/// Why a reservation is refused, with the size of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// Other guests hold too much now; a later attempt may succeed.
    Temporarily { most: u64 },
    /// The amount exceeds the budget even if no other guest holds any.
    Permanently { most: u64 },
}

/// One instance's reservation, returned to the budget on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    amount: u64,
}

impl Reservation {
    pub(crate) fn empty(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), amount: 0 }
    }

    /// Returns the budget that it is part of.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Reserves `amount` more.
    pub(crate) fn grow(&mut self, amount: u64, may_use_reserve: bool) -> Result<(), Exhausted> {
        let most = self.budget.most(may_use_reserve);
        if self.amount.saturating_add(amount) > most {
            return Err(Exhausted::Permanently { most });
        }
        let before = self.budget.reserved.fetch_add(amount, Ordering::Relaxed);
        if before.saturating_add(amount) > most {
            self.budget.release(amount);
            return Err(Exhausted::Temporarily { most });
        }
        self.amount += amount;
        Ok(())
    }

    /// Splits off a part of the reservation.
    pub(crate) fn split(&mut self, amount: u64) -> Self {
        debug_assert!(amount <= self.amount, "only reserved amounts can be split off");
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Self { budget: Arc::clone(&self.budget), amount }
    }

    /// Returns part of the reservation to the budget.
    pub(crate) fn shrink(&mut self, amount: u64) {
        debug_assert!(amount <= self.amount, "only reserved amounts can be returned");
        let amount = amount.min(self.amount);
        self.amount -= amount;
        self.budget.release(amount);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_reservation_can_be_taken_again() {
        let budget = Arc::new(Budget::new(1_000));
        let (mut one, mut two) = (Reservation::empty(&budget), Reservation::empty(&budget));
        assert_eq!((one.grow(600, true), two.grow(600, true)), (Ok(()), Err(Exhausted::Temporarily { most: 1_000 })));
        assert_eq!(two.grow(400, true), Ok(()));
        drop(one);
        assert_eq!(two.grow(600, true), Ok(()));
    }

    #[test]
    fn a_returned_part_can_be_taken_again() {
        let budget = Arc::new(Budget::new(1_000));
        let (mut one, mut two) = (Reservation::empty(&budget), Reservation::empty(&budget));
        assert_eq!(one.grow(1_000, true), Ok(()));
        one.shrink(400);
        assert_eq!(two.grow(400, true), Ok(()));
        assert_eq!(one.grow(1, true), Err(Exhausted::Temporarily { most: 1_000 }));
        let part = one.split(500);
        drop(one);
        assert_eq!(two.grow(100, true), Ok(()), "a part that was split off stays reserved: 500 + 400 + 100");
        assert_eq!(two.grow(1, true), Err(Exhausted::Temporarily { most: 1_000 }));
        drop((two, part));
        assert_eq!(budget.reserved.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_reserve_is_only_for_guests_that_may_use_it() {
        let budget = Arc::new(Budget::new(1_000));
        let mut guest = Reservation::empty(&budget);
        assert_eq!(guest.grow(901, false), Err(Exhausted::Permanently { most: 900 }));
        let mut other = Reservation::empty(&budget);
        assert_eq!((guest.grow(900, false), other.grow(1, false)), (Ok(()), Err(Exhausted::Temporarily { most: 900 })));
        assert_eq!(other.grow(100, true), Ok(()));
    }

    #[test]
    fn a_guests_own_reservation_counts_towards_the_whole_budget() {
        let budget = Arc::new(Budget::new(1_000));
        let (mut one, mut two) = (Reservation::empty(&budget), Reservation::empty(&budget));
        assert_eq!((one.grow(600, true), two.grow(300, true)), (Ok(()), Ok(())));
        assert_eq!(one.grow(400, true), Err(Exhausted::Temporarily { most: 1_000 }));
        assert_eq!(one.grow(401, true), Err(Exhausted::Permanently { most: 1_000 }));
    }
}
