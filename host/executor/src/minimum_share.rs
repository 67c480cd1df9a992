//! Push work's minimum share of the CPU while pull work waits. Owns one balance; never reads a
//! queue.

use crate::{class::Class, limits};

/// The balance between the two classes. Changes only while both classes have work waiting.
#[derive(Debug)]
pub(crate) struct MinimumShare {
    percent: i64,
    /// The CPU time owed to push work, in hundredths of nanoseconds; negative if push work exceeded
    /// its share.
    due: i64,
    due_max: i64,
}

impl MinimumShare {
    pub(crate) fn new(percent: u32, slice_ns: u64) -> Self {
        let due_max = (slice_ns * limits::PUSH_DUE_SLICES_MAX * 100).cast_signed();
        Self { percent: i64::from(percent), due: 0, due_max }
    }

    /// Reslices whether push work runs before pull work.
    pub(crate) fn is_due(&self) -> bool {
        self.due > 0
    }

    /// Charges a class. A negative number corrects an earlier charge that was too large.
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
    fn one_slice_in_ten_is_due_at_ten_percent() {
        let mut minimum_share = MinimumShare::new(10, 1_000);
        let slices: Vec<bool> = (0..100)
            .map(|_| {
                let push = minimum_share.is_due();
                minimum_share.charge(if push { Class::Push } else { Class::Pull }, 1_000);
                push
            })
            .collect();
        assert_eq!(slices.iter().filter(|push| **push).count(), 10);
        assert!(
            slices.windows(11).all(|window| window.contains(&true)),
            "push work never waits for more than ten slices"
        );
    }

    #[test]
    fn the_balance_of_push_work_is_bounded() {
        let mut minimum_share = MinimumShare::new(10, 1_000);
        minimum_share.charge(Class::Pull, i64::MAX);
        let mut slices = 0;
        while minimum_share.is_due() {
            minimum_share.charge(Class::Push, 1_000);
            slices += 1;
        }
        assert_eq!(slices, 5);
    }
}
