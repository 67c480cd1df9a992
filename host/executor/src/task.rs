//! A call on the worker threads, as a task of `async-task`. Owns the hand-over to the queue,
//! requeueing after a wake-up, and cancellation. Never decides when the call runs.
//!
//! ```text
//!            ┌───────── woken, or yielded ─────────┐
//!            v                                     │
//!   moved ─> waits in the queue ──> polled on a worker ──> completed: wakes `Run`
//!            │                                     │ └───> sleeps until its I/O is ready
//!            └── `Run` dropped: removed            └ `Run` dropped: ends at its next yield
//! ```

use crate::{
    account::{Job, Meta},
    call::Call,
    pool::Pool,
    slice,
    sync::{AtomicBool, AtomicU64, Ordering},
};
use async_task::{Builder, ScheduleInfo, Task, WithInfo};
use std::{
    cell::Cell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// The handle of a moved call. Dropping it cancels the call.
pub(crate) struct MovedCall<T> {
    /// `None` only while the handle is dropped.
    task: Option<Task<(T, Duration), Meta>>,
}

/// Moves a call to the worker threads. Returns the work if they accept no more calls.
pub(crate) fn move_to_workers<F>(call: Call, work: F) -> Result<MovedCall<F::Output>, F>
where
    F: Future + Unpin + Send + 'static,
    F::Output: Send + 'static,
{
    let pool = Arc::clone(call.account.pool());
    if !pool.enter() {
        return Err(work);
    }
    let meta = Meta {
        account: call.account.clone(),
        class: call.class,
        ticket: AtomicU64::new(0),
        abandoned: AtomicBool::new(false),
    };
    let work = MovedWork { work, call, _guard: CallGuard { pool } };
    let (job, task) = Builder::new().propagate_panic(true).metadata(meta).spawn(|_| work, WithInfo(schedule));
    job.schedule();
    Ok(MovedCall { task: Some(task) })
}

/// The call itself, as the worker threads poll it.
struct MovedWork<F> {
    work: F,
    call: Call,
    _guard: CallGuard,
}

impl<F: Future + Unpin> Future for MovedWork<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = Pin::new(&mut self.work).poll(cx);
        self.call.add(slice::stop_worker_clock());
        let output = std::task::ready!(polled);
        self.call.note_moved();
        Poll::Ready((output, self.call.used()))
    }
}

/// Keeps the call registered with the pool, so that the workers don't leave.
struct CallGuard {
    pool: Arc<Pool<Job>>,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.pool.leave();
    }
}

thread_local! {
    /// The call that this worker just polled, if it was woken during the poll.
    static WOKEN: Cell<Option<Job>> = const { Cell::new(None) };
}

/// Polls a moved call once. Returns it if it could continue.
pub(crate) fn poll(job: Job) -> Option<Job> {
    job.run();
    WOKEN.take()
}

/// Requeues a moved call that was woken.
fn schedule(job: Job, info: ScheduleInfo) {
    if info.woken_while_running {
        // Called from within `poll`. The slice is settled before requeueing, so that the queue
        // knows the CPU time used.
        WOKEN.set(Some(job));
        return;
    }
    let meta = job.metadata();
    if meta.abandoned.load(Ordering::Relaxed) {
        return;
    }
    let account = meta.account.clone();
    let class = meta.class;
    account.pool().enqueue(account.ledger(), class, job);
}

impl<T> MovedCall<T> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(T, Duration)> {
        match &mut self.task {
            Some(task) => Pin::new(task).poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for MovedCall<T> {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        if !task.is_finished() {
            let Meta { account, class, ticket, abandoned } = task.metadata();
            // If the task sleeps, dropping it wakes it again, and `schedule` then drops it.
            abandoned.store(true, Ordering::Relaxed);
            // If the task waits in the queue, it is removed. If it runs, its worker sees the closed
            // task at its next yield.
            drop(account.pool().withdraw(account.ledger(), *class, ticket));
        }
        drop(task);
    }
}
