//! A call from its first poll to its end, as whoever waits for it sees it. Owns the step from the I/O thread to the fair
//! threads; where the next poll happens is decided in `place`.

use crate::{
    account::Account,
    call::Call,
    class::Class,
    cpu_counter::CpuCounter,
    placement::Placement,
    slice,
    task::{self, Moved},
};
use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// A guest's work on its way, made by [`Account::run`]. Ends with the work's output and the CPU time it took.
#[must_use = "nothing runs until it is awaited"]
pub struct Run<F: Future> {
    call: Call,
    state: State<F>,
}

enum State<F: Future> {
    /// Polled where `Run` is.
    Here(Pin<Box<F>>),
    /// Polled by fair threads.
    Moved(Moved<F::Output>),
    Ended,
}

impl<F> Run<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    pub(crate) fn new(account: Account, class: Class, work: F) -> Self {
        Self { call: Call::new(account, class), state: State::Here(Box::pin(work)) }
    }

    /// Adds the CPU time there too, slice by slice, while it is used.
    pub fn counted_in(mut self, spent: CpuCounter) -> Self {
        self.call.shown = Some(spent);
        self
    }

    /// Polls the work for a slice on this thread.
    fn poll_here(&mut self, cx: &mut Context<'_>) -> Here<F::Output> {
        let State::Here(work) = &mut self.state else { return Here::Waits };
        let (giving, now) = slice::give_here(self.call.account.slice_ns());
        self.call.begun.get_or_insert(now);
        let polled = work.as_mut().poll(cx);
        let given = giving.end();
        self.call.charge_here(given.cpu_ns);
        match polled {
            Poll::Ready(output) => {
                self.state = State::Ended;
                self.call.note_here();
                Here::Ended(output)
            }
            Poll::Pending if given.has_yielded => Here::Yielded,
            Poll::Pending => Here::Waits,
        }
    }

    /// Hands the work to the fair threads. If they take nothing more it goes on here.
    fn move_away(&mut self) {
        match mem::replace(&mut self.state, State::Ended) {
            State::Here(work) => {
                self.state = task::move_away(self.call.clone(), work).map_or_else(State::Here, State::Moved);
            }
            state @ (State::Moved(_) | State::Ended) => self.state = state,
        }
    }
}

/// What a poll on this thread came to.
enum Here<T> {
    Ended(T),
    /// Its slice was over.
    Yielded,
    /// It waits for something.
    Waits,
}

impl<F> Future for Run<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if matches!(this.state, State::Here(_)) {
            if this.call.place() == Placement::Fair {
                this.call.begun.get_or_insert_with(std::time::Instant::now);
                this.move_away();
            }
            if matches!(this.state, State::Here(_)) {
                match this.poll_here(cx) {
                    Here::Ended(output) => return Poll::Ready((output, this.call.used())),
                    Here::Waits => return Poll::Pending,
                    Here::Yielded => {
                        this.call.note_long();
                        this.move_away();
                    }
                }
            }
        }
        match &mut this.state {
            // It yielded and was not taken: whoever yields has woken itself.
            State::Here(_) => Poll::Pending,
            State::Moved(moved) => {
                let ended = std::task::ready!(moved.poll(cx));
                this.state = State::Ended;
                Poll::Ready(ended)
            }
            State::Ended => unreachable!("a run is not polled after its end"),
        }
    }
}
