//! The plan of a process type: everything that is needed to start it. Never starts anything.

use isopod_engine::{Instance, Program};
use isopod_policy::{Process, ProcessName, Scale};

/// A process type that is about to run.
pub(crate) struct ProcessPlan {
    pub(crate) name: ProcessName,
    pub(crate) process: Process,
    pub(crate) scale: Scale,
    pub(crate) program: Program,
    /// Instances that were started for the health checks before the release serves.
    #[expect(clippy::vec_box, reason = "instances are handed on in their boxes")]
    pub(crate) warm: Vec<Box<Instance>>,
}
