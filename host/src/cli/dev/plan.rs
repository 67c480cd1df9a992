//! Decides what `isopod dev` does next. Events are input with their time, actions are output. Never
//! reads a clock, a file or the network.
//!
//! ```text
//!  source changed ──▶ quiet for 30 ms ──▶ cancel the running build, if any ──▶ build
//!  build succeeded ──┐
//!  component changed ┴▶ quiet for 8 ms, or closed by its writer ──▶ push, one at a time
//!  manifest changed ──▶ quiet for 30 ms ──▶ read it ──▶ build, or push without a build command
//!                                              └─ invalid: no build and no push until it is valid
//! ```
//!
//! A changed component is pushed regardless of its writer: this program's build or another
//! compiler.

use std::time::{Duration, Instant};

/// Editors save a file in several steps, and formatters save it again.
const SOURCE_QUIET: Duration = Duration::from_millis(30);
/// A linker writes a file in several steps. This is short, so that a reload takes less time than
/// people notice.
const COMPONENT_QUIET: Duration = Duration::from_millis(8);

/// An action for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read the manifest and report the result with [`Plan::manifest_read`] or
    /// [`Plan::manifest_unreadable`].
    ReadManifest,
    /// Stop the build with this number; its result is ignored.
    Cancel(u32),
    /// Start a build with this number.
    Build(u32),
    /// Push the component if it differs from the last push.
    Push,
}

/// The pending work and its due times.
#[derive(Debug)]
pub(crate) struct Plan {
    has_build: bool,
    builds: u32,
    building: Option<u32>,
    pushing: bool,
    /// The manifest is invalid, so builds and pushes wait.
    blocked: bool,
    manifest_due: Option<Instant>,
    build_due: Option<Instant>,
    push_due: Option<Instant>,
}

impl Plan {
    /// Starts with a build, or with a push if there is no build command.
    pub(crate) fn new(has_build: bool, now: Instant) -> Plan {
        let (build_due, push_due) = if has_build { (Some(now), None) } else { (None, Some(now)) };
        Plan {
            has_build,
            builds: 0,
            building: None,
            pushing: false,
            blocked: false,
            manifest_due: None,
            build_due,
            push_due,
        }
    }

    /// Records a changed source file. Each further change delays the build, so that the build
    /// includes all changes.
    pub(crate) fn source_changed(&mut self, now: Instant) {
        if self.has_build {
            self.build_due = Some(now + SOURCE_QUIET);
        }
    }

    /// Records a changed manifest. It is read after a quiet period, so that a partial write isn't
    /// read.
    pub(crate) fn manifest_changed(&mut self, now: Instant) {
        self.manifest_due = Some(now + SOURCE_QUIET);
    }

    /// Records a valid manifest. It must reach the host even if the component stays the same.
    pub(crate) fn manifest_read(&mut self, has_build: bool, now: Instant) {
        self.blocked = false;
        self.has_build = has_build;
        // The build's result is pushed after it; until then the component belongs to the previous
        // manifest.
        (self.build_due, self.push_due) = if has_build { (Some(now), None) } else { (None, Some(now)) };
    }

    /// Records an invalid manifest. Builds and pushes wait for a valid one, since a result of the
    /// previous manifest could be mistaken for the current project.
    pub(crate) fn manifest_unreadable(&mut self) {
        self.blocked = true;
        self.building = None;
    }

    /// Returns whether the current manifest is invalid.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Records a changed component; `closed` if its writer has closed the file.
    pub(crate) fn component_changed(&mut self, closed: bool, now: Instant) {
        self.push_due = Some(if closed { now } else { now + COMPONENT_QUIET });
    }

    /// Records the end of a build. Returns false if the build was cancelled, so that its result is
    /// ignored.
    pub(crate) fn build_ended(&mut self, number: u32, succeeded: bool, now: Instant) -> bool {
        if self.building != Some(number) {
            return false;
        }
        self.building = None;
        if succeeded {
            // The file may be unchanged, or its change may have been missed; checking is cheap.
            self.push_due = Some(now);
        }
        true
    }

    /// Records the end of a push, successful or not.
    pub(crate) fn push_ended(&mut self) {
        self.pushing = false;
    }

    /// Returns when [`Plan::next`] must be called again even without an event.
    pub(crate) fn due(&self) -> Option<Instant> {
        let push_due = self.push_due.filter(|_| !self.pushing && !self.blocked);
        let build_due = self.build_due.filter(|_| !self.blocked);
        [self.manifest_due, build_due, push_due].into_iter().flatten().min()
    }

