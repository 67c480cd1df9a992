//! Statistics of the scheduler's queue that I/O threads read without its lock. The pool writes them
//! under the lock; I/O threads add only the CPU time that pull work used inline. A reader may see
//! slightly old values; a call then moves a little early or late, which is harmless. Never decides
//! a placement.

use crate::{
    class::{Class, PerClass},
    ledger::Ledger,
    placement::CallFacts,
    scheduler::Level,
    sync::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// Aligned to separate cache lines, since every call reads it.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct PublishedStats {
    classes: PerClass<ClassStats>,
    inline_pull_ns: AtomicU64,
    closed: AtomicBool,
}

#[derive(Default)]
struct ClassStats {
    minimum_ns: AtomicU64,
    active: AtomicU32,
    waiting: AtomicU32,
}

// As in the ledger, each number is correct alone.
const ANY_ORDER: Ordering = Ordering::Relaxed;

impl PublishedStats {
    pub(crate) fn publish(&self, class: Class, level: Level) {
        let stats = &self.classes[class];
        stats.minimum_ns.store(level.minimum_ns, ANY_ORDER);
        stats.active.store(u32::try_from(level.active).unwrap_or(u32::MAX), ANY_ORDER);
        stats.waiting.store(u32::try_from(level.waiting).unwrap_or(u32::MAX), ANY_ORDER);
    }

    pub(crate) fn active(&self, class: Class) -> u32 {
        self.classes[class].active.load(ANY_ORDER)
    }

    pub(crate) fn waiting(&self, class: Class) -> u32 {
        self.classes[class].waiting.load(ANY_ORDER)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, ANY_ORDER);
    }

    /// Returns whether the worker threads accept no more calls.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(ANY_ORDER)
    }

    /// Returns the facts that decide a call's placement.
    pub(crate) fn facts(&self, ledger: &Ledger, class: Class, burst_ns: u64) -> CallFacts {
        let others_active = self.active(class) > u32::from(ledger.is_active(class));
        let lead_ns = match others_active {
            true => ledger.virtual_ns(class).saturating_sub(self.minimum_ns(class)),
            false => 0,
        };
        let pull_waits = self.waiting(Class::Pull) > 0;
        CallFacts { typical_ns: ledger.typical_ns(class), burst_ns, lead_ns, others_active, pull_waits }
    }

    /// Charges a poll on an I/O thread.
    pub(crate) fn charge(&self, ledger: &Ledger, class: Class, cpu_ns: u64, debt_max_ns: u64) {
        if self.active(class) > 0 {
            ledger.charge(class, cpu_ns, self.minimum_ns(class), debt_max_ns);
        } else {
            ledger.count(class, cpu_ns);
        }
        if class == Class::Pull && self.waiting(Class::Push) > 0 {
            self.inline_pull_ns.fetch_add(cpu_ns, ANY_ORDER);
        }
    }

    /// Returns the CPU time that pull work used on I/O threads while push work waited, since the
    /// last call.
    pub(crate) fn take_inline_pull_ns(&self) -> u64 {
        if self.inline_pull_ns.load(ANY_ORDER) == 0 { 0 } else { self.inline_pull_ns.swap(0, ANY_ORDER) }
    }

    fn minimum_ns(&self, class: Class) -> u64 {
        self.classes[class].minimum_ns.load(ANY_ORDER)
    }
}
