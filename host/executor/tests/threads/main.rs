//! Tests of calls on real threads. No test waits for a fixed time: each waits for a state, and
//! fails if the state isn't reached within a generous timeout.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]
#![cfg(not(feature = "loom"))]

mod support;

use isopod_executor::{Account, Class, Config, Executor, Weight, slice};
use std::{
    future::{pending, poll_fn},
    num::{NonZeroU32, NonZeroUsize},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};
use support::{TIMEOUT, account, block_on, dropped, executor, is_quiet, poll_once, spin, spin_until, wait_until};

#[test]
fn a_short_call_never_leaves_its_thread() {
    let executor = executor(1);
    let account = account(&executor);
    for _ in 0..1_000 {
        let (there, _) = block_on(account.run(Class::Pull, async { thread::current().id() }));
        assert_eq!(there, thread::current().id());
    }
    assert!(account.cpu(Class::Pull) > Duration::ZERO && account.cpu(Class::Push) == Duration::ZERO);
}

#[test]
fn a_long_call_moves_to_a_worker_and_returns_its_cpu_time() {
    let executor = executor(2);
    let account = account(&executor);
    let threads = Arc::new(Mutex::new(Vec::<ThreadId>::new()));
    let seen = Arc::clone(&threads);
    let (output, cpu) = block_on(account.run(Class::Pull, async move {
        for _ in 0..10 {
            seen.lock().unwrap().push(thread::current().id());
            spin(1).await;
        }
        "done"
    }));
    let threads = threads.lock().unwrap();
    assert_eq!(output, "done");
    assert_eq!(threads[0], thread::current().id());
    assert!(threads[1..].iter().all(|thread| *thread != thread::current().id()));
    assert!(cpu >= Duration::from_millis(5), "ten slices of 0.6 ms took {cpu:?}");
    wait_until("the whole CPU time is charged", || account.cpu(Class::Pull) >= Duration::from_millis(5));
}

#[test]
fn a_call_that_waits_stays_on_its_thread() {
    let executor = executor(1);
    let account = account(&executor);
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let run = account.run(Class::Pull, async move {
        receiver.await.ok();
        thread::current().id()
    });
    let other = thread::spawn(move || sender.send(()));
    assert_eq!(block_on(run).0, thread::current().id());
    assert!(other.join().unwrap().is_ok());
}

#[test]
fn calls_of_an_account_with_long_calls_start_on_workers() {
    let executor = executor(2);
    let account = account(&executor);
    for _ in 0..10 {
        block_on(account.run(Class::Pull, spin(3)));
    }
    let here = |class| block_on(account.run(class, async { thread::current().id() })).0 == thread::current().id();
    assert!(!here(Class::Pull));
    assert!(here(Class::Push), "the classes are measured separately");
    for _ in 0..100 {
        here(Class::Pull);
    }
    assert!(here(Class::Pull), "calls that are short again run inline");
}

#[test]
fn a_moved_call_that_waits_for_io_is_requeued_when_woken() {
    let executor = executor(1);
    let account = account(&executor);
    let (wake, woken) = tokio::sync::oneshot::channel();
    let mut run = account.run(Class::Pull, async move {
        spin(3).await;
        woken.await.unwrap_or(0)
    });
    assert!(poll_once(&mut run).is_pending());
    wait_until("the call waits for its I/O", || is_quiet(executor.load(), 1));
    assert!(wake.send(7).is_ok());
    assert_eq!(block_on(run).0, 7);
}

