//! The store's threads for work that waits for the disk. Owns their bounded queue and the
//! containment of panics: the task's caller gets an error, and the thread takes the next task.
//! Never runs on a runtime's threads.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::StoreError;

type Task = Box<dyn FnOnce() + Send>;

/// A fixed number of threads. Dropping it finishes the queued tasks and ends the threads.
#[derive(Debug)]
pub(crate) struct Workers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

/// A handle for tasks with callers that hold the queue permits. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandle(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// One permit for each task that may be queued or running.
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    is_stopping: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("tasks", &self.tasks.len()).field("is_stopping", &self.is_stopping).finish()
    }
}

impl Workers {
    /// Starts the threads. At most `waiting_max` calls wait or run at a time; further callers wait
    /// for a permit.
    pub(crate) fn start(name: &str, threads: usize, waiting_max: usize, path: &Path) -> Result<Self, StoreError> {
        let permits = Arc::new(Semaphore::new(waiting_max));
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), permits });
        let mut workers = Self { queue, threads: Vec::new() };
        for _ in 0..threads {
            let queue = Arc::clone(&workers.queue);
            let thread = spawn(name, move || queue.work()).map_err(|error| StoreError::file(path, &error))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub(crate) fn handle(&self) -> WorkerHandle {
        WorkerHandle(Arc::clone(&self.queue))
    }

    /// Runs the work on one of the threads, and returns its result.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.handle().permit().await?;
        let (reply, outcome) = oneshot::channel();
        self.queue.push(Box::new(move || {
            let _permit = permit;
            // The caller may have been cancelled.
            let _ = reply.send(caught(work).and_then(|outcome| outcome));
        }));
        outcome.await.map_err(|_| StoreError::Closed)?
    }
}

impl WorkerHandle {
    /// Waits for a permit to queue or run a call.
    pub(crate) async fn permit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        Arc::clone(&self.0.permits).acquire_owned().await.map_err(|_| StoreError::Closed)
    }

    /// Queues a task; its callers already hold permits.
    pub(crate) fn push(&self, task: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(task));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.lock().is_stopping = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: Task) {
        self.lock().tasks.push_back(task);
        self.changed.notify_one();
    }

    /// Runs tasks until the store is closed and the queue is empty.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let task = loop {
                if let Some(task) = state.tasks.pop_front() {
                    break task;
                }
                if state.is_stopping {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            // The panic hook has logged it, and the callers of the task see their reply dropped.
            let _ = catch_unwind(AssertUnwindSafe(task));
        }
    }
}

/// Runs the work and turns a panic into an error.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        StoreError::Panicked { detail: text.unwrap_or_else(|| "no message".to_owned()) }
    })
}

/// Starts a required thread of the store: a panic that ends it aborts the process.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let guard = AbortOnPanic { thread: name.to_owned() };
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _guard = guard;
        work();
    })
}

/// Without its store thread, a host would respond but store nothing: a restart is better.
struct AbortOnPanic {
    thread: String,
}

#[expect(clippy::disallowed_methods, reason = "accepted work can't be drained without the thread that stores it")]
impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(thread = self.thread, "a thread of the store was lost to a panic: aborting the process");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn workers(threads: usize, waiting_max: usize) -> Workers {
        Workers::start("test", threads, waiting_max, Path::new("test")).expect("threads can be started")
    }

    #[tokio::test]
    async fn a_panic_is_reported_only_to_its_own_caller() {
        let workers = workers(1, 8);
        let failed = workers.run(|| -> Result<(), StoreError> { panic!("injected") }).await;
        assert_eq!(failed, Err(StoreError::Panicked { detail: "injected".to_owned() }));
        assert_eq!(workers.run(|| Ok(7)).await, Ok(7), "the thread continues");
        workers.handle().push(|| panic!("a task without a caller"));
        assert_eq!(workers.run(|| Ok(8)).await, Ok(8));
    }

    #[tokio::test]
    async fn callers_beyond_the_bound_wait_and_are_served() {
        let workers = workers(1, 2);
        let (release, held) = mpsc::sync_channel::<()>(1);
        let (begun, begins) = mpsc::sync_channel(1);
        let mut holding = Box::pin(workers.run(move || {
            begun.send(()).expect("the test listens");
            held.recv().map_err(|_| StoreError::Closed)
        }));
        let mut second = Box::pin(workers.run(|| Ok(2)));
        let mut third = Box::pin(workers.run(|| Ok(3)));
        assert!(futures::poll!(&mut holding).is_pending());
        assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut third).is_pending());
        begins.recv().expect("the first task begins");
        assert_eq!(workers.queue.lock().tasks.len(), 1, "the third has no permit yet");
        release.send(()).expect("the first task waits");
        assert_eq!((holding.await, second.await, third.await), (Ok(()), Ok(2), Ok(3)));
    }

    #[test]
    fn queued_tasks_are_finished_before_the_threads_end() {
        let workers = workers(1, 8);
        let (done, count) = mpsc::sync_channel(8);
        for number in 0..5 {
            let done = done.clone();
            workers.handle().push(move || done.send(number).expect("the test listens"));
        }
        drop(workers);
        assert_eq!(count.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    /// The argument that makes this test program lose a thread; no test has this name, so the
    /// filter runs none.
    const LOSES_A_THREAD: &str = "--skip=loses-a-thread";

    #[test]
    fn a_lost_thread_aborts_the_process() {
        if std::env::args().any(|argument| argument == LOSES_A_THREAD) {
            let thread = spawn("lost", || panic!("injected")).expect("a thread can be started");
            drop(thread.join());
            return;
        }
        let mut command = std::process::Command::new(std::env::current_exe().expect("a test knows its program"));
        command.args(["--exact", "workers::tests::a_lost_thread_aborts_the_process", LOSES_A_THREAD]);
        let ended = command.output().expect("the test program runs");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(6), "SIGABRT: {ended:?}");
    }
}
