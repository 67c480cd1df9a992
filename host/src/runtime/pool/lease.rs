//! The lease of a pool's slot by one job. Returns the slot when it is dropped, however the job
//! ended. Never waits in a queue, never knows the pool's other slots, and never returns an instance
//! of which the job holds resources.

use crate::runtime::resources::AppResources;
use isopod_engine::{CallWaits, Fault, Instance, Program};
use isopod_executor::{Class, CpuCounter};
use isopod_policy::InstanceId;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The owner of leased slots.
pub(super) trait Lessor: Send + Sync {
    /// Returns the program of the instances.
    fn program(&self) -> &Program;

    fn resources(&self) -> &AppResources;

    /// Records the memory of an instance that was started in a slot.
    fn note_started(&self, index: usize, memory_bytes: usize);

    /// Records the duration of a job that keeps its slot for the rest of its response.
    fn note_work(&self, duration: Duration);

    fn return_slot(self: Arc<Self>, returned: ReleasedLease);
}

/// The exclusive use of one slot, with its instance if it has one. Dropping it frees the slot.
pub(crate) struct Lease {
    /// `None` once the slot is returned.
    pub(super) lessor: Option<Arc<dyn Lessor>>,
    pub(super) index: usize,
    /// The id of the slot's instances.
    pub(crate) id: InstanceId,
    pub(super) instance: Option<Box<Instance>>,
    pub(crate) class: Class,
    /// When the job arrived.
    pub(super) arrived: Instant,
    /// When the job got the slot.
    pub(crate) admitted: Instant,
    /// The CPU counter of the slot, to which this job adds its own time.
    pub(crate) cpu: CpuCounter,
    /// Whether the job counts as a request.
    pub(super) counts_as_request: bool,
    /// Whether the response has started and the job's duration is recorded.
    pub(super) has_responded: bool,
    /// Whether the job has completed and its latency is recorded.
    pub(super) has_completed: bool,
    /// Whether the slot had no instance and none was started: the job was cancelled, or the host
    /// had no room.
    pub(super) is_unused: bool,
    /// Whether the instance has ended as planned, without a failure.
    pub(super) is_replaced: bool,
}

impl Lease {
    /// Takes the slot's instance, or starts one in an empty slot.
    pub(crate) async fn instance(&mut self) -> Result<Box<Instance>, Fault> {
        match (self.instance.take(), &self.lessor) {
            (Some(instance), _) => Ok(instance),
            (None, Some(lessor)) => {
                // Boxed, so that the future of a job that has an instance stays small.
                let mut started = Box::pin(lessor.resources().start(lessor.program())).await;
                match &mut started {
                    Ok(instance) => {
                        instance.set_id(self.id.as_str());
                        lessor.note_started(self.index, instance.memory_bytes());
                    }
                    Err(fault) => self.is_unused = matches!(fault, Fault::NoRoom { .. }),
                }
                started
            }
            // A returned lease has no slot.
            (None, None) => Err(Fault::NoResponse),
        }
    }

    /// Returns the waits of the slot's instance, if it has one.
    pub(crate) fn waits(&self) -> Option<&Arc<CallWaits>> {
        self.instance.as_ref().map(|instance| instance.waits())
    }

    /// Returns the index of the slot in its pool.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns whether the slot has an instance.
    pub(crate) fn has_instance(&self) -> bool {
        self.instance.is_some()
    }

    /// Takes the slot's instance, if there is one.
    pub(crate) fn take_instance(&mut self) -> Option<Box<Instance>> {
        self.instance.take()
    }

    /// Puts an instance back for the next job.
    pub(crate) fn put_instance(&mut self, instance: Box<Instance>) {
        self.instance = Some(instance);
    }

    /// Ends a call of the instance, which is returned if it can be reused. After a successful call,
    /// an instance that can't be reused is replaced as planned.
    pub(crate) fn end_call(&mut self, is_success: bool, instance: Option<Box<Instance>>) {
        self.is_replaced = is_success && instance.is_none();
        self.instance = instance;
    }

    /// Marks the job as started. A job that is cancelled before it receives its lease isn't
    /// counted.
    pub(super) fn start(mut self) -> Self {
        self.counts_as_request = true;
        self.is_unused = false;
        self
    }

    /// Records the job's duration when its response has started. The slot stays leased until the
    /// guest has finished.
    pub(crate) fn note_response(&mut self) {
        if let Some(lessor) = &self.lessor {
            lessor.note_work(self.admitted.elapsed());
            self.has_responded = true;
        }
    }

