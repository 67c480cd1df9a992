//! The byte account of one store: linear memory, tables, and the memory that the host holds on the
//! guest's behalf. Every byte is charged to the host-wide memory budget. Never allocates anything
//! itself.

use crate::{
    budget::{Budget, Exhausted, Reservation},
    fault::{Denied, Resource},
    limits,
};
use std::sync::Arc;

/// How to raise a limit of one instance.
const IN_MANIFEST: &str = "raise it under [limits] in isopod.toml";
/// How to stay within a limit that has no setting.
const FIXED: &str = "hold fewer handles, headers and buffers at one time";

/// The limits that an account enforces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountLimits {
    pub(crate) memory_bytes: u64,
    pub(crate) table_elements: u64,
    pub(crate) may_use_reserve: bool,
}

/// The bytes that a store uses, returned to the budget on drop.
pub(crate) struct Account {
    limits: AccountLimits,
    linear_bytes: u64,
    table_elements: u64,
    /// Host memory behind the store's handles, as of the last audit.
    handle_bytes: u64,
    handles: usize,
    /// Host memory of the current host call.
    call_bytes: u64,
    /// Host memory of the buffered effects of the delivery in progress.
    transaction_bytes: u64,
    reservation: Reservation,
}

impl Account {
    pub(crate) fn new(limits: AccountLimits, budget: &Arc<Budget>) -> Self {
        Self {
            limits,
            linear_bytes: 0,
            table_elements: 0,
            handle_bytes: 0,
            handles: 0,
            call_bytes: 0,
            transaction_bytes: 0,
            reservation: Reservation::empty(budget),
        }
    }

