//! The scheduler's queue: decides which account's work runs next on the worker threads. Pure: it
//! has no thread, lock or clock. The CPU time used is an argument, so that a simulation can run
//! hours of load in a moment.
//!
//! ```text
//!           enqueue                    take                     settle
//!   work ──────────> waiting, by ──────────> running, a slice ──────────> completed, asleep,
//!                    account and class       charged ahead                or waiting again
//! ```
//!
//! Pull work runs before push work, unless push work is below its minimum share. Within a class,
//! the account with the least virtual time is next, provided that it has fewer workers than cores.
//! Within an account, the work that has waited longest is next. The scheduler stores only accounts
//! that have work here.

use crate::{
    class::{Class, PerClass},
    ledger::{AccountId, Ledger},
    limits,
    minimum_share::MinimumShare,
};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

/// Work that can wait in the queue. It stores its ticket, by which the queue finds it again.
pub(crate) trait Queued {
    fn set_ticket(&self, ticket: u64);
}

pub(crate) struct Scheduler<T> {
    slice_ns: u64,
    active: HashMap<AccountId, Active<T>>,
    classes: PerClass<Order>,
    minimum_share: MinimumShare,
    /// The ticket of the next work that is enqueued. Tickets grow, so each account's queue is
    /// sorted by ticket.
    next_ticket: u64,
}

/// The accounts of a class, in the order in which they run.
#[derive(Default)]
struct Order {
    /// Accounts with waiting work and a free core, by virtual time. Charges on I/O threads may have
    /// increased an account's virtual time since; `first` checks for that.
    ready: BTreeSet<(u64, AccountId)>,
    /// The virtual time of the latest slice. Never decreases.
    minimum_ns: u64,
    waiting: usize,
    active: usize,
}

/// An account that has work here.
struct Active<T> {
    ledger: Arc<Ledger>,
    classes: PerClass<ClassQueue<T>>,
}

/// The work of an account in one class.
struct ClassQueue<T> {
    waiting: VecDeque<(u64, T)>,
    running: u32,
    /// The virtual time under which the account is in `ready`, if it is.
    key_ns: Option<u64>,
}

/// A slice that was granted to an account. The worker settles it afterwards.
#[must_use = "a slice that is not settled occupies one of its account's cores"]
pub(crate) struct StartedSlice {
    account: AccountId,
    class: Class,
    ahead: u64,
    /// Whether the other class also had work waiting.
    is_contended: bool,
}

/// The amount of work in a class, for publication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) minimum_ns: u64,
    pub(crate) active: usize,
    pub(crate) waiting: usize,
}

impl<T: Queued> Scheduler<T> {
    pub(crate) fn new(slice_ns: u64, push_minimum_percent: u32) -> Self {
        Self {
            slice_ns,
            active: HashMap::new(),
            classes: PerClass::default(),
            minimum_share: MinimumShare::new(push_minimum_percent, slice_ns),
            next_ticket: 0,
        }
    }

    /// Enqueues work. An account without other work in this class starts at the minimum virtual
    /// time: idle time earns no credit.
    pub(crate) fn enqueue(&mut self, ledger: &Arc<Ledger>, class: Class, work: T) {
        let account = self.active.entry(ledger.id()).or_insert_with(|| Active::new(ledger));
        if account.classes[class].is_idle() {
            ledger.lift(class, self.classes[class].minimum_ns);
            ledger.set_active(class, true);
            self.classes[class].active += 1;
        }
        self.wait_for_slice(ledger.id(), class, work);
        self.reposition(ledger.id());
    }

    /// Grants the next slice and charges its full length ahead. `inline_pull_ns` is the CPU time
    /// that pull work used on I/O threads since the last call.
    pub(crate) fn take(&mut self, inline_pull_ns: u64) -> Option<(StartedSlice, T)> {
        let ready = Class::ALL.map(|class| !self.classes[class].ready.is_empty());
        let is_contended = ready == [true, true];
        if is_contended {
            self.minimum_share.charge(Class::Pull, inline_pull_ns.cast_signed());
        }
        let class = match ready {
            [false, false] => return None,
            [true, false] => Class::Pull,
            [false, true] => Class::Push,
            [true, true] if self.minimum_share.is_due() => Class::Push,
            [true, true] => Class::Pull,
        };
        let (virtual_ns, id) = self.first(class)?;
        let account = self.active.get_mut(&id)?;
        let (_, work) = account.classes[class].waiting.pop_front()?;
        account.classes[class].running += 1;
        let ahead = account.ledger.charge_ahead(class, self.slice_ns);
        let order = &mut self.classes[class];
        debug_assert!(order.waiting > 0, "work that starts was counted as waiting");
        order.waiting -= 1;
        order.minimum_ns = order.minimum_ns.max(virtual_ns);
        if is_contended {
            self.minimum_share.charge(class, self.slice_ns.cast_signed());
        }
        self.reposition(id);
        Some((StartedSlice { account: id, class, ahead, is_contended }, work))
    }

