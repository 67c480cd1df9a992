//! The releases of one app that are in memory, and their pools: the one that serves, those on
//! standby, previews, and those that complete their work. Holds weak references only, so it never
//! keeps a release in memory. Never starts or ends an instance itself.

use super::{pool::Pool, release::ActiveRelease, status::LiveInstance, weak_list::WeakList};
use isopod_policy::{Entry, InstanceId};
use std::sync::Arc;

/// The releases of one app that are in memory, each from its first job on.
#[derive(Default)]
pub(super) struct ResidentReleases {
    releases: WeakList<ActiveRelease>,
    /// A pool outlives its release while a job has one of its slots.
    pools: WeakList<Pool>,
}

impl ResidentReleases {
    /// Adds a release before it takes its first job.
    pub(super) fn add(&self, release: &Arc<ActiveRelease>) {
        self.releases.register_once(release);
        release.register_pools(&self.pools);
    }

    /// Removes the releases and pools that have been dropped.
    pub(super) fn remove_dropped(&self) {
        self.releases.remove_dropped();
        self.pools.remove_dropped();
    }

    /// Returns the releases that take jobs. A release that drains takes none.
    fn releases(&self) -> impl Iterator<Item = Arc<ActiveRelease>> {
        self.releases.all().into_iter().filter(|release| !release.is_draining())
    }

    /// Returns the release that takes jobs for an instance.
    pub(super) fn with_instance(&self, id: &InstanceId) -> Option<Arc<ActiveRelease>> {
        self.releases().find(|release| release.has_instance(id))
    }

    /// Returns all instances, newest release first.
    pub(super) fn instances(&self) -> Vec<LiveInstance> {
        let pool_instances = self.pools.all().into_iter().flat_map(|pool| {
            let (release, process) = (pool.release(), pool.process().clone());
            let takes_requests = pool.entry() == Entry::Http && !pool.is_draining();
            let instance = move |status| LiveInstance { release, process: process.clone(), takes_requests, status };
            pool.statuses().into_iter().map(instance)
        });
        let command_instances = self.releases().flat_map(|release| release.command_instances().collect::<Vec<_>>());
        let mut all: Vec<_> = pool_instances.chain(command_instances).collect();
        all.sort_by_key(|instance| std::cmp::Reverse(instance.release));
        all
    }

    /// Ends an instance after its current job, and starts a new one with the same id. Returns false
    /// if there is no such instance.
    pub(super) fn restart(&self, id: &InstanceId) -> bool {
        self.pools.all().iter().any(|pool| pool.restart(id))
            || self.releases().any(|release| release.restart_command(id))
    }

    /// Returns a pool that has unfinished jobs.
    pub(super) fn busy_pool(&self) -> Option<Arc<Pool>> {
        self.pools.all().into_iter().find(|pool| pool.is_busy())
    }
}
