//! What all guests have together: memory, and places for their instances. A limit for each app is none for a thousand of
//! them, so whoever takes more is counted here too.

use crate::limits;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// What there is, and what is taken of it.
pub(crate) struct Budget {
    most: u64,
    taken: AtomicU64,
}

impl Budget {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, taken: AtomicU64::new(0) }
    }

    /// How much a guest may see taken, itself included.
    fn most(&self, may_use_reserve: bool) -> u64 {
        let reserve = if may_use_reserve { 0 } else { self.most.saturating_mul(limits::RESERVE_PERCENT) / 100 };
        self.most - reserve
    }
}

/// What one instance has of it; given back when it is dropped.
pub(crate) struct Taken {
    budget: Arc<Budget>,
    amount: u64,
}

impl Taken {
    pub(crate) fn nothing(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), amount: 0 }
    }

    /// Takes more; where there is none left, says how much there is in all.
    pub(crate) fn grow(&mut self, amount: u64, may_use_reserve: bool) -> Result<(), u64> {
        let most = self.budget.most(may_use_reserve);
        let before = self.budget.taken.fetch_add(amount, Ordering::Relaxed);
        if before.saturating_add(amount) > most {
            self.budget.taken.fetch_sub(amount, Ordering::Relaxed);
            return Err(most);
        }
        self.amount += amount;
        Ok(())
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
    fn what_is_given_back_can_be_taken_again() {
        let budget = Arc::new(Budget::new(1_000));
        let (mut one, mut two) = (Taken::nothing(&budget), Taken::nothing(&budget));
        assert_eq!((one.grow(600, true), two.grow(600, true)), (Ok(()), Err(1_000)));
        assert_eq!(two.grow(400, true), Ok(()));
        drop(one);
        assert_eq!(two.grow(600, true), Ok(()));
    }

    #[test]
    fn a_part_is_kept_for_those_who_may_use_it() {
        let budget = Arc::new(Budget::new(1_000));
        let mut guest = Taken::nothing(&budget);
        assert_eq!(guest.grow(901, false), Err(900));
        assert_eq!((guest.grow(900, false), guest.grow(1, false), guest.grow(100, true)), (Ok(()), Err(900), Ok(())));
    }
}
