//! Simulates the scheduler in virtual time, with workers and guests that are only numbers, and
//! checks its guarantees against the history. After every step, no worker is idle while work could
//! run, and no account has more workers than cores. Never starts a thread.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use crate::{
    class::{Class, Weight},
    ledger::{AccountId, Ledger},
    limits,
    scheduler::{Queued, Scheduler, StartedSlice},
};
use Class::{Pull, Push};
use proptest::prelude::*;
use std::{cmp::Reverse, collections::BinaryHeap, num::NonZeroU32, sync::Arc};

const MS: u64 = 1_000_000;
const SLICE: u64 = MS;
/// A guest yields at a tick, so a slice lasts from half of its length to one and a half.
const SLICE_LONGEST: u64 = SLICE * 3 / 2;
const WINDOW: u64 = 100 * MS;

/// A guest: alternates between work and waiting.
#[derive(Debug, Clone, Copy)]
struct Guest {
    account: usize,
    class: Class,
    work_ns: u64,
    wait_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Task {
    guest: Guest,
    left_ns: u64,
}

impl Queued for Task {
    fn set_ticket(&self, _: u64) {}
}

struct Busy {
    started_ns: u64,
    ends_ns: u64,
    slice: StartedSlice,
    task: Task,
}

struct Simulation {
    scheduler: Scheduler<Task>,
    ledgers: Vec<Arc<Ledger>>,
    workers: Vec<Option<Busy>>,
    now_ns: u64,
    wakes: BinaryHeap<Reverse<(u64, usize)>>,
    guests: Vec<Guest>,
    /// Which account ran, in which class, from when to when.
    history: Vec<(usize, Class, u64, u64)>,
    /// The random state for the slices' lengths; without it all are equal.
    chance: Option<u64>,
}

impl Simulation {
    fn new(workers: usize, seed: u64) -> Self {
        Self {
            scheduler: Scheduler::new(SLICE, limits::PUSH_MINIMUM_PERCENT),
            ledgers: Vec::new(),
            workers: std::iter::repeat_with(|| None).take(workers).collect(),
            now_ns: 0,
            wakes: BinaryHeap::new(),
            guests: Vec::new(),
            history: Vec::new(),
            chance: Some(seed | 1),
        }
    }

    fn account(&mut self, weight: u32, cores: u32) -> usize {
        let id = AccountId(self.ledgers.len() as u64);
        let (weight, cores) = (Weight::new(weight).unwrap(), NonZeroU32::new(cores).unwrap());
        self.ledgers.push(Arc::new(Ledger::new(id, weight, cores)));
        self.ledgers.len() - 1
    }

    fn guest_at(&mut self, at_ns: u64, guest: Guest) {
        self.wakes.push(Reverse((at_ns, self.guests.len())));
        self.guests.push(guest);
    }

    /// Adds a guest that never waits.
    fn spinner(&mut self, account: usize, class: Class) {
        self.guest_at(self.now_ns, Guest { account, class, work_ns: u64::MAX, wait_ns: 0 });
    }

    fn run_until(&mut self, end_ns: u64) {
        loop {
            self.start_slices();
            let slice_ends = self.workers.iter().flatten().map(|busy| busy.ends_ns);
            let wakes = self.wakes.peek().map(|Reverse((at_ns, _))| *at_ns);
            match slice_ends.chain(wakes).min() {
                Some(next_ns) if next_ns <= end_ns => self.now_ns = next_ns,
                _ => break,
            }
            self.wake_guests();
            self.end_slices();
        }
        self.now_ns = end_ns;
    }

    fn start_slices(&mut self) {
        for worker in 0..self.workers.len() {
            if self.workers[worker].is_none()
                && let Some((slice, task)) = self.scheduler.take(0)
            {
                let ends_ns = self.now_ns + self.slice_ns().min(task.left_ns);
                self.workers[worker] = Some(Busy { started_ns: self.now_ns, ends_ns, slice, task });
            }
        }
        assert!(
            self.workers.iter().all(Option::is_some) || !self.scheduler.is_ready(),
            "a worker is idle while work waits"
        );
        for (account, ledger) in self.ledgers.iter().enumerate() {
            let running = self.workers.iter().flatten().filter(|busy| busy.task.guest.account == account).count();
            assert!(running <= ledger.cores() as usize, "an account has more workers than cores");
        }
    }

    fn wake_guests(&mut self) {
        while let Some(Reverse((at_ns, guest))) = self.wakes.peek().copied()
            && at_ns <= self.now_ns
        {
            self.wakes.pop();
            let guest = self.guests[guest];
            self.scheduler.enqueue(&self.ledgers[guest.account], guest.class, Task { guest, left_ns: guest.work_ns });
        }
    }

