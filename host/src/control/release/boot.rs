//! Owns making a release run: compile, join each process type with the app's sandbox, start its instances and check
//! their health. Never stores anything and never touches traffic.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use isopod_engine::{Fault, Folder, Instance, Output, Program, Sandbox, Speed};
use isopod_executor::Class;
use isopod_policy::{
    Access, AppType, ConfigVars, Entry as ProcessEntry, Formation, Isolation, Manifest, Process, ProcessName,
    ReleaseNumber, config_vars::RESERVED_VARS,
};
use tokio::time::{Instant, sleep};

use crate::control::{AppRecord, Deployer, Failure};
use crate::{
    control::key_value::AppKeyValue,
    limits,
    observe::logs::AppOutput,
    runtime::{ActiveRelease, AppResources, ProcessPlan, health},
};

/// How an app's code is compiled: a dev app wants it soon, the others want it fast.
pub(in crate::control) fn speed(app_type: AppType) -> Speed {
    match app_type {
        AppType::Dev => Speed::Quick,
        AppType::Staging | AppType::Production => Speed::Optimised,
    }
}

/// What a stored release is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum Purpose {
    /// To be the one that serves, or that may have to again.
    Serve,
    /// For somebody who looks at it by its own URL while another one serves: nothing of it is kept warm, and it starts
    /// what it is asked for.
    Preview,
}

/// What a release says of its code, besides the code.
pub(in crate::control) struct Content<'a> {
    pub(in crate::control) manifest: &'a Manifest,
    pub(in crate::control) config: &'a ConfigVars,
    pub(in crate::control) number: ReleaseNumber,
}

impl Deployer {
    /// Compiles a component, or finds it compiled.
    pub(in crate::control) async fn compile(
        &self,
        component: &Bytes,
        app_type: AppType,
    ) -> Result<isopod_engine::Component, Failure> {
        Ok(self.0.parts.engine.load(component.clone(), speed(app_type)).await?)
    }

    /// Joins compiled code with all that its app was granted: once for what most process types share, and once for each
    /// command with its own arguments.
    pub(in crate::control) async fn plan(
        &self,
        entry: &AppRecord,
        component: &isopod_engine::Component,
        content: &Content<'_>,
        formation: Formation,
    ) -> Result<(Program, Vec<ProcessPlan>), Failure> {
        let shared = self.sandbox(entry, content).await?;
        let program = self.0.parts.engine.program(component, shared.clone())?;
        let app_type = entry.fields().app_type;
        let planned = formation.into_iter().map(|(name, process)| {
            let program = match process.entry {
                ProcessEntry::Http | ProcessEntry::Events => program.clone(),
                ProcessEntry::Command => {
                    let args = std::iter::once(name.to_string()).chain(process.args.iter().cloned()).collect();
                    self.0.parts.engine.program(component, Sandbox { args, ..shared.clone() })?
                }
            };
            let scale = process.scale_at_work(app_type, &content.manifest.limits);
            Ok(ProcessPlan { name, process, scale, program, warm: Vec::new() })
        });
        let planned = planned.collect::<Result<Vec<_>, Failure>>()?;
        Ok((program, planned))
    }

    async fn sandbox(&self, entry: &AppRecord, content: &Content<'_>) -> Result<Sandbox, Failure> {
        let Content { manifest, config, number } = content;
        let folders = self.folders(entry, manifest).await?;
        let variables = self.variables(entry, manifest, config)?;
        // What the host says of an app is not for a config var to say, as one that was set before this was refused may.
        let [app, release] = RESERVED_VARS.map(str::to_owned);
        let own = [(app, entry.name.to_string()), (release, number.to_string())];
        let variables: Vec<_> =
            variables.into_iter().filter(|(name, _)| own.iter().all(|(own, _)| name != own)).collect();
        let env = variables.iter().chain(&own).cloned().collect();
        let keyvalue = manifest
            .grants
            .keyvalue
            .then(|| AppKeyValue::shared(self.0.parts.store.kv(), &entry.name, &entry.data_gate));
        let output: Arc<dyn Output> = Arc::new(AppOutput::new(Arc::clone(&entry.log), *number));
        Ok(Sandbox {
            app: entry.name.to_string(),
            args: Vec::new(),
            env,
            config: variables,
            grants: manifest.grants.clone(),
            inherit_network: false,
            folders,
            limits: manifest.limits.clone(),
            keyvalue,
            output,
            may_use_reserve: entry.fields().app_type == AppType::Production,
            stdio: None,
        })
    }

