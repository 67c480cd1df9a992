//! The budgets for the assets of apps: the bytes of responses that are being sent, per client, per
//! app and for the whole host; the reads in progress, per app and for the whole host. Also the
//! indexes in memory. Never reads a pack.

use crate::{
    http::{
        byte_budget::Exceeded,
        shares::{Share, Shares},
    },
    runtime::limits,
};
use isopod_policy::{AssetIndex, connections::client_of};
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};
use std::{io, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    time::timeout,
};

/// The host's budgets, for all apps together.
pub(super) struct HostAssets {
    /// By client.
    bytes: Arc<Shares>,
    reads: Arc<Semaphore>,
    threads: ReadThreads,
    indexes: Indexes,
}

/// The budgets of one app.
pub(crate) struct AppAssets {
    host: Arc<HostAssets>,
    /// By client.
    bytes: Arc<Shares>,
    reads: Arc<Semaphore>,
}

/// The bytes that one response may hold in memory. They count until this is dropped.
#[derive(Debug)]
pub(crate) struct AssetBytes {
    _of_app: Share,
    _of_host: Share,
}

/// Which budget has no room for a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AssetBudgetExceeded {
    #[error("the responses with the app's static files that are being sent to this client would use more than {} MiB",
        limits::ASSET_BYTES_PER_CLIENT >> 20)]
    Client,
    #[error("the responses with static files that are being sent to this client would use more than {} MiB",
        limits::ASSET_BYTES_PER_CLIENT_ALL >> 20)]
    ClientOfAll,
    #[error("the responses with the app's static files that other clients receive leave too little of {} MiB",
        limits::ASSET_BYTES_PER_APP >> 20)]
    App,
    #[error("the responses with the static files of this host that other clients receive leave too little of {} MiB",
        limits::ASSET_BYTES_ALL >> 20)]
    Host,
}

/// The threads that read, as the blocking threads of a runtime without tasks. `None` if the runtime
/// can't be created. A read that the disk never completes doesn't delay the stop of the host.
struct ReadThreads(Option<Runtime>);

/// The recently used indexes, by the digests of their packs.
struct Indexes(Option<Cache<Box<str>, Arc<AssetIndex>, IndexBytes>>);

#[derive(Clone)]
struct IndexBytes;

impl Weighter<Box<str>, Arc<AssetIndex>> for IndexBytes {
    fn weight(&self, digest: &Box<str>, index: &Arc<AssetIndex>) -> u64 {
        (digest.len() + index.memory_bytes()) as u64
    }
}

impl Default for Indexes {
    fn default() -> Self {
        // A single shard: several shards would split the budget.
        let mut options = OptionsBuilder::new();
        let options = options.shards(1).estimated_items_capacity(limits::ASSET_INDEXES_EXPECTED);
        let options = options.weight_capacity(limits::ASSET_INDEX_BYTES_ALL).build().ok();
        Self(options.map(|options| Cache::with_options(options, IndexBytes, Default::default(), Default::default())))
    }
}

impl Default for HostAssets {
    fn default() -> Self {
        let threads = Builder::new_current_thread()
            .max_blocking_threads(limits::ASSET_READS_ALL)
            .thread_name("isopod-assets")
            .build();
        Self {
            bytes: Shares::shrinking(limits::ASSET_BYTES_ALL, limits::ASSET_BYTES_PER_CLIENT_ALL),
            reads: Arc::new(Semaphore::new(limits::ASSET_READS_ALL)),
            threads: ReadThreads(threads.ok()),
            indexes: Indexes::default(),
        }
    }
}

impl Drop for ReadThreads {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl AppAssets {
    pub(super) fn new(host: Arc<HostAssets>) -> Arc<Self> {
        let reads = Arc::new(Semaphore::new(limits::ASSET_READS_PER_APP));
        let bytes = Shares::shrinking(limits::ASSET_BYTES_PER_APP, limits::ASSET_BYTES_PER_CLIENT);
        Arc::new(Self { host, bytes, reads })
    }

    /// Charges the bytes of a response to a client. Fails immediately if a budget has no room for
    /// them now. Clients whose address is unknown share one budget.
    pub(crate) fn reserve(&self, bytes: u64, client: Option<IpAddr>) -> Result<AssetBytes, AssetBudgetExceeded> {
        let client = client.map_or_else(String::new, |address| client_of(address).to_string());
        let charge = |shares: &Arc<Shares>| {
            let mut share = shares.up_to(&client, bytes)?;
            share.grow_to(bytes).map(|()| share)
        };
        let of_app = charge(&self.bytes).map_err(|exceeded| match exceeded {
            Exceeded::Own => AssetBudgetExceeded::Client,
            Exceeded::Shared => AssetBudgetExceeded::App,
        })?;
        let of_host = charge(&self.host.bytes).map_err(|exceeded| match exceeded {
            Exceeded::Own => AssetBudgetExceeded::ClientOfAll,
            Exceeded::Shared => AssetBudgetExceeded::Host,
        })?;
        Ok(AssetBytes { _of_app: of_app, _of_host: of_host })
    }

