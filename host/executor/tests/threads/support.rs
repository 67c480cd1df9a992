//! Shared helpers of these tests: executors, busy guests, and functions that wait for a state.
//! Contains no tests.

use isopod_executor::{Account, Config, Executor, Load, Weight, slice};
use std::{
    num::{NonZeroU32, NonZeroUsize},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn executor(workers: usize) -> Executor {
    Executor::new(&Config::new(NonZeroUsize::new(workers).unwrap())).unwrap()
}

pub(crate) fn account(executor: &Executor) -> Account {
    executor.account(Weight::default(), NonZeroU32::new(64).unwrap())
}

pub(crate) fn wait_until(what: &str, reached: impl Fn() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < TIMEOUT, "timed out waiting for: {what}");
        thread::yield_now();
    }
}

pub(crate) fn is_quiet(load: Load, workers: usize) -> bool {
    load == Load { idle_workers: workers, waiting_pull: 0, waiting_push: 0, active_pull: 0, active_push: 0 }
}

/// Unparks the waiting thread.
pub(crate) struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future on this thread to completion, as an I/O thread would.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(TIMEOUT),
        }
    }
}

pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Spins like a guest whose engine ticks, until `stop` returns true.
pub(crate) async fn spin_until(stop: impl Fn() -> bool) {
    while !stop() {
        if slice::expired() {
            slice::yield_now().await;
        }
    }
}

pub(crate) async fn spin(slices: usize) {
    for _ in 0..slices {
        let started = slice::age().unwrap_or_default();
        while slice::age().is_some_and(|age| age < started + Duration::from_micros(600)) {}
        slice::yield_now().await;
    }
}

/// Sets a flag when it is dropped.
pub(crate) struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(crate) fn dropped() -> (Dropped, impl Fn() -> bool) {
    let flag = Arc::new(AtomicBool::new(false));
    (Dropped(Arc::clone(&flag)), move || flag.load(Ordering::SeqCst))
}