    /// The granted folders, made where they are not there yet.
    async fn folders(&self, entry: &AppRecord, manifest: &Manifest) -> Result<Vec<Folder>, Failure> {
        if manifest.grants.files.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.0.parts.store.clone();
        let folders: Vec<Folder> = manifest
            .grants
            .files
            .iter()
            .map(|(name, access)| Folder {
                host: store.granted_folder(&entry.name, name),
                guest: format!("/{name}"),
                writable: matches!(access, Access::ReadWrite),
            })
            .collect();
        let (app, names): (_, Vec<String>) = (entry.name.clone(), manifest.grants.files.keys().cloned().collect());
        let pass = entry.data_gate.pass().ok_or(Failure::AppDeleted)?;
        let made = tokio::task::spawn_blocking(move || {
            let _pass = pass;
            names.iter().try_for_each(|name| store.make_granted_folder(&app, name).map(drop))
        });
        let made = made.await;
        match made {
            Ok(Ok(())) => Ok(folders),
            Ok(Err(e)) => Err(Failure::Internal(format!("a granted folder can't be made: {e}"))),
            Err(e) => Err(Failure::Internal(format!("making the granted folders broke off: {e}"))),
        }
    }
}

/// What was started to see whether it is well, as a push tells it.
#[derive(Debug, Default)]
pub(in crate::control) struct Started {
    instances: usize,
    /// How many of them there is something to ask for their health.
    asked: usize,
    /// Whether one that nothing asks serves HTTP, and so could name a path.
    could_name_a_path: bool,
}

impl Started {
    fn add(&mut self, instances: usize, planned: &ProcessPlan) {
        let asked = is_asked(planned);
        self.instances += instances;
        self.asked += if asked { instances } else { 0 };
        self.could_name_a_path |= !asked && planned.process.entry == ProcessEntry::Http;
    }
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (they, are, have) = match self.instances {
            0 => return f.write_str("no instance is started before the release serves"),
            1 => ("a new instance".to_owned(), "is", "it has"),
            more => (format!("{more} new instances"), "are", "they have"),
        };
        let what_next = if self.could_name_a_path {
            "name a path in isopod.toml, under [processes.web]: health = \"/healthz\""
        } else {
            "export one, in Rust with isopod_sdk::health!"
        };
        match self.asked {
            0 => write!(f, "{they} started; {have} no health check: {what_next}"),
            all if all == self.instances => write!(f, "{they} started and {are} healthy"),
            1 => write!(f, "{they} started; one has a health check, and is healthy"),
            some => write!(f, "{they} started; {some} have a health check, and are healthy"),
        }
    }
}

/// Starts the instances that each process type is to have from the beginning, at least one, a few at a time; and some
/// more where the load of the release `before` has need of them, so that the first requests find them started.
pub(in crate::control) async fn start_all(
    resources: &Arc<AppResources>,
    before: Option<&ActiveRelease>,
    planned: &mut [ProcessPlan],
    isolation: Isolation,
) -> Result<Started, Failure> {
    let mut all = Started::default();
    let mut left_out = 0;
    for planned in planned.iter_mut() {
        let (name, scale) = (&planned.name, planned.scale);
        let (least, more) = match (planned.process.entry, isolation) {
            // A command is started once its release serves: before that it would do its work beside the old one.
            (ProcessEntry::Command, _) => (0, 0),
            (ProcessEntry::Http | ProcessEntry::Events, Isolation::Request) => (1, 0),
            (ProcessEntry::Http | ProcessEntry::Events, Isolation::Reuse) => {
                let least = scale.min.max(1);
                let needed = before.map_or(least, |before| before.needed(name, scale));
                (least as usize, needed.saturating_sub(least) as usize)
            }
        };
        let program = &planned.program;
        let started = futures::stream::iter(0..least).map(|_| start(resources, program));
        let started: Vec<_> = started.buffer_unordered(limits::SURGE_INSTANCES).collect().await;
        let (wells, failures): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
        planned.warm = wells.into_iter().flatten().collect();
        for failure in failures.into_iter().filter_map(Result::err) {
            // The places of the release before become free once this one serves: who is left out starts then.
            let has_some = all.instances + planned.warm.len() > 0;
            let has_a_place = before.is_some_and(|before| left_out < before.live());
            if !failure.is_of_no_room() || !has_some || !has_a_place {
                return Err(failure);
            }
            left_out += 1;
        }
        let started =
            futures::stream::iter(0..more.min(limits::SURGE_INSTANCES)).map(|_| start_one_more(resources, program));
        let started: Vec<_> = started.buffer_unordered(limits::SURGE_INSTANCES).try_collect().await?;
        planned.warm.extend(started.into_iter().flatten());
        all.add(planned.warm.len(), planned);
    }
    Ok(all)
}

