//! Holds a step of the host until the test releases it, so that a test decides the order of two
//! concurrent operations.

use crate::wait_for;
use std::path::PathBuf;
use tempfile::TempDir;

/// A step that blocks the host until [`HeldStep::release`].
pub struct HeldStep {
    step: &'static str,
    /// The host creates `file` when it reaches the step, and waits until the file is removed.
    file: PathBuf,
    _folder: TempDir,
}

impl HeldStep {
    /// Holds a step by its name.
    ///
    /// # Panics
    /// If no folder can be made.
    pub fn at(step: &'static str) -> Self {
        let folder = tempfile::Builder::new().prefix("isopod-step-").tempdir().expect("a folder can be made");
        Self { step, file: folder.path().join("reached"), _folder: folder }
    }

    /// Returns the failpoint that holds the step once, after the host has passed it `passes` times.
    pub fn failpoint(&self, passes: usize) -> String {
        let first = if passes > 0 { format!("{passes}*off->") } else { String::new() };
        format!("{}={first}1*return({})->off", self.step, self.file.display())
    }

    /// Waits until the host has reached the step.
    pub fn until_reached(&self) {
        wait_for(&format!("the step {}", self.step), || self.file.exists().then_some(()));
    }

    /// Lets the host continue.
    ///
    /// # Panics
    /// If the host has not reached the step.
    pub fn release(self) {
        std::fs::remove_file(&self.file).expect("the host has reached the step");
    }
}
