//! One session of `isopod dev`: receives events, gets the next action from the plan, and executes
//! it. Never blocks on anything except the next event.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::event::SessionEvent;
use super::host::OwnHost;
use super::host_client::HostClient;
use super::plan::{Action, Plan};
use super::push::Pushed;
use super::watch::{Change, Watch};
use crate::cli::failure::Failure;
use crate::cli::guest::{BuildFailed, Builder, Built, Cancel};
use crate::cli::output;
use crate::cli::progress::Step;
use crate::cli::project::Project;
use crate::cli::terminal;

/// The interval of the check that the started host still runs.
const HOST_CHECK_EVERY: Duration = Duration::from_millis(500);
/// Files that package managers rewrite during a build.
const LOCK_FILES: [&str; 4] = ["Cargo.lock", "package-lock.json", "pnpm-lock.yaml", "yarn.lock"];

pub(crate) struct Session {
    project: Project,
    plan: Plan,
    watch: Watch,
    builder: Option<Builder>,
    building: Option<Cancel>,
    host_client: HostClient,
    events: SyncSender<SessionEvent>,
    step: Option<Step>,
    /// When the change was seen that the next push contains.
    seen_at: Instant,
    report: BuildReport,
    /// Whether the app has a serving release.
    has_release: bool,
}

/// The state of the report about the latest build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BuildReport {
    /// The build runs, has failed, or its effect was reported.
    Complete,
    /// The build succeeded, and its effect on the app isn't known yet.
    Pending,
    /// The component was pushed, and that was reported, before the build ended.
    Early,
}

impl Session {
    pub(crate) fn new(
        project: Project,
        host_client: HostClient,
        events: SyncSender<SessionEvent>,
        has_release: bool,
    ) -> Result<Session, Failure> {
        let watcher = events.clone();
        let watch = Watch::new(&project.folder, move |event| drop(watcher.send(SessionEvent::FileChanged(event))))?;
        let now = Instant::now();
        let plan = Plan::new(project.manifest.build.is_some(), now);
        let builder = project.manifest.build.as_deref().map(Builder::new).transpose()?;
        let mut session = Session {
            project,
            plan,
            watch,
            builder,
            building: None,
            host_client,
            events,
            step: None,
            seen_at: now,
            report: BuildReport::Complete,
            has_release,
        };
        session.watch_component()?;
        Ok(session)
    }

    /// Runs until the user stops the session or the host exits.
    pub(crate) fn run(
        mut self,
        receiver: &Receiver<SessionEvent>,
        mut own_host: Option<&mut OwnHost>,
    ) -> Result<(), Failure> {
        loop {
            while let Some(action) = self.plan.next(Instant::now()) {
                self.act(action)?;
            }
            let until_due = self.plan.due().map(|due| due.saturating_duration_since(Instant::now()));
            match receiver.recv_timeout(until_due.unwrap_or(HOST_CHECK_EVERY).min(HOST_CHECK_EVERY)) {
                Ok(SessionEvent::Stop) => break,
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(status) = own_host.as_mut().and_then(|host| host.ended()) {
                self.cancel_build();
                return Err(Failure::new("the project's host has exited unexpectedly")
                    .why(status)
                    .next("see .isopod/host.log, and run `isopod dev` again"));
            }
        }
        self.cancel_build();
        self.print("stopping\n");
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::ReadManifest => self.read_manifest(),
            Action::Cancel(_) => {
                self.cancel_build();
                self.print("changed again: restarting the build\n");
                Ok(())
            }
            Action::Build(number) => self.build(number),
            Action::Push => self.host_client.push(&self.project, self.seen_at),
        }
    }

    fn handle(&mut self, event: SessionEvent) -> Result<(), Failure> {
        match event {
            SessionEvent::FileChanged(event) => {
                for change in self.watch.changes(&event) {
                    self.changed(change);
                }
                Ok(())
            }
            SessionEvent::BuildEnded { number, result } => self.build_ended(number, result),
            SessionEvent::Pushed(pushed) => self.pushed(pushed),
            SessionEvent::Print(text) => {
                self.print(&text);
                Ok(())
            }
            SessionEvent::Stop => Ok(()),
        }
    }

    fn changed(&mut self, change: Change) {
        let now = Instant::now();
        match change {
            Change::Component { closed } => {
                self.seen_at = now;
                self.plan.component_changed(closed, now);
            }
            // The build may write these files; rebuilding on these changes would never end.
            Change::Source(path) if self.building.is_some() && is_lock_file(&path) => {}
            Change::Source(_) => self.plan.source_changed(now),
            // They are sent without a build, since the build may write them.
            Change::Asset => {
                self.seen_at = now;
                self.plan.component_changed(false, now);
            }
            Change::Manifest => self.plan.manifest_changed(now),
        }
    }

    /// Reads a changed manifest. An invalid one doesn't end the session, since the user may still
    /// be editing it.
    fn read_manifest(&mut self) -> Result<(), Failure> {
        let read = Project::open(&self.project.folder).and_then(|project| {
            same_name(&self.project, &project)?;
            if project.manifest.build != self.project.manifest.build {
                self.builder = project.manifest.build.as_deref().map(Builder::new).transpose()?;
            }
            Ok(project)
        });
        let project = match read {
            Ok(project) => project,
            Err(failure) => {
                self.cancel_build();
                self.plan.manifest_unreadable();
                let text = failure.text();
                self.print(&format!("{text}{}\n", output::failed(self.serving_state())));
                return self.host_client.show_error(text);
            }
        };
        self.project = project;
        self.watch_component()?;
        self.seen_at = Instant::now();
        self.plan.manifest_read(self.project.manifest.build.is_some(), self.seen_at);
        Ok(())
    }

