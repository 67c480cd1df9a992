//! Runs one future to its end, and polls the host for the events that it waits for. It has no tasks
//! and no threads: an instance handles one call at a time.
//!
//! A future that never waits is polled once, without any allocation or call to the host.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use wasip2::io::poll::{Pollable, poll};

/// Set when the running future is woken.
static WOKEN: AtomicBool = AtomicBool::new(false);

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |_| RawWaker::new(std::ptr::null(), &VTABLE),
    |_| WOKEN.store(true, Ordering::Relaxed),
    |_| WOKEN.store(true, Ordering::Relaxed),
    |_| {},
);

/// An event of the host that a future waits for.
struct Waiting {
    id: u64,
    pollable: Pollable,
    waker: Waker,
}

#[derive(Default)]
struct Reactor {
    last_id: u64,
    waiting: Vec<Waiting>,
}

thread_local! {
    static REACTOR: RefCell<Reactor> = const { RefCell::new(Reactor { last_id: 0, waiting: Vec::new() }) };
}

/// Error: the future waits for an event that cannot occur.
#[derive(Debug)]
pub struct Stuck;

impl std::fmt::Display for Stuck {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("deadlock: the handler waits for an event that cannot occur")
    }
}

impl std::error::Error for Stuck {}

/// Returns whether [`run`] runs the calling future.
#[cfg(feature = "wasi-03")]
pub fn is_running() -> bool {
    RUNNING.load(Ordering::Relaxed)
}

#[cfg(feature = "wasi-03")]
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Runs a future to its end.
pub fn run<F: Future>(future: F) -> Result<F::Output, Stuck> {
    // SAFETY: the vtable's functions ignore the data pointer and touch one atomic.
    let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE)) };
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        WOKEN.store(false, Ordering::Relaxed);
        #[cfg(feature = "wasi-03")]
        RUNNING.store(true, Ordering::Relaxed);
        let polled = future.as_mut().poll(&mut context);
        #[cfg(feature = "wasi-03")]
        RUNNING.store(false, Ordering::Relaxed);
        if let Poll::Ready(output) = polled {
            return Ok(output);
        }
        let ready = REACTOR.with_borrow(|reactor| match (WOKEN.load(Ordering::Relaxed), reactor.waiting.is_empty()) {
            // The future woke itself: wake ready events as well, without waiting.
            (true, _) => Some(reactor.ready_now()),
            (false, true) => None,
            (false, false) => Some(reactor.wait_for_any()),
        });
        let Some(ready) = ready else { return Err(Stuck) };
        wake(&ready);
    }
}

impl Reactor {
    fn ready_now(&self) -> Vec<u64> {
        self.waiting.iter().filter(|waiting| waiting.pollable.ready()).map(|waiting| waiting.id).collect()
    }

    fn wait_for_any(&self) -> Vec<u64> {
        let pollables: Vec<&Pollable> = self.waiting.iter().map(|waiting| &waiting.pollable).collect();
        poll(&pollables).into_iter().map(|index| self.waiting[index as usize].id).collect()
    }
}

/// Removes the ready events and wakes their futures. The borrow has ended by then, since a waker is
/// foreign code.
fn wake(ready: &[u64]) {
    for id in ready {
        if let Some(waiting) = remove(*id) {
            waiting.waker.wake();
        }
    }
}

fn remove(id: u64) -> Option<Waiting> {
    REACTOR.with_borrow_mut(|reactor| {
        let index = reactor.waiting.iter().position(|waiting| waiting.id == id)?;
        Some(reactor.waiting.swap_remove(index))
    })
}

/// Waits until a pollable is ready.
pub fn wait(pollable: Pollable) -> Wait {
    Wait(State::New(Some(pollable)))
}

/// The future of [`wait`].
pub struct Wait(State);

enum State {
    New(Option<Pollable>),
    Waiting(u64),
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            State::New(pollable) => {
                let Some(pollable) = pollable.take() else { return Poll::Ready(()) };
                if pollable.ready() {
                    return Poll::Ready(());
                }
                let id = REACTOR.with_borrow_mut(|reactor| {
                    reactor.last_id += 1;
                    reactor.waiting.push(Waiting { id: reactor.last_id, pollable, waker: context.waker().clone() });
                    reactor.last_id
                });
                self.0 = State::Waiting(id);
                Poll::Pending
            }
            State::Waiting(id) => {
                REACTOR.with_borrow_mut(|reactor| match reactor.waiting.iter_mut().find(|waiting| waiting.id == *id) {
                    Some(waiting) => {
                        waiting.waker.clone_from(context.waker());
                        Poll::Pending
                    }
                    None => Poll::Ready(()),
                })
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let State::Waiting(id) = self.0 {
            remove(id);
        }
    }
}
