//! Owns booting a release: compiles it, links each process type with the app's sandbox, starts the
//! instances and checks their health. Never stores anything and never touches traffic.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use isopod_engine::{Fault, Folder, Instance, Output, Program, Sandbox, Speed};
use isopod_executor::Class;
use isopod_policy::{
    Access, AppKind, AppType, ConfigVars, Entry as ProcessEntry, Formation, Isolation, Limits, Manifest, Process,
    ProcessName, ReleaseNumber, config_vars::RESERVED_VARS,
};
use isopod_store::Digest;
use tokio::time::{Instant, sleep};

use crate::control::release::releases::Releases;
use crate::control::{AppRecord, Failure};
use crate::{
    control::events::AppEvents,
    control::key_value::AppKeyValue,
    control::limits,
    observe::logs::AppOutput,
    runtime::{ActiveRelease, AppResources, ProcessPlan, health},
};

/// Returns how an app's code is compiled: quickly for dev apps, optimised for all others.
pub(in crate::control) fn speed(app_type: AppType) -> Speed {
    match app_type {
        AppType::Dev => Speed::Quick,
        AppType::Staging | AppType::Production => Speed::Optimised,
    }
}

/// The purpose of loading a stored release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum Purpose {
    /// It serves, or is on standby.
    Serve,
    /// A preview by its own URL while another release serves: nothing is kept warm, and instances
    /// start on demand.
    Preview,
}

/// A release without its code: its manifest, config vars and number.
pub(in crate::control) struct ReleaseSettings<'a> {
    pub(in crate::control) manifest: &'a Manifest,
    pub(in crate::control) config: &'a ConfigVars,
    pub(in crate::control) number: ReleaseNumber,
}

impl Releases {
    /// Compiles a component, or loads it from the cache.
    pub(in crate::control) async fn compile(
        &self,
        component: &Bytes,
        app_type: AppType,
    ) -> Result<isopod_engine::Component, Failure> {
        Ok(self.engine.load(component.clone(), speed(app_type)).await?)
    }

    /// Links compiled code with the app's sandbox: once for HTTP and events, and once per command,
    /// which has its own arguments.
    pub(in crate::control) async fn plan(
        &self,
        app: &AppRecord,
        component: &isopod_engine::Component,
        settings: &ReleaseSettings<'_>,
        formation: Formation,
    ) -> Result<(Program, Vec<ProcessPlan>), Failure> {
        let shared = self.sandbox(app, settings).await?;
        let component = match app.kind {
            AppKind::App => component.clone().without_exported_interfaces(),
            AppKind::Plugin => component.clone(),
        };
        let component = &match component.info().digest.parse::<Digest>() {
            Ok(digest) => component.with_source(&self.store.blobs().path(&digest)),
            Err(_) => component,
        };
        let program = self.engine.program(component, shared.clone())?;
        let app_type = app.fields().app_type;
        let planned = formation.into_iter().map(|(name, process)| {
            let program = match process.entry {
                ProcessEntry::Http
                | ProcessEntry::Events
                | ProcessEntry::Middleware
                | ProcessEntry::Gate
                | ProcessEntry::Provider
                | ProcessEntry::Hook => program.clone(),
                ProcessEntry::Command => {
                    let args = std::iter::once(name.to_string()).chain(process.args.iter().cloned()).collect();
                    self.engine.program(component, Sandbox { args, ..shared.clone() })?
                }
            };
            let scale = process.scale_at_work(app_type, &settings.manifest.limits);
            Ok(ProcessPlan { name, process, scale, program, warm: Vec::new() })
        });
        let planned = planned.collect::<Result<Vec<_>, Failure>>()?;
        Ok((program, planned))
    }

