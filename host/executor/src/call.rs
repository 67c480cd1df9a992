//! The CPU usage of one call and the charges to its account. Moves with the call from the I/O
//! thread to the worker threads. Never polls the call.

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
    /// When the call was first polled.
    pub(crate) started: Option<Instant>,
    pub(crate) used_ns: u64,
    /// Also counts the call's CPU time while the call runs.
    pub(crate) counter: Option<CpuCounter>,
}

impl Call {
    pub(crate) fn new(account: Account, class: Class) -> Self {
        Self { account, class, started: None, used_ns: 0, counter: None }
    }

    /// Decides where the call is polled next.
    pub(crate) fn placement(&self) -> Placement {
        let published = self.account.pool().published();
        if published.is_closed() {
            return Placement::Inline;
        }
        let slice_ns = self.account.slice_ns();
        // The clock is read only when the result depends on it.
        let burst_ns = if self.used_ns > slice_ns { self.burst_ns() } else { self.used_ns };
        published.facts(self.account.ledger(), self.class, burst_ns).placement(self.class, slice_ns)
    }

    /// Adds a poll's CPU time, on either kind of thread.
    pub(crate) fn add(&mut self, cpu_ns: u64) {
        self.used_ns += cpu_ns;
        self.counter.iter().for_each(|counter| counter.add(cpu_ns));
    }

    /// Charges a poll on an I/O thread.
    pub(crate) fn charge_inline(&mut self, cpu_ns: u64) {
        self.add(cpu_ns);
        let debt_max_ns = self.account.slice_ns() * limits::DEBT_SLICES_MAX;
        self.account.pool().published().charge(self.account.ledger(), self.class, cpu_ns, debt_max_ns);
    }

    /// Adds a completed inline call to the typical CPU time of the account's calls. A stream that
    /// used little CPU over a long time doesn't count as a long call.
    pub(crate) fn note_inline(&self) {
        let slice_ns = self.account.slice_ns();
        // For a short call the elapsed time can't change the result, so the clock isn't read.
        let is_short = self.used_ns <= slice_ns / limits::LONG_CALL_PER_SLICE;
        self.note(if is_short { self.used_ns } else { self.burst_ns() });
    }

    /// Adds a call that outlived its slice. Called at the move, so that the next calls don't wait
    /// for this one to complete, and at completion. The elapsed time is ignored: it includes the
    /// time that the call waited for other accounts.
    pub(crate) fn note_moved(&self) {
        self.note(self.used_ns);
    }

    fn note(&self, used_ns: u64) {
        self.account.ledger().note_call(self.class, used_ns, self.account.slice_ns());
    }

    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns)
    }

    fn burst_ns(&self) -> u64 {
        burst_ns(self.used_ns, self.started.map_or(0, |started| nanoseconds(started.elapsed())))
    }
}
