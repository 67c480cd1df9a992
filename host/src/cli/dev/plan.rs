//! Decides what `isopod dev` does next. It reads no clock, no file and no network: what happened comes in with the time
//! it happened, and what to do comes out.
//!
//! ```text
//!  source changed ──▶ quiet for 30 ms ──▶ cancel the build that runs, if any ──▶ build
//!  build ended well ─┐
//!  component changed ┴▶ quiet for 8 ms, or closed by its writer ──▶ push, one at a time
//!  manifest changed ──▶ quiet for 30 ms ──▶ read it ──▶ build, or push where there is nothing to build
//!                                              └─ not readable: nothing is built or pushed until it is
//! ```
//!
//! A component is pushed whoever wrote it: our own build, or a compiler that somebody runs beside us.

use std::time::{Duration, Instant};

/// Editors save a file in several steps, and formatters save it again.
const SOURCE_QUIET: Duration = Duration::from_millis(30);
/// A linker writes a file in several steps; a reload is to be far below what a person notices, so this is short.
const COMPONENT_QUIET: Duration = Duration::from_millis(8);

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read the manifest again, and say by [`Plan::manifest_read`] what it holds.
    ReadManifest,
    /// Stop the build of this number; nobody waits for its result any more.
    Cancel(u32),
    /// Start a build, and call it by this number.
    Build(u32),
    /// Send the component to the host if it differs from what the host has.
    Push,
}

/// All that has been asked for and not yet been done.
#[derive(Debug)]
pub(crate) struct Plan {
    has_build: bool,
    builds: u32,
    building: Option<u32>,
    pushing: bool,
    /// The manifest as it stands says nothing, so that whatever is due waits.
    held: bool,
    manifest_due: Option<Instant>,
    build_due: Option<Instant>,
    push_due: Option<Instant>,
}

impl Plan {
    /// Begins with a build at once, or with a push where there is nothing to build.
    pub(crate) fn new(has_build: bool, now: Instant) -> Plan {
        let (build_due, push_due) = if has_build { (Some(now), None) } else { (None, Some(now)) };
        Plan {
            has_build,
            builds: 0,
            building: None,
            pushing: false,
            held: false,
            manifest_due: None,
            build_due,
            push_due,
        }
    }

    /// A source file has changed. Later changes put the build off, so that it sees them all.
    pub(crate) fn source_changed(&mut self, now: Instant) {
        if self.has_build {
            self.build_due = Some(now + SOURCE_QUIET);
        }
    }

    /// The manifest has changed. It is read once its writer is done, lest half of it be taken for the whole.
    pub(crate) fn manifest_changed(&mut self, now: Instant) {
        self.manifest_due = Some(now + SOURCE_QUIET);
    }

    /// A changed manifest was read: it must reach the host even if the component stays the same.
    pub(crate) fn manifest_read(&mut self, has_build: bool, now: Instant) {
        self.held = false;
        self.has_build = has_build;
        // What a build leaves is pushed after it; until then the component is that of the manifest before.
        (self.build_due, self.push_due) = if has_build { (Some(now), None) } else { (None, Some(now)) };
    }

    /// A changed manifest could not be read. What was built by the one before would be taken for what the person wants
    /// now, so nothing is built or pushed until there is one that can be read.
    pub(crate) fn manifest_unreadable(&mut self) {
        self.held = true;
        self.building = None;
    }

    /// Whether the manifest as it stands cannot be read.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// The component's file has changed; `closed` when its writer is known to be done with it.
    pub(crate) fn component_changed(&mut self, closed: bool, now: Instant) {
        self.push_due = Some(if closed { now } else { now + COMPONENT_QUIET });
    }

    /// A build has ended. Says whether anybody still waits for that one.
    pub(crate) fn build_ended(&mut self, number: u32, good: bool, now: Instant) -> bool {
        if self.building != Some(number) {
            return false;
        }
        self.building = None;
        if good {
            // The file may be the same as before, or its change may have gone unnoticed: looking is cheap.
            self.push_due = Some(now);
        }
        true
    }

    /// A push has ended, well or not.
    pub(crate) fn push_ended(&mut self) {
        self.pushing = false;
    }

    /// When [`Plan::next`] is to be asked again even if nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        let push_due = self.push_due.filter(|_| !self.pushing && !self.held);
        let build_due = self.build_due.filter(|_| !self.held);
        [self.manifest_due, build_due, push_due].into_iter().flatten().min()
    }

    /// The next thing to do, until there is none.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Action> {
        if self.manifest_due.is_some_and(|due| due <= now) {
            self.manifest_due = None;
            return Some(Action::ReadManifest);
        }
        if self.held {
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
    fn a_project_without_a_build_is_pushed_at_once_and_never_built() {
        let now = Instant::now();
        let mut plan = Plan::new(false, now);
        assert_eq!(actions(&mut plan, now), [Action::Push]);
        plan.source_changed(now);
        assert_eq!(actions(&mut plan, now + SOURCE_QUIET), []);
    }

    #[test]
    fn saves_in_quick_succession_make_one_build() {
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
        assert!(!plan.build_ended(2, false, later), "nobody waits for a cancelled build");
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
    fn nothing_is_built_or_pushed_while_the_manifest_cannot_be_read() {
        let now = Instant::now();
        let mut plan = built(now);
        // An editor that saves through another file changes a source, too.
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
    fn a_build_that_began_before_the_manifest_broke_counts_for_nothing() {
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
    fn a_changed_manifest_is_built_with_where_there_is_a_build() {
        let now = Instant::now();
        let mut plan = built(now);
        plan.manifest_read(true, now);
        assert_eq!(actions(&mut plan, now), [Action::Build(2)]);
    }
}
