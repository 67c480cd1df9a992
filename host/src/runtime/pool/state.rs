//! The state of a pool: its slots, their leases, and the queued jobs. Never locks, and never starts
//! or ends an instance.

use super::{queue::Queue, scale_window::ScaleWindow, slot::Slot};
use crate::runtime::{
    class::{CLASSES, class_index},
    resources::AppResources,
};
use isopod_executor::Class;
use isopod_policy::{InstanceId, JobDurations, ProcessName};
use slab::Slab;
use std::{collections::VecDeque, time::Instant};

/// The part of a pool that its lock protects.
pub(super) struct PoolState {
    pub(super) slots: Slab<Slot>,
    /// Slots without a lease. Those with an instance are at the back and are taken first; empty
    /// slots are at the front.
    pub(super) free: VecDeque<usize>,
    /// Leased slots of each class.
    pub(super) busy: [u32; 2],
    pub(super) queues: [Queue; 2],
    pub(super) requests: u64,
    pub(super) window: ScaleWindow,
    /// The durations of recent jobs.
    pub(super) durations: JobDurations,
    /// Until when no further instance is started, because the host had no room for one.
    pub(super) no_room_until: Option<Instant>,
}

impl PoolState {
    /// Creates the state of a pool without instances. `live` counts as its last reported size.
    pub(super) fn new(live: u32) -> Self {
        Self {
            slots: Slab::new(),
            free: VecDeque::new(),
            busy: [0; 2],
            queues: Default::default(),
            requests: 0,
            window: ScaleWindow::new(live),
            durations: JobDurations::default(),
            no_room_until: None,
        }
    }

    /// Adds a slot with a unique id.
    pub(super) fn create_slot(&mut self, process: &ProcessName) -> usize {
        loop {
            let id = InstanceId::from_random(process, rand::random());
            if self.slots.iter().all(|(_, slot)| slot.record.id != id) {
                return self.slots.insert(Slot::new(id));
            }
        }
    }

    /// Returns whether an instance is idle.
    pub(super) fn has_idle(&self) -> bool {
        self.free.back().is_some_and(|&index| self.slots[index].is_idle())
    }

    /// Returns whether another instance may be started. False for a short time after the host had
    /// no room, unless the pool has no leased slot that the job could wait for.
    pub(super) fn may_start_instance(&self) -> bool {
        self.busy == [0; 2] || self.no_room_until.is_none_or(|until| until <= Instant::now())
    }

    /// Takes a free slot, preferably one with an instance, or adds a slot.
    pub(super) fn take_free(&mut self, process: &ProcessName) -> usize {
        match self.free.pop_back() {
            Some(index) => index,
            None => self.create_slot(process),
        }
    }

    /// Returns the number of queued jobs of a class, including those that are pinned to a slot.
    pub(super) fn waiting(&self, class: Class) -> u32 {
        let pinned = self.slots.iter().filter(|_| class == Class::Pull).map(|(_, slot)| slot.waiting.waiting());
        self.queues[class_index(class)].waiting() + pinned.sum::<u32>()
    }

    /// Returns the arrival time of the queued job of a class that has waited longest, including
    /// jobs that are pinned to a slot.
    pub(super) fn waiting_since(&self, class: Class) -> Option<Instant> {
        let pinned = self.slots.iter().filter(|_| class == Class::Pull);
        let pinned = pinned.filter_map(|(_, slot)| slot.waiting.waiting_since());
        pinned.chain(self.queues[class_index(class)].waiting_since()).min()
    }

    /// Refuses all queued jobs, including those that are pinned to a slot.
    pub(super) fn clear_queues(&mut self, resources: &AppResources) {
        for class in CLASSES {
            self.queues[class_index(class)].clear(resources, class);
        }
        for (_, slot) in &mut self.slots {
            slot.waiting.clear(resources, Class::Pull);
        }
    }

    /// Returns the arrival of the job that has waited longest, and its slot if it is pinned to one.
    /// Jobs that are pinned to a leased slot are skipped.
    pub(super) fn oldest(&self, class: Class) -> Option<(Instant, Option<usize>)> {
        let any = self.queues[class_index(class)].oldest().map(|since| (since, None));
        let pinned = self.slots.iter().filter(|(_, slot)| class == Class::Pull && !slot.is_leased());
        let pinned = pinned.filter_map(|(index, slot)| Some((slot.waiting.oldest()?, Some(index))));
        pinned.chain(any).min_by_key(|(since, _)| *since)
    }

    /// Returns the number of slots that have an instance or a lease.
    pub(super) fn live(&self) -> u32 {
        let idle = self.free.iter().filter(|&&index| self.slots[index].is_idle()).count();
        self.busy.iter().sum::<u32>() + u32::try_from(idle).unwrap_or(u32::MAX)
    }

    /// Removes the slot with the longest idle instance. Slots with pinned jobs stay.
    pub(super) fn evict_idle(&mut self) -> Option<Slot> {
        let is_idle = |slot: &Slot| slot.is_idle() && slot.waiting.is_empty();
        let position = self.free.iter().position(|&index| is_idle(&self.slots[index]))?;
        self.free.remove(position).map(|index| self.slots.remove(index))
    }
}
