//! The two classes of work and an account's weight. Never decides which account runs next.

use crate::limits;
use std::ops::{Index, IndexMut};

/// The class of a call: whether a caller waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Pull work: a caller waits for the response, as for a request.
    Pull,
    /// Push work: no caller waits, as for an event. Runs after all pull work, but has a minimum
    /// share of the CPU.
    Push,
}

impl Class {
    pub(crate) const ALL: [Self; 2] = [Self::Pull, Self::Push];
}

/// One value per class.
#[derive(Debug, Default)]
pub(crate) struct PerClass<T> {
    pull: T,
    push: T,
}

impl<T> Index<Class> for PerClass<T> {
    type Output = T;

    fn index(&self, class: Class) -> &T {
        match class {
            Class::Pull => &self.pull,
            Class::Push => &self.push,
        }
    }
}

impl<T> IndexMut<Class> for PerClass<T> {
    fn index_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Pull => &mut self.pull,
            Class::Push => &mut self.push,
        }
    }
}

/// An account's weight: under contention, accounts get CPU time in proportion to their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(u32);

impl Weight {
    /// Returns a weight if the number is within [`limits::WEIGHT`].
    pub fn new(weight: u32) -> Option<Self> {
        limits::WEIGHT.contains(&weight).then_some(Self(weight))
    }

    /// Returns the weight as a number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Converts CPU time to virtual time: the heavier the account, the smaller the result.
    pub(crate) fn weigh(self, cpu_ns: u64) -> u64 {
        cpu_ns.saturating_mul(u64::from(limits::ACCOUNT_WEIGHT_DEFAULT)) / u64::from(self.0)
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(limits::ACCOUNT_WEIGHT_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_weight_counts_half() {
        assert_eq!(Weight::default().weigh(1_000), 1_000);
        assert_eq!(Weight::new(200).map(|weight| weight.weigh(1_000)), Some(500));
        assert_eq!(Weight::new(1).map(|weight| weight.weigh(u64::MAX)), Some(u64::MAX));
    }

    #[test]
    fn a_weight_is_in_its_range() {
        assert!(Weight::new(0).is_none() && Weight::new(10_001).is_none() && Weight::new(10_000).is_some());
    }
}