    async fn sandbox(&self, app: &AppRecord, settings: &ReleaseSettings<'_>) -> Result<Sandbox, Failure> {
        let ReleaseSettings { manifest, config, number } = settings;
        let folders = self.folders(app, manifest).await?;
        let variables = self.variables(app, manifest, config)?;
        // Reserved variables override config vars of the same name, which may have been set before
        // such names were refused.
        let [app_var, release_var] = RESERVED_VARS.map(str::to_owned);
        let own = [(app_var, app.name.to_string()), (release_var, number.to_string())];
        let variables: Vec<_> =
            variables.into_iter().filter(|(name, _)| own.iter().all(|(own, _)| name != own)).collect();
        let env = variables.iter().chain(&own).cloned().collect();
        let keyvalue =
            manifest.grants.keyvalue.then(|| AppKeyValue::shared(self.store.kv(), &app.name, &app.data_gate));
        let output: Arc<dyn Output> = Arc::new(AppOutput::new(Arc::clone(&app.log), *number));
        Ok(Sandbox {
            app: app.name.to_string(),
            args: Vec::new(),
            env,
            config: variables,
            grants: manifest.grants.clone(),
            inherit_network: false,
            folders,
            limits: limits_of(manifest),
            keyvalue,
            events: Some(AppEvents::shared(&self.events, &app.name)),
            providers: self.plugins.providers_of(app, &manifest.grants.interfaces),
            output,
            may_use_reserve: app.fields().app_type == AppType::Production,
            stdio: None,
        })
    }

    /// Returns the config that a guest reads: the manifest's vars, overridden by those set at the
    /// host, with secrets unsealed.
    fn variables(
        &self,
        app: &AppRecord,
        manifest: &Manifest,
        config: &ConfigVars,
    ) -> Result<Vec<(String, String)>, Failure> {
        let secrets = self.store.secrets();
        let mut lost = Vec::new();
        let variables = config.effective(&manifest.config, |key, sealed| {
            let opened = secrets.unseal(&app.name, key, sealed);
            Ok::<_, Failure>(opened.unwrap_or_else(|error| {
                lost.push((key.to_owned(), error));
                String::new()
            }))
        })?;
        // The error names all lost secrets, since each one blocks the release.
        match lost.first() {
            None => Ok(variables.into_iter().collect()),
            Some((_, error)) => Err(Failure::SecretsLost {
                keys: lost.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(" "),
                why: error.to_string(),
            }),
        }
    }

    /// Returns the granted folders, and creates those that don't exist.
    async fn folders(&self, app: &AppRecord, manifest: &Manifest) -> Result<Vec<Folder>, Failure> {
        if manifest.grants.files.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.store.clone();
        let folders: Vec<Folder> = manifest
            .grants
            .files
            .iter()
            .map(|(name, access)| Folder {
                host: store.granted_folder(&app.name, name),
                guest: format!("/{name}"),
                writable: matches!(access, Access::ReadWrite),
            })
            .collect();
        let (owner, names): (_, Vec<String>) = (app.name.clone(), manifest.grants.files.keys().cloned().collect());
        let guard = app.data_gate.guard().ok_or(Failure::AppDeleted)?;
        let creating = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            names.iter().try_for_each(|name| store.make_granted_folder(&owner, name).map(drop))
        });
        match creating.await {
            Ok(Ok(())) => Ok(folders),
            Ok(Err(e)) => Err(Failure::Internal(format!("a granted folder can't be created: {e}"))),
            Err(e) => Err(Failure::Internal(format!("the creation of granted folders was interrupted: {e}"))),
        }
    }
}

/// The instances that were started and checked, as the push log describes them.
#[derive(Debug, Default)]
pub(in crate::control) struct Started {
    instances: usize,
    /// The number of instances with a health check.
    checked: usize,
    /// Whether a process type without a health check serves HTTP, so that the manifest could name a
    /// path.
    may_name_a_path: bool,
}