    fn end_slices(&mut self) {
        for worker in 0..self.workers.len() {
            let Some(busy) = self.workers[worker].take_if(|busy| busy.ends_ns <= self.now_ns) else { continue };
            let Busy { started_ns, ends_ns, slice, mut task } = busy;
            let used_ns = ends_ns - started_ns;
            self.history.push((task.guest.account, task.guest.class, started_ns, ends_ns));
            task.left_ns -= used_ns;
            self.scheduler.settle(slice, used_ns, (task.left_ns > 0).then_some(task));
            if task.left_ns == 0 {
                self.guest_at(self.now_ns + task.guest.wait_ns, task.guest);
            }
        }
    }

    fn slice_ns(&mut self) -> u64 {
        let Some(chance) = &mut self.chance else { return SLICE };
        *chance ^= *chance << 13;
        *chance ^= *chance >> 7;
        *chance ^= *chance << 17;
        SLICE / 2 + *chance % (SLICE + 1)
    }

    /// Returns the CPU time used between two moments, in nanoseconds.
    fn used(&self, which: impl Fn(usize, Class) -> bool, from_ns: u64, to_ns: u64) -> u64 {
        let running = self.workers.iter().flatten();
        let running =
            running.map(|busy| (busy.task.guest.account, busy.task.guest.class, busy.started_ns, self.now_ns));
        let of_interest =
            self.history.iter().copied().chain(running).filter(|(account, class, ..)| which(*account, *class));
        of_interest
            .map(|(_, _, started_ns, ended_ns)| ended_ns.min(to_ns).saturating_sub(started_ns.max(from_ns)))
            .sum()
    }

    fn used_by(&self, account: usize, from_ns: u64, to_ns: u64) -> u64 {
        self.used(|user, _| user == account, from_ns, to_ns)
    }
}

/// Accounts of equal weight that all have more work than there are workers.
#[derive(Debug)]
struct Crowd {
    workers: usize,
    accounts: usize,
    more_guests: usize,
    seed: u64,
}

fn crowd() -> impl Strategy<Value = Crowd> {
    let numbers = (1..5usize, 2..9usize, 0..6usize, any::<u64>());
    numbers.prop_map(|(workers, accounts, more_guests, seed)| Crowd { workers, accounts, more_guests, seed })
}

impl Crowd {
    fn begin(&self) -> Simulation {
        let mut simulation = Simulation::new(self.workers, self.seed);
        for number in 0..self.accounts {
            let account = simulation.account(100, 64);
            // Guests of an account share its CPU time: more guests don't increase it.
            (0..self.workers + self.more_guests * number).for_each(|_| simulation.spinner(account, Pull));
        }
        simulation
    }

