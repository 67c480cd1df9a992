//! Every order of steps that threads may take, tried by a model checker: charges that meet, and workers that fall asleep
//! while work comes. `cargo test -p isopod-executor --features loom --lib`.

use crate::{
    class::{Class, Weight},
    fair::{Fair, Waiting},
    ledger::{AccountId, Ledger},
    pool::{Over, Pool},
};
use Class::{Pull, Push};
use loom::{model, thread};
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        // Counted beside the model: not a thing of which orders are to be tried.
        atomic::{AtomicUsize, Ordering},
    },
};

const SLICE: u64 = 1_000;

struct Task {
    turns: u32,
}

impl Waiting for Task {
    fn waits(&self, _: u64) {}
}

fn ledger(cores: u32) -> Arc<Ledger> {
    Arc::new(Ledger::new(AccountId(0), Weight::default(), NonZeroU32::new(cores).unwrap()))
}

fn pool() -> Arc<Pool<Task>> {
    Arc::new(Pool::new(Fair::new(SLICE, 10)))
}

/// Takes turns until the pool is over, and tells how many there were.
fn work(pool: &Pool<Task>, turns: &AtomicUsize) {
    let mut over = None;
    while let Some((turn, mut task)) = pool.next(over.take()) {
        turns.fetch_add(1, Ordering::Relaxed);
        task.turns -= 1;
        let again = (task.turns > 0).then_some(task);
        if again.is_none() {
            pool.leave();
        }
        over = Some(Over { turn, cpu_ns: SLICE, again });
    }
}

#[test]
fn no_charge_is_lost_where_several_meet() {
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
        // What it begins at depends on who was first; both charges are in it in any order.
        let virtual_ns = ledger.virtual_ns(Pull);
        assert!((400..=900).contains(&virtual_ns), "{virtual_ns}");
    });
}

#[test]
fn a_worker_that_falls_asleep_misses_nothing() {
    model(|| {
        let (pool, ledger, turns) = (pool(), ledger(2), Arc::new(AtomicUsize::new(0)));
        let worker = thread::spawn({
            let (pool, turns) = (Arc::clone(&pool), Arc::clone(&turns));
            move || work(&pool, &turns)
        });
        assert!(pool.enter());
        pool.push(&ledger, Pull, Task { turns: 1 });
        assert!(pool.enter());
        pool.push(&ledger, Push, Task { turns: 2 });
        pool.close();
        worker.join().unwrap();
        assert_eq!(turns.load(Ordering::Relaxed), 3);
        assert!(!pool.enter());
    });
}

#[test]
fn two_workers_leave_when_the_last_call_has_left() {
    let mut builder = model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let (pool, ledger, turns) = (pool(), ledger(1), Arc::new(AtomicUsize::new(0)));
        let workers = [(); 2].map(|()| {
            let (pool, turns) = (Arc::clone(&pool), Arc::clone(&turns));
            thread::spawn(move || work(&pool, &turns))
        });
        for _ in 0..2 {
            assert!(pool.enter());
            pool.push(&ledger, Pull, Task { turns: 1 });
        }
        pool.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(turns.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_call_is_withdrawn_or_run_and_never_both() {
    model(|| {
        let (pool, ledger, turns) = (pool(), ledger(1), Arc::new(AtomicUsize::new(0)));
        let worker = thread::spawn({
            let (pool, turns) = (Arc::clone(&pool), Arc::clone(&turns));
            move || work(&pool, &turns)
        });
        assert!(pool.enter());
        pool.push(&ledger, Pull, Task { turns: 1 });
        let withdrawn = pool.withdraw(&ledger, Pull, &loom::sync::atomic::AtomicU64::new(0)).is_some();
        if withdrawn {
            pool.leave();
        }
        pool.close();
        worker.join().unwrap();
        assert_eq!(turns.load(Ordering::Relaxed) + usize::from(withdrawn), 1);
    });
}
