//! One slot of a pool: a stable id, and the successive instances that use it. Never starts or ends
//! an instance.

use super::queue::Queue;
use isopod_engine::Instance;
use isopod_executor::CpuCounter;
use isopod_policy::{InstanceId, Isolation};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// A pool's position for one instance.
pub(super) struct Slot {
    pub(super) id: InstanceId,
    /// `None` while the slot is leased or empty.
    pub(super) instance: Option<Box<Instance>>,
    pub(super) is_busy: bool,
    /// Whether the instance is ended when its lease is returned.
    pub(super) is_recycling: bool,
    /// Whether the slot has ever had an instance.
    pub(super) has_run: bool,
    pub(super) requests: u64,
    /// How long the slot's guests have run on a thread.
    pub(super) cpu: CpuCounter,
    pub(super) restarts: u32,
    pub(super) memory_bytes: usize,
    /// Jobs that are pinned to this slot: they name its instance by id.
    pub(super) waiting: Queue,
    created_at: Timestamp,
    created: Instant,
}

/// The state of a slot without an instance, which gets one only for its next job.
pub(crate) const STOPPED: &str = "stopped";

/// The status of an instance, as shown to users.
#[derive(Debug, Clone)]
pub(crate) struct InstanceStatus {
    pub(crate) id: InstanceId,
    pub(crate) state: &'static str,
    pub(crate) started_at: Timestamp,
    pub(crate) age: Duration,
    pub(crate) memory_bytes: usize,
    pub(crate) cpu: Duration,
    pub(crate) requests: u64,
    pub(crate) restarts: u32,
}

impl Slot {
    pub(super) fn new(id: InstanceId) -> Self {
        Self {
            id,
            instance: None,
            is_busy: false,
            is_recycling: false,
            has_run: false,
            requests: 0,
            cpu: CpuCounter::default(),
            restarts: 0,
            memory_bytes: 0,
            waiting: Queue::default(),
            created_at: Timestamp::now(),
            created: Instant::now(),
        }
    }

    /// Puts a new instance in the slot.
    pub(super) fn fill(&mut self, instance: Box<Instance>) {
        self.memory_bytes = instance.memory_bytes();
        self.has_run = true;
        self.instance = Some(instance);
    }

    /// Removes the instance, if there is one. The next instance gets its id.
    pub(super) fn recycle(&mut self) -> Option<Box<Instance>> {
        let ended = self.instance.take()?;
        self.mark_empty(Isolation::Reuse);
        Some(ended)
    }

    /// Records that the instance has ended. The next instance gets its id.
    pub(super) fn mark_empty(&mut self, isolation: Isolation) {
        self.memory_bytes = 0;
        match isolation {
            Isolation::Reuse => self.restarts += 1,
            // The instance was meant for a single request, so its successor isn't a restart.
            Isolation::Request => {}
        }
    }

    /// Returns the status of the slot's instance. `is_supervised` says that a supervisor restarts
    /// it without a request.
    pub(super) fn status(&self, is_supervised: bool) -> InstanceStatus {
        let state = match (self.is_busy, &self.instance) {
            (true, _) if self.is_recycling => "stopping",
            (true, _) => "busy",
            (false, Some(_)) => "idle",
            (false, None) if is_supervised => "restarting",
            (false, None) => STOPPED,
        };
        InstanceStatus {
            id: self.id.clone(),
            state,
            started_at: self.created_at,
            age: self.created.elapsed(),
            memory_bytes: self.memory_bytes,
            cpu: self.cpu.time(),
            requests: self.requests,
            restarts: self.restarts,
        }
    }
}
