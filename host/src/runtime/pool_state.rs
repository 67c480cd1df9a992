//! What a pool has: its places, who uses them and who waits for one. Never locks, and never starts or ends an instance.

use super::{
    queue::Queue,
    resources::{AppResources, CLASSES, at},
    scale_window::ScaleWindow,
    slot::Slot,
};
use isopod_executor::Class;
use isopod_policy::{InstanceId, ProcessName, Work};
use slab::Slab;
use std::{collections::VecDeque, time::Instant};

/// What a pool has and what waits for it, under its lock.
pub(super) struct PoolState {
    pub(super) slots: Slab<Slot>,
    /// Places that nobody leases. Those with an instance are taken from the back, those without stand in front.
    pub(super) free: VecDeque<usize>,
    /// Leases given out in each class.
    pub(super) busy: [u32; 2],
    pub(super) queues: [Queue; 2],
    pub(super) requests: u64,
    pub(super) size: ScaleWindow,
    /// How long its jobs lately took.
    pub(super) work: Work,
    /// Until when no further instance is tried, since the host had no room for one.
    pub(super) full_until: Option<Instant>,
}

impl PoolState {
    /// Without any instance, of which so many were told.
    pub(super) fn new(live: u32) -> Self {
        Self {
            slots: Slab::new(),
            free: VecDeque::new(),
            busy: [0; 2],
            queues: Default::default(),
            requests: 0,
            size: ScaleWindow::new(live),
            work: Work::default(),
            full_until: None,
        }
    }

    /// Makes a place with an id of its own.
    pub(super) fn make_slot(&mut self, process: &ProcessName) -> usize {
        loop {
            let id = InstanceId::from_random(process, rand::random());
            if self.slots.iter().all(|(_, slot)| slot.id != id) {
                return self.slots.insert(Slot::new(id));
            }
        }
    }

    /// Whether an instance has nothing to do.
    pub(super) fn has_idle(&self) -> bool {
        self.free.back().is_some_and(|&index| self.slots[index].instance.is_some())
    }

    /// Whether a further instance may be tried: not where the host had no room a moment ago, if some are at work.
    pub(super) fn may_start_one(&self) -> bool {
        self.busy == [0; 2] || self.full_until.is_none_or(|until| until <= Instant::now())
    }

    /// A place that nobody leases, best with an instance.
    pub(super) fn any_free(&mut self, process: &ProcessName) -> usize {
        match self.free.pop_back() {
            Some(index) => index,
            None => self.make_slot(process),
        }
    }

    /// How many jobs of a class wait, for any place or for one.
    pub(super) fn waiting(&self, class: Class) -> u32 {
        let of_slots = self.slots.iter().filter(|_| class == Class::Pull).map(|(_, slot)| slot.waiting.waiting());
        self.queues[at(class)].waiting() + of_slots.sum::<u32>()
    }

    /// Refuses all jobs that wait, for any place or for one.
    pub(super) fn clear_queues(&mut self, resources: &AppResources) {
        for class in CLASSES {
            self.queues[at(class)].clear(resources, class);
        }
        for (_, slot) in &mut self.slots {
            slot.waiting.clear(resources, Class::Pull);
        }
    }

    /// Since when the one who has waited longest does so, and for which place if only that one will do. Those whose place is
    /// busy have no turn yet.
    pub(super) fn oldest(&self, class: Class) -> Option<(Instant, Option<usize>)> {
        let any = self.queues[at(class)].oldest().map(|since| (since, None));
        let of_slots = self.slots.iter().filter(|(_, slot)| class == Class::Pull && !slot.is_busy);
        let of_slots = of_slots.filter_map(|(index, slot)| Some((slot.waiting.oldest()?, Some(index))));
        of_slots.chain(any).min_by_key(|(since, _)| *since)
    }

    /// How many places have an instance or a job.
    pub(super) fn live(&self) -> u32 {
        let idle = self.free.iter().filter(|&&index| self.slots[index].instance.is_some()).count();
        self.busy.iter().sum::<u32>() + u32::try_from(idle).unwrap_or(u32::MAX)
    }

    /// Takes out the place of the instance that has had nothing to do for the longest time.
    pub(super) fn evict_idle(&mut self) -> Option<Slot> {
        let is_spare = |slot: &Slot| slot.instance.is_some() && slot.waiting.is_empty();
        let at = self.free.iter().position(|&index| is_spare(&self.slots[index]))?;
        self.free.remove(at).map(|index| self.slots.remove(index))
    }
}
