//! The calls on the host that wait for the reply of another call. Detects calls that would wait for
//! each other. Never starts or ends a call.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Identifies a leased slot: its pool and its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SlotId {
    pub(crate) pool: usize,
    pub(crate) index: usize,
}

/// A pool, as seen by calls that wait for one of its slots.
pub(crate) trait Occupied: Send + Sync {
    /// Identifies the pool.
    fn id(&self) -> usize;

    /// Returns the slots that pull jobs lease, if the pool has its maximum of them. `None` if a
    /// further job could get a slot.
    fn all_leased(&self) -> Option<Vec<SlotId>>;

    /// Returns all leased slots. `None` if the pool has an idle instance.
    fn leased_unless_idle(&self) -> Option<Vec<SlotId>>;
}

/// What a call waits for.
enum WaitsFor {
    /// Any slot of a pool: the event that the call asks with is queued.
    Slot(Arc<dyn Occupied>),
    /// An existing instance of a pool: the host has no room for another one.
    Instance(Arc<dyn Occupied>),
    /// The call that handles the event.
    Call(SlotId),
}

/// The waiting calls, by their slots.
#[derive(Default)]
pub(crate) struct Waits(Mutex<HashMap<SlotId, WaitsFor>>);

/// No slot of the pool can become free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeverFree;

impl Waits {
    /// Records that a call waits for a slot of `pool`. Fails if no slot can become free, since the
    /// calls in all slots wait, directly or through other calls, for each other or for this call.
    /// `caller` is `None` for a call without a slot, for which no call waits.
    pub(crate) fn wait_for_slot(&self, caller: Option<SlotId>, pool: Arc<dyn Occupied>) -> Result<(), NeverFree> {
        self.wait(caller, pool, WaitsFor::Slot)
    }

    /// Records that a call waits for an instance of `pool`, since the host has no room for another
    /// one. Fails like [`Self::wait_for_slot`], even below the pool's maximum.
    pub(crate) fn wait_for_instance(&self, caller: Option<SlotId>, pool: Arc<dyn Occupied>) -> Result<(), NeverFree> {
        self.wait(caller, pool, WaitsFor::Instance)
    }

    fn wait(
        &self,
        caller: Option<SlotId>,
        pool: Arc<dyn Occupied>,
        kind: fn(Arc<dyn Occupied>) -> WaitsFor,
    ) -> Result<(), NeverFree> {
        // The lock is held during the search, so that the last of several calls that would wait for
        // each other is refused. If a waiting call gets its slot meanwhile, the search sees this in
        // the pool of that slot.
        let mut waits = self.lock();
        if let Some(caller) = caller {
            waits.insert(caller, kind(Arc::clone(&pool)));
        }
        if can_become_free(&waits, &kind(pool)) {
            return Ok(());
        }
        if let Some(caller) = caller {
            waits.remove(&caller);
        }
        Err(NeverFree)
    }

    /// Records that a call waits for the call in the slot `handler`.
    pub(crate) fn wait_for_call(&self, caller: SlotId, handler: SlotId) {
        self.lock().insert(caller, WaitsFor::Call(handler));
    }

