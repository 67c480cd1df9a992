//! A call that was moved to the fair threads, as a task of `async-task`. Owns its way there, its way back into the queue
//! when it is woken, and its end when nobody waits for it any more. Never decides whether it runs.
//!
//! ```text
//!            ┌───────── woken, or yielded ─────────┐
//!            v                                     │
//!   moved ─> waits for its turn ──> polled on a fair thread ──> ended: `Run` is woken on its I/O thread
//!            │                                     │ └───────> sleeps until its I/O is done
//!            └── `Run` dropped: taken out          └ `Run` dropped: ends at its next yield
//! ```

use crate::{
    account::Account,
    call::Call,
    class::Class,
    fair::Waiting,
    pool::Pool,
    slice,
    sync::{AtomicBool, AtomicU64, Ordering},
};
use async_task::{Builder, Runnable, ScheduleInfo, Task, WithInfo};
use std::{
    cell::Cell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// A moved call that may be polled.
pub(crate) type Job = Runnable<Meta>;

/// What is known of a moved call wherever it is.
pub(crate) struct Meta {
    account: Account,
    class: Class,
    /// By which it is found in the queue. Written and read under the queue's lock; an old one finds nothing.
    ticket: AtomicU64,
    abandoned: AtomicBool,
}

impl Waiting for Job {
    fn waits(&self, ticket: u64) {
        self.metadata().ticket.store(ticket, Ordering::Relaxed);
    }
}

/// The handle of a moved call. Dropping it ends the call.
pub(crate) struct Moved<T> {
    /// None only while it is dropped.
    task: Option<Task<(T, Duration), Meta>>,
}

/// Moves a call, or hands it back if the fair threads take nothing more.
pub(crate) fn move_away<F>(call: Call, work: Pin<Box<F>>) -> Result<Moved<F::Output>, Pin<Box<F>>>
where
    F: Future + Send + 'static,
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
    let inside = Inside { work, call, _stay: Stay { pool } };
    let (job, task) = Builder::new().propagate_panic(true).metadata(meta).spawn(|_| inside, WithInfo(schedule));
    job.schedule();
    Ok(Moved { task: Some(task) })
}

/// The call itself, as it is polled on fair threads.
struct Inside<F> {
    work: Pin<Box<F>>,
    call: Call,
    _stay: Stay,
}

impl<F: Future> Future for Inside<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.work.as_mut().poll(cx);
        self.call.add(slice::stop_fair());
        let output = std::task::ready!(polled);
        self.call.note_long();
        Poll::Ready((output, self.call.used()))
    }
}

/// Keeps the workers from leaving.
struct Stay {
    pool: Arc<Pool<Job>>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.pool.leave();
    }
}

thread_local! {
    /// The call that this fair thread just polled, if it was woken meanwhile.
    static AGAIN: Cell<Option<Job>> = const { Cell::new(None) };
}

/// Polls a moved call once. Hands it back if it could go on.
pub(crate) fn poll(job: Job) -> Option<Job> {
    job.run();
    AGAIN.take()
}

/// A moved call was woken: it waits for its next turn.
fn schedule(job: Job, info: ScheduleInfo) {
    if info.woken_while_running {
        // Called by `poll`. The turn is settled first, so that the queue knows what the call has used.
        AGAIN.set(Some(job));
        return;
    }
    let meta = job.metadata();
    if meta.abandoned.load(Ordering::Relaxed) {
        return;
    }
    let account = meta.account.clone();
    let class = meta.class;
    account.pool().push(account.ledger(), class, job);
}

impl<T> Moved<T> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(T, Duration)> {
        match &mut self.task {
            Some(task) => Pin::new(task).poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Moved<T> {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        if !task.is_finished() {
            let Meta { account, class, ticket, abandoned } = task.metadata();
            // Where it sleeps, dropping the task wakes it once more, and `schedule` drops it.
            abandoned.store(true, Ordering::Relaxed);
            // Where it waits it is taken out. Where it runs, its thread sees the task closed when it yields.
            drop(account.pool().withdraw(account.ledger(), *class, ticket));
        }
        drop(task);
    }
}
