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
    /// The operations in progress that a call may wait for, by phase.
    operations: [AtomicU32; Phase::COUNT],
    /// The time that the call has waited, by phase.
    waited_ns: [AtomicU64; Phase::COUNT],
}

impl CallWaits {
    /// Begins the measurement of a call.
    pub fn begin_call(&self) {
        self.waited_ns.iter().for_each(|waited| waited.store(0, Ordering::Relaxed));
    }

    /// Returns what a call that pauses now waits for. `None` if the operation measures its time
    /// itself.
    pub fn cause(&self) -> Option<Phase> {
        let is_in_progress = |phase: &Phase| self.operations[phase.index()].load(Ordering::Relaxed) > 0;
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
        self.operations[phase.index()].fetch_add(1, Ordering::Relaxed);
        Operation { waits: Arc::clone(self), phase, started: None }
    }

    /// Begins a call of another guest, which runs in place of this one. Its whole time is a wait.
    pub(crate) fn begin_nested(self: &Arc<Self>, phase: Phase) -> Operation {
        let mut operation = self.begin(phase);
        operation.started = Some(Instant::now());
        operation
    }
}

/// An operation that a call may wait for. Dropping it ends the operation.
pub(crate) struct Operation {
    waits: Arc<CallWaits>,
    phase: Phase,
    /// When the operation began, if it measures its time itself.
    started: Option<Instant>,
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(started) = self.started {
            self.waits.add(self.phase, started.elapsed());
        }
        let before = self.waits.operations[self.phase.index()].fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "an operation that ends was in progress");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_attributed_to_the_operation_that_blocks_the_guest() {
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
    fn a_new_call_has_not_waited() {
        let waits = CallWaits::default();
        waits.add(Phase::Http, Duration::from_millis(1));
        waits.add(Phase::Http, Duration::from_millis(2));
        assert_eq!(waits.waited(Phase::Http), Duration::from_millis(3));
        waits.begin_call();
        assert_eq!(waits.waited(Phase::Http), Duration::ZERO);
    }
}
