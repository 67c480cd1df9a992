//! The two classes of work, and what a share of the CPU weighs. Never decides who is next.

use crate::limits;
use std::ops::{Index, IndexMut};

/// What kind of work a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for the answer: a request.
    Pull,
    /// Nobody waits: an event. It runs after all pull work, but keeps a part of the CPU.
    Push,
}

impl Class {
    pub(crate) const ALL: [Self; 2] = [Self::Pull, Self::Push];
}

/// One value for each class.
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

/// How much of the CPU an account gets where it is short, in proportion to the weights of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(u32);

impl Weight {
    /// A weight, if it is one of [`limits::WEIGHT`].
    pub fn new(weight: u32) -> Option<Self> {
        limits::WEIGHT.contains(&weight).then_some(Self(weight))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// CPU time as it counts in comparison with others: the heavier the account, the less.
    pub(crate) fn weigh(self, cpu_ns: u64) -> u64 {
        cpu_ns.saturating_mul(u64::from(limits::WEIGHT_USUAL)) / u64::from(self.0)
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(limits::WEIGHT_USUAL)
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
