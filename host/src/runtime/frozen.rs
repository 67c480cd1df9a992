//! A frozen release: everything that is needed to serve again, without instances and without code
//! in memory. Takes a few kilobytes; never holds a task, a timer, a thread or an open file.

use super::{assets::Pack, plan::ProcessPlan, plugin_use::Chain};
use isopod_engine::{FrozenProgram, Program, Rejected};
use isopod_policy::{Isolation, Process, ProcessName, ReleaseNumber, Scale};
use semver::Version;
use std::sync::Arc;

/// A frozen release.
pub(crate) struct Frozen {
    pub(super) release: ReleaseNumber,
    pub(super) isolation: Isolation,
    pub(super) program: FrozenProgram,
    pub(super) processes: Vec<FrozenProcess>,
    pub(super) middleware: Option<Arc<Chain>>,
    /// The pack of its assets, whose index is read again.
    pub(super) assets: Option<Arc<Pack>>,
    pub(super) plugin_version: Option<Arc<Version>>,
}

/// A process type of a frozen release.
pub(super) struct FrozenProcess {
    pub(super) name: ProcessName,
    pub(super) process: Process,
    pub(super) scale: Scale,
    /// `None` if the process type uses the program that all process types share.
    pub(super) program: Option<FrozenProgram>,
}

impl Frozen {
    pub(crate) fn release(&self) -> ReleaseNumber {
        self.release
    }

    /// Maps the code again. Returns the shared program and the plans of all process types.
    pub(super) fn thaw(&self) -> Result<(Program, Vec<ProcessPlan>), Rejected> {
        let program = self.program.thaw()?;
        let planned = self.processes.iter().map(|frozen| {
            let own = frozen.program.as_ref().map(FrozenProgram::thaw).transpose()?;
            Ok(ProcessPlan {
                name: frozen.name.clone(),
                process: frozen.process.clone(),
                scale: frozen.scale,
                program: own.unwrap_or_else(|| program.clone()),
                warm: Vec::new(),
            })
        });
        let planned = planned.collect::<Result<Vec<_>, Rejected>>()?;
        Ok((program, planned))
    }
}
