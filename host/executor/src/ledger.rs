//! What one account has used and may use, in atomics: I/O threads charge it without a lock while fair threads compare it
//! with others. Owns the arithmetic of virtual time. Knows no queue, no thread and no clock.
//!
//! An account's virtual time is the CPU time it used, divided by its weight. Only differences count: the queue keeps a
//! minimum for each class, which only grows, and an account is held near it from both sides:
//!
//! ```text
//!            credit              lead       debt
//!  ─────────────┼────────┼─────────┼──────────┼──────> virtual time
//!               │     minimum      │          └ charges on I/O threads are forgotten from here on
//!               │        │         └ from here on the account's calls go to the fair threads
//!               │        └ where an account begins that was idle
//!               └ where an account is lifted to that could not use its turns
//! ```

use crate::{
    class::{Class, PerClass, Weight},
    limits,
    sync::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
use std::num::NonZeroU32;

/// Names an account within one executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AccountId(pub(crate) u64);

pub(crate) struct Ledger {
    id: AccountId,
    weight: AtomicU32,
    cores: AtomicU32,
    classes: PerClass<Used>,
}

/// What an account has used in one class. The classes are compared apart: much pull work takes nothing from the
/// account's place among those that push.
#[derive(Default)]
struct Used {
    virtual_ns: AtomicU64,
    cpu_ns: AtomicU64,
    /// What a call usually takes.
    typical_ns: AtomicU64,
    /// Whether fair threads have work of this account. Written by the queue alone.
    active: AtomicBool,
}

// Nothing is published by these numbers, and each is right by itself: no order between them is needed.
const ANY_ORDER: Ordering = Ordering::Relaxed;

impl Ledger {
    pub(crate) fn new(id: AccountId, weight: Weight, cores: NonZeroU32) -> Self {
        let classes = PerClass::default();
        Self { id, weight: AtomicU32::new(weight.get()), cores: AtomicU32::new(cores.get()), classes }
    }

    pub(crate) fn id(&self) -> AccountId {
        self.id
    }

    pub(crate) fn weight(&self) -> Weight {
        Weight::new(self.weight.load(ANY_ORDER)).unwrap_or_default()
    }

    pub(crate) fn set_weight(&self, weight: Weight) {
        self.weight.store(weight.get(), ANY_ORDER);
    }

    pub(crate) fn cores(&self) -> u32 {
        self.cores.load(ANY_ORDER)
    }

    pub(crate) fn set_cores(&self, cores: NonZeroU32) {
        self.cores.store(cores.get(), ANY_ORDER);
    }

    pub(crate) fn cpu_ns(&self, class: Class) -> u64 {
        self.classes[class].cpu_ns.load(ANY_ORDER)
    }

    pub(crate) fn virtual_ns(&self, class: Class) -> u64 {
        self.classes[class].virtual_ns.load(ANY_ORDER)
    }

    pub(crate) fn is_active(&self, class: Class) -> bool {
        self.classes[class].active.load(ANY_ORDER)
    }

    pub(crate) fn set_active(&self, class: Class, active: bool) {
        self.classes[class].active.store(active, ANY_ORDER);
    }

    /// Charges a poll on an I/O thread while nobody else wants the CPU: it is counted, and held against nobody.
    pub(crate) fn count(&self, class: Class, cpu_ns: u64) {
        self.classes[class].cpu_ns.fetch_add(cpu_ns, ANY_ORDER);
    }

    /// Charges a poll on an I/O thread while fair threads work: up to a debt of `debt_max_ns` past the minimum.
    pub(crate) fn charge(&self, class: Class, cpu_ns: u64, minimum_ns: u64, debt_max_ns: u64) {
        self.count(class, cpu_ns);
        let used = &self.classes[class].virtual_ns;
        let charge = self.weight().weigh(cpu_ns);
        let highest = minimum_ns.saturating_add(debt_max_ns);
        let charged = |before: u64| before.max(before.max(minimum_ns).saturating_add(charge).min(highest));
        let mut before = used.load(ANY_ORDER);
        while let Err(changed) = used.compare_exchange_weak(before, charged(before), ANY_ORDER, ANY_ORDER) {
            before = changed;
        }
    }

    /// Charges a slice on a fair thread before it is used, so that other threads see who is running. Tells the virtual
    /// time that was charged, for [`Ledger::settle`].
    pub(crate) fn charge_ahead(&self, class: Class, slice_ns: u64) -> u64 {
        let ahead = self.weight().weigh(slice_ns);
        self.classes[class].virtual_ns.fetch_add(ahead, ANY_ORDER);
        ahead
    }

    /// Puts what was really used in place of what was charged ahead.
    pub(crate) fn settle(&self, class: Class, ahead: u64, cpu_ns: u64) {
        self.count(class, cpu_ns);
        let used = self.weight().weigh(cpu_ns);
        // Wraps around where less was used, which is how one addition subtracts.
        self.classes[class].virtual_ns.fetch_add(used.wrapping_sub(ahead), ANY_ORDER);
    }

    /// Lifts the account to a virtual time if it is below, and tells where it then is.
    pub(crate) fn lift(&self, class: Class, lowest_ns: u64) -> u64 {
        self.classes[class].virtual_ns.fetch_max(lowest_ns, ANY_ORDER).max(lowest_ns)
    }

    pub(crate) fn typical_ns(&self, class: Class) -> u64 {
        self.classes[class].typical_ns.load(ANY_ORDER)
    }

    /// Takes a call into what calls usually take. Of two that end at the same moment one may be lost, which is no harm.
    pub(crate) fn note_call(&self, class: Class, cpu_ns: u64, slice_ns: u64) {
        let typical = &self.classes[class].typical_ns;
        let noted = cpu_ns.min(slice_ns * limits::CALL_NOTED_SLICES_MAX);
        let before = typical.load(ANY_ORDER);
        let after = before - before / limits::CALL_NOTED_PARTS + noted / limits::CALL_NOTED_PARTS;
        if after != before {
            typical.store(after, ANY_ORDER);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use Class::{Pull, Push};

    fn ledger(weight: u32) -> Ledger {
        Ledger::new(AccountId(1), Weight::new(weight).unwrap(), NonZeroU32::MIN)
    }

    #[test]
    fn what_is_counted_alone_is_held_against_nobody() {
        let ledger = ledger(100);
        ledger.count(Pull, 500);
        assert_eq!((ledger.cpu_ns(Pull), ledger.virtual_ns(Pull), ledger.cpu_ns(Push)), (500, 0, 0));
    }

    #[test]
    fn a_charge_begins_at_the_minimum_and_ends_at_the_most_debt() {
        let ledger = ledger(200);
        ledger.charge(Pull, 100, 1_000, 80);
        assert_eq!(ledger.virtual_ns(Pull), 1_050);
        ledger.charge(Pull, 100, 1_000, 80);
        assert_eq!(ledger.virtual_ns(Pull), 1_080);
        assert_eq!(ledger.cpu_ns(Pull), 200, "all of it is counted");
        ledger.charge(Pull, 100, 500, 80);
        assert_eq!(ledger.virtual_ns(Pull), 1_080, "a charge takes nothing back");
    }

    #[test]
    fn settling_puts_the_use_in_place_of_the_slice() {
        let ledger = ledger(50);
        let ahead = ledger.charge_ahead(Push, 1_000);
        assert_eq!((ahead, ledger.virtual_ns(Push)), (2_000, 2_000));
        ledger.settle(Push, ahead, 300);
        assert_eq!((ledger.virtual_ns(Push), ledger.cpu_ns(Push)), (600, 300));
    }

    #[test]
    fn a_few_long_calls_show_and_many_short_ones_make_up_for_them() {
        let ledger = ledger(100);
        let (slice, threshold) = (1_000_000, 250_000);
        for _ in 0..3 {
            ledger.note_call(Pull, slice, slice);
        }
        assert!(ledger.typical_ns(Pull) > threshold);
        for _ in 0..100 {
            ledger.note_call(Pull, u64::MAX, slice);
        }
        assert!(ledger.typical_ns(Pull) <= 4 * slice);
        for _ in 0..24 {
            ledger.note_call(Pull, 10_000, slice);
        }
        assert!(ledger.typical_ns(Pull) < threshold);
    }
}