impl Started {
    fn add(&mut self, instances: usize, planned: &ProcessPlan) {
        let checked = has_health_check(planned);
        self.instances += instances;
        self.checked += if checked { instances } else { 0 };
        self.may_name_a_path |= !checked && planned.process.entry == ProcessEntry::Http;
    }
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (they, are, have) = match self.instances {
            0 => return f.write_str("no instance is started before the release serves"),
            1 => ("a new instance".to_owned(), "is", "it has"),
            more => (format!("{more} new instances"), "are", "they have"),
        };
        let what_next = if self.may_name_a_path {
            "name a path in isopod.toml, under [processes.web]: health = \"/healthz\""
        } else {
            "export one, in Rust with isopod_sdk::health!"
        };
        match self.checked {
            0 => write!(f, "{they} started; {have} no health check: {what_next}"),
            all if all == self.instances => write!(f, "{they} started and {are} healthy"),
            1 => write!(f, "{they} started; one has a health check, and is healthy"),
            some => write!(f, "{they} started; {some} have a health check, and are healthy"),
        }
    }
}

/// Returns the limits of a release. A call of a plugin has the time limit of the plugin.
fn limits_of(manifest: &Manifest) -> Limits {
    let request_timeout = manifest.plugin.as_ref().map_or(manifest.limits.request_timeout, |plugin| plugin.time_limit);
    Limits { request_timeout, ..manifest.limits.clone() }
}

/// Starts the warm minimum of each process type, at least one instance, a few concurrently. Starts
/// more if the load of the release `before` needs them, so that the first requests find warm
/// instances.
pub(in crate::control) async fn start_all(
    resources: &Arc<AppResources>,
    before: Option<&ActiveRelease>,
    planned: &mut [ProcessPlan],
    isolation: Isolation,
) -> Result<Started, Failure> {
    let mut all = Started::default();
    let mut deferred = 0;
    for planned in planned.iter_mut() {
        let (name, scale) = (&planned.name, planned.scale);
        let (least, more) = match (planned.process.entry, isolation) {
            // A command starts once its release serves. Earlier, it would run beside the command of
            // the former release.
            (ProcessEntry::Command, _) => (0, 0),
            (_, Isolation::Request) => (1, 0),
            (_, Isolation::Reuse) => {
                let least = scale.min.max(1);
                let needed = before.map_or(least, |before| before.needed(name, scale));
                (least as usize, needed.saturating_sub(least) as usize)
            }
        };
        let program = &planned.program;
        let started = futures::stream::iter(0..least).map(|_| start(resources, program));
        let started: Vec<_> = started.buffer_unordered(limits::SURGE_INSTANCES).collect().await;
        let (instances, failures): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
        planned.warm = instances.into_iter().flatten().collect();
        for failure in failures.into_iter().filter_map(Result::err) {
            // The slots of the former release become free once this release serves. The remaining
            // instances start then.
            let has_some = all.instances + planned.warm.len() > 0;
            let has_slot_later = before.is_some_and(|before| deferred < before.live());
            if !failure.is_no_room() || !has_some || !has_slot_later {
                return Err(failure);
            }
            deferred += 1;
        }
        let started =
            futures::stream::iter(0..more.min(limits::SURGE_INSTANCES)).map(|_| try_start(resources, program));
        let started: Vec<_> = started.buffer_unordered(limits::SURGE_INSTANCES).try_collect().await?;
        planned.warm.extend(started.into_iter().flatten());
        all.add(planned.warm.len(), planned);
    }
    Ok(all)
}

/// Checks the health of each started instance, and keeps the instances that can serve.
pub(in crate::control) async fn check_all(
    resources: &Arc<AppResources>,
    planned: &mut [ProcessPlan],
    isolation: Isolation,
) -> Result<(), Failure> {
    for planned in planned.iter_mut() {
        let warm = std::mem::take(&mut planned.warm);
        // A single-use instance with a health check is consumed by it.
        let is_single_use = isolation == Isolation::Request || planned.program.info().single_use;
        let is_consumed = is_single_use && has_health_check(planned);
        let (name, process, program) = (&planned.name, &planned.process, &planned.program);
        let checked = futures::stream::iter(warm)
            .map(|warm| check_until_healthy(resources, (name, process), program, warm, is_consumed));
        let healthy: Vec<Option<Box<Instance>>> =
            checked.buffer_unordered(limits::SURGE_INSTANCES).try_collect().await?;
        planned.warm = healthy.into_iter().flatten().collect();
    }
    Ok(())
}