    /// Returns the host-wide memory budget.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        self.reservation.budget()
    }

    /// Returns the bytes of linear memory.
    pub(crate) fn linear_bytes(&self) -> u64 {
        self.linear_bytes
    }

    /// Charges growth of a linear memory, summed over all memories of the store.
    pub(crate) fn grow_memory(&mut self, more: u64) -> Result<(), Denied> {
        let total = self.linear_bytes.saturating_add(more);
        if total > self.limits.memory_bytes {
            let limit = format!("{} MiB", self.limits.memory_bytes >> 20);
            return Err(Denied::OwnLimit { what: Resource::Memory, limit, next: IN_MANIFEST });
        }
        self.charge(more)?;
        self.linear_bytes = total;
        Ok(())
    }

    /// Charges growth of a table, summed over all tables of the store.
    pub(crate) fn grow_tables(&mut self, more: u64) -> Result<(), Denied> {
        let total = self.table_elements.saturating_add(more);
        if total > self.limits.table_elements {
            let limit = format!("{} elements in all tables", self.limits.table_elements);
            return Err(Denied::OwnLimit { what: Resource::TableSpace, limit, next: IN_MANIFEST });
        }
        self.charge(more.saturating_mul(limits::TABLE_ELEMENT_BYTES))?;
        self.table_elements = total;
        Ok(())
    }

    /// Sets the charge for handles to the result of an audit.
    pub(crate) fn set_handles(&mut self, handles: usize, bytes: u64) -> Result<(), Denied> {
        self.handles = handles;
        let before = std::mem::replace(&mut self.handle_bytes, bytes);
        if bytes <= before {
            self.reservation.shrink(before - bytes);
            return Ok(());
        }
        let charged = self.fits(self.call_bytes).and_then(|()| self.charge(bytes - before));
        if charged.is_err() {
            self.handle_bytes = before;
        }
        charged
    }

    /// Sets the charge for the buffered effects of the delivery in progress.
    pub(crate) fn set_transaction(&mut self, bytes: u64) -> Result<(), Denied> {
        let before = std::mem::replace(&mut self.transaction_bytes, bytes);
        if bytes <= before {
            self.reservation.shrink(before - bytes);
            return Ok(());
        }
        let charged = self.fits(self.call_bytes).and_then(|()| self.charge(bytes - before));
        if charged.is_err() {
            self.transaction_bytes = before;
        }
        charged
    }

    /// Ends the charge for buffered effects, and returns it for as long as the embedder holds them.
    pub(crate) fn end_transaction(&mut self) -> Reservation {
        self.reservation.split(std::mem::take(&mut self.transaction_bytes))
    }

    /// Begins a host call: releases the charge of the previous one.
    pub(crate) fn begin_call(&mut self) {
        self.reservation.shrink(std::mem::take(&mut self.call_bytes));
    }

    /// Charges bytes to the current host call.
    pub(crate) fn hold(&mut self, bytes: u64) -> Result<(), Denied> {
        let total = self.call_bytes.saturating_add(bytes);
        self.fits(total)?;
        self.charge(bytes)?;
        self.call_bytes = total;
        Ok(())
    }

    /// Returns whether an idle instance is close enough to a limit that the next call may reach it.
    /// Initial memory (`started_with`) doesn't count: a new instance would use as much.
    pub(crate) fn is_nearly_full(&self, started_with: u64) -> bool {
        let near = |used: u64, limit: u64| used > limit / 8 * 7;
        let has_grown = self.linear_bytes > started_with;
        has_grown && near(self.linear_bytes, self.limits.memory_bytes)
            || self.handles > limits::HANDLES_MAX / 2
            || self.handle_bytes > limits::HOST_BYTES_MAX / 2
    }

    /// Returns whether a call with large bodies has used so much memory that another such call may
    /// not fit, since the guest's heap is fragmented. `body_bytes` is the size of the call's
    /// bodies.
    pub(crate) fn is_filled_by_bodies(&self, started_with: u64, body_bytes: u64) -> bool {
        let limit = self.limits.memory_bytes;
        self.linear_bytes > started_with
            && self.linear_bytes > limit / limits::FLAT_FILLED_MEMORY_PART
            && body_bytes >= limit / limits::FLAT_LARGE_BODIES_PART
    }

    fn fits(&self, call_bytes: u64) -> Result<(), Denied> {
        if self.handle_bytes.saturating_add(self.transaction_bytes).saturating_add(call_bytes) <= limits::HOST_BYTES_MAX
        {
            return Ok(());
        }
        let limit = format!("{} MiB", limits::HOST_BYTES_MAX >> 20);
        Err(Denied::OwnLimit { what: Resource::HostMemory, limit, next: FIXED })
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Denied> {
        self.reservation.grow(bytes, self.limits.may_use_reserve).map_err(|exhausted| match exhausted {
            Exhausted::Temporarily { most } => Denied::HostMemory { most },
            Exhausted::Permanently { most } => Denied::WholeHost { most },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn account(budget: &Arc<Budget>) -> Account {
        let limits = AccountLimits { memory_bytes: 8 * MIB, table_elements: 1_000, may_use_reserve: true };
        Account::new(limits, budget)
    }

    fn what(denied: Result<(), Denied>) -> String {
        match denied {
            Ok(()) => "nothing".to_owned(),
            Err(Denied::OwnLimit { what, .. }) => what.to_string(),
            Err(Denied::HostMemory { .. }) => "others".to_owned(),
            Err(Denied::WholeHost { .. }) => "the host".to_owned(),
        }
    }

    #[test]
    fn memories_and_tables_are_summed() {
        let budget = Arc::new(Budget::new(100 * MIB));
        let mut account = account(&budget);
        assert_eq!(what(account.grow_memory(5 * MIB)), "nothing");
        assert_eq!(what(account.grow_memory(5 * MIB)), "memory");
        assert_eq!(what(account.grow_memory(3 * MIB)), "nothing", "a refused growth isn't charged");
        assert_eq!(
            (what(account.grow_tables(600)), what(account.grow_tables(600))),
            ("nothing".into(), "table space".into())
        );
        assert_eq!(what(account.grow_tables(400)), "nothing");
    }

    #[test]
    fn host_memory_is_charged_to_the_same_budget_as_linear_memory() {
        let budget = Arc::new(Budget::new(10 * MIB));
        let (mut one, mut other) = (account(&budget), account(&budget));
        assert_eq!(what(one.grow_memory(4 * MIB)), "nothing");
        assert_eq!(what(one.hold(4 * MIB)), "nothing");
        assert_eq!(what(other.grow_memory(4 * MIB)), "others");
        one.begin_call();
        assert_eq!(what(other.grow_memory(4 * MIB)), "nothing", "a call's bytes are released by the next one");
        assert_eq!(what(one.set_handles(10, 4 * MIB)), "others");
        drop(other);
        assert_eq!(what(one.set_handles(10, 4 * MIB)), "nothing");
        assert_eq!(what(one.set_handles(0, 0)), "nothing");
        drop(one);
        assert_eq!(what(account(&budget).hold(10 * MIB)), "nothing");
    }

    #[test]
    fn handles_and_calls_share_one_limit() {
        let budget = Arc::new(Budget::new(u64::MAX));
        let mut account = account(&budget);
        assert_eq!(what(account.hold(limits::HOST_BYTES_MAX)), "nothing");
        assert_eq!(what(account.set_handles(1, 1)), "host memory");
        account.begin_call();
        assert_eq!(what(account.set_transaction(1)), "nothing");
        assert_eq!(what(account.hold(limits::HOST_BYTES_MAX)), "host memory");
        drop(account.end_transaction());
        assert_eq!(what(account.set_handles(1, limits::HOST_BYTES_MAX)), "nothing");
        assert_eq!(what(account.hold(1)), "host memory");
    }

    #[test]
    fn changes_of_a_delivery_stay_charged_until_the_embedder_drops_them() {
        let budget = Arc::new(Budget::new(10 * MIB));
        let (mut one, mut other) = (account(&budget), account(&budget));
        assert_eq!(what(one.set_transaction(6 * MIB)), "nothing");
        assert_eq!(what(one.set_transaction(11 * MIB)), "the host", "a refused change isn't charged");
        assert_eq!(what(one.set_transaction(5 * MIB)), "nothing");
        let charge = one.end_transaction();
        drop(one);
        assert_eq!(what(other.grow_memory(6 * MIB)), "others");
        drop(charge);
        assert_eq!(what(other.grow_memory(6 * MIB)), "nothing");
    }

    #[test]
    fn an_instance_that_grew_near_its_limit_is_nearly_full() {
        let budget = Arc::new(Budget::new(u64::MAX));
        let mut account = account(&budget);
        account.grow_memory(7 * MIB).unwrap_or_else(|_| panic!("it fits"));
        assert!(!account.is_nearly_full(0), "exactly seven eighths is not nearly full");
        account.grow_memory(1).unwrap_or_else(|_| panic!("it fits"));
        assert!(account.is_nearly_full(0));
        assert!(!account.is_nearly_full(7 * MIB + 1), "a new instance would have as much");
        account.set_handles(limits::HANDLES_MAX / 2 + 1, 0).unwrap_or_else(|_| panic!("it fits"));
        assert!(account.is_nearly_full(7 * MIB + 1));
    }

    #[test]
    fn an_instance_is_filled_by_large_bodies_in_a_grown_memory() {
        let budget = Arc::new(Budget::new(u64::MAX));
        let mut account = account(&budget);
        account.grow_memory(4 * MIB).unwrap_or_else(|_| panic!("it fits"));
        assert!(!account.is_filled_by_bodies(0, 8 * MIB), "exactly half of the memory is not filled");
        account.grow_memory(1).unwrap_or_else(|_| panic!("it fits"));
        assert!(account.is_filled_by_bodies(0, MIB));
        assert!(!account.is_filled_by_bodies(0, MIB - 1), "an instance with small bodies is reused");
        assert!(!account.is_filled_by_bodies(4 * MIB + 1, MIB), "a new instance would have as much");
    }
}
