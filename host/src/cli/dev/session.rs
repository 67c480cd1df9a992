//! One run of `isopod dev`: takes what happens, asks the plan what to do, and does it. It waits for nothing but the next
//! happening.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::Happening;
use super::courier::Courier;
use super::host::OwnHost;
use super::plan::{Action, Plan};
use super::push::Pushed;
use super::watch::{Change, Watch};
use crate::cli::failure::Failure;
use crate::cli::guest::{BuildFailed, Builder, Built, Cancel};
use crate::cli::output;
use crate::cli::progress::Step;
use crate::cli::project::Project;
use crate::cli::terminal;

/// How often we look whether our own host still runs.
const HOST_CHECK_EVERY: Duration = Duration::from_millis(500);
/// Files that package managers rewrite while they build.
const LOCK_FILES: [&str; 4] = ["Cargo.lock", "package-lock.json", "pnpm-lock.yaml", "yarn.lock"];

pub(crate) struct Session {
    project: Project,
    plan: Plan,
    watch: Watch,
    builder: Option<Builder>,
    building: Option<Cancel>,
    courier: Courier,
    happenings: SyncSender<Happening>,
    step: Option<Step>,
    /// When the change was seen that the next push carries.
    seen_at: Instant,
    outcome: Outcome,
    /// Whether the app has code that serves.
    has_release: bool,
}

/// What the person knows of the latest build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It goes on, or it failed, or what came of it was told.
    Known,
    /// It ended well, and whether anything changed by it is not known yet.
    Open,
    /// Its component was pushed before it ended, and that was told.
    ToldEarly,
}

impl Session {
    pub(crate) fn new(
        project: Project,
        courier: Courier,
        happenings: SyncSender<Happening>,
        has_release: bool,
    ) -> Result<Session, Failure> {
        let events = happenings.clone();
        let watch = Watch::new(&project.folder, move |event| drop(events.send(Happening::File(event))))?;
        let now = Instant::now();
        let plan = Plan::new(project.manifest.build.is_some(), now);
        let builder = project.manifest.build.as_deref().map(Builder::new).transpose()?;
        let mut session = Session {
            project,
            plan,
            watch,
            builder,
            building: None,
            courier,
            happenings,
            step: None,
            seen_at: now,
            outcome: Outcome::Known,
            has_release,
        };
        session.watch_component()?;
        Ok(session)
    }

    /// Works until the person or the end of the host stops it.
    pub(crate) fn run(
        mut self,
        receiver: &Receiver<Happening>,
        mut own_host: Option<&mut OwnHost>,
    ) -> Result<(), Failure> {
        loop {
            while let Some(action) = self.plan.next(Instant::now()) {
                self.act(action)?;
            }
            let until_due = self.plan.due().map(|due| due.saturating_duration_since(Instant::now()));
            match receiver.recv_timeout(until_due.unwrap_or(HOST_CHECK_EVERY).min(HOST_CHECK_EVERY)) {
                Ok(Happening::Stop) => break,
                Ok(happening) => self.take(happening)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(status) = own_host.as_mut().and_then(|host| host.ended()) {
                self.cancel_build();
                return Err(Failure::new("the project's host has ended by itself")
                    .why(status)
                    .next("see .isopod/host.log, and run `isopod dev` again"));
            }
        }
        self.cancel_build();
        self.say("stopping\n");
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::ReadManifest => self.read_manifest(),
            Action::Cancel(_) => {
                self.cancel_build();
                self.say("changed again, so the build starts over\n");
                Ok(())
            }
            Action::Build(number) => self.build(number),
            Action::Push => self.courier.push(&self.project, self.seen_at),
        }
    }

    fn take(&mut self, happening: Happening) -> Result<(), Failure> {
        match happening {
            Happening::File(event) => {
                for change in self.watch.changes(&event) {
                    self.changed(change);
                }
                Ok(())
            }
            Happening::BuildEnded { number, result } => self.build_ended(number, result),
            Happening::Pushed(pushed) => self.pushed(pushed),
            Happening::Say(text) => {
                self.say(&text);
                Ok(())
            }
            Happening::Stop => Ok(()),
        }
    }

    fn changed(&mut self, change: Change) {
        let now = Instant::now();
        match change {
            Change::Component { closed } => {
                self.seen_at = now;
                self.plan.component_changed(closed, now);
            }
            // Our own build may write these; a rebuild because of them would never end.
            Change::Source(path) if self.building.is_some() && is_lock_file(&path) => {}
            Change::Source(_) => self.plan.source_changed(now),
            Change::Manifest => self.plan.manifest_changed(now),
        }
    }

