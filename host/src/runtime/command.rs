//! A process type of entry `command`: copies of a program that run from start to exit. Without a schedule each copy is
//! started again, with back-off; with one, a run is asked for from outside.

use super::{
    frozen::FrozenProcess,
    resources::AppResources,
    slot::{Seen, Slot},
    supervisor::{CrashReport, report_crash},
};
use crate::limits;
use isopod_engine::{Fault, Level, OutputLine, Program, Stream};
use isopod_executor::Class;
use isopod_policy::{InstanceId, Isolation, Next, Process, ProcessName, ReleaseNumber, Restarts, Scale};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

/// A command and its copies.
pub(crate) struct Command {
    process: ProcessName,
    definition: Process,
    scale: Scale,
    program: Program,
    resources: Arc<AppResources>,
    copies: Vec<Copy>,
}

struct Copy {
    slot: Mutex<Slot>,
    /// A person wants it ended and started anew.
    again: Notify,
}

impl Command {
    pub(super) fn new(
        process: ProcessName,
        definition: Process,
        scale: Scale,
        program: Program,
        resources: Arc<AppResources>,
    ) -> Self {
        let count = if definition.schedule.is_some() { 1 } else { scale.min };
        let copy = || Copy {
            slot: Mutex::new(Slot::new(InstanceId::from_random(&process, rand::random()))),
            again: Notify::new(),
        };
        let copies = (0..count).map(|_| copy()).collect();
        Self { process, definition, scale, program, resources, copies }
    }

    pub(super) fn process(&self) -> &ProcessName {
        &self.process
    }

    pub(super) fn is_kept_running(&self) -> bool {
        self.definition.schedule.is_none()
    }

    /// Whether a run goes on.
    pub(super) fn is_busy(&self) -> bool {
        (0..self.copies.len()).filter_map(|copy| self.slot(copy)).any(|slot| slot.is_busy)
    }

    /// What is left of it once its release is let go.
    pub(super) fn freeze(&self) -> FrozenProcess {
        FrozenProcess {
            name: self.process.clone(),
            process: self.definition.clone(),
            scale: self.scale,
            program: Some(self.program.freeze()),
        }
    }

    pub(super) fn copies(&self) -> usize {
        self.copies.len()
    }

    /// Runs a copy again and again, until its release ends.
    pub(super) async fn keep(
        self: Arc<Self>,
        copy: usize,
        release: Option<ReleaseNumber>,
        trouble: mpsc::Sender<CrashReport>,
    ) {
        let mut restarts = Restarts::default();
        loop {
            let begun = Instant::now();
            let outcome = self.run(copy).await;
            let (ran_for, text) = match outcome {
                // Having done its work is no crash, however quickly it was done.
                Ok(0) => (Duration::MAX, "it ended with status 0".to_owned()),
                Ok(code) => (begun.elapsed(), format!("it ended with status {code}")),
                Err(fault) => (begun.elapsed(), fault.to_string()),
            };
            match restarts.ended(ran_for, rand::random()) {
                Next::Restart { after } => {
                    self.say(&format!("{}: {text}; it is started again in {} ms", self.process, after.as_millis()));
                    sleep(after).await;
                }
                Next::CrashLoop { crashes, .. } => {
                    let detail = format!("{text}, {crashes} times in a row right after its start");
                    report_crash(&self.program.sandbox().app, &self.process, release, &trouble, detail).await;
                    sleep(limits::CRASH_LOOP_PAUSE).await;
                    restarts = Restarts::default();
                }
            }
        }
    }

    /// One run; none while the run before goes on.
    pub(super) fn once(self: Arc<Self>) -> Option<impl Future<Output = ()> + Send + 'static> {
        {
            let mut slot = self.slot(0)?;
            if slot.is_busy {
                return None;
            }
            slot.is_busy = true;
        }
        Some(async move {
            match self.run(0).await {
                Ok(code) => self.say(&format!("{}: the scheduled run ended with status {code}", self.process)),
                Err(fault) => self.say(&format!("{}: the scheduled run failed: {fault}", self.process)),
            }
        })
    }

    async fn run(&self, copy: usize) -> Result<i32, Fault> {
        let spent = self.slot(copy).map(|mut slot| {
            slot.is_busy = true;
            slot.requests += 1;
            slot.spent.clone()
        });
        let program = self.program.clone();
        let outcome = match self.copies.get(copy) {
            Some(copy) => {
                let run = self.resources.run(Class::Push, &self.program, async move { program.run().await });
                tokio::select! {
                    (outcome, _) = run.counted_in(spent.unwrap_or_default()) => outcome,
                    () = copy.again.notified() => Ok(0),
                }
            }
            None => Ok(0),
        };
        if let Some(mut slot) = self.slot(copy) {
            slot.is_busy = false;
            slot.left_empty(Isolation::Reuse);
        }
        outcome
    }

    pub(super) fn has(&self, id: &InstanceId) -> bool {
        self.copy(id).is_some()
    }

    pub(super) fn restart(&self, id: &InstanceId) -> bool {
        self.copy(id).map(|copy| copy.again.notify_one()).is_some()
    }

    fn copy(&self, id: &InstanceId) -> Option<&Copy> {
        self.copies.iter().find(|copy| copy.slot.lock().unwrap_or_else(PoisonError::into_inner).id == *id)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        let slots = (0..self.copies.len()).filter_map(|copy| self.slot(copy));
        let seen = slots.map(|slot| match slot.seen(true) {
            // Between two runs of its schedule it waits, and nothing of it is being started again.
            waiting if self.definition.schedule.is_some() && !slot.is_busy => Seen { state: "idle", ..waiting },
            seen => seen,
        });
        seen.collect()
    }

    fn slot(&self, copy: usize) -> Option<MutexGuard<'_, Slot>> {
        self.copies.get(copy).map(|copy| copy.slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn say(&self, text: &str) {
        let stream = Stream::Log(Level::Info);
        self.program.sandbox().output.line(OutputLine { stream, context: "isopod", request_id: "", text });
    }
}