    /// Watches the component's folder. It may appear only with the first build, so this is repeated
    /// after each build.
    fn watch_component(&mut self) -> Result<(), Failure> {
        match self.project.component_path() {
            Ok(path) => self.watch.component(&path),
            Err(_) => Ok(()),
        }
    }

    fn build(&mut self, number: u32) -> Result<(), Failure> {
        let (Some(command), Some(builder)) = (self.project.manifest.build.clone(), self.builder.clone()) else {
            return Ok(());
        };
        let cancel = Cancel::default();
        self.building = Some(cancel.clone());
        self.report = BuildReport::Complete;
        let step = if std::io::stderr().is_terminal() { Some(Step::spinner("building")) } else { None };
        let detail = step.as_ref().map(Step::handle);
        self.step = step;
        if self.step.is_none() {
            output::emit("building\n");
        }
        let project = self.project.clone();
        let events = self.events.clone();
        std::thread::spawn(move || {
            let show = |line: &str| detail.iter().for_each(|step| step.detail(line));
            let result = builder.run(&project, &command, &cancel, show);
            let _ = events.send(SessionEvent::BuildEnded { number, result });
        });
        Ok(())
    }

    fn cancel_build(&mut self) {
        if let Some(cancel) = self.building.take() {
            cancel.cancel();
        }
        self.step = None;
    }

    fn build_ended(&mut self, number: u32, result: Result<Built, BuildFailed>) -> Result<(), Failure> {
        let now = Instant::now();
        if !self.plan.build_ended(number, result.is_ok(), now) {
            return Ok(());
        }
        self.building = None;
        self.step = None;
        match result {
            Ok(built) => {
                self.seen_at = now;
                self.report = match self.report {
                    BuildReport::Early => BuildReport::Complete,
                    BuildReport::Complete | BuildReport::Pending => BuildReport::Pending,
                };
                self.watch_component()?;
                self.print(&format!("{}\n", output::done(&format!("built in {:.1} s", built.took.as_secs_f64()))));
                Ok(())
            }
            Err(failed) => {
                let next = if failed.has_started { String::new() } else { format!(" next: {}\n", failed.next()) };
                let BuildFailed { output, how, .. } = failed;
                let ended = output::failed(&format!("{how}; {}", self.serving_state()));
                self.print(&format!("{}{ended}\n{next}", terminal::with_colours(&output)));
                self.host_client.show_error(if output.trim().is_empty() { how } else { output })
            }
        }
    }

    fn pushed(&mut self, pushed: Pushed) -> Result<(), Failure> {
        self.plan.push_ended();
        match pushed {
            Pushed::Same { accepted } => self.pushed_same(accepted),
            Pushed::Unfinished => Ok(()),
            Pushed::Live { release, took } => {
                self.has_release = true;
                let text = format!("{release} is live after {:.0} ms", took.as_secs_f64() * 1000.0);
                self.print(&format!("{}\n", output::done(&text)));
                self.set_reported();
                Ok(())
            }
            Pushed::Refused(failure) => {
                let text = failure.text();
                self.print(&format!("{text}{}\n", output::failed(self.serving_state())));
                self.set_reported();
                self.host_client.show_error(text)
            }
        }
    }

    /// Returns the clause about the serving code after a failure.
    fn serving_state(&self) -> &'static str {
        if self.has_release { "the old code keeps serving" } else { "nothing serves yet" }
    }

    /// Records that the effect of the latest build was reported, even if the build still runs.
    fn set_reported(&mut self) {
        self.report = if self.building.is_some() { BuildReport::Early } else { BuildReport::Complete };
    }

    fn pushed_same(&mut self, accepted: bool) -> Result<(), Failure> {
        if self.report == BuildReport::Pending {
            let text = match accepted {
                true => "the code is unchanged: nothing was reloaded",
                false => "the code is unchanged: the host has rejected it before",
            };
            self.print(&format!("{text}\n"));
            self.report = BuildReport::Complete;
        }
        // The sources may equal the serving code again, so a shown build error is outdated; an
        // error of the manifest is not.
        if self.building.is_some() || self.plan.is_blocked() { Ok(()) } else { self.host_client.clear_error() }
    }

    fn print(&self, text: &str) {
        match &self.step {
            Some(step) => step.suspend(|| output::emit(text)),
            None => output::emit(text),
        }
    }
}

/// Refuses a changed app name: a session serves one app, and another name means another app at
/// another address.
fn same_name(before: &Project, now: &Project) -> Result<(), Failure> {
    let (before, now) = (&before.manifest.name, &now.manifest.name);
    if before == now {
        return Ok(());
    }
    Err(Failure::new(format!("the app's name in isopod.toml has changed from {before} to {now}"))
        .why(format!("this `isopod dev` serves {before}"))
        .next(format!("restore the name {before}, or stop with Ctrl-C and start `isopod dev` again to serve {now}")))
}

fn is_lock_file(path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| LOCK_FILES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_name_is_refused_with_both_remedies() {
        let project = |name: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("isopod.toml"), format!("name = \"{name}\"\n")).unwrap();
            Project::open(folder.path()).unwrap()
        };
        assert!(same_name(&project("shop"), &project("shop")).is_ok());
        let text = same_name(&project("shop"), &project("sho")).unwrap_err().text();
        assert!(text.contains("from shop to sho") && text.contains("restore the name shop"), "{text}");
    }
}
