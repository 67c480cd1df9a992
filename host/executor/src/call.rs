//! What one call has used, and what its account is charged for it. Goes with the call from the I/O thread to the fair
//! ones. Never polls it.

use crate::{
    account::Account,
    class::Class,
    clock::nanoseconds,
    cpu_counter::CpuCounter,
    limits,
    placement::{Placement, burst_ns},
};
use std::time::{Duration, Instant};

#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) account: Account,
    pub(crate) class: Class,
    /// When it was first polled.
    pub(crate) begun: Option<Instant>,
    pub(crate) used_ns: u64,
    /// Where it is shown meanwhile.
    pub(crate) shown: Option<CpuCounter>,
}

impl Call {
    pub(crate) fn new(account: Account, class: Class) -> Self {
        Self { account, class, begun: None, used_ns: 0, shown: None }
    }

    /// Where it should be polled next.
    pub(crate) fn place(&self) -> Placement {
        let published = self.account.pool().published();
        if published.is_closed() {
            return Placement::Here;
        }
        let slice_ns = self.account.slice_ns();
        // The clock is read only where it matters.
        let burst_ns = if self.used_ns > slice_ns { self.burst_ns() } else { self.used_ns };
        published.facts(self.account.ledger(), self.class, burst_ns).place(self.class, slice_ns)
    }

    /// Takes in a poll, wherever it was.
    pub(crate) fn add(&mut self, cpu_ns: u64) {
        self.used_ns += cpu_ns;
        self.shown.iter().for_each(|shown| shown.add(cpu_ns));
    }

    /// Charges a poll on an I/O thread.
    pub(crate) fn charge_here(&mut self, cpu_ns: u64) {
        self.add(cpu_ns);
        let debt_max_ns = self.account.slice_ns() * limits::DEBT_SLICES_MAX;
        self.account.pool().published().charge(self.account.ledger(), self.class, cpu_ns, debt_max_ns);
    }

    /// Takes a call that never left its I/O thread into what the account's calls usually take. A stream that worked a
    /// little all the time was not a long call.
    pub(crate) fn note_here(&self) {
        let slice_ns = self.account.slice_ns();
        // As above: of a short call there is nothing to forgive.
        let is_short = self.used_ns <= slice_ns / limits::LONG_CALL_PER_SLICE;
        self.note(if is_short { self.used_ns } else { self.burst_ns() });
    }

    /// The same for one that outlives its slice: when it does, since the next ones should not have to wait for its end,
    /// and at its end. The time since it began says nothing here: it is long because others have their turns.
    pub(crate) fn note_long(&self) {
        self.note(self.used_ns);
    }

    fn note(&self, used_ns: u64) {
        self.account.ledger().note_call(self.class, used_ns, self.account.slice_ns());
    }

    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns)
    }

    fn burst_ns(&self) -> u64 {
        burst_ns(self.used_ns, self.begun.map_or(0, |begun| nanoseconds(begun.elapsed())))
    }
}
