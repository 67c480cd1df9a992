//! A process type of entry `command`: copies of a program that run from start to exit. Without a
//! schedule, each copy is restarted with back-off. With a schedule, the control plane starts each
//! run. Never takes jobs.

use super::{
    frozen::FrozenProcess,
    resources::AppResources,
    status::{InstanceRecord, InstanceStatus},
    supervisor::{CrashReport, report_crash},
};
use crate::runtime::limits;
use isopod_engine::{Fault, Level, Origin, OutputLine, Program, Stream};
use isopod_executor::Class;
use isopod_policy::{InstanceId, Isolation, Next, Overlap, Process, ProcessName, ReleaseNumber, Restarts, Scale};
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
    state: Mutex<CopyState>,
    /// Notified when a user restarts the copy.
    restart: Notify,
}

struct CopyState {
    record: InstanceRecord,
    is_running: bool,
}

impl Command {
    pub(super) fn new(
        process: ProcessName,
        definition: Process,
        scale: Scale,
        program: Program,
        resources: Arc<AppResources>,
    ) -> Self {
        let count = match definition.schedule {
            Some(_) if definition.overlap == Some(Overlap::Allow) => limits::SCHEDULED_RUNS_PARALLEL_MAX,
            Some(_) => 1,
            None => scale.min,
        };
        let copy = || Copy {
            state: Mutex::new(CopyState {
                record: InstanceRecord::new(InstanceId::from_random(&process, rand::random())),
                is_running: false,
            }),
            restart: Notify::new(),
        };
        let copies = (0..count).map(|_| copy()).collect();
        Self { process, definition, scale, program, resources, copies }
    }

    pub(super) fn process(&self) -> &ProcessName {
        &self.process
    }

    pub(super) fn is_supervised(&self) -> bool {
        self.definition.schedule.is_none()
    }

    /// Returns whether a copy runs.
    pub(super) fn is_busy(&self) -> bool {
        self.copies.iter().any(|copy| copy.lock().is_running)
    }

    /// Returns the parts that create the command again after a thaw.
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

    /// Runs a copy again after each exit, until its release stops.
    pub(super) async fn supervise(
        self: Arc<Self>,
        copy: usize,
        release: Option<ReleaseNumber>,
        reports: mpsc::Sender<CrashReport>,
    ) {
        let mut restarts = Restarts::default();
        loop {
            let started = Instant::now();
            let outcome = self.run(copy).await;
            let (ran_for, text) = match outcome {
                // A successful exit isn't a crash, however soon it happens.
                Ok(0) => (Duration::MAX, "exited with status 0".to_owned()),
                Ok(code) => (started.elapsed(), format!("exited with status {code}")),
                Err(fault) => (started.elapsed(), fault.to_string()),
            };
            match restarts.ended(ran_for, rand::random()) {
                Next::Restart { after } => {
                    self.log(&format!("{}: {text}; restarting in {} ms", self.process, after.as_millis()));
                    sleep(after).await;
                }
                Next::CrashLoop { crashes, .. } => {
                    let detail = format!("{text}, {crashes} times in a row right after its start");
                    report_crash(&self.program.sandbox().app, &self.process, release, &reports, detail).await;
                    sleep(limits::CRASH_LOOP_PAUSE).await;
                    restarts = Restarts::default();
                }
            }
        }
    }

    /// Claims a copy and returns its run, whose output is why it failed. `None` while all copies
    /// run.
    pub(super) fn start_scheduled(
        self: Arc<Self>,
    ) -> Option<impl Future<Output = Result<(), String>> + Send + 'static> {
        let claim = |copy: &Copy| !std::mem::replace(&mut copy.lock().is_running, true);
        let copy = self.copies.iter().position(claim)?;
        Some(async move {
            let outcome = self.run(copy).await;
            let text = match &outcome {
                Ok(code) => format!("exited with status {code}"),
                Err(fault) => format!("failed: {fault}"),
            };
            self.log(&format!("{}: the scheduled run {text}", self.process));
            if matches!(outcome, Ok(0)) { Ok(()) } else { Err(text) }
        })
    }

    async fn run(&self, copy: usize) -> Result<i32, Fault> {
        let Some(copy) = self.copies.get(copy) else { return Ok(0) };
        let (id, cpu) = {
            let mut state = copy.lock();
            state.is_running = true;
            state.record.requests += 1;
            (state.record.id.clone(), state.record.cpu.clone())
        };
        let (program, own_id) = (self.program.clone(), id.clone());
        let run =
            self.resources.run(Class::Push, &self.program, Box::pin(async move { program.run(own_id.as_str()).await }));
        let outcome = tokio::select! {
            (outcome, _) = run.counted_in(cpu) => outcome,
            () = copy.restart.notified() => Ok(0),
        };
        if let Err(fault) = &outcome
            && !fault.backtrace().is_empty()
        {
            self.program.log_fault(fault, Origin { instance: id.as_str(), ..Origin::default() });
        }
        let mut state = copy.lock();
        state.is_running = false;
        state.record.note_end(Isolation::Reuse, false);
        outcome
    }

    pub(super) fn has(&self, id: &InstanceId) -> bool {
        self.copy(id).is_some()
    }

    pub(super) fn restart(&self, id: &InstanceId) -> bool {
        self.copy(id).map(|copy| copy.restart.notify_one()).is_some()
    }

    fn copy(&self, id: &InstanceId) -> Option<&Copy> {
        self.copies.iter().find(|copy| copy.lock().record.id == *id)
    }

    pub(super) fn statuses(&self) -> Vec<InstanceStatus> {
        let statuses = self.copies.iter().map(|copy| {
            let copy = copy.lock();
            copy.record.status(match copy.is_running {
                true => "busy",
                // A scheduled command is idle between runs: it isn't being restarted.
                false if self.definition.schedule.is_some() => "idle",
                false => "restarting",
            })
        });
        statuses.collect()
    }

    fn log(&self, text: &str) {
        let stream = Stream::Log(Level::Info);
        self.program.sandbox().output.line(OutputLine::new(stream, "isopod", Origin::default(), text));
    }
}

impl Copy {
    fn lock(&self) -> MutexGuard<'_, CopyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