#[test]
fn dropping_a_running_call_ends_it_at_its_next_yield() {
    let executor = executor(1);
    let account = account(&executor);
    let (guard, is_dropped) = dropped();
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    let mut run = account.run(Class::Pull, async move {
        let _guard = guard;
        loop {
            spin(1).await;
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(poll_once(&mut run).is_pending());
    wait_until("the call runs on a worker", || turns.load(Ordering::SeqCst) > 3);
    drop(run);
    wait_until("the call is dropped", || is_dropped() && is_quiet(executor.load(), 1));
}

#[test]
fn dropping_a_queued_or_sleeping_call_ends_it_immediately() {
    let executor = executor(1);
    let account = executor.account(Weight::default(), NonZeroU32::MIN);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);

    let (guard, sleeper_is_dropped) = dropped();
    let mut sleeper = account.run(Class::Pull, async move {
        let _guard = guard;
        spin(2).await;
        pending::<()>().await;
    });
    assert!(poll_once(&mut sleeper).is_pending());
    wait_until("the call sleeps", || is_quiet(executor.load(), 1));

    // Occupies the only worker without yielding.
    let (started, has_started) = mpsc::sync_channel(1);
    let mut holder = account.run(Class::Pull, async move {
        spin(1).await;
        started.send(()).ok();
        while !stopped.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    });
    assert!(poll_once(&mut holder).is_pending());
    assert!(has_started.recv_timeout(TIMEOUT).is_ok());

    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (guard, is_dropped) = dropped();
            let mut run = account.run(Class::Push, async move {
                let _guard = guard;
                spin(2).await;
            });
            assert!(poll_once(&mut run).is_pending());
            (run, is_dropped)
        })
        .collect();
    wait_until("all calls are queued", || executor.load().waiting_push == 50);
    for (run, is_dropped) in waiting {
        drop(run);
        assert!(is_dropped(), "a queued call must be dropped while the worker is busy");
    }
    assert_eq!(executor.load().waiting_push, 0);
    drop(sleeper);
    assert!(sleeper_is_dropped());
    stop.store(true, Ordering::SeqCst);
    block_on(holder);
}

#[test]
fn a_panic_of_a_guest_reaches_only_its_caller() {
    let executor = executor(1);
    let account = account(&executor);
    for slices in [0, 3] {
        let run = account.run(Class::Pull, async move {
            spin(slices).await;
            std::panic::resume_unwind(Box::new("the guest's own"));
        });
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(run)));
        assert_eq!(
            panicked.err().and_then(|payload| payload.downcast::<&str>().ok()).as_deref(),
            Some(&"the guest's own")
        );
        assert_eq!(slice::age(), None);
    }
    assert_eq!(block_on(account.run(Class::Pull, async { 7 })).0, 7);
    assert_eq!(block_on(account.run(Class::Pull, async { spin(3).await })).0, ());
}

