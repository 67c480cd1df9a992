//! The use of plugins by apps: the middlewares of a release in order, the counters of each app's
//! calls, and its share of a plugin's instances. Never calls a plugin.

use isopod_engine::Counters;
use isopod_policy::{AppName, MiddlewareUse, swap_watch::Counts};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

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
    /// A middleware asked for the body. Its decision about the body counts again.
    Ask,
    /// A gate refused a release.
    Refuse,
    /// A provider returned its results.
    Return,
    Failure,
}

impl PluginOutcome {
    pub(crate) const ALL: [Self; 7] =
        [Self::Pass, Self::Change, Self::Respond, Self::Ask, Self::Refuse, Self::Return, Self::Failure];

    /// Returns its name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Change => "change",
            Self::Respond => "respond",
            Self::Ask => "ask",
            Self::Refuse => "refuse",
            Self::Return => "return",
            Self::Failure => "failure",
        }
    }
}

/// The calls of one plugin on behalf of one app, in all releases of both.
pub(crate) struct PluginCalls {
    plugin: AppName,
    /// Whether the counters outlive the releases that refer to them.
    is_kept: AtomicBool,
    outcomes: [AtomicU64; PluginOutcome::ALL.len()],
    /// The calls whose failure counts against the plugin's release.
    failures: AtomicU64,
    cpu_ns: AtomicU64,
    /// The calls that may begin now: `size`, less those in progress.
    slots: Semaphore,
    size: AtomicU32,
    /// The app's share of the plugin's instances, to which `size` shrinks as calls end.
    share: AtomicU32,
    /// The calls that wait for a slot.
    waiting: AtomicU32,
    /// The messages whose bodies the host reads between the two calls of a middleware.
    bodies_awaited: AtomicU32,
    /// Notified when a call ends, or when the wait for a body ends.
    call_ended: Notify,
    /// The token buckets that the plugin has for the app.
    counters: Arc<Counters>,
}

impl PluginCalls {
    pub(super) fn new(plugin: AppName) -> Self {
        Self {
            plugin,
            is_kept: AtomicBool::new(false),
            outcomes: Default::default(),
            failures: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
            slots: Semaphore::new(0),
            size: AtomicU32::new(0),
            share: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            bodies_awaited: AtomicU32::new(0),
            call_ended: Notify::new(),
            counters: Arc::default(),
        }
    }

    pub(crate) fn plugin(&self) -> &AppName {
        &self.plugin
    }

    /// Keeps the counters for as long as the app exists. No release refers to those of a gate.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Drops the token buckets if all of them are full.
    pub(super) fn drop_full_counters(&self) {
        self.counters.drop_full();
    }

    pub(super) fn count(&self, outcome: PluginOutcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure that counts against the plugin's release.
    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_cpu(&self, cpu: Duration) {
        self.cpu_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the number of calls with an outcome.
    pub(crate) fn with_outcome(&self, outcome: PluginOutcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of all decisions, and of those whose failure counts against the plugin's
    /// release.
    pub(super) fn counts(&self) -> Counts {
        let decisions = PluginOutcome::ALL.iter().filter(|outcome| **outcome != PluginOutcome::Ask);
        let requests = decisions.map(|outcome| self.with_outcome(*outcome)).sum();
        Counts { requests, failures: self.failures.load(Ordering::Relaxed) }
    }

    /// Returns the CPU time of all calls.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }

    /// Begins a call once fewer than `share` calls are in progress. Calls begin in the order of
    /// their arrival. Without a share, one app could occupy all instances of a plugin that other
    /// apps use too. Returns `None` immediately if `waiting_max` calls already wait.
    pub(super) async fn begin(self: &Arc<Self>, share: u32, waiting_max: u32) -> Option<PluginCall> {
        self.resize(share);
        let slot = match self.slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => {
                let _waiting = Waiting::begin(&self.waiting, waiting_max)?;
                self.slots.acquire().await.ok()?
            }
        };
        slot.forget();
        Some(PluginCall(Arc::clone(self)))
    }

    /// Counts a message between the two calls of a middleware as a call in progress, until the
    /// returned guard is dropped. The message occupies no instance meanwhile.
    pub(super) fn await_body(&self) -> AwaitedBody<'_> {
        self.bodies_awaited.fetch_add(1, Ordering::AcqRel);
        AwaitedBody(self)
    }

    /// Waits until no call is in progress. Only useful once no new call can begin.
    pub(super) async fn ended(&self) {
        loop {
            let call_ended = self.call_ended.notified();
            let size = self.size.load(Ordering::Acquire) as usize;
            let bodies_awaited = self.bodies_awaited.load(Ordering::Acquire);
            if bodies_awaited == 0 && self.slots.available_permits() >= size {
                return;
            }
            call_ended.await;
        }
    }

    /// Changes the number of calls that may be in progress. A smaller number applies as calls end.
    fn resize(&self, share: u32) {
        self.share.store(share, Ordering::Relaxed);
        let resized =
            self.size.fetch_update(Ordering::AcqRel, Ordering::Acquire, |size| (size < share).then_some(share));
        if let Ok(size) = resized {
            self.slots.add_permits((share - size) as usize);
        }
    }

    /// Ends a call. Its slot disappears if there are more slots than the share.
    fn end(&self) {
        let share = self.share.load(Ordering::Relaxed);
        let shrinks = self
            .size
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |size| (size > share).then(|| size.saturating_sub(1)));
        if shrinks.is_err() {
            self.slots.add_permits(1);
        }
        self.call_ended.notify_waiters();
    }
}

/// A call in progress. Dropping it ends the call, and the call that has waited longest begins.
pub(super) struct PluginCall(Arc<PluginCalls>);

