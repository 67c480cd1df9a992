//! Measures the overhead of the executor: calls per second on an I/O thread compared with a plain
//! await, and the latency of a hand-over. `cargo run --release -p isopod-executor --example polls`.
//! Prints numbers and never judges them.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a measurement fails by a panic")]

use isopod_executor::{Account, Class, Config, Executor, Weight, slice};
use std::{
    hint::black_box,
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

const CALLS: u32 = 2_000_000;
const ROUNDS: usize = 5;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

async fn guest(number: u32) -> u32 {
    black_box(number) + 1
}

/// Returns the median of several rounds, in nanoseconds per call.
fn per_call(round: impl Fn()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            round();
            started.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn calls(account: &Account) {
    block_on(async {
        for number in 0..CALLS {
            black_box(account.run(Class::Pull, guest(number)).await);
        }
    });
}

fn report(what: &str, nanoseconds: f64) {
    println!("{what:<56} {nanoseconds:>8.0} ns {:>8.2} million/s", 1_000.0 / nanoseconds);
}

fn quantiles(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    println!("{what:<56} p50 {:>6.1} µs  p90 {:>6.1} µs  p99 {:>6.1} µs", at(50), at(90), at(99));
}

fn spinner(account: &Account, stop: &Arc<AtomicBool>) -> impl Future {
    let stop = Arc::clone(stop);
    account.run(Class::Pull, async move {
        while !stop.load(Ordering::Relaxed) {
            if slice::expired() {
                slice::yield_now().await;
            }
        }
    })
}

/// Measures calls that are polled inline.
fn inline(executor: &Executor) {
    let account = open(executor);
    let plain = per_call(|| {
        block_on(async {
            for number in 0..CALLS {
                black_box(guest(number).await);
            }
        });
    });
    report("plain await", plain);
    let boxed = per_call(|| {
        block_on(async {
            for number in 0..CALLS {
                black_box(Box::pin(guest(number)).await);
            }
        });
    });
    report("plain await of a boxed future", boxed);
    let clocks = per_call(|| {
        for _ in 0..CALLS {
            black_box(Instant::now().elapsed());
        }
    });
    report("two readings of the wall clock", clocks);
    report("account.run", per_call(|| calls(&account)));
    let two = |accounts: [&Account; 2]| {
        per_call(|| {
            thread::scope(|scope| {
                accounts.map(|account| scope.spawn(|| calls(account))).map(|thread| thread.join().ok())
            });
        })
    };
    let other = open(executor);
    report("account.run, two threads, two accounts", two([&account, &other]));
    report("account.run, two threads, one account", two([&account, &account]));
    // The worker threads are busy with another account, so every kind of charge applies.
    let stop = Arc::new(AtomicBool::new(false));
    let heavy = open(executor);
    let mut spins = pin!(spinner(&heavy, &stop));
    assert!(spins.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    report("account.run, beside a spinner on a worker thread", per_call(|| calls(&account)));
    stop.store(true, Ordering::Relaxed);
    block_on(spins);
}

/// Measures calls that are moved.
fn handed_over(executor: &Executor) {
    let account = open(executor);
    let mut there = Vec::new();
    let mut back = Vec::new();
    for _ in 0..20_000 {
        let run = account.run(Class::Pull, async {
            let left = Instant::now();
            slice::yield_now().await;
            (left.elapsed(), Instant::now())
        });
        let ((elapsed, ended), _) = block_on(run);
        back.push(ended.elapsed());
        there.push(elapsed);
    }
    quantiles("to a sleeping worker thread", there);
    quantiles("and back to a sleeping thread", back);
}

/// Measures a call that is moved while spinners of another account occupy the worker threads.
fn beside_spinners(executor: &Executor, workers: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let heavy = open(executor);
    let mut spins: Vec<_> = (0..24).map(|_| Box::pin(spinner(&heavy, &stop))).collect();
    for spin in &mut spins {
        assert!(spin.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let quiet = open(executor);
    let mut here = Vec::new();
    let mut moved = Vec::new();
    for _ in 0..1_000 {
        thread::sleep(Duration::from_millis(1));
        let started = Instant::now();
        block_on(quiet.run(Class::Pull, async {}));
        here.push(started.elapsed());
        thread::sleep(Duration::from_millis(1));
        let started = Instant::now();
        block_on(quiet.run(Class::Pull, async { slice::yield_now().await }));
        moved.push(started.elapsed());
    }
    quantiles(&format!("a short call, 24 spinners on {workers} worker threads"), here);
    quantiles("a call that is moved, beside the spinners", moved);
    stop.store(true, Ordering::Relaxed);
    for spin in spins {
        block_on(spin);
    }
}

/// Measures how an account that floods with short calls and one that spins share two cores.
fn flood_beside_spinners(executor: &Executor) {
    let stop = Arc::new(AtomicBool::new(false));
    let (heavy, flood) = (open(executor), open(executor));
    let mut spins: Vec<_> = (0..4).map(|_| Box::pin(spinner(&heavy, &stop))).collect();
    for spin in &mut spins {
        assert!(spin.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while started.elapsed() < Duration::from_secs(3) {
                    block_on(flood.run(Class::Pull, async {
                        let started = Instant::now();
                        while started.elapsed() < Duration::from_micros(50) {}
                    }));
                }
            });
        }
    });
    let used = [&heavy, &flood].map(|account| account.cpu(Class::Pull).as_secs_f64());
    println!(
        "{:<56} {:.2} s and {:.2} s of the CPU in 3 s",
        "spinners beside a flood of calls of 50 µs", used[0], used[1]
    );
    stop.store(true, Ordering::Relaxed);
    for spin in spins {
        block_on(spin);
    }
}

fn open(executor: &Executor) -> Account {
    executor.account(Weight::default(), NonZeroU32::new(64).expect("64 is not zero"))
}

fn main() {
    let workers = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let executor = Executor::new(&Config::new(workers)).expect("threads can be started");
    inline(&executor);
    handed_over(&executor);
    beside_spinners(&executor, workers.get());
    flood_beside_spinners(&executor);
    executor.stop();
}