    /// Takes over a changed manifest. One that cannot be used is no reason to end: somebody may be in the middle of
    /// typing it.
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
                self.say(&format!("{text}{}\n", output::failed(self.what_serves())));
                return self.courier.show_error(text);
            }
        };
        self.project = project;
        self.watch_component()?;
        self.seen_at = Instant::now();
        self.plan.manifest_read(self.project.manifest.build.is_some(), self.seen_at);
        Ok(())
    }

    /// The component's folder appears with the first build, so this is tried again after each.
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
        self.outcome = Outcome::Known;
        let step = if std::io::stderr().is_terminal() { Some(Step::spinner("building")) } else { None };
        let detail = step.as_ref().map(Step::handle);
        self.step = step;
        if self.step.is_none() {
            output::emit("building\n");
        }
        let project = self.project.clone();
        let happenings = self.happenings.clone();
        std::thread::spawn(move || {
            let show = |line: &str| detail.iter().for_each(|step| step.detail(line));
            let result = builder.run(&project, &command, &cancel, show);
            let _ = happenings.send(Happening::BuildEnded { number, result });
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
                self.outcome = match self.outcome {
                    Outcome::ToldEarly => Outcome::Known,
                    Outcome::Known | Outcome::Open => Outcome::Open,
                };
                self.watch_component()?;
                self.say(&format!("{}\n", output::done(&format!("built in {:.1} s", built.took.as_secs_f64()))));
                Ok(())
            }
            Err(failed) => {
                let next = if failed.began { String::new() } else { format!(" next: {}\n", failed.next()) };
                let BuildFailed { output, how, .. } = failed;
                let ended = output::failed(&format!("{how}; {}", self.what_serves()));
                self.say(&format!("{}{ended}\n{next}", terminal::with_colours(&output)));
                self.courier.show_error(if output.trim().is_empty() { how } else { output })
            }
        }
    }

    fn pushed(&mut self, pushed: Pushed) -> Result<(), Failure> {
        self.plan.push_ended();
        match pushed {
            Pushed::Same { taken } => self.pushed_nothing_new(taken),
            Pushed::Unfinished => Ok(()),
            Pushed::Live { release, took } => {
                self.has_release = true;
                let text = format!("{release} is live after {:.0} ms", took.as_secs_f64() * 1000.0);
                self.say(&format!("{}\n", output::done(&text)));
                self.told();
                Ok(())
            }
            Pushed::Refused(failure) => {
                let text = failure.text();
                self.say(&format!("{text}{}\n", output::failed(self.what_serves())));
                self.told();
                self.courier.show_error(text)
            }
        }
    }

    /// What the app's address serves after a failure.
    fn what_serves(&self) -> &'static str {
        if self.has_release { "the old code keeps serving" } else { "nothing serves yet" }
    }

    /// What came of the latest build is told, though it may not have ended yet.
    fn told(&mut self) {
        self.outcome = if self.building.is_some() { Outcome::ToldEarly } else { Outcome::Known };
    }

    fn pushed_nothing_new(&mut self, taken: bool) -> Result<(), Failure> {
        if self.outcome == Outcome::Open {
            let text = match taken {
                true => "the code is the same, so nothing was reloaded",
                false => "the code is the same, which the host did not take",
            };
            self.say(&format!("{text}\n"));
            self.outcome = Outcome::Known;
        }
        // The sources may be back at what serves, so an error that is shown no longer holds; that of a manifest does.
        if self.building.is_some() || self.plan.is_held() { Ok(()) } else { self.courier.clear_error() }
    }

    fn say(&self, text: &str) {
        match &self.step {
            Some(step) => step.suspend(|| output::emit(text)),
            None => output::emit(text),
        }
    }
}

/// A session serves one app. Under another name it would be another one, at another address.
fn same_name(before: &Project, now: &Project) -> Result<(), Failure> {
    let (before, now) = (&before.manifest.name, &now.manifest.name);
    if before == now {
        return Ok(());
    }
    Err(Failure::new(format!("the app's name in isopod.toml has changed from {before} to {now}"))
        .why(format!("this `isopod dev` serves {before}"))
        .next(format!("name it {before} again, or stop with Ctrl-C and start `isopod dev` again to serve {now}")))
}

fn is_lock_file(path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| LOCK_FILES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_refused_with_both_ways_on() {
        let project = |name: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("isopod.toml"), format!("name = \"{name}\"\n")).unwrap();
            Project::open(folder.path()).unwrap()
        };
        assert!(same_name(&project("shop"), &project("shop")).is_ok());
        let text = same_name(&project("shop"), &project("sho")).unwrap_err().text();
        assert!(text.contains("from shop to sho") && text.contains("name it shop again"), "{text}");
    }
}