    /// Returns the index of the pack with this digest, if it is in memory.
    pub(crate) fn index(&self, digest: &str) -> Option<Arc<AssetIndex>> {
        self.host.indexes.0.as_ref()?.get(digest)
    }

    /// Keeps the index of a pack in memory until others need its space.
    pub(crate) fn keep_index(&self, digest: &str, index: &Arc<AssetIndex>) {
        if let Some(indexes) = &self.host.indexes.0 {
            indexes.insert(digest.into(), Arc::clone(index));
        }
    }

    /// Fails the responses that are being sent, because the app is destroyed.
    pub(crate) fn close(&self) {
        self.reads.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.reads.is_closed()
    }

    /// Reads a file on a thread for blocking work. Waits for a permit of the app first, so that an
    /// app with slow reads occupies only its share of the threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.read_within(limits::ASSET_READ_TIMEOUT, read).await
    }

    async fn read_within<T: Send + 'static>(
        &self,
        limit: Duration,
        read: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let Some(threads) = &self.host.threads.0 else { return Err(io::Error::other("no threads for reads")) };
        let reading = async {
            let own = Arc::clone(&self.reads).acquire_owned().await;
            let own = own.map_err(|_| io::Error::other("the app is destroyed"))?;
            let shared = Arc::clone(&self.host.reads).acquire_owned().await.map_err(io::Error::other)?;
            // A read that exceeds its time keeps its permits: it still occupies its thread.
            let reading = threads.spawn_blocking(move || {
                let _permits = (own, shared);
                read()
            });
            reading.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        let timed_out = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the disk did not respond in time"));
        timeout(limit, reading).await.unwrap_or_else(timed_out)
    }
}

#[cfg(test)]
impl AppAssets {
    /// Returns an app alone on its host.
    pub(in crate::runtime) fn alone() -> Arc<Self> {
        Self::new(Arc::default())
    }

    /// Makes all reads of the app wait until the permits are dropped.
    pub(in crate::runtime) async fn occupy_reads(&self) -> tokio::sync::OwnedSemaphorePermit {
        let permits = u32::try_from(limits::ASSET_READS_PER_APP).expect("a small number");
        Arc::clone(&self.reads).acquire_many_owned(permits).await.expect("the app exists")
    }

    pub(in crate::runtime) fn reads_in_progress(&self) -> usize {
        limits::ASSET_READS_PER_APP - self.reads.available_permits()
    }

    /// Returns whether this many more bytes can be reserved now, for a client without an address.
    pub(in crate::runtime) fn has_room_for(&self, bytes: u64) -> bool {
        self.reserve(bytes, None).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream::FuturesUnordered};
    use isopod_policy::assets;
    use std::sync::{Mutex, mpsc};

