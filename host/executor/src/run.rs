//! A call as its caller sees it, from the first poll to completion. Owns the move from the I/O
//! thread to the worker threads. Never decides the placement; `placement` does.

use crate::{
    account::Account,
    call::Call,
    class::Class,
    cpu_counter::CpuCounter,
    placement::Placement,
    slice,
    task::{self, MovedCall},
};
use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

impl Account {
    /// Runs a guest's work, inline where the returned future is awaited or on the worker threads.
    /// Resolves to the work's output and the CPU time used. Dropping the future cancels the work:
    /// immediately if it waits, at its next yield if it runs.
    pub fn run<F>(&self, class: Class, work: F) -> Run<Pin<Box<F>>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.run_unpin(class, Box::pin(work))
    }

    /// Runs work that is already boxed. A large future that is passed on unboxed is copied each
    /// time.
    pub fn run_unpin<F>(&self, class: Class, work: F) -> Run<F>
    where
        F: Future + Unpin + Send + 'static,
        F::Output: Send + 'static,
    {
        Run::new(self.clone(), class, work)
    }
}

/// A guest's call in progress, returned by [`Account::run`]. Resolves to the work's output and the
/// CPU time used.
#[must_use = "nothing runs until it is awaited"]
pub struct Run<F: Future> {
    call: Call,
    state: State<F>,
}

enum State<F: Future> {
    /// Polled inline, on the thread that polls the `Run`.
    Inline(F),
    /// Polled by worker threads.
    Moved(MovedCall<F::Output>),
    Completed,
}

impl<F> Run<F>
where
    F: Future + Unpin + Send + 'static,
    F::Output: Send + 'static,
{
    pub(crate) fn new(account: Account, class: Class, work: F) -> Self {
        Self { call: Call::new(account, class), state: State::Inline(work) }
    }

    /// Also adds the call's CPU time to `counter`, slice by slice.
    pub fn counted_in(mut self, counter: CpuCounter) -> Self {
        self.call.counter = Some(counter);
        self
    }

    /// Polls the work for a slice on this thread.
    fn poll_inline(&mut self, cx: &mut Context<'_>) -> InlinePoll<F::Output> {
        let State::Inline(work) = &mut self.state else { return InlinePoll::Pending };
        let (guard, now) = slice::begin_inline(self.call.account.slice_ns());
        self.call.started.get_or_insert(now);
        let polled = Pin::new(work).poll(cx);
        let usage = guard.end();
        self.call.charge_inline(usage.cpu_ns);
        match polled {
            Poll::Ready(output) => {
                self.state = State::Completed;
                self.call.note_inline();
                InlinePoll::Completed(output)
            }
            Poll::Pending if usage.has_yielded => InlinePoll::Yielded,
            Poll::Pending => InlinePoll::Pending,
        }
    }

    /// Moves the work to the worker threads. If they accept no more calls, the work stays here.
    fn move_to_workers(&mut self) {
        match mem::replace(&mut self.state, State::Completed) {
            State::Inline(work) => {
                self.state = task::move_to_workers(self.call.clone(), work).map_or_else(State::Inline, State::Moved);
            }
            state @ (State::Moved(_) | State::Completed) => self.state = state,
        }
    }
}

/// The result of an inline poll.
enum InlinePoll<T> {
    Completed(T),
    /// The slice expired.
    Yielded,
    /// The work waits for an event.
    Pending,
}

impl<F> Future for Run<F>
where
    F: Future + Unpin + Send + 'static,
    F::Output: Send + 'static,
{
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if matches!(this.state, State::Inline(_)) {
            if this.call.placement() == Placement::Worker {
                this.call.started.get_or_insert_with(std::time::Instant::now);
                this.move_to_workers();
            }
            if matches!(this.state, State::Inline(_)) {
                match this.poll_inline(cx) {
                    InlinePoll::Completed(output) => return Poll::Ready((output, this.call.used())),
                    InlinePoll::Pending => return Poll::Pending,
                    InlinePoll::Yielded => {
                        this.call.note_moved();
                        this.move_to_workers();
                    }
                }
            }
        }
        match &mut this.state {
            // It yielded and the workers didn't accept it. A yield wakes its own task, so it is
            // polled again.
            State::Inline(_) => Poll::Pending,
            State::Moved(moved) => {
                let completed = std::task::ready!(moved.poll(cx));
                this.state = State::Completed;
                Poll::Ready(completed)
            }
            State::Completed => unreachable!("a run must not be polled after completion"),
        }
    }
}