    /// Records the duration and latency of a job that has completed. The slot stays leased while
    /// the caller keeps what the job returned.
    pub(crate) fn note_completed(&mut self) {
        self.note_response();
        if let Some(lessor) = &self.lessor {
            self.note_latency(lessor.resources(), Instant::now());
            self.has_completed = true;
        }
    }

    fn note_latency(&self, resources: &AppResources, now: Instant) {
        resources.note(self.class, now, now.saturating_duration_since(self.arrived));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(lessor) = self.lessor.take() else { return };
        // However the lease ended, the next caller must not share the instance with resources of
        // this one.
        let lends_resources = self.instance.take_if(|instance| instance.lends_resources()).is_some();
        let Self { index, class, is_unused, .. } = *self;
        let is_replaced = self.is_replaced || lends_resources;
        // Without an instance, the job has not run.
        let counts_as_request = self.counts_as_request && !is_unused;
        let now = Instant::now();
        let worked = now.saturating_duration_since(self.admitted);
        if counts_as_request && !self.has_completed {
            self.note_latency(lessor.resources(), now);
        }
        let duration = (counts_as_request && !self.has_responded).then_some(worked);
        lessor.return_slot(ReleasedLease {
            index,
            instance: self.instance.take(),
            class,
            counts_as_request,
            duration,
            is_unused,
            is_replaced,
        });
    }
}

/// The outcome of a lease.
pub(super) struct ReleasedLease {
    pub(super) index: usize,
    pub(super) instance: Option<Box<Instance>>,
    pub(super) class: Class,
    pub(super) counts_as_request: bool,
    /// The job's duration since admission, unless it is already recorded or the job did not run.
    pub(super) duration: Option<Duration>,
    pub(super) is_unused: bool,
    pub(super) is_replaced: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::resources::{GuestRuntimes, HostResources};
    use isopod_executor::{Config, Executor};
    use isopod_policy::{AppType, Cores};
    use std::{num::NonZeroUsize, sync::Mutex};

    /// Records the durations of jobs.
    struct Recorder {
        resources: Arc<AppResources>,
        durations: Mutex<Vec<Duration>>,
    }

    impl Lessor for Recorder {
        fn program(&self) -> &Program {
            unreachable!("no instance is started")
        }

        fn resources(&self) -> &AppResources {
            &self.resources
        }

        fn note_started(&self, _: usize, _: usize) {}

        fn note_work(&self, duration: Duration) {
            self.durations.lock().expect("no test has panicked").push(duration);
        }

        fn return_slot(self: Arc<Self>, returned: ReleasedLease) {
            self.durations.lock().expect("no test has panicked").extend(returned.duration);
        }
    }

    /// Returns the lease of a running job that arrived this long ago.
    fn lease_since(age: Duration, lessor: &Arc<Recorder>) -> Lease {
        let arrived = Instant::now().checked_sub(age).expect("the machine has run for longer");
        let process = "plugin".parse().expect("a valid name");
        let lease = Lease {
            lessor: Some(Arc::clone(lessor) as Arc<dyn Lessor>),
            index: 0,
            id: InstanceId::from_random(&process, [7; 5]),
            instance: None,
            class: Class::Pull,
            arrived,
            admitted: arrived,
            cpu: CpuCounter::default(),
            counts_as_request: false,
            has_responded: false,
            has_completed: false,
            is_unused: true,
            is_replaced: false,
        };
        lease.start()
    }

    /// Completes a job, keeps its slot leased for this long, and returns the recorded durations and
    /// the p99 of the latency.
    fn recorded(kept: Duration) -> (Vec<Duration>, Duration) {
        let executor = Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started");
        let host = HostResources::new(executor, GuestRuntimes::on(tokio::runtime::Handle::current()));
        let resources = host.app_resources(AppType::Dev, Cores::new(1, 1).expect("valid cores"));
        let lessor = Arc::new(Recorder { resources, durations: Mutex::default() });
        let mut lease = lease_since(Duration::from_millis(20), &lessor);
        lease.note_completed();
        // The clock can't be advanced, so the beginning of the job is moved back.
        lease.admitted = lease.admitted.checked_sub(kept).expect("the machine has run for longer");
        lease.arrived = lease.admitted;
        drop(lease);
        let latency = lessor.resources.queue_metrics(Class::Pull).latency.expect("a job has completed");
        (lessor.durations.lock().expect("no test has panicked").clone(), latency.p99)
    }

    #[tokio::test]
    async fn the_time_for_which_a_result_is_kept_does_not_count_as_duration_or_latency() {
        let kept = Duration::from_secs(10);
        let (durations, latency) = recorded(kept);
        assert!(durations.len() == 1 && durations[0] < kept, "{durations:?}");
        assert!(latency < kept, "{latency:?}");
    }
}
