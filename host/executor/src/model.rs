//! Model-checked tests: try every interleaving of concurrent charges, and of workers that fall
//! asleep while work arrives. `cargo test -p isopod-executor --features loom --lib`. Never runs
//! outside the model checker.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use crate::{
    class::{Class, Weight},
    ledger::{AccountId, Ledger},
    pool::{FinishedSlice, Pool},
    scheduler::{Queued, Scheduler},
};
use Class::{Pull, Push};
use loom::{model, thread};
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        // Counts outside the model: its interleavings aren't under test.
        atomic::{AtomicUsize, Ordering},
    },
};

const SLICE: u64 = 1_000;

struct Task {
    slices: u32,
}

impl Queued for Task {
    fn set_ticket(&self, _: u64) {}
}

fn ledger(cores: u32) -> Arc<Ledger> {
    Arc::new(Ledger::new(AccountId(0), Weight::default(), NonZeroU32::new(cores).unwrap()))
}

fn pool() -> Arc<Pool<Task>> {
    Arc::new(Pool::new(Scheduler::new(SLICE, 10)))
}

/// Runs slices until the pool is drained, and counts them.
fn work(pool: &Pool<Task>, slices: &AtomicUsize) {
    let mut finished = None;
    while let Some((slice, mut task)) = pool.next(finished.take()) {
        slices.fetch_add(1, Ordering::Relaxed);
        task.slices -= 1;
        let runnable = (task.slices > 0).then_some(task);
        if runnable.is_none() {
            pool.leave();
        }
        finished = Some(FinishedSlice { slice, cpu_ns: SLICE, runnable });
    }
}

#[test]
fn concurrent_charges_are_all_counted() {
    model(|| {
        let ledger = ledger(1);
        let others = [
            thread::spawn({
                let ledger = Arc::clone(&ledger);
                move || ledger.charge(Pull, 300, 500, 2_000)
            }),
            thread::spawn({
                let ledger = Arc::clone(&ledger);
                move || {
                    let ahead = ledger.charge_ahead(Pull, SLICE);
                    ledger.settle(Pull, ahead, 100);
                }
            }),
        ];
        ledger.lift(Pull, 400);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(ledger.cpu_ns(Pull), 400);
        // The starting point depends on the order of the steps; both charges are included in any
        // order.
        let virtual_ns = ledger.virtual_ns(Pull);
        assert!((400..=900).contains(&virtual_ns), "{virtual_ns}");
    });
}

#[test]
fn a_worker_that_falls_asleep_misses_no_work() {
    model(|| {
        let (pool, ledger, slices) = (pool(), ledger(2), Arc::new(AtomicUsize::new(0)));
        let worker = thread::spawn({
            let (pool, slices) = (Arc::clone(&pool), Arc::clone(&slices));
            move || work(&pool, &slices)
        });
        assert!(pool.enter());
        pool.enqueue(&ledger, Pull, Task { slices: 1 });
        assert!(pool.enter());
        pool.enqueue(&ledger, Push, Task { slices: 2 });
        pool.close();
        worker.join().unwrap();
        assert_eq!(slices.load(Ordering::Relaxed), 3);
        assert!(!pool.enter());
    });
}

#[test]
fn two_workers_leave_after_the_last_call() {
    let mut builder = model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let (pool, ledger, slices) = (pool(), ledger(1), Arc::new(AtomicUsize::new(0)));
        let workers = [(); 2].map(|()| {
            let (pool, slices) = (Arc::clone(&pool), Arc::clone(&slices));
            thread::spawn(move || work(&pool, &slices))
        });
        for _ in 0..2 {
            assert!(pool.enter());
            pool.enqueue(&ledger, Pull, Task { slices: 1 });
        }
        pool.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(slices.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_call_is_either_withdrawn_or_run() {
    model(|| {
        let (pool, ledger, slices) = (pool(), ledger(1), Arc::new(AtomicUsize::new(0)));
        let worker = thread::spawn({
            let (pool, slices) = (Arc::clone(&pool), Arc::clone(&slices));
            move || work(&pool, &slices)
        });
        assert!(pool.enter());
        pool.enqueue(&ledger, Pull, Task { slices: 1 });
        let withdrawn = pool.withdraw(&ledger, Pull, &loom::sync::atomic::AtomicU64::new(0)).is_some();
        if withdrawn {
            pool.leave();
        }
        pool.close();
        worker.join().unwrap();
        assert_eq!(slices.load(Ordering::Relaxed) + usize::from(withdrawn), 1);
    });
}