    /// Settles a slice. `runnable` is work that isn't complete but could continue; it is enqueued
    /// behind the account's other work.
    pub(crate) fn settle(&mut self, slice: StartedSlice, cpu_ns: u64, runnable: Option<T>) {
        let StartedSlice { account: id, class, ahead, is_contended } = slice;
        if let Some(account) = self.active.get_mut(&id) {
            account.ledger.settle(class, ahead, cpu_ns);
            let running = &mut account.classes[class].running;
            debug_assert!(*running > 0, "a slice that ends was counted as running");
            *running -= 1;
        }
        if is_contended {
            self.minimum_share.charge(class, cpu_ns.cast_signed().wrapping_sub(self.slice_ns.cast_signed()));
        }
        if let Some(work) = runnable {
            self.wait_for_slice(id, class, work);
        }
        self.reposition(id);
        self.remove_if_idle(id, class);
    }

    /// Removes waiting work, unless it was already taken.
    pub(crate) fn withdraw(&mut self, id: AccountId, class: Class, ticket: u64) -> Option<T> {
        let waiting = &mut self.active.get_mut(&id)?.classes[class].waiting;
        let at = waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, work) = waiting.remove(at)?;
        debug_assert!(self.classes[class].waiting > 0, "work that is withdrawn was counted as waiting");
        self.classes[class].waiting -= 1;
        self.reposition(id);
        self.remove_if_idle(id, class);
        Some(work)
    }

    /// Repositions an account whose number of cores was changed.
    pub(crate) fn cores_changed(&mut self, id: AccountId) {
        self.reposition(id);
    }

    /// Returns whether a worker would get a slice now.
    pub(crate) fn is_ready(&self) -> bool {
        Class::ALL.iter().any(|class| !self.classes[*class].ready.is_empty())
    }

    pub(crate) fn level(&self, class: Class) -> Level {
        let Order { minimum_ns, active, waiting, .. } = self.classes[class];
        Level { minimum_ns, active, waiting }
    }

    /// Returns the account that runs next, and its virtual time.
    fn first(&mut self, class: Class) -> Option<(u64, AccountId)> {
        loop {
            let (key_ns, id) = *self.classes[class].ready.first()?;
            if self.active.get(&id)?.ledger.virtual_ns(class) <= key_ns {
                return Some((key_ns, id));
            }
            // Charges on I/O threads have increased its virtual time, so another account may come
            // first.
            self.reposition(id);
        }
    }

    fn wait_for_slice(&mut self, id: AccountId, class: Class, work: T) {
        let Some(account) = self.active.get_mut(&id) else { return };
        work.set_ticket(self.next_ticket);
        account.classes[class].waiting.push_back((self.next_ticket, work));
        self.next_ticket += 1;
        self.classes[class].waiting += 1;
    }

    /// Moves an account to the position of its virtual time in each class. Removes it from the
    /// order if it has nothing to run or no free core.
    fn reposition(&mut self, id: AccountId) {
        let Some(account) = self.active.get_mut(&id) else { return };
        let has_core = account.running() < account.ledger.cores();
        for class in Class::ALL {
            let order = &mut self.classes[class];
            let queue = &mut account.classes[class];
            let credit_ns = self.slice_ns * limits::CREDIT_SLICES_MAX;
            let key_ns = (has_core && !queue.waiting.is_empty())
                .then(|| account.ledger.lift(class, order.minimum_ns.saturating_sub(credit_ns)));
            if key_ns != queue.key_ns {
                queue.key_ns.map(|before_ns| order.ready.remove(&(before_ns, id)));
                key_ns.map(|now_ns| order.ready.insert((now_ns, id)));
                queue.key_ns = key_ns;
            }
        }
    }

    /// Removes an account that has no more work here.
    fn remove_if_idle(&mut self, id: AccountId, class: Class) {
        let Some(account) = self.active.get(&id) else { return };
        if !account.classes[class].is_idle() {
            return;
        }
        account.ledger.set_active(class, false);
        debug_assert!(self.classes[class].active > 0, "an account that becomes idle was active");
        self.classes[class].active -= 1;
        if Class::ALL.iter().all(|class| account.classes[*class].is_idle()) {
            self.active.remove(&id);
        }
        if self.active.is_empty() {
            // No account is runnable, so outstanding debt is moot: advance the minimum virtual time
            // past it.
            for class in Class::ALL {
                self.classes[class].minimum_ns += self.slice_ns * limits::DEBT_SLICES_MAX;
            }
        }
    }
}

impl<T> Active<T> {
    fn new(ledger: &Arc<Ledger>) -> Self {
        Self { ledger: Arc::clone(ledger), classes: PerClass::default() }
    }

    fn running(&self) -> u32 {
        Class::ALL.iter().map(|class| self.classes[*class].running).sum()
    }
}

impl<T> ClassQueue<T> {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }
}

impl<T> Default for ClassQueue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: 0, key_ns: None }
    }
}
