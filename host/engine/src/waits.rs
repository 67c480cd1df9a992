//! What the current call of an instance waits for, and for how long. The host's functions report
//! their operations, and the embedder reports when the call is paused. Never runs a guest.

use isopod_policy::Phase;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The waits of the current call of one instance. All counters are independent, so their order is
/// irrelevant.
#[derive(Debug, Default)]
pub struct CallWaits {
    /// The number of the current call.
    call: AtomicU32,
    /// The operations in progress that a call may wait for, by phase: the number of their call in
    /// the upper half, and their count in the lower. Operations that a guest keeps after their call
    /// don't explain the pauses of a later one.
    operations: [AtomicU64; Phase::COUNT],
    /// The time that the call has waited, by phase.
    waited_ns: [AtomicU64; Phase::COUNT],
}

impl CallWaits {
    /// Begins the measurement of a call.
    pub fn begin_call(&self) {
        self.call.fetch_add(1, Ordering::Relaxed);
        self.waited_ns.iter().for_each(|waited| waited.store(0, Ordering::Relaxed));
    }

    fn operations(&self, phase: Phase, call: u32) -> u64 {
        let operations = self.operations[phase.index()].load(Ordering::Relaxed);
        if is_of(operations, call) { operations & COUNT } else { 0 }
    }

    /// Changes the number of operations of a call. Operations of another call are kept or replaced,
    /// as `change` returns.
    fn update(&self, phase: Phase, change: impl Fn(u64) -> Option<u64>) {
        // `None` leaves the number as it is.
        let _ = self.operations[phase.index()].fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Returns what a call that pauses now waits for. `None` if the operation measures its time
    /// itself.
    pub fn cause(&self) -> Option<Phase> {
        let call = self.call.load(Ordering::Relaxed);
        let is_in_progress = |phase: &Phase| self.operations(*phase, call) > 0;
        if [Phase::Events, Phase::Providers].iter().any(is_in_progress) {
            return None;
        }
        // Key-value calls block the guest. An outbound request may be in progress beside them.
        Some([Phase::KeyValue, Phase::Http].into_iter().find(is_in_progress).unwrap_or(Phase::Other))
    }

    /// Adds a wait.
    pub fn add(&self, phase: Phase, time: Duration) {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.waited_ns[phase.index()].fetch_add(time_ns, Ordering::Relaxed);
    }

    /// Returns how long the call has waited in a phase.
    pub fn waited(&self, phase: Phase) -> Duration {
        Duration::from_nanos(self.waited_ns[phase.index()].load(Ordering::Relaxed))
    }

    /// Begins an operation during which the call may pause.
    pub(crate) fn begin(self: &Arc<Self>, phase: Phase) -> Operation {
        let call = self.call.load(Ordering::Relaxed);
        self.update(phase, |before| Some(if is_of(before, call) { before } else { u64::from(call) << 32 } + 1));
        Operation { waits: Arc::clone(self), phase, call, started: None }
    }

    /// Begins an operation that suspends the guest until it ends. All of its time counts as a wait.
    pub(crate) fn begin_nested(self: &Arc<Self>, phase: Phase) -> Operation {
        let mut operation = self.begin(phase);
        operation.started = Some(Instant::now());
        operation
    }
}

/// The lower half of a number of operations.
const COUNT: u64 = u32::MAX as u64;

/// Returns whether operations in progress are those of a call.
fn is_of(operations: u64, call: u32) -> bool {
    operations >> 32 == u64::from(call)
}

/// An operation that a call may wait for. Dropping it ends the operation.
pub(crate) struct Operation {
    waits: Arc<CallWaits>,
    phase: Phase,
    call: u32,
    /// When the operation began, if it measures its time itself.
    started: Option<Instant>,
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(started) = self.started {
            self.waits.add(self.phase, started.elapsed());
        }
        self.waits.update(self.phase, |before| {
            let is_current = is_of(before, self.call);
            debug_assert!(!is_current || before & COUNT > 0, "an operation that ends was in progress");
            is_current.then(|| before - 1)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_for_the_operation_that_blocks_the_guest() {
        let waits = Arc::<CallWaits>::default();
        assert_eq!(waits.cause(), Some(Phase::Other));
        let http = waits.begin(Phase::Http);
        assert_eq!(waits.cause(), Some(Phase::Http));
        let data = waits.begin(Phase::KeyValue);
        assert_eq!(waits.cause(), Some(Phase::KeyValue));
        drop(data);
        let asked = waits.begin_nested(Phase::Events);
        assert_eq!(waits.cause(), None);
        drop(asked);
        assert!(waits.waited(Phase::Events) > Duration::ZERO && waits.cause() == Some(Phase::Http));
        drop(http);
        assert_eq!((waits.cause(), waits.waited(Phase::Http)), (Some(Phase::Other), Duration::ZERO));
    }

    #[test]
    fn an_operation_of_an_earlier_call_explains_no_pause() {
        let waits = Arc::<CallWaits>::default();
        let kept = waits.begin(Phase::Http);
        waits.begin_call();
        assert_eq!(waits.cause(), Some(Phase::Other));
        let own = waits.begin(Phase::Http);
        drop(kept);
        assert_eq!(waits.cause(), Some(Phase::Http));
        drop(own);
        assert_eq!(waits.cause(), Some(Phase::Other));
    }

    #[test]
    fn a_new_call_has_not_waited() {
        let waits = CallWaits::default();
        waits.add(Phase::Http, Duration::from_millis(1));
        waits.add(Phase::Http, Duration::from_millis(2));
        assert_eq!(waits.waited(Phase::Http), Duration::from_millis(3));
        waits.begin_call();
        assert_eq!(waits.waited(Phase::Http), Duration::ZERO);
    }
}
