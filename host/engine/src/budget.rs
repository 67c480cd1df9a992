//! Host-wide budgets for guest memory and instance slots. Per-app limits don't bound their sum, so
//! every allocation is also charged here. Never evicts anything.

use crate::limits;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A budget: its size, and the amount reserved from it.
pub(crate) struct Budget {
    most: u64,
    taken: AtomicU64,
}

impl Budget {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, taken: AtomicU64::new(0) }
    }

    /// Returns the largest total that may be reserved by a guest with or without access to the
    /// reserve.
    pub(crate) fn most(&self, may_use_reserve: bool) -> u64 {
        let reserve = if may_use_reserve { 0 } else { self.most.saturating_mul(limits::RESERVE_PERCENT) / 100 };
        self.most - reserve
    }
}

/// Why a reservation is refused, with the size of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoMore {
    /// Other guests hold too much now; a later attempt may succeed.
    Now { most: u64 },
    /// The amount exceeds the budget even if no other guest holds any.
    Ever { most: u64 },
}

/// One instance's reservation, returned to the budget on drop.
pub(crate) struct Taken {
    budget: Arc<Budget>,
    amount: u64,
}

impl Taken {
    pub(crate) fn nothing(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), amount: 0 }
    }

    /// Reserves `amount` more.
    pub(crate) fn grow(&mut self, amount: u64, may_use_reserve: bool) -> Result<(), NoMore> {
        let most = self.budget.most(may_use_reserve);
        if self.amount.saturating_add(amount) > most {
            return Err(NoMore::Ever { most });
        }
        let before = self.budget.taken.fetch_add(amount, Ordering::Relaxed);
        if before.saturating_add(amount) > most {
            self.budget.taken.fetch_sub(amount, Ordering::Relaxed);
            return Err(NoMore::Now { most });
        }
        self.amount += amount;
        Ok(())
    }

    /// Returns part of the reservation to the budget.
    pub(crate) fn shrink(&mut self, amount: u64) {
        debug_assert!(amount <= self.amount, "only reserved amounts can be returned");
        let amount = amount.min(self.amount);
        self.amount -= amount;
        self.budget.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_reservation_can_be_taken_again() {
        let budget = Arc::new(Budget::new(1_000));
        let (mut one, mut two) = (Taken::nothing(&budget), Taken::nothing(&budget));
        assert_eq!((one.grow(600, true), two.grow(600, true)), (Ok(()), Err(NoMore::Now { most: 1_000 })));
        assert_eq!(two.grow(400, true), Ok(()));
        drop(one);
        assert_eq!(two.grow(600, true), Ok(()));
    }

    #[test]
    fn a_returned_part_can_be_taken_again() {
        let budget = Arc::new(Budget::new(1_000));
        let (mut one, mut two) = (Taken::nothing(&budget), Taken::nothing(&budget));
        assert_eq!(one.grow(1_000, true), Ok(()));
        one.shrink(400);
        assert_eq!(two.grow(400, true), Ok(()));
        assert_eq!(one.grow(1, true), Err(NoMore::Now { most: 1_000 }));
        drop((one, two));
        assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_reserve_is_only_for_guests_that_may_use_it() {
        let budget = Arc::new(Budget::new(1_000));
        let mut guest = Taken::nothing(&budget);
        assert_eq!(guest.grow(901, false), Err(NoMore::Ever { most: 900 }));
        let mut other = Taken::nothing(&budget);
        assert_eq!((guest.grow(900, false), other.grow(1, false)), (Ok(()), Err(NoMore::Now { most: 900 })));
        assert_eq!(other.grow(100, true), Ok(()));
    }

    #[test]
    fn a_guests_own_reservation_counts_towards_the_whole_budget() {
        let budget = Arc::new(Budget::new(1_000));
        let (mut one, mut two) = (Taken::nothing(&budget), Taken::nothing(&budget));
        assert_eq!((one.grow(600, true), two.grow(300, true)), (Ok(()), Ok(())));
        assert_eq!(one.grow(400, true), Err(NoMore::Now { most: 1_000 }));
        assert_eq!(one.grow(401, true), Err(NoMore::Ever { most: 1_000 }));
    }
}