/// Returns whether instances of this process type have a health check.
fn has_health_check(planned: &ProcessPlan) -> bool {
    planned.process.health.is_some() || planned.program.info().entries.health
}

/// Checks an instance until it is healthy, or until both its grace period is over and the minimum
/// number of attempts has failed. If a check consumes its instance, the next attempt uses a new
/// instance.
async fn check_until_healthy(
    resources: &Arc<AppResources>,
    (name, process): (&ProcessName, &Process),
    program: &Program,
    instance: Box<Instance>,
    is_consumed: bool,
) -> Result<Option<Box<Instance>>, Failure> {
    let started_at = Instant::now();
    let grace = process.health.as_ref().map_or(std::time::Duration::ZERO, |health| health.grace);
    let mut spare = Some(instance);
    let mut attempts = 0;
    loop {
        let instance = match spare.take() {
            Some(instance) => instance,
            None => start(resources, program).await?,
        };
        let (outcome, left) = health::check(resources, instance, process).await;
        spare = left.filter(|_| !is_consumed);
        attempts += 1;
        match outcome {
            Ok(()) => return Ok(spare),
            Err(detail) if attempts >= limits::HEALTH_ATTEMPTS && started_at.elapsed() >= grace => {
                return Err(Failure::Health { process: name.to_string(), detail });
            }
            Err(_) => sleep(limits::HEALTH_RETRY_DELAY).await,
        }
    }
}

async fn start(resources: &Arc<AppResources>, program: &Program) -> Result<Box<Instance>, Failure> {
    let (owner, starting) = (Arc::clone(resources), program.clone());
    with_time_limit(resources, program, async move { owner.start_in_place(&starting).await }).await
}

/// Starts an optional instance. Returns `None` if the host has no free slot.
async fn try_start(resources: &Arc<AppResources>, program: &Program) -> Result<Option<Box<Instance>>, Failure> {
    let (owner, starting) = (Arc::clone(resources), program.clone());
    match with_time_limit(resources, program, async move { owner.start(&starting).await }).await {
        Err(failure) if failure.is_no_room() => Ok(None),
        started => started.map(Some),
    }
}

async fn with_time_limit(
    resources: &AppResources,
    program: &Program,
    starting: impl Future<Output = Result<Box<Instance>, Fault>> + Send + 'static,
) -> Result<Box<Instance>, Failure> {
    let limit = crate::runtime::limits::HEALTH_TIME;
    let started = tokio::time::timeout(limit, resources.run(Class::Pull, program, Box::pin(starting))).await;
    started.map_or(Err(Fault::Timeout { limit }), |(started, _)| started).map_err(Failure::Start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_checked_instances_are_reported_as_healthy() {
        let text = |instances, checked, may_name_a_path| Started { instances, checked, may_name_a_path }.to_string();
        assert_eq!(text(1, 1, false), "a new instance started and is healthy");
        assert_eq!(text(3, 3, false), "3 new instances started and are healthy");
        assert_eq!(text(3, 2, false), "3 new instances started; 2 have a health check, and are healthy");
        assert_eq!(text(2, 1, true), "2 new instances started; one has a health check, and is healthy");
        let unchecked = text(1, 0, true);
        assert!(unchecked.contains("it has no health check") && unchecked.contains("[processes.web]"), "{unchecked}");
        let unchecked = text(2, 0, false);
        assert!(unchecked.contains("they have no health check") && unchecked.contains("health!"), "{unchecked}");
        assert!(!text(0, 0, false).contains("healthy"));
    }
}