    /// Returns the next action that is due, if any.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Action> {
        if self.manifest_due.is_some_and(|due| due <= now) {
            self.manifest_due = None;
            return Some(Action::ReadManifest);
        }
        if self.blocked {
            return None;
        }
        if !self.pushing && self.push_due.is_some_and(|due| due <= now) {
            self.push_due = None;
            self.pushing = true;
            return Some(Action::Push);
        }
        if self.build_due.is_some_and(|due| due <= now) {
            if let Some(number) = self.building.take() {
                return Some(Action::Cancel(number));
            }
            self.build_due = None;
            self.builds += 1;
            self.building = Some(self.builds);
            return Some(Action::Build(self.builds));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(plan: &mut Plan, now: Instant) -> Vec<Action> {
        std::iter::from_fn(|| plan.next(now)).collect()
    }

    fn built(now: Instant) -> Plan {
        let mut plan = Plan::new(true, now);
        assert_eq!(actions(&mut plan, now), [Action::Build(1)]);
        assert!(plan.build_ended(1, true, now));
        assert_eq!(actions(&mut plan, now), [Action::Push]);
        plan.push_ended();
        assert_eq!((plan.due(), actions(&mut plan, now)), (None, vec![]));
        plan
    }

    #[test]
    fn a_start_builds_and_then_pushes() {
        built(Instant::now());
    }

    #[test]
    fn a_project_without_a_build_command_is_pushed_immediately_and_never_built() {
        let now = Instant::now();
        let mut plan = Plan::new(false, now);
        assert_eq!(actions(&mut plan, now), [Action::Push]);
        plan.source_changed(now);
        assert_eq!(actions(&mut plan, now + SOURCE_QUIET), []);
    }

    #[test]
    fn saves_in_quick_succession_cause_one_build() {
        let now = Instant::now();
        let mut plan = built(now);
        plan.source_changed(now);
        assert_eq!(plan.due(), Some(now + SOURCE_QUIET));
        plan.source_changed(now + SOURCE_QUIET / 2);
        assert_eq!(actions(&mut plan, now + SOURCE_QUIET), []);
        assert_eq!(actions(&mut plan, now + SOURCE_QUIET * 2), [Action::Build(2)]);
    }

    #[test]
    fn a_change_during_a_build_cancels_it_and_builds_again() {
        let now = Instant::now();
        let mut plan = built(now);
        plan.source_changed(now);
        let later = now + SOURCE_QUIET;
        assert_eq!(actions(&mut plan, later), [Action::Build(2)]);
        plan.source_changed(later);
        assert_eq!(actions(&mut plan, later + SOURCE_QUIET), [Action::Cancel(2), Action::Build(3)]);
        assert!(!plan.build_ended(2, false, later), "the result of a cancelled build is ignored");
        assert!(plan.build_ended(3, true, later));
    }

    #[test]
    fn a_failed_build_pushes_nothing() {
        let now = Instant::now();
        let mut plan = built(now);
        plan.source_changed(now);
        let later = now + SOURCE_QUIET;
        actions(&mut plan, later);
        assert!(plan.build_ended(2, false, later));
        assert_eq!((plan.due(), actions(&mut plan, later)), (None, vec![]));
    }

    #[test]
    fn a_component_closed_by_its_writer_is_pushed_without_delay() {
        let now = Instant::now();
        let mut plan = built(now);
        plan.component_changed(false, now);
        assert_eq!(actions(&mut plan, now), []);
        plan.component_changed(true, now);
        assert_eq!(actions(&mut plan, now), [Action::Push]);
    }

    #[test]
    fn a_component_changed_during_a_push_is_pushed_after_it() {
        let now = Instant::now();
        let mut plan = built(now);
        plan.component_changed(true, now);
        assert_eq!(actions(&mut plan, now), [Action::Push]);
        plan.component_changed(true, now);
        assert_eq!((plan.due(), actions(&mut plan, now)), (None, vec![]), "one push at a time");
        plan.push_ended();
        assert_eq!(actions(&mut plan, now), [Action::Push]);
    }

    #[test]
    fn a_changed_manifest_is_pushed_even_without_a_build() {
        let now = Instant::now();
        let mut plan = Plan::new(false, now);
        actions(&mut plan, now);
        plan.push_ended();
        plan.manifest_changed(now);
        assert_eq!(actions(&mut plan, now), []);
        assert_eq!(actions(&mut plan, now + SOURCE_QUIET), [Action::ReadManifest]);
        plan.manifest_read(false, now);
        assert_eq!(actions(&mut plan, now), [Action::Push]);
    }

    #[test]
    fn nothing_is_built_or_pushed_while_the_manifest_is_invalid() {
        let now = Instant::now();
        let mut plan = built(now);
        // An editor that saves through a temporary file also changes a source.
        plan.source_changed(now);
        plan.manifest_changed(now);
        let later = now + SOURCE_QUIET;
        assert_eq!(plan.next(later), Some(Action::ReadManifest));
        plan.manifest_unreadable();
        plan.source_changed(later);
        plan.component_changed(true, later);
        let much_later = later + SOURCE_QUIET * 10;
        assert_eq!((plan.due(), actions(&mut plan, much_later)), (None, vec![]));
        plan.manifest_changed(much_later);
        assert_eq!(actions(&mut plan, much_later + SOURCE_QUIET), [Action::ReadManifest]);
        plan.manifest_read(true, much_later);
        assert_eq!(actions(&mut plan, much_later), [Action::Build(2)]);
    }

    #[test]
    fn a_build_that_started_before_the_manifest_became_invalid_is_ignored() {
        let now = Instant::now();
        let mut plan = built(now);
        plan.source_changed(now);
        let later = now + SOURCE_QUIET;
        assert_eq!(actions(&mut plan, later), [Action::Build(2)]);
        plan.manifest_unreadable();
        assert!(!plan.build_ended(2, true, later));
        plan.manifest_read(true, later);
        assert_eq!(actions(&mut plan, later), [Action::Build(3)]);
    }

    #[test]
    fn a_changed_manifest_is_built_if_there_is_a_build_command() {
        let now = Instant::now();
        let mut plan = built(now);
        plan.manifest_read(true, now);
        assert_eq!(actions(&mut plan, now), [Action::Build(2)]);
    }
}
