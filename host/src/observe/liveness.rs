//! Checks that the host's own threads respond, and aborts the process if one is lost: a lost thread
//! would still be assigned work. Never restarts a thread: its state may be broken.

use crate::observe::limits;
use isopod_executor::Pulse;
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};

/// The threads that the host can't do without.
#[derive(Default)]
pub(crate) struct Liveness {
    /// Threads that drive their own runtime, by name.
    runtimes: Mutex<BTreeMap<String, Handle>>,
    workers: Mutex<Option<Pulse>>,
}

/// Registers a thread for checks until it is dropped.
pub(crate) struct Registration {
    liveness: Arc<Liveness>,
    name: String,
}

impl Liveness {
    /// Registers the thread that drives this runtime.
    pub(crate) fn watch(self: &Arc<Self>, name: &str, runtime: &Handle) -> Registration {
        self.runtimes().insert(name.to_owned(), runtime.clone());
        Registration { liveness: Arc::clone(self), name: name.to_owned() }
    }

    /// Registers the executor's threads.
    pub(crate) fn watch_workers(&self, pulse: Pulse) {
        *self.workers.lock().unwrap_or_else(PoisonError::into_inner) = Some(pulse);
    }

    /// Returns the threads that don't respond in time.
    pub(crate) async fn silent(&self) -> Vec<String> {
        let until = Instant::now() + limits::LIVENESS_TIME;
        let asked: Vec<_> =
            self.runtimes().iter().map(|(name, runtime)| (name.clone(), runtime.spawn(async {}))).collect();
        let mut silent = self.silent_workers(until).await;
        for (name, answer) in asked {
            if !matches!(timeout_at(until, answer).await, Ok(Ok(()))) && self.runtimes().contains_key(&name) {
                silent.push(name);
            }
        }
        silent
    }

    /// Returns the executor's threads that stay in the same slice. A sleeping thread counts as
    /// responsive.
    async fn silent_workers(&self, until: Instant) -> Vec<String> {
        let pulse = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(pulse) = pulse else { return Vec::new() };
        let mut silent = pulse.slices();
        loop {
            let now = pulse.slices();
            silent.retain(|busy| now.contains(busy));
            if silent.is_empty() || Instant::now() >= until {
                return silent.into_iter().map(|(worker, _)| format!("isopod-work-{worker}")).collect();
            }
            sleep(limits::LIVENESS_POLL_INTERVAL).await;
        }
    }

    fn runtimes(&self) -> MutexGuard<'_, BTreeMap<String, Handle>> {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.liveness.runtimes().remove(&self.name);
    }
}

/// Runs the work of a required thread. A panic aborts the process.
pub(crate) fn or_abort<T>(thread: &str, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| abort(thread))
}

/// Aborts the process, since this thread is lost.
#[expect(clippy::disallowed_methods, reason = "what runs on the lost thread can't be drained")]
pub(crate) fn abort(thread: &str) -> ! {
    tracing::error!(thread, "a host thread is lost: aborting, so that a supervisor can restart the host");
    std::process::abort()
}