impl Drop for PluginCall {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Counts a message whose body a middleware has asked for, until it is dropped.
pub(super) struct AwaitedBody<'a>(&'a PluginCalls);

impl Drop for AwaitedBody<'_> {
    fn drop(&mut self) {
        let awaited = self.0.bodies_awaited.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(awaited > 0, "an awaited body was not counted");
        self.0.call_ended.notify_waiters();
    }
}

/// A call that waits for another to end.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicU32, most: u32) -> Option<Self> {
        let begun =
            waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |calls| (calls < most).then(|| calls + 1));
        // Constructed only if it has begun, since dropping it ends the wait.
        begun.ok().map(|_| Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waiting = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(waiting > 0, "a wait ended that hadn't begun");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn calls() -> Arc<PluginCalls> {
        Arc::new(PluginCalls::new("jwt".parse().expect("a valid name")))
    }

    #[test]
    fn a_chain_without_middlewares_does_not_exist() {
        assert!(Chain::of(Vec::new()).is_none());
    }

    /// Begins a call, or returns `None` if it waits or is refused.
    fn begun(calls: &Arc<PluginCalls>, share: u32) -> Option<PluginCall> {
        calls.begin(share, 9).now_or_never().flatten()
    }

    #[test]
    fn calls_beyond_the_share_begin_in_the_order_of_their_arrival() {
        let calls = calls();
        let (first, second) = (begun(&calls, 2), begun(&calls, 2));
        assert!(first.is_some() && second.is_some());
        let (mut third, mut fourth) = (Box::pin(calls.begin(2, 9)), Box::pin(calls.begin(2, 9)));
        assert!(third.as_mut().now_or_never().is_none() && fourth.as_mut().now_or_never().is_none());
        drop(first);
        assert!(begun(&calls, 2).is_none(), "a later call doesn't overtake those that wait");
        assert!(fourth.as_mut().now_or_never().is_none());
        let third = third.as_mut().now_or_never().flatten();
        assert!(third.is_some());
        drop((second, third));
        assert!(fourth.as_mut().now_or_never().flatten().is_some());
    }

    #[test]
    fn a_call_is_refused_if_too_many_wait() {
        let calls = calls();
        let running = begun(&calls, 1);
        let mut waiting = Box::pin(calls.begin(1, 1));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(calls.begin(1, 1).now_or_never().is_some_and(|refused| refused.is_none()));
        drop(waiting);
        assert!(calls.begin(1, 1).now_or_never().is_none(), "a cancelled wait makes room for another");
        drop(running);
        assert!(begun(&calls, 1).is_some());
    }

    #[test]
    fn a_cancelled_wait_does_not_block_the_next_call() {
        let calls = calls();
        let running = begun(&calls, 1);
        let (mut cancelled, mut next) = (Box::pin(calls.begin(1, 9)), Box::pin(calls.begin(1, 9)));
        assert!(cancelled.as_mut().now_or_never().is_none() && next.as_mut().now_or_never().is_none());
        drop(running);
        // The cancelled wait has received the slot, and passes it on.
        drop(cancelled);
        assert!(next.as_mut().now_or_never().flatten().is_some());
    }

    #[test]
    fn the_share_follows_the_size_of_the_plugins_pool() {
        let calls = calls();
        let first = begun(&calls, 1);
        let (second, third) = (begun(&calls, 3), begun(&calls, 3));
        assert!(first.is_some() && second.is_some() && third.is_some() && begun(&calls, 3).is_none());
        // The share shrinks as calls end.
        assert!(begun(&calls, 1).is_none());
        drop((first, second));
        assert!(begun(&calls, 1).is_none());
        drop(third);
        let only = begun(&calls, 1);
        assert!(only.is_some() && begun(&calls, 1).is_none());
    }

    #[test]
    fn the_end_of_all_calls_includes_those_that_wait() {
        let calls = calls();
        assert!(calls.ended().now_or_never().is_some(), "no call has begun");
        let first = begun(&calls, 1);
        let (mut second, mut ended) = (Box::pin(calls.begin(1, 9)), Box::pin(calls.ended()));
        assert!(second.as_mut().now_or_never().is_none() && ended.as_mut().now_or_never().is_none());
        drop(first);
        assert!(ended.as_mut().now_or_never().is_none(), "the second call begins");
        let second = second.as_mut().now_or_never().flatten();
        assert!(second.is_some() && ended.as_mut().now_or_never().is_none());
        drop(second);
        assert!(ended.as_mut().now_or_never().is_some());
    }

    #[test]
    fn the_end_of_all_calls_includes_bodies_that_are_awaited() {
        let calls = calls();
        let body = calls.await_body();
        let mut ended = Box::pin(calls.ended());
        assert!(ended.as_mut().now_or_never().is_none());
        let second = begun(&calls, 1);
        assert!(second.is_some(), "the host makes the second call before the first one counts as ended");
        drop(body);
        assert!(ended.as_mut().now_or_never().is_none());
        drop(second);
        assert!(ended.as_mut().now_or_never().is_some());
    }

    #[test]
    fn outcomes_and_cpu_time_add_up() {
        let calls = calls();
        PluginOutcome::ALL.into_iter().for_each(|outcome| calls.count(outcome));
        calls.count(PluginOutcome::Failure);
        calls.count_failure();
        calls.add_cpu(Duration::from_micros(3));
        calls.add_cpu(Duration::from_micros(4));
        assert_eq!(PluginOutcome::ALL.map(|outcome| calls.with_outcome(outcome)), [1, 1, 1, 1, 1, 1, 2]);
        assert_eq!(calls.cpu(), Duration::from_micros(7));
        assert_eq!(calls.counts(), Counts { requests: 7, failures: 1 });
    }
}