    /// Removes the record of a call's wait.
    pub(crate) fn end(&self, caller: SlotId) {
        let ended = self.lock().remove(&caller);
        drop(ended);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SlotId, WaitsFor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether the wait can end: because of a free slot, or because a chain of waits ends at a
/// call that doesn't wait.
fn can_become_free(waits: &HashMap<SlotId, WaitsFor>, wait: &WaitsFor) -> bool {
    let (mut open, mut with_slots, mut without_room) = (vec![wait], HashSet::new(), HashSet::new());
    let mut seen_slots = HashSet::new();
    while let Some(wait) = open.pop() {
        let slots = match wait {
            WaitsFor::Call(handler) => Some(vec![*handler]),
            // A pool that can't start an instance can't use a further slot either.
            WaitsFor::Slot(pool) if without_room.contains(&pool.id()) => continue,
            WaitsFor::Slot(pool) if with_slots.insert(pool.id()) => pool.all_leased(),
            WaitsFor::Instance(pool) if without_room.insert(pool.id()) => pool.leased_unless_idle(),
            WaitsFor::Slot(_) | WaitsFor::Instance(_) => continue,
        };
        let Some(slots) = slots else { return true };
        for slot in slots {
            match waits.get(&slot) {
                None => return true,
                Some(next) if seen_slots.insert(slot) => open.push(next),
                Some(_) => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool with this many leased slots of at most `max`.
    struct Fake {
        id: usize,
        leased: usize,
        max: usize,
    }

    impl Occupied for Fake {
        fn id(&self) -> usize {
            self.id
        }

        fn all_leased(&self) -> Option<Vec<SlotId>> {
            let slots = (0..self.leased).map(|index| SlotId { pool: self.id, index }).collect();
            (self.leased >= self.max).then_some(slots)
        }

        fn leased_unless_idle(&self) -> Option<Vec<SlotId>> {
            Some((0..self.leased).map(|index| SlotId { pool: self.id, index }).collect())
        }
    }

    fn pool(id: usize, leased: usize, max: usize) -> Arc<dyn Occupied> {
        Arc::new(Fake { id, leased, max })
    }

    const fn slot(pool: usize, index: usize) -> Option<SlotId> {
        Some(SlotId { pool, index })
    }

    #[test]
    fn a_call_that_waits_for_its_own_slot_is_refused() {
        let waits = Waits::default();
        assert_eq!(waits.wait_for_slot(slot(1, 0), pool(1, 1, 1)), Err(NeverFree));
        assert_eq!(waits.wait_for_slot(slot(1, 0), pool(1, 1, 2)), Ok(()), "another slot may be added");
        waits.end(SlotId { pool: 1, index: 0 });
        assert_eq!(waits.wait_for_slot(slot(2, 0), pool(1, 1, 1)), Ok(()), "the slot's call doesn't wait");
        assert!(waits.lock().len() == 1, "a refused call leaves no record");
    }

    #[test]
    fn the_last_of_several_calls_that_wait_for_each_other_is_refused() {
        let waits = Waits::default();
        assert_eq!(waits.wait_for_slot(slot(1, 0), pool(1, 3, 3)), Ok(()));
        assert_eq!(waits.wait_for_slot(slot(1, 1), pool(1, 3, 3)), Ok(()));
        assert_eq!(waits.wait_for_slot(slot(1, 2), pool(1, 3, 3)), Err(NeverFree));
        assert_eq!(waits.wait_for_slot(None, pool(1, 3, 3)), Ok(()), "the third call continues");
    }

    #[test]
    fn waits_are_followed_over_calls_and_pools() {
        let waits = Waits::default();
        // The call in pool 1 is handled in pool 2, whose call waits for a slot of pool 3.
        waits.wait_for_call(SlotId { pool: 1, index: 0 }, SlotId { pool: 2, index: 0 });
        assert_eq!(waits.wait_for_slot(slot(2, 0), pool(3, 1, 1)), Ok(()));
        assert_eq!(waits.wait_for_slot(slot(4, 0), pool(1, 1, 1)), Ok(()), "the call in pool 3 doesn't wait");
        assert_eq!(waits.wait_for_slot(slot(3, 0), pool(1, 1, 1)), Err(NeverFree));
        assert_eq!(waits.wait_for_slot(slot(3, 0), pool(1, 1, 2)), Ok(()));
    }

    #[test]
    fn a_call_fails_unless_an_existing_instance_can_become_free() {
        let waits = Waits::default();
        assert_eq!(waits.wait_for_instance(slot(1, 0), pool(1, 1, 9)), Err(NeverFree), "the caller has the only one");
        assert_eq!(waits.wait_for_instance(None, pool(1, 0, 9)), Err(NeverFree), "the pool has none");
        assert_eq!(waits.wait_for_instance(slot(1, 0), pool(1, 2, 9)), Ok(()), "the other call doesn't wait");
        assert_eq!(waits.wait_for_instance(slot(1, 1), pool(1, 2, 9)), Err(NeverFree));
        assert_eq!(waits.wait_for_slot(slot(1, 1), pool(1, 2, 9)), Ok(()), "a further slot may be added");
        assert_eq!(waits.wait_for_instance(None, pool(1, 2, 9)), Err(NeverFree), "a further slot would be empty");
        // A chain of waits across two pools.
        assert_eq!(waits.wait_for_instance(slot(2, 0), pool(3, 1, 9)), Ok(()));
        assert_eq!(waits.wait_for_instance(slot(3, 0), pool(2, 1, 9)), Err(NeverFree));
        assert_eq!(waits.wait_for_slot(slot(3, 0), pool(2, 1, 9)), Ok(()));
    }
}
