//! The use of plugins by apps: the middlewares of a release in order, the counters of each app's
//! calls, and its share of a plugin's instances. Never calls a plugin.

use isopod_engine::Counters;
use isopod_policy::{AppName, MiddlewareUse};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// The middlewares that handle requests to a release before it does, in order. Never empty.
pub(crate) struct Chain(Box<[ChainLink]>);

/// A middleware of a chain.
pub(crate) struct ChainLink {
    pub(crate) used: MiddlewareUse,
    pub(crate) calls: Arc<PluginCalls>,
}

impl Chain {
    /// Returns the chain of these middlewares; `None` if there are none.
    pub(super) fn of(links: Vec<ChainLink>) -> Option<Arc<Self>> {
        (!links.is_empty()).then(|| Arc::new(Self(links.into())))
    }

    pub(super) fn links(&self) -> &[ChainLink] {
        &self.0
    }
}

/// The outcome of a call of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PluginOutcome {
    Pass,
    Change,
    Respond,
    /// A provider returned its results.
    Return,
    Failure,
}

impl PluginOutcome {
    pub(crate) const ALL: [Self; 5] = [Self::Pass, Self::Change, Self::Respond, Self::Return, Self::Failure];

    /// Returns its name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Change => "change",
            Self::Respond => "respond",
            Self::Return => "return",
            Self::Failure => "failure",
        }
    }
}

/// The calls of one plugin on behalf of one app, in all releases of both.
pub(crate) struct PluginCalls {
    plugin: AppName,
    outcomes: [AtomicU64; PluginOutcome::ALL.len()],
    cpu_ns: AtomicU64,
    /// The calls in progress, limited to the app's share of the plugin's instances.
    in_progress: AtomicU32,
    ended: Notify,
    /// The token buckets that the plugin has for the app.
    counters: Arc<Counters>,
}

impl PluginCalls {
    pub(super) fn new(plugin: AppName) -> Self {
        Self {
            plugin,
            outcomes: Default::default(),
            cpu_ns: AtomicU64::new(0),
            in_progress: AtomicU32::new(0),
            ended: Notify::new(),
            counters: Arc::default(),
        }
    }

    pub(crate) fn plugin(&self) -> &AppName {
        &self.plugin
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    pub(super) fn count(&self, outcome: PluginOutcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_cpu(&self, cpu: Duration) {
        self.cpu_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the number of calls with an outcome.
    pub(crate) fn with_outcome(&self, outcome: PluginOutcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Returns the CPU time of all calls.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }

    /// Waits until fewer than `share` calls are in progress, and begins one. Without a share, one
    /// app could occupy all instances of a plugin that other apps use too.
    pub(super) async fn begin(&self, share: u32) -> PluginCall<'_> {
        loop {
            let ended = self.ended.notified();
            if let Some(call) = self.try_begin(share) {
                return call;
            }
            ended.await;
        }
    }

    /// Begins a call if fewer than `share` calls are in progress.
    pub(super) fn try_begin(&self, share: u32) -> Option<PluginCall<'_>> {
        let begun = self
            .in_progress
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |calls| (calls < share).then_some(calls + 1));
        // Constructed only if it has begun, since dropping it ends a call.
        begun.ok().map(|_| PluginCall(self))
    }
}

/// A call in progress. Dropping it ends the call.
pub(super) struct PluginCall<'a>(&'a PluginCalls);

impl Drop for PluginCall<'_> {
    fn drop(&mut self) {
        let calls = self.0.in_progress.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(calls > 0, "a call ended that hadn't begun");
        self.0.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn calls() -> PluginCalls {
        PluginCalls::new("jwt".parse().expect("a valid name"))
    }

    #[test]
    fn a_chain_without_middlewares_does_not_exist() {
        assert!(Chain::of(Vec::new()).is_none());
    }

    #[test]
    fn calls_beyond_the_share_wait_for_others_to_end() {
        let calls = calls();
        let (first, second) = (calls.try_begin(2), calls.try_begin(2));
        assert!(first.is_some() && second.is_some() && calls.try_begin(2).is_none());
        let mut waiting = Box::pin(calls.begin(2));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        let third = waiting.as_mut().now_or_never();
        assert!(third.is_some() && calls.try_begin(2).is_none());
        drop((second, third));
        assert!(calls.try_begin(1).is_some());
    }

    #[test]
    fn a_cancelled_wait_does_not_block_the_next_call() {
        let calls = calls();
        let running = calls.try_begin(1);
        let mut cancelled = Box::pin(calls.begin(1));
        let mut next = Box::pin(calls.begin(1));
        assert!(cancelled.as_mut().now_or_never().is_none() && next.as_mut().now_or_never().is_none());
        drop(running);
        // The cancelled wait was notified first, and passes the notification on.
        drop(cancelled);
        assert!(next.as_mut().now_or_never().is_some());
    }

    #[test]
    fn outcomes_and_cpu_time_add_up() {
        let calls = calls();
        PluginOutcome::ALL.into_iter().for_each(|outcome| calls.count(outcome));
        calls.count(PluginOutcome::Failure);
        calls.add_cpu(Duration::from_micros(3));
        calls.add_cpu(Duration::from_micros(4));
        assert_eq!(PluginOutcome::ALL.map(|outcome| calls.with_outcome(outcome)), [1, 1, 1, 1, 2]);
        assert_eq!(calls.cpu(), Duration::from_micros(7));
    }
}
