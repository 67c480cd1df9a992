//! Records the successive instances with one id, and their status as shown to users. Never starts
//! or ends an instance.

use isopod_executor::CpuCounter;
use isopod_policy::{InstanceId, Isolation, ProcessName, ReleaseNumber};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// The record of the instances with one id.
pub(crate) struct InstanceRecord {
    pub(crate) id: InstanceId,
    pub(crate) requests: u64,
    /// How long guests with this id have run on a thread.
    pub(crate) cpu: CpuCounter,
    pub(crate) restarts: u32,
    pub(crate) memory_bytes: usize,
    created_at: Timestamp,
    created: Instant,
}

/// The state shown for an id without an instance. An instance is started for its next job.
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

/// An instance of an app, with its release and process type.
pub(crate) struct LiveInstance {
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) process: ProcessName,
    /// Whether HTTP requests reach it by its own URL.
    pub(crate) takes_requests: bool,
    pub(crate) status: InstanceStatus,
}

impl InstanceRecord {
    pub(crate) fn new(id: InstanceId) -> Self {
        Self {
            id,
            requests: 0,
            cpu: CpuCounter::default(),
            restarts: 0,
            memory_bytes: 0,
            created_at: Timestamp::now(),
            created: Instant::now(),
        }
    }

    /// Records that the instance has ended. The next instance gets its id. `is_planned` says that
    /// the host replaces it although it did not fail.
    pub(crate) fn note_end(&mut self, isolation: Isolation, is_planned: bool) {
        self.memory_bytes = 0;
        match isolation {
            Isolation::Reuse => self.restarts += u32::from(!is_planned),
            // The instance was meant for a single request, so its successor isn't a restart.
            Isolation::Request => {}
        }
    }

    pub(crate) fn status(&self, state: &'static str) -> InstanceStatus {
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