/// Asks each instance that was started whether it is well, and keeps those that are fit to serve.
pub(in crate::control) async fn check_all(
    resources: &Arc<AppResources>,
    planned: &mut [ProcessPlan],
    isolation: Isolation,
) -> Result<(), Failure> {
    for planned in planned.iter_mut() {
        let warm = std::mem::take(&mut planned.warm);
        // What is there for one request only has had it where it was asked.
        let is_for_one = isolation == Isolation::Request || planned.program.info().single_use;
        let is_used_up = is_for_one && is_asked(planned);
        let (name, process, program) = (&planned.name, &planned.process, &planned.program);
        let asked = futures::stream::iter(warm).map(|warm| well(resources, (name, process), program, warm, is_used_up));
        let well: Vec<Option<Box<Instance>>> = asked.buffer_unordered(limits::SURGE_INSTANCES).try_collect().await?;
        planned.warm = well.into_iter().flatten().collect();
    }
    Ok(())
}

/// Whether there is something to ask its instances for their health.
fn is_asked(planned: &ProcessPlan) -> bool {
    planned.process.health.is_some() || planned.program.info().entries.health
}

/// Waits until an instance, or the one that follows it, is well. It is asked while its grace lasts, and a few times in
/// any case. Where an instance is used up by that, the next question goes to a new one.
async fn well(
    resources: &Arc<AppResources>,
    (name, process): (&ProcessName, &Process),
    program: &Program,
    instance: Box<Instance>,
    is_used_up: bool,
) -> Result<Option<Box<Instance>>, Failure> {
    let begun = Instant::now();
    let grace = process.health.as_ref().map_or(std::time::Duration::ZERO, |health| health.grace);
    let mut spare = Some(instance);
    let mut attempts = 0;
    loop {
        let instance = match spare.take() {
            Some(instance) => instance,
            None => start(resources, program).await?,
        };
        let (outcome, left) = health::check(resources, instance, process).await;
        spare = left.filter(|_| !is_used_up);
        attempts += 1;
        match outcome {
            Ok(()) => return Ok(spare),
            Err(detail) if attempts >= limits::HEALTH_ATTEMPTS && begun.elapsed() >= grace => {
                return Err(Failure::Health { process: name.to_string(), detail });
            }
            Err(_) => sleep(limits::HEALTH_PAUSE).await,
        }
    }
}

async fn start(resources: &Arc<AppResources>, program: &Program) -> Result<Box<Instance>, Failure> {
    let (owner, starting) = (Arc::clone(resources), program.clone());
    in_time(resources, program, async move { owner.start_in_place(&starting).await }).await
}

/// The same for an instance without which the release can serve too: none where the host has no room for it.
async fn start_one_more(resources: &Arc<AppResources>, program: &Program) -> Result<Option<Box<Instance>>, Failure> {
    let (owner, starting) = (Arc::clone(resources), program.clone());
    match in_time(resources, program, async move { owner.start(&starting).await }).await {
        Err(failure) if failure.is_of_no_room() => Ok(None),
        started => started.map(Some),
    }
}

async fn in_time(
    resources: &AppResources,
    program: &Program,
    starting: impl Future<Output = Result<Box<Instance>, Fault>> + Send + 'static,
) -> Result<Box<Instance>, Failure> {
    let limit = limits::HEALTH_TIME;
    let started = tokio::time::timeout(limit, resources.run(Class::Pull, program, starting)).await;
    started.map_or(Err(Fault::Timeout { limit }), |(started, _)| started).map_err(Failure::Start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_is_called_healthy() {
        let told = |instances, asked, could_name_a_path| Started { instances, asked, could_name_a_path }.to_string();
        assert_eq!(told(1, 1, false), "a new instance started and is healthy");
        assert_eq!(told(3, 3, false), "3 new instances started and are healthy");
        assert_eq!(told(3, 2, false), "3 new instances started; 2 have a health check, and are healthy");
        assert_eq!(told(2, 1, true), "2 new instances started; one has a health check, and is healthy");
        let unasked = told(1, 0, true);
        assert!(unasked.contains("it has no health check") && unasked.contains("[processes.web]"), "{unasked}");
        let unasked = told(2, 0, false);
        assert!(unasked.contains("they have no health check") && unasked.contains("health!"), "{unasked}");
        assert!(!told(0, 0, false).contains("healthy"));
    }
}