    /// Returns the address of a client with this number.
    fn client(number: u64) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, u8::try_from(number).expect("a small number")]))
    }

    fn refused(app: &AppAssets, bytes: u64, client: Option<IpAddr>) -> Option<AssetBudgetExceeded> {
        app.reserve(bytes, client).err()
    }

    /// Reserves all that a client gets, in pieces of 1 MiB.
    fn hold(apps: &[Arc<AppAssets>], client: Option<IpAddr>) -> Vec<AssetBytes> {
        apps.iter().flat_map(|app| std::iter::from_fn(move || app.reserve(1 << 20, client).ok())).collect()
    }

    #[test]
    fn a_few_clients_leave_a_part_of_each_budget_to_others() {
        let host = Arc::<HostAssets>::default();
        let apps: Vec<_> = (0..=limits::ASSET_BYTES_ALL / limits::ASSET_BYTES_PER_APP)
            .map(|_| AppAssets::new(Arc::clone(&host)))
            .collect();
        let mut held: Vec<_> = (0..8).map(|number| hold(&apps, client(number))).collect();
        assert!(apps.iter().all(|app| refused(app, 1 << 20, client(200)).is_none()));
        assert!(hold(&apps, client(200)).len() >= 16);
        held.extend((8..100).map(|number| hold(&apps, client(number))));
        let (last, others) = apps.split_last().expect("there are apps");
        assert_eq!(refused(&others[0], 1 << 20, client(200)), Some(AssetBudgetExceeded::App));
        assert_eq!(refused(last, 1 << 20, client(200)), Some(AssetBudgetExceeded::Host));
        assert!(held.iter().map(Vec::len).sum::<usize>() as u64 <= limits::ASSET_BYTES_ALL >> 20);
        drop(held);
        for fact in ["dropped bytes do not count", "refused bytes do not count"] {
            assert_eq!(refused(last, limits::ASSET_BYTES_PER_CLIENT, client(200)), None, "{fact}");
        }
    }

    #[test]
    fn one_client_cannot_exhaust_the_budget_of_an_app_or_the_host() {
        let host = Arc::<HostAssets>::default();
        let apps: Vec<_> = (0..limits::ASSET_BYTES_PER_CLIENT_ALL / limits::ASSET_BYTES_PER_CLIENT)
            .map(|_| AppAssets::new(Arc::clone(&host)))
            .collect();
        let (one, other) = (client(1), client(2));
        let held: Vec<_> = apps.iter().map(|app| app.reserve(limits::ASSET_BYTES_PER_CLIENT, one)).collect();
        assert!(held.iter().all(Result::is_ok), "{held:?}");
        assert_eq!(refused(&apps[0], 1, one), Some(AssetBudgetExceeded::Client));
        let unused = AppAssets::new(host);
        assert_eq!(refused(&unused, 1, one), Some(AssetBudgetExceeded::ClientOfAll));
        for app in apps.iter().chain([&unused]) {
            assert_eq!(refused(app, limits::ASSET_BYTES_PER_CLIENT / 2, other), None);
        }
        drop(held);
        assert_eq!(refused(&unused, 1, one), None);
    }

    #[test]
    fn the_indexes_in_memory_have_a_budget() {
        let pack = assets::pack(&(0..1_000).map(|file| (format!("{file:0>400}"), Vec::new())).collect());
        let length = assets::index_length(pack.first_chunk().expect("a head")).expect("a length");
        let index = AssetIndex::parse(&pack[assets::HEAD_BYTES..][..length]).expect("an index");
        let (app, bytes) = (AppAssets::alone(), index.memory_bytes() as u64);
        let (index, packs) = (Arc::new(index), 2 * limits::ASSET_INDEX_BYTES_ALL / bytes);
        (0..packs).for_each(|pack| app.keep_index(&pack.to_string(), &index));
        let in_memory = (0..packs).filter(|pack| app.index(&pack.to_string()).is_some()).count() as u64 * bytes;
        assert!(in_memory > limits::ASSET_INDEX_BYTES_ALL / 2, "{in_memory}");
        assert!(in_memory <= limits::ASSET_INDEX_BYTES_ALL, "{in_memory}");
    }

    #[tokio::test]
    async fn an_app_with_stuck_reads_delays_no_other_app() {
        let host = Arc::<HostAssets>::default();
        let (slow, other) = (AppAssets::new(Arc::clone(&host)), AppAssets::new(host));
        let (release, stuck) = mpsc::sync_channel::<()>(0);
        let (begun, begins) = mpsc::sync_channel(limits::ASSET_READS_ALL);
        let stuck = Arc::new(Mutex::new(stuck));
        let mut reads: FuturesUnordered<_> = (0..2 * limits::ASSET_READS_ALL)
            .map(|_| {
                let (stuck, begun) = (Arc::clone(&stuck), begun.clone());
                slow.read(move || {
                    let _ = begun.send(());
                    let _ = stuck.lock().expect("no read panics").recv();
                    Ok(())
                })
            })
            .collect();
        assert!(futures::poll!(reads.next()).is_pending());
        (0..limits::ASSET_READS_PER_APP).for_each(|_| begins.recv().expect("a read begins"));
        assert_eq!(other.read(|| Ok(7)).await.expect("it is read"), 7);
        assert!(begins.try_recv().is_err(), "the app has only its share of the reads");
        drop((release, begins));
        while let Some(read) = reads.next().await {
            read.expect("it completes");
        }
    }

    #[tokio::test]
    async fn a_destroyed_app_reads_nothing() {
        let app = AppAssets::alone();
        app.close();
        assert!(app.read(|| Ok(())).await.is_err() && app.is_closed());
    }

    #[tokio::test]
    async fn a_read_that_exceeds_its_time_fails_and_keeps_its_permit() {
        let app = AppAssets::new(Arc::default());
        let (release, stuck) = mpsc::sync_channel::<()>(0);
        let read = app.read_within(Duration::from_millis(10), move || {
            let _ = stuck.recv();
            Ok(())
        });
        assert_eq!(read.await.expect_err("it is stuck").kind(), io::ErrorKind::TimedOut);
        assert_eq!(app.reads.available_permits(), limits::ASSET_READS_PER_APP - 1);
        drop(release);
    }
}
