//! The CPU usage and the limits of one account, in atomics: I/O threads charge it without a lock
//! while worker threads compare it with others. Owns the arithmetic of virtual time. Knows no
//! queue, thread or clock.
//!
//! An account's virtual time is the CPU time that it used, divided by its weight. Only differences
//! count. The scheduler has a minimum for each class, which never decreases, and bounds each
//! account's distance from it in both directions:
//!
//! ```text
//!            credit              lead       debt
//!  ─────────────┼────────┼─────────┼──────────┼──────> virtual time
//!               │     minimum      │          └ inline charges beyond this are forgiven
//!               │        │         └ beyond this, the account's calls move to worker threads
//!               │        └ start of an account that was idle
//!               └ lower bound for an account that had no free core
//! ```

use crate::{
    class::{Class, PerClass, Weight},
    limits,
    sync::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
use std::num::NonZeroU32;

/// Identifies an account within one executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AccountId(pub(crate) u64);

pub(crate) struct Ledger {
    id: AccountId,
    weight: AtomicU32,
    cores: AtomicU32,
    classes: PerClass<Usage>,
}

/// The usage of an account in one class. The classes are compared separately: heavy pull work
/// doesn't delay the account's push work against the push work of others.
#[derive(Default)]
struct Usage {
    virtual_ns: AtomicU64,
    cpu_ns: AtomicU64,
    /// The typical CPU time of a call.
    typical_ns: AtomicU64,
    /// Whether the worker threads have work of this account. Written by the scheduler only.
    active: AtomicBool,
}

// These numbers publish no other memory and each is correct alone, so no ordering is needed.
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

    /// Counts a poll on an I/O thread without virtual time: no other account competes for the CPU.
    pub(crate) fn count(&self, class: Class, cpu_ns: u64) {
        self.classes[class].cpu_ns.fetch_add(cpu_ns, ANY_ORDER);
    }

    /// Charges a poll on an I/O thread while worker threads are busy, up to a debt of `debt_max_ns`
    /// past the minimum.
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

    /// Charges a whole slice on a worker thread before it runs, so that other threads take it into
    /// account. Returns the virtual time charged, for [`Ledger::settle`].
    pub(crate) fn charge_ahead(&self, class: Class, slice_ns: u64) -> u64 {
        let ahead = self.weight().weigh(slice_ns);
        self.classes[class].virtual_ns.fetch_add(ahead, ANY_ORDER);
        ahead
    }

    /// Replaces the charge made ahead with the CPU time really used.
    pub(crate) fn settle(&self, class: Class, ahead: u64, cpu_ns: u64) {
        self.count(class, cpu_ns);
        let used = self.weight().weigh(cpu_ns);
        // Wraps around if less was used: adding the difference then subtracts.
        self.classes[class].virtual_ns.fetch_add(used.wrapping_sub(ahead), ANY_ORDER);
    }

    /// Raises the account's virtual time to `lowest_ns` if it is below. Returns the result.
    pub(crate) fn lift(&self, class: Class, lowest_ns: u64) -> u64 {
        self.classes[class].virtual_ns.fetch_max(lowest_ns, ANY_ORDER).max(lowest_ns)
    }

    pub(crate) fn typical_ns(&self, class: Class) -> u64 {
        self.classes[class].typical_ns.load(ANY_ORDER)
    }

    /// Adds a call to the typical CPU time. Of two calls that complete simultaneously one may be
    /// lost, which is harmless for an average.
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

    #[expect(clippy::unwrap_used, reason = "a test fails by a panic")]
    fn ledger(weight: u32) -> Ledger {
        Ledger::new(AccountId(1), Weight::new(weight).unwrap(), NonZeroU32::MIN)
    }

    #[test]
    fn cpu_time_without_competition_adds_no_virtual_time() {
        let ledger = ledger(100);
        ledger.count(Pull, 500);
        assert_eq!((ledger.cpu_ns(Pull), ledger.virtual_ns(Pull), ledger.cpu_ns(Push)), (500, 0, 0));
    }

    #[test]
    fn a_charge_starts_at_the_minimum_and_is_capped_at_the_maximum_debt() {
        let ledger = ledger(200);
        ledger.charge(Pull, 100, 1_000, 80);
        assert_eq!(ledger.virtual_ns(Pull), 1_050);
        ledger.charge(Pull, 100, 1_000, 80);
        assert_eq!(ledger.virtual_ns(Pull), 1_080);
        assert_eq!(ledger.cpu_ns(Pull), 200, "the whole CPU time is counted");
        ledger.charge(Pull, 100, 500, 80);
        assert_eq!(ledger.virtual_ns(Pull), 1_080, "a charge never decreases virtual time");
    }

    #[test]
    fn settling_replaces_the_charged_slice_with_the_cpu_time_used() {
        let ledger = ledger(50);
        let ahead = ledger.charge_ahead(Push, 1_000);
        assert_eq!((ahead, ledger.virtual_ns(Push)), (2_000, 2_000));
        ledger.settle(Push, ahead, 300);
        assert_eq!((ledger.virtual_ns(Push), ledger.cpu_ns(Push)), (600, 300));
    }

    #[test]
    fn a_few_long_calls_raise_the_typical_time_and_many_short_ones_lower_it() {
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
