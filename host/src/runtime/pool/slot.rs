//! One slot of a pool: a stable id, and the successive instances that use it. Never starts or ends
//! an instance.

use super::queue::Queue;
use crate::runtime::status::{InstanceRecord, InstanceStatus, STOPPED};
use isopod_engine::Instance;
use isopod_executor::Class;
use isopod_policy::{InstanceId, Isolation};

/// A pool's position for one instance.
pub(super) struct Slot {
    pub(super) record: InstanceRecord,
    pub(super) state: SlotState,
    /// Jobs that are pinned to this slot: they name its instance by id.
    pub(super) waiting: Queue,
}

/// The content of a slot.
pub(super) enum SlotState {
    /// No instance: the next lease starts one.
    Empty,
    Idle(Box<Instance>),
    /// A job has the slot and its instance.
    Leased {
        class: Class,
        /// Whether the instance is ended when the lease is returned.
        recycle: bool,
    },
}

impl Slot {
    pub(super) fn new(id: InstanceId) -> Self {
        Self { record: InstanceRecord::new(id), state: SlotState::Empty, waiting: Queue::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.state, SlotState::Empty)
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, SlotState::Idle(_))
    }

    pub(super) fn is_leased(&self) -> bool {
        matches!(self.state, SlotState::Leased { .. })
    }

    /// Returns whether a job of this class has the slot.
    pub(super) fn is_leased_by(&self, job: Class) -> bool {
        matches!(self.state, SlotState::Leased { class, .. } if class == job)
    }

    /// Returns whether the instance is ended when its lease is returned.
    pub(super) fn is_recycled(&self) -> bool {
        matches!(self.state, SlotState::Leased { recycle: true, .. })
    }

    /// Returns whether an instance has ever used the id.
    pub(super) fn was_used(&self) -> bool {
        !self.is_empty() || self.record.requests > 0 || self.record.restarts > 0
    }

    /// Puts a new instance in the slot.
    pub(super) fn fill(&mut self, instance: Box<Instance>) {
        self.record.memory_bytes = instance.memory_bytes();
        self.state = SlotState::Idle(instance);
    }

    /// Leases the slot to a job. Returns its instance, if there is one.
    pub(super) fn lease(&mut self, class: Class) -> Option<Box<Instance>> {
        self.replace(SlotState::Leased { class, recycle: false })
    }

    /// Ends the lease: `instance` stays in the slot, unless it is recycled. Returns the instance to
    /// end.
    pub(super) fn end_lease(&mut self, instance: Option<Box<Instance>>) -> Option<Box<Instance>> {
        let (kept, recycled) = if self.is_recycled() { (None, instance) } else { (instance, None) };
        match kept {
            Some(instance) => self.fill(instance),
            None => self.state = SlotState::Empty,
        }
        recycled
    }

    /// Removes the instance of an idle slot, or marks that of a leased slot to be ended after its
    /// job. The next instance gets its id.
    pub(super) fn restart(&mut self) -> Option<Box<Instance>> {
        if let SlotState::Leased { recycle, .. } = &mut self.state {
            // The restart counts when the instance ends.
            *recycle = true;
            return None;
        }
        self.record.note_end(Isolation::Reuse, false);
        self.replace(SlotState::Empty)
    }

    /// Removes the instance of an idle slot. The next instance gets its id.
    pub(super) fn recycle(&mut self) -> Option<Box<Instance>> {
        if !self.is_idle() {
            return None;
        }
        self.record.note_end(Isolation::Reuse, false);
        self.replace(SlotState::Empty)
    }

    fn replace(&mut self, state: SlotState) -> Option<Box<Instance>> {
        match std::mem::replace(&mut self.state, state) {
            SlotState::Idle(instance) => Some(instance),
            SlotState::Empty | SlotState::Leased { .. } => None,
        }
    }

    /// Returns the status of the slot's instance. `is_supervised` says that a supervisor restarts
    /// it without a request.
    pub(super) fn status(&self, is_supervised: bool) -> InstanceStatus {
        self.record.status(match self.state {
            SlotState::Leased { recycle: true, .. } => "stopping",
            SlotState::Leased { recycle: false, .. } => "busy",
            SlotState::Idle(_) => "idle",
            SlotState::Empty if is_supervised => "restarting",
            SlotState::Empty => STOPPED,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot::new(InstanceId::from_random(&"web".parse().expect("a valid name"), [7; _]))
    }

    #[test]
    fn the_state_of_a_slot_follows_its_lease() {
        let mut slot = slot();
        assert!(slot.is_empty() && !slot.was_used());
        assert_eq!((slot.status(false).state, slot.status(true).state), (STOPPED, "restarting"));
        assert!(slot.lease(Class::Pull).is_none() && slot.is_leased());
        assert!(slot.is_leased_by(Class::Pull) && !slot.is_leased_by(Class::Push));
        assert_eq!(slot.status(true).state, "busy");
        assert!(slot.end_lease(None).is_none() && slot.is_empty() && !slot.was_used());
    }

    #[test]
    fn a_restart_during_a_lease_takes_effect_at_its_end_and_counts_once() {
        let mut slot = slot();
        assert!(slot.lease(Class::Pull).is_none() && slot.restart().is_none());
        assert_eq!(slot.status(false).state, "stopping");
        slot.end_lease(None);
        slot.record.note_end(Isolation::Reuse, false);
        assert_eq!((slot.status(false).state, slot.record.restarts), (STOPPED, 1));
        assert!(slot.lease(Class::Push).is_none());
        assert_eq!(slot.status(false).state, "busy");
    }

    #[test]
    fn a_restarted_slot_holds_no_memory_until_its_next_instance() {
        let mut slot = slot();
        slot.record.memory_bytes = 65_536;
        assert!(slot.restart().is_none());
        let status = slot.status(false);
        assert_eq!((status.state, status.memory_bytes, status.restarts), (STOPPED, 0, 1));
    }

    #[test]
    fn a_planned_replacement_is_not_a_restart() {
        let mut slot = slot();
        slot.record.memory_bytes = 65_536;
        slot.record.note_end(Isolation::Reuse, true);
        let status = slot.status(false);
        assert_eq!((status.memory_bytes, status.restarts), (0, 0));
        slot.record.note_end(Isolation::Reuse, false);
        assert_eq!(slot.status(false).restarts, 1);
    }

    #[test]
    fn only_an_idle_instance_is_recycled() {
        let mut slot = slot();
        assert!(slot.recycle().is_none());
        slot.lease(Class::Pull);
        assert!(slot.recycle().is_none() && slot.is_leased());
        assert_eq!(slot.record.restarts, 0);
    }
}
