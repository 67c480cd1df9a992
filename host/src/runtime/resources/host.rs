//! The resources that all apps share. Never knows an app.

use super::{assets::HostAssets, bodies::HostBodies, guest_runtime::GuestRuntimes, pools::Pools, waits::Waits};
use crate::runtime::limits;
use isopod_executor::Executor;
use isopod_policy::MiddlewareUse;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The resources that all apps share.
#[derive(Clone)]
pub(crate) struct HostResources(Arc<Inner>);

struct Inner {
    executor: Executor,
    guests: GuestRuntimes,
    bodies: HostBodies,
    assets: Arc<HostAssets>,
    /// The pools of all apps, to evict instances from when the host has no room.
    pools: Pools,
    /// The calls that wait for the reply of another call.
    waits: Waits,
    /// Whether queued jobs are refused because the host stops.
    refuses_waiting: AtomicBool,
    /// The middlewares that the operator requires for every app.
    required_middleware: OnceLock<Vec<MiddlewareUse>>,
}

impl HostResources {
    /// Creates the host's resources. `guests` owns the runtimes of guests that don't use the
    /// runtime of an I/O thread.
    pub(crate) fn new(executor: Executor, guests: GuestRuntimes) -> Self {
        let (bodies, assets, pools, waits, refuses_waiting, required_middleware) = Default::default();
        Self(Arc::new(Inner { executor, guests, bodies, assets, pools, waits, refuses_waiting, required_middleware }))
    }

    /// Sets the middlewares that the operator requires for every app, before the first release is
    /// active.
    pub(crate) fn require_middleware(&self, uses: Vec<MiddlewareUse>) {
        let set = self.0.required_middleware.set(uses);
        debug_assert!(set.is_ok(), "the required middlewares are set once");
    }

    pub(crate) fn required_middleware(&self) -> &[MiddlewareUse] {
        self.0.required_middleware.get().map_or(&[], Vec::as_slice)
    }

    /// Refuses the queued jobs shortly before `drain` has passed, so that their clients get a
    /// response before their connections are cut off. Running jobs are not affected.
    pub(crate) async fn refuse_waiting_after(self, drain: Duration) {
        tokio::time::sleep(drain.saturating_sub(limits::LAST_RESPONSES_TIME)).await;
        self.0.refuses_waiting.store(true, Ordering::SeqCst);
        self.0.pools.all().iter().for_each(|pool| pool.refuse_waiting());
    }

    pub(crate) fn refuses_waiting(&self) -> bool {
        self.0.refuses_waiting.load(Ordering::SeqCst)
    }

    /// Charges the body of a job to the budget for queued bodies. Returns false if the queues of
    /// all apps hold too much already.
    pub(crate) fn reserve_bytes(&self, bytes: u64) -> bool {
        self.0.bodies.queued.charge(bytes)
    }

    pub(crate) fn release_bytes(&self, bytes: u64) {
        self.0.bodies.queued.release(bytes);
    }

    /// Frees the memory of dropped pools.
    pub(crate) fn remove_dropped_pools(&self) {
        self.0.pools.remove_dropped();
    }

    pub(crate) fn waits(&self) -> &Waits {
        &self.0.waits
    }

    pub(super) fn executor(&self) -> &Executor {
        &self.0.executor
    }

    pub(super) fn guests(&self) -> &GuestRuntimes {
        &self.0.guests
    }

    pub(super) fn bodies(&self) -> &HostBodies {
        &self.0.bodies
    }

    pub(super) fn assets(&self) -> &Arc<HostAssets> {
        &self.0.assets
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.0.pools
    }
}
