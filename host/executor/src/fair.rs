//! The queue of the fair threads: whose work is next. Pure: no thread, no lock and no clock; what time was used comes in
//! as an argument, so that a simulator can drive it through hours in a moment.
//!
//! ```text
//!            push                       take                        settle
//!   work ──────────> waiting, by ──────────────> running, a slice ──────────> gone, asleep, or waiting again
//!                    account and class           charged ahead                with what it really used
//! ```
//!
//! Pull work comes before push work, unless push work's floor is due. Within a class the account with the least virtual
//! time is next, if it has not as many workers as it has cores; within an account, who waits longest. Only accounts that
//! have work here are known here.

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

/// Work that waits is told its ticket, by which it can be found again.
pub(crate) trait Waiting {
    fn waits(&self, ticket: u64);
}

pub(crate) struct Fair<T> {
    slice_ns: u64,
    active: HashMap<AccountId, Active<T>>,
    classes: PerClass<Order>,
    minimum_share: MinimumShare,
    /// The ticket of the next work that waits; they grow, so that each account's waiting work is sorted by them.
    next_ticket: u64,
}

/// The accounts of a class in the order of their turns.
#[derive(Default)]
struct Order {
    /// Accounts that have waiting work and a core for it, by virtual time. A charge on an I/O thread may have moved an
    /// account back since; that is looked at when its turn comes.
    ready: BTreeSet<(u64, AccountId)>,
    /// The virtual time of the latest turn that was given. Only grows.
    minimum_ns: u64,
    waiting: usize,
    active: usize,
}

/// An account that has work here.
struct Active<T> {
    ledger: Arc<Ledger>,
    classes: PerClass<Work<T>>,
}

struct Work<T> {
    waiting: VecDeque<(u64, T)>,
    running: u32,
    /// Under which virtual time the account stands in the order, if it does.
    place: Option<u64>,
}

/// A turn that was given, to be settled when it is over.
#[must_use = "an account keeps a core for a turn that is not settled"]
pub(crate) struct Turn {
    account: AccountId,
    class: Class,
    ahead: u64,
    /// Whether the other class waited too.
    is_contended: bool,
}

/// How much work there is, as others may read it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) minimum_ns: u64,
    pub(crate) active: usize,
    pub(crate) waiting: usize,
}

impl<T: Waiting> Fair<T> {
    pub(crate) fn new(slice_ns: u64, push_floor_percent: u32) -> Self {
        Self {
            slice_ns,
            active: HashMap::new(),
            classes: PerClass::default(),
            minimum_share: MinimumShare::new(push_floor_percent, slice_ns),
            next_ticket: 0,
        }
    }

    /// Lets work wait for its turn. An account that had none in this class begins at the minimum, whatever it saved.
    pub(crate) fn push(&mut self, ledger: &Arc<Ledger>, class: Class, work: T) {
        let account = self.active.entry(ledger.id()).or_insert_with(|| Active::new(ledger));
        if account.classes[class].is_idle() {
            ledger.lift(class, self.classes[class].minimum_ns);
            ledger.set_active(class, true);
            self.classes[class].active += 1;
        }
        self.wait(ledger.id(), class, work);
        self.place(ledger.id());
    }

    /// Gives the next turn, and charges a slice for it. `inline_pull_ns` is what pull work used on I/O threads since the
    /// last turn.
    pub(crate) fn take(&mut self, inline_pull_ns: u64) -> Option<(Turn, T)> {
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
        order.waiting -= 1;
        order.minimum_ns = order.minimum_ns.max(virtual_ns);
        if is_contended {
            self.minimum_share.charge(class, self.slice_ns.cast_signed());
        }
        self.place(id);
        Some((Turn { account: id, class, ahead, is_contended }, work))
    }

    /// Ends a turn. Work that is not done but could go on is handed in again, and waits behind the account's other work.
    pub(crate) fn settle(&mut self, turn: Turn, cpu_ns: u64, again: Option<T>) {
        let Turn { account: id, class, ahead, is_contended } = turn;
        if let Some(account) = self.active.get_mut(&id) {
            account.ledger.settle(class, ahead, cpu_ns);
            account.classes[class].running -= 1;
        }
        if is_contended {
            self.minimum_share.charge(class, cpu_ns.cast_signed().wrapping_sub(self.slice_ns.cast_signed()));
        }
        if let Some(work) = again {
            self.wait(id, class, work);
        }
        self.place(id);
        self.retire(id, class);
    }

    /// Takes back work that waits, if it still does.
    pub(crate) fn withdraw(&mut self, id: AccountId, class: Class, ticket: u64) -> Option<T> {
        let waiting = &mut self.active.get_mut(&id)?.classes[class].waiting;
        let at = waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, work) = waiting.remove(at)?;
        self.classes[class].waiting -= 1;
        self.place(id);
        self.retire(id, class);
        Some(work)
    }

    /// Looks again at an account whose cores were changed.
    pub(crate) fn cores_changed(&mut self, id: AccountId) {
        self.place(id);
    }

    /// Whether a worker would get a turn now.
    pub(crate) fn is_ready(&self) -> bool {
        Class::ALL.iter().any(|class| !self.classes[*class].ready.is_empty())
    }

    pub(crate) fn level(&self, class: Class) -> Level {
        let Order { minimum_ns, active, waiting, .. } = self.classes[class];
        Level { minimum_ns, active, waiting }
    }

    /// The account whose turn is next, and its virtual time.
    fn first(&mut self, class: Class) -> Option<(u64, AccountId)> {
        loop {
            let (placed_ns, id) = *self.classes[class].ready.first()?;
            if self.active.get(&id)?.ledger.virtual_ns(class) <= placed_ns {
                return Some((placed_ns, id));
            }
            // It was served on I/O threads meanwhile, so its turn may be a later one.
            self.place(id);
        }
    }

    fn wait(&mut self, id: AccountId, class: Class, work: T) {
        let Some(account) = self.active.get_mut(&id) else { return };
        work.waits(self.next_ticket);
        account.classes[class].waiting.push_back((self.next_ticket, work));
        self.next_ticket += 1;
        self.classes[class].waiting += 1;
    }

    /// Puts an account where its virtual time belongs in the order of each class, or takes it out if it has nothing to
    /// run or no core to run it on.
    fn place(&mut self, id: AccountId) {
        let Some(account) = self.active.get_mut(&id) else { return };
        let has_core = account.running() < account.ledger.cores();
        for class in Class::ALL {
            let order = &mut self.classes[class];
            let work = &mut account.classes[class];
            let credit_ns = self.slice_ns * limits::CREDIT_SLICES_MAX;
            let place = (has_core && !work.waiting.is_empty())
                .then(|| account.ledger.lift(class, order.minimum_ns.saturating_sub(credit_ns)));
            if place != work.place {
                work.place.map(|before_ns| order.ready.remove(&(before_ns, id)));
                place.map(|now_ns| order.ready.insert((now_ns, id)));
                work.place = place;
            }
        }
    }

    /// Forgets an account that has nothing here any more.
    fn retire(&mut self, id: AccountId, class: Class) {
        let Some(account) = self.active.get(&id) else { return };
        if !account.classes[class].is_idle() {
            return;
        }
        account.ledger.set_active(class, false);
        self.classes[class].active -= 1;
        if Class::ALL.iter().all(|class| account.classes[*class].is_idle()) {
            self.active.remove(&id);
        }
        if self.active.is_empty() {
            // Nobody is kept from anything now, so nobody owes anything: the minimum passes every debt.
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

impl<T> Work<T> {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }
}

impl<T> Default for Work<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: 0, place: None }
    }
}