#[test]
fn an_account_never_has_more_threads_than_cores() {
    let executor = executor(4);
    let account = executor.account(Weight::default(), NonZeroU32::new(2).unwrap());
    let go = Arc::new(AtomicBool::new(false));
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut runs: Vec<_> = (0..8)
        .map(|_| {
            let may_go = Arc::clone(&go);
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            account.run(Class::Pull, async move {
                spin_until(move || may_go.load(Ordering::SeqCst)).await;
                for _ in 0..20 {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // The first two wait for each other, so that the maximum doesn't depend on
                    // chance.
                    let started = Instant::now();
                    while started.elapsed() < Duration::from_micros(200) || most.load(Ordering::SeqCst) < 2 {}
                    running.fetch_sub(1, Ordering::SeqCst);
                    slice::yield_now().await;
                }
            })
        })
        .collect();
    for run in &mut runs {
        assert!(poll_once(run).is_pending());
    }
    go.store(true, Ordering::SeqCst);
    for run in runs {
        block_on(run);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[test]
fn heavy_accounts_share_by_weight() {
    let executor = executor(1);
    let stop = Arc::new(AtomicBool::new(false));
    let accounts = [100, 300].map(|weight| executor.account(Weight::new(weight).unwrap(), NonZeroU32::MIN));
    let mut runs: Vec<_> = accounts
        .iter()
        .flat_map(|account| (0..3).map(|_| account.clone()))
        .map(|account| {
            let stop = Arc::clone(&stop);
            account.run(Class::Pull, spin_until(move || stop.load(Ordering::Relaxed)))
        })
        .collect();
    for run in &mut runs {
        assert!(poll_once(run).is_pending());
    }
    let used = || accounts.each_ref().map(|account| account.cpu(Class::Pull).as_secs_f64());
    wait_until("both accounts have used CPU time", || used()[0] > 0.01);
    let before = used();
    wait_until("the accounts have used half a second", || {
        used().iter().sum::<f64>() > before.iter().sum::<f64>() + 0.5
    });
    let after = used();
    let share = (after[1] - before[1]) / (after[0] - before[0] + after[1] - before[1]);
    assert!((0.70..0.80).contains(&share), "expected three quarters, got {share}");
    stop.store(true, Ordering::Relaxed);
    for run in runs {
        block_on(run);
    }
}

#[test]
fn many_calls_from_many_threads_all_end_and_are_all_charged() {
    let executor = executor(2);
    let accounts: Vec<Account> = (0..5).map(|_| account(&executor)).collect();
    thread::scope(|scope| {
        for (number, account) in accounts.iter().enumerate() {
            scope.spawn(move || {
                for call in 0..60 {
                    let class = if call % 2 == 0 { Class::Pull } else { Class::Push };
                    let mut run = account.run(class, spin(call % 4));
                    if (call + number) % 7 == 0 {
                        // The call may already have completed; either way it must be gone after
                        // this.
                        let _ = poll_once(&mut run);
                    } else {
                        block_on(run);
                    }
                }
            });
        }
    });
    wait_until("no call is left", || is_quiet(executor.load(), 2));
    executor.stop();
}

#[test]
fn a_closed_executor_completes_moved_calls_and_runs_later_ones_inline() {
    let executor = executor(2);
    let account = account(&executor);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let mut moved = account.run(Class::Pull, async move {
        spin(2).await;
        receiver.await.unwrap_or(0)
    });
    assert!(poll_once(&mut moved).is_pending());
    let stopping = thread::spawn(|| executor.stop());
    wait_until("the executor is closed", || {
        let (there, _) = block_on(account.run(Class::Pull, async {
            spin(2).await;
            thread::current().id()
        }));
        there == thread::current().id()
    });
    assert!(!stopping.is_finished(), "the executor stopped before its last call completed");
    assert!(sender.send(7).is_ok());
    assert_eq!(block_on(moved).0, 7);
    assert!(stopping.join().is_ok());
}

#[test]
fn guests_run_inside_the_runtime_entered_by_the_embedder() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    let mut config = Config::new(NonZeroUsize::MIN);
    config.around_thread = Arc::new(move |_, work| {
        let _entered = handle.enter();
        work();
    });
    let executor = Executor::new(&config).unwrap();
    let account = account(&executor);
    let run = account.run(Class::Pull, async {
        spin(2).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        thread::current().name().map(str::to_owned)
    });
    assert_eq!(runtime.block_on(run).0.as_deref(), Some("isopod-work-0"));
}

#[test]
fn ten_thousand_idle_accounts_leave_no_work_behind() {
    let executor = executor(1);
    let accounts: Vec<Account> = (0..10_000).map(|_| account(&executor)).collect();
    for account in &accounts {
        block_on(account.run(Class::Pull, async {}));
    }
    assert!(executor.load().active_pull == 0 && executor.load().waiting_pull == 0);
    wait_until("the worker sleeps", || is_quiet(executor.load(), 1));
}

#[test]
fn settings_out_of_range_are_refused() {
    let usual = Config::new(NonZeroUsize::MIN);
    for bad in [
        Config { slice: Duration::ZERO, ..usual.clone() },
        Config { push_minimum_percent: 0, ..usual.clone() },
        Config { push_minimum_percent: 51, ..usual.clone() },
        Config { workers: NonZeroUsize::MAX, ..usual.clone() },
    ] {
        assert!(Executor::new(&bad).is_err());
    }
}

#[test]
fn a_call_within_a_select_is_moved() {
    let executor = executor(1);
    let account = account(&executor);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut other_polls = 0;
    let mut run = pin!(account.run(Class::Pull, spin_until(move || stopped.load(Ordering::SeqCst))));
    block_on(poll_fn(|cx| {
        other_polls += 1;
        if other_polls == 2 {
            stop.store(true, Ordering::SeqCst);
        }
        run.as_mut().poll(cx).map(drop)
    }));
    assert!(other_polls >= 2);
}
