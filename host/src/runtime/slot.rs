//! One place of a pool: an id that stays, and the instances that come and go under it. Never starts or ends one.

use super::queue::Queue;
use isopod_engine::Instance;
use isopod_executor::CpuCounter;
use isopod_policy::{InstanceId, Isolation};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// A place for one instance.
pub(super) struct Slot {
    pub(super) id: InstanceId,
    /// None while the instance is leased, or while there is none.
    pub(super) instance: Option<Box<Instance>>,
    pub(super) is_busy: bool,
    /// Whether the instance is to be ended when its lease comes back.
    pub(super) is_recycled: bool,
    /// Whether there ever was an instance here.
    pub(super) has_run: bool,
    pub(super) requests: u64,
    /// The time that its guests had a thread, up to now.
    pub(super) spent: CpuCounter,
    pub(super) restarts: u32,
    pub(super) memory_bytes: usize,
    /// Jobs that asked for this very instance.
    pub(super) waiting: Queue,
    since: Timestamp,
    begun: Instant,
}

/// The state of an instance that has ended, and that nobody starts unasked.
pub(crate) const STOPPED: &str = "stopped";

/// A place as people see it: an instance.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: InstanceId,
    pub(crate) state: &'static str,
    pub(crate) started_at: Timestamp,
    pub(crate) age: Duration,
    pub(crate) memory_bytes: usize,
    pub(crate) spent: Duration,
    pub(crate) requests: u64,
    pub(crate) restarts: u32,
}

impl Slot {
    pub(super) fn new(id: InstanceId) -> Self {
        Self {
            id,
            instance: None,
            is_busy: false,
            is_recycled: false,
            has_run: false,
            requests: 0,
            spent: CpuCounter::default(),
            restarts: 0,
            memory_bytes: 0,
            waiting: Queue::default(),
            since: Timestamp::now(),
            begun: Instant::now(),
        }
    }

    /// Puts a new instance here.
    pub(super) fn settle(&mut self, instance: Box<Instance>) {
        self.memory_bytes = instance.memory_bytes();
        self.has_run = true;
        self.instance = Some(instance);
    }

    /// Takes out the instance, if there is one: the next one takes its id.
    pub(super) fn renew(&mut self) -> Option<Box<Instance>> {
        let ended = self.instance.take()?;
        self.left_empty(Isolation::Reuse);
        Some(ended)
    }

    /// Notes that the instance is gone and that the next one takes its id.
    pub(super) fn left_empty(&mut self, isolation: Isolation) {
        self.memory_bytes = 0;
        match isolation {
            Isolation::Reuse => self.restarts += 1,
            // It was meant for one request only.
            Isolation::Request => {}
        }
    }

    /// What stands here. `is_kept` says whether an instance that ended is started again without being asked for.
    pub(super) fn seen(&self, is_kept: bool) -> Seen {
        let state = match (self.is_busy, &self.instance) {
            (true, _) if self.is_recycled => "stopping",
            (true, _) => "busy",
            (false, Some(_)) => "idle",
            (false, None) if is_kept => "restarting",
            (false, None) => STOPPED,
        };
        Seen {
            id: self.id.clone(),
            state,
            started_at: self.since,
            age: self.begun.elapsed(),
            memory_bytes: self.memory_bytes,
            spent: self.spent.time(),
            requests: self.requests,
            restarts: self.restarts,
        }
    }
}
