//! Small runtimes for apps with folders. Each bounds the threads that its app's file operations can
//! occupy, so an app on a stalled file system doesn't delay other apps. Never runs a guest.
//!
//! A runtime is leased to an app and reused after it. It is never shut down while the host runs:
//! connections and timers that were created on it remain valid.

use crate::runtime::limits;
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::runtime::{Builder, Handle, Runtime};

/// Worker threads of one runtime. They drive timers and sockets, and never block.
const WORKERS: usize = 1;

/// All runtimes.
#[derive(Default)]
pub(super) struct FileRuntimes(Mutex<Vec<Arc<FileRuntime>>>);

struct FileRuntime {
    /// `None` once it is dropped.
    runtime: Option<Runtime>,
    /// Threads that are alive, workers included.
    threads: Arc<AtomicUsize>,
    apps: AtomicUsize,
}

/// The lease of a runtime by one app.
pub(super) struct FileLease(Arc<FileRuntime>);

impl FileRuntimes {
    /// Leases a runtime: a quiet one without an app, or a new runtime, or, at the limit, the
    /// runtime with the fewest apps. `None` if there is no runtime and none can be started.
    pub(super) fn lease(&self) -> Option<FileLease> {
        let mut runtimes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = runtimes.iter().find(|runtime| runtime.apps() == 0 && runtime.is_quiet()).cloned();
        let runtime = match found {
            Some(runtime) => runtime,
            None if runtimes.len() < limits::FILE_RUNTIMES_MAX => match FileRuntime::start(runtimes.len() + 1) {
                Ok(runtime) => {
                    runtimes.push(Arc::clone(&runtime));
                    runtime
                }
                Err(error) => {
                    tracing::warn!(%error, "no thread for an app's files: the app shares the runtime of another app");
                    least_used(&runtimes)?
                }
            },
            None => least_used(&runtimes)?,
        };
        runtime.apps.fetch_add(1, Ordering::Relaxed);
        Some(FileLease(runtime))
    }
}

fn least_used(runtimes: &[Arc<FileRuntime>]) -> Option<Arc<FileRuntime>> {
    runtimes.iter().min_by_key(|runtime| (runtime.apps(), !runtime.is_quiet())).cloned()
}

impl FileRuntime {
    fn start(number: usize) -> io::Result<Arc<Self>> {
        let threads = Arc::<AtomicUsize>::default();
        let (started, stopped) = (Arc::clone(&threads), Arc::clone(&threads));
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(limits::FILE_THREADS_PER_APP)
            .thread_keep_alive(limits::FILE_THREAD_IDLE)
            .thread_name(format!("isopod-files-{number}"))
            .on_thread_start(move || {
                started.fetch_add(1, Ordering::Relaxed);
            })
            .on_thread_stop(move || {
                let before = stopped.fetch_sub(1, Ordering::Relaxed);
                debug_assert!(before > 0, "a stopped thread was started");
            })
            .enable_all()
            .build()?;
        Ok(Arc::new(Self { runtime: Some(runtime), threads, apps: AtomicUsize::new(0) }))
    }

    fn apps(&self) -> usize {
        self.apps.load(Ordering::Relaxed)
    }

    /// Returns whether no file operation is in progress, nor was one a few seconds ago.
    fn is_quiet(&self) -> bool {
        self.threads.load(Ordering::Relaxed) <= WORKERS
    }
}

impl Drop for FileRuntime {
    fn drop(&mut self) {
        // Waiting for file operations could take forever.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl FileLease {
    pub(super) fn handle(&self) -> Option<&Handle> {
        self.0.runtime.as_ref().map(Runtime::handle)
    }

    /// Returns whether the app has no file operation in progress. Only then may another app lease
    /// the runtime.
    pub(super) fn is_quiet(&self) -> bool {
        self.0.is_quiet()
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        let before = self.0.apps.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a leased runtime has an app");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn is_same(one: &FileLease, other: &FileLease) -> bool {
        Arc::ptr_eq(&one.0, &other.0)
    }

    fn lease(runtimes: &FileRuntimes) -> FileLease {
        runtimes.lease().expect("threads can be started")
    }

    #[test]
    fn a_runtime_is_for_one_app_and_is_reused_after_it() {
        let runtimes = FileRuntimes::default();
        let (one, two) = (lease(&runtimes), lease(&runtimes));
        assert!(!is_same(&one, &two));
        let first = Arc::clone(&one.0);
        drop(one);
        assert!(Arc::ptr_eq(&first, &lease(&runtimes).0));
    }

    #[test]
    fn a_runtime_with_a_stuck_file_operation_is_not_reused() {
        let runtimes = FileRuntimes::default();
        let (release, stuck) = mpsc::sync_channel::<()>(1);
        let (started, has_started) = mpsc::sync_channel(1);
        let one = lease(&runtimes);
        one.handle().expect("it runs").spawn_blocking(move || {
            started.send(()).expect("the test waits");
            let _ = stuck.recv();
        });
        has_started.recv().expect("a thread is free");
        assert!(!one.is_quiet());
        let first = Arc::clone(&one.0);
        drop(one);
        assert!(!Arc::ptr_eq(&first, &lease(&runtimes).0));
        drop(release);
    }

    #[test]
    fn apps_beyond_the_limit_share_the_least_used_runtime() {
        let runtimes = FileRuntimes::default();
        let leases: Vec<_> = (0..limits::FILE_RUNTIMES_MAX).map(|_| lease(&runtimes)).collect();
        let (one, two) = (lease(&runtimes), lease(&runtimes));
        assert!(!is_same(&one, &two));
        assert!(leases.iter().any(|lease| is_same(lease, &one)));
    }
}
