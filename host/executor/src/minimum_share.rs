//! How much of the CPU push work keeps while pull work waits. Owns one number; never looks at a queue.

use crate::{class::Class, limits};

/// The account between the two classes, kept only while both wait.
#[derive(Debug)]
pub(crate) struct MinimumShare {
    percent: i64,
    /// What push work is owed, in hundredths of nanoseconds; less than nothing if it had more than its part.
    due: i64,
    due_max: i64,
}

impl MinimumShare {
    pub(crate) fn new(percent: u32, slice_ns: u64) -> Self {
        let due_max = (slice_ns * limits::PUSH_DUE_SLICES_MAX * 100).cast_signed();
        Self { percent: i64::from(percent), due: 0, due_max }
    }

    /// Whether push work has its turn before pull work.
    pub(crate) fn is_due(&self) -> bool {
        self.due > 0
    }

    /// Takes into account what a class used, or with a negative number that it used less than was charged before.
    pub(crate) fn charge(&mut self, class: Class, cpu_ns: i64) {
        let change = match class {
            Class::Pull => cpu_ns.saturating_mul(self.percent),
            Class::Push => cpu_ns.saturating_mul(self.percent - 100),
        };
        self.due = self.due.saturating_add(change).clamp(-self.due_max, self.due_max);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn one_turn_in_ten_is_due_at_ten_percent() {
        let mut minimum_share = MinimumShare::new(10, 1_000);
        let turns: Vec<bool> = (0..100)
            .map(|_| {
                let push = minimum_share.is_due();
                minimum_share.charge(if push { Class::Push } else { Class::Pull }, 1_000);
                push
            })
            .collect();
        assert_eq!(turns.iter().filter(|push| **push).count(), 10);
        assert!(turns.windows(11).all(|window| window.contains(&true)), "it never waits for more than ten turns");
    }

    #[test]
    fn nothing_is_saved_up_without_end() {
        let mut minimum_share = MinimumShare::new(10, 1_000);
        minimum_share.charge(Class::Pull, i64::MAX);
        let mut turns = 0;
        while minimum_share.is_due() {
            minimum_share.charge(Class::Push, 1_000);
            turns += 1;
        }
        assert_eq!(turns, 5);
    }
}
