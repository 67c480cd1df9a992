//! The budgets for the assets of apps: the bytes of responses that are being sent, and the reads in
//! progress, each per app and on the whole host. Never knows a pack, and never holds its bytes.

use crate::{
    http::byte_budget::{ByteBudget, Exceeded},
    runtime::limits,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    time::timeout,
};

/// The host's budgets, for all apps together.
pub(super) struct HostAssets {
    bytes: ByteBudget,
    reads: Arc<Semaphore>,
    threads: ReadThreads,
}

/// The budgets of one app.
pub(crate) struct AppAssets {
    host: Arc<HostAssets>,
    bytes: ByteBudget,
    reads: Arc<Semaphore>,
}

/// The bytes that one response may hold in memory. They count until this is dropped.
pub(crate) struct AssetBytes {
    owner: Arc<AppAssets>,
    bytes: u64,
}

/// The threads that read, as the blocking threads of a runtime without tasks. `None` if the runtime
/// can't be created. A read that the disk never completes doesn't delay the stop of the host.
struct ReadThreads(Option<Runtime>);

impl Default for HostAssets {
    fn default() -> Self {
        let threads = Builder::new_current_thread()
            .max_blocking_threads(limits::ASSET_READS_ALL)
            .thread_name("isopod-assets")
            .build();
        Self {
            bytes: ByteBudget::new(limits::ASSET_BYTES_ALL),
            reads: Arc::new(Semaphore::new(limits::ASSET_READS_ALL)),
            threads: ReadThreads(threads.ok()),
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
        Arc::new(Self { host, bytes: ByteBudget::new(limits::ASSET_BYTES_PER_APP), reads })
    }

    /// Charges the bytes of a response. Fails immediately if a budget has no room for them now.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<AssetBytes, Exceeded> {
        if !self.bytes.charge(bytes) {
            return Err(Exceeded::Own);
        }
        if !self.host.bytes.charge(bytes) {
            self.bytes.release(bytes);
            return Err(Exceeded::Shared);
        }
        Ok(AssetBytes { owner: Arc::clone(self), bytes })
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
            let own = Arc::clone(&self.reads).acquire_owned().await.map_err(io::Error::other)?;
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

    pub(in crate::runtime) fn reads_in_progress(&self) -> usize {
        limits::ASSET_READS_PER_APP - self.reads.available_permits()
    }

    /// Returns whether this many more bytes can be reserved now.
    pub(in crate::runtime) fn has_room_for(self: &Arc<Self>, bytes: u64) -> bool {
        self.reserve(bytes).is_ok()
    }
}

impl Drop for AssetBytes {
    fn drop(&mut self) {
        self.owner.bytes.release(self.bytes);
        self.owner.host.bytes.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream::FuturesUnordered};
    use std::sync::{Mutex, mpsc};

    #[test]
    fn an_app_exceeds_neither_its_own_budget_nor_the_shared_one() {
        let host = Arc::<HostAssets>::default();
        let apps: Vec<_> = (0..=limits::ASSET_BYTES_ALL / limits::ASSET_BYTES_PER_APP)
            .map(|_| AppAssets::new(Arc::clone(&host)))
            .collect();
        let refused = |app: &Arc<AppAssets>, bytes| app.reserve(bytes).err();
        let (last, others) = apps.split_last().expect("there are apps");
        let mut held: Vec<_> = others.iter().map(|app| app.reserve(limits::ASSET_BYTES_PER_APP).ok()).collect();
        assert!(held.iter().all(Option::is_some));
        assert_eq!((refused(&others[0], 1), refused(last, 1)), (Some(Exceeded::Own), Some(Exceeded::Shared)));
        held.pop();
        assert_eq!(refused(last, limits::ASSET_BYTES_PER_APP), None, "refused bytes do not count");
        assert_eq!(refused(last, limits::ASSET_BYTES_PER_APP), None, "dropped bytes do not count");
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