    fn share_ns(&self, time_ns: u64) -> u64 {
        time_ns * self.workers as u64 / self.accounts as u64
    }
}

fn windows(from_ns: u64, to_ns: u64) -> impl Iterator<Item = (u64, u64)> {
    (from_ns..to_ns - WINDOW).step_by(3_700_000).map(|begin_ns| (begin_ns, begin_ns + WINDOW))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn accounts_of_equal_weight_are_within_a_slice_of_their_share_in_any_window(crowd in crowd()) {
        let mut simulation = crowd.begin();
        simulation.chance = None;
        simulation.run_until(600 * MS);
        for (from_ns, to_ns) in windows(0, 600 * MS) {
            for account in 0..crowd.accounts {
                let off_ns = simulation.used_by(account, from_ns, to_ns).abs_diff(crowd.share_ns(WINDOW));
                prop_assert!(off_ns <= SLICE, "{account} is off by {off_ns} ns at {from_ns}");
            }
        }
    }

    #[test]
    fn the_error_from_unequal_slices_does_not_accumulate(crowd in crowd()) {
        let mut simulation = crowd.begin();
        for at_ns in (0..600 * MS).step_by(3_700_000) {
            simulation.run_until(at_ns);
            for account in 0..crowd.accounts {
                let off_ns = simulation.used_by(account, 0, at_ns).abs_diff(crowd.share_ns(at_ns));
                prop_assert!(off_ns <= SLICE_LONGEST, "{account} is off by {off_ns} ns at {at_ns}");
            }
        }
    }

    #[test]
    fn heavy_accounts_get_their_weighted_shares(
        workers in 1..4usize, weights in prop::collection::vec(20..200u32, 2..6), seed: u64,
    ) {
        let mut simulation = Simulation::new(workers, seed);
        for weight in &weights {
            let account = simulation.account(*weight, 64);
            (0..workers).for_each(|_| simulation.spinner(account, Pull));
        }
        let time_ns = 4_000 * MS;
        simulation.run_until(time_ns);
        let all: u32 = weights.iter().sum();
        // An account can't have more than all cores, and a guest can't use more than one.
        for (account, weight) in weights.iter().enumerate() {
            let share = f64::from(*weight) / f64::from(all) * (time_ns * workers as u64) as f64;
            let used = simulation.used_by(account, 0, time_ns) as f64;
            prop_assert!((used / share - 1.0).abs() < 0.05, "{account} got {used} of {share}");
        }
    }

    #[test]
    fn push_work_gets_exactly_its_minimum_share_while_pull_work_waits(
        workers in 1..5usize, pull in 1..6usize, push in 1..6usize, seed: u64,
    ) {
        let mut simulation = Simulation::new(workers, seed);
        for class in [vec![Pull; pull], vec![Push; push]].concat() {
            let account = simulation.account(100, 64);
            (0..workers).for_each(|_| simulation.spinner(account, class));
        }
        simulation.run_until(1_000 * MS);
        for (from_ns, to_ns) in windows(0, 1_000 * MS) {
            let pushed_ns = simulation.used(|_, class| class == Push, from_ns, to_ns);
            let minimum_ns = WINDOW * workers as u64 / 10;
            let off_ns = pushed_ns.abs_diff(minimum_ns);
            prop_assert!(off_ns <= SLICE_LONGEST * workers as u64, "{pushed_ns} of {minimum_ns}");
        }
    }

    #[test]
    fn an_account_earns_no_credit_while_idle(idle_ms in 100..5_000u64, workers in 1..4usize, seed: u64) {
        let mut simulation = Simulation::new(workers, seed);
        let (busy, sleepy) = (simulation.account(100, 64), simulation.account(100, 64));
        (0..workers).for_each(|_| simulation.spinner(busy, Pull));
        let wakes_ns = idle_ms * MS;
        for _ in 0..workers {
            simulation.guest_at(wakes_ns, Guest { account: sleepy, class: Pull, work_ns: u64::MAX, wait_ns: 0 });
        }
        simulation.run_until(wakes_ns + WINDOW);
        let used_ns = simulation.used_by(sleepy, wakes_ns, wakes_ns + WINDOW);
        let share_ns = WINDOW * workers as u64 / 2;
        prop_assert!(used_ns.abs_diff(share_ns) <= SLICE_LONGEST, "{used_ns} of {share_ns}");
        let slices = simulation.history.iter().filter(|(account, ..)| *account == sleepy);
        let first_ns = slices.map(|(.., started, _)| *started).min();
        prop_assert!(first_ns.unwrap() <= wakes_ns + SLICE_LONGEST, "it runs at the latest when the next slice ends");
    }

    #[test]
    fn a_quiet_account_is_served_within_two_slices(workers in 1..4usize, neighbours in 1..40usize, seed: u64) {
        let mut simulation = Simulation::new(workers, seed);
        let quiet = simulation.account(100, 64);
        for _ in 0..neighbours {
            let account = simulation.account(100, 64);
            (0..4).for_each(|_| simulation.spinner(account, Pull));
        }
        // Uses a little CPU now and then, less than its share.
        let wait_ns = 2 * MS * neighbours as u64;
        simulation.guest_at(0, Guest { account: quiet, class: Pull, work_ns: MS / 10, wait_ns });
        simulation.run_until(2_000 * MS);
        let slices: Vec<_> = simulation.history.iter().filter(|(account, ..)| *account == quiet).collect();
        for pair in slices.windows(2) {
            let waited_ns = pair[1].2 - pair[0].3 - wait_ns;
            prop_assert!(waited_ns <= 2 * SLICE_LONGEST, "waited {waited_ns} ns");
        }
    }

    #[test]
    fn an_account_limited_by_its_cores_has_bounded_credit_when_they_are_raised(seed: u64) {
        let mut simulation = Simulation::new(4, seed);
        let (held, other) = (simulation.account(100, 1), simulation.account(100, 64));
        for account in [held, other] {
            (0..4).for_each(|_| simulation.spinner(account, Pull));
        }
        simulation.run_until(500 * MS);
        prop_assert!(simulation.used_by(held, 0, 500 * MS).abs_diff(500 * MS) < SLICE_LONGEST, "one core of four");
        simulation.ledgers[held].set_cores(NonZeroU32::new(4).unwrap());
        simulation.scheduler.cores_changed(AccountId(held as u64));
        simulation.run_until(600 * MS);
        let used_ns = simulation.used_by(held, 500 * MS, 600 * MS);
        let credit_ns = limits::CREDIT_SLICES_MAX * SLICE;
        prop_assert!(used_ns <= 2 * WINDOW + credit_ns + 2 * SLICE_LONGEST, "{used_ns}");
    }

    #[test]
    fn the_guarantees_hold_after_every_step_of_any_load(
        workers in 1..5usize,
        accounts in prop::collection::vec((1..1_000u32, 1..4u32), 1..8),
        guests in prop::collection::vec((0..8usize, any::<bool>(), 1..5_000u64, 0..5_000u64, 0..50_000u64), 1..60),
        seed: u64,
    ) {
        let mut simulation = Simulation::new(workers, seed);
        for (weight, cores) in &accounts {
            simulation.account(*weight, *cores);
        }
        for (account, push, work_us, wait_us, begins_us) in guests {
            let class = if push { Push } else { Pull };
            let guest =
                Guest { account: account % accounts.len(), class, work_ns: work_us * 1_000, wait_ns: wait_us * 1_000 };
            simulation.guest_at(begins_us * 1_000, guest);
        }
        simulation.run_until(300 * MS);
        for class in [Pull, Push] {
            let charged: u64 = simulation.ledgers.iter().map(|ledger| ledger.cpu_ns(class)).sum();
            let slices = simulation.history.iter().filter(|slice| slice.1 == class);
            let ran: u64 = slices.map(|slice| slice.3 - slice.2).sum();
            prop_assert_eq!(charged, ran, "the CPU time charged must equal the time run");
        }
    }
}

#[test]
fn a_guest_that_waits_briefly_gets_no_more_than_one_that_spins() {
    let mut simulation = Simulation::new(1, 7);
    let (spins, waits) = (simulation.account(100, 64), simulation.account(100, 64));
    simulation.spinner(spins, Pull);
    for _ in 0..3 {
        simulation.guest_at(0, Guest { account: waits, class: Pull, work_ns: SLICE / 2, wait_ns: 1_000 });
    }
    simulation.run_until(1_000 * MS);
    let share = simulation.used_by(waits, 0, 1_000 * MS) as f64 / (1_000 * MS) as f64;
    assert!((0.45..0.55).contains(&share), "{share}");
}

#[test]
fn debts_are_forgiven_when_no_account_is_runnable() {
    let mut simulation = Simulation::new(1, 7);
    let (ahead, other) = (simulation.account(100, 64), simulation.account(100, 64));
    let once = |account| Guest { account, class: Pull, work_ns: MS / 2, wait_ns: u64::MAX / 2 };
    simulation.guest_at(0, once(other));
    simulation.ledgers[ahead].charge(Pull, 3_600_000 * MS, 0, limits::DEBT_SLICES_MAX * SLICE);
    simulation.run_until(10 * MS);
    simulation.guest_at(10 * MS, once(ahead));
    simulation.spinner(other, Pull);
    simulation.spinner(other, Pull);
    simulation.run_until(20 * MS);
    assert!(
        simulation.used_by(ahead, 0, 13 * MS) == MS / 2,
        "the account with the former debt wasn't served immediately"
    );
}

#[test]
fn withdrawn_work_never_runs_and_leaves_no_state() {
    struct Ticketed(std::rc::Rc<std::cell::Cell<u64>>);
    impl Queued for Ticketed {
        fn set_ticket(&self, ticket: u64) {
            self.0.set(ticket);
        }
    }
    let mut scheduler = Scheduler::new(SLICE, 10);
    let ledger = Arc::new(Ledger::new(AccountId(0), Weight::default(), NonZeroU32::MIN));
    let tickets: Vec<std::rc::Rc<std::cell::Cell<u64>>> = (0..100).map(|_| Default::default()).collect();
    tickets.iter().for_each(|ticket| scheduler.enqueue(&ledger, Push, Ticketed(ticket.clone())));
    for ticket in tickets.iter().step_by(2).rev() {
        assert!(scheduler.withdraw(AccountId(0), Push, ticket.get()).is_some());
        assert!(scheduler.withdraw(AccountId(0), Push, ticket.get()).is_none(), "withdrawn work was found again");
    }
    let mut ran = 0;
    while let Some((slice, _)) = scheduler.take(0) {
        scheduler.settle(slice, 1, None);
        ran += 1;
    }
    assert_eq!((ran, scheduler.level(Push).waiting, scheduler.level(Push).active), (50, 0, 0));
    assert!(!ledger.is_active(Push));
}
