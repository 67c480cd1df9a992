//! The release pipeline: the only path by which a release is created and put in service. Pushes,
//! settings changes and rollbacks enter it with a [`ReleaseSpec`]. Never changes what the app
//! serves before its commit, the last step that can fail.
//!
//! ```text
//!  Received ──verify──▶ Verified ──build──▶ Built ──gates, boot──▶ Booted ──commit──▶ Committed
//!                                                                                         │
//!                                 back to the former release ◀──worse── Watched ◀──watch──┘
//! ```
//!
//! Each stage is a type, and each step consumes it. The app's task performs the commit
//! (`app_task/commit.rs`), and watches the release that it put in service (`watch.rs`).

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use isopod_engine::{ComponentInfo, Program};
use isopod_policy::{
    AppType, BundleKind, ConfigVars, Excess, Formation, Limits, Manifest, PushEvent, ReleaseCause, ReleaseEvent,
    ReleaseNumber, ceiling::Asked,
};
use isopod_store::{Digest, NewRelease, Reason, Release, StoreError, StoredAssets};
use jiff::Timestamp;

use crate::control::{
    accepted_configs::AcceptedConfigs,
    app::AppRecord,
    app_command::{AppHandle, Booted, ChangePermit, Command, Committed, Origin},
    error::Failure,
    failpoint::reached,
    push::{progress::LivePush, upload::Received as Upload},
    release::{
        boot,
        releases::Releases,
        verify::{self, BundleAssets, ValidBundle},
    },
    requester::Requester,
    shutdown::Shutdown,
    storing::Storing,
};
use crate::runtime::{ActiveRelease, Directory, ProcessPlan};

/// The request for a new release.
pub(in crate::control) struct ReleaseSpec {
    pub(in crate::control) source: ReleaseSource,
    pub(in crate::control) origin: Origin,
    pub(in crate::control) requester: Requester,
}

/// What a new release is made from.
pub(in crate::control) enum ReleaseSource {
    /// A bundle that was received, with the app's present config vars.
    Bundle(Arc<Upload>, BundleKind),
    /// A stored bundle with changed settings, or a former release.
    Stored(Box<ValidBundle>, ConfigVars),
}

/// A request whose bundle is not read yet.
struct Received(ReleaseSpec);

/// A release whose bundle is valid.
struct Verified {
    bundle: ValidBundle,
    config: ConfigVars,
    origin: Origin,
    /// The requests beyond the ceilings. If there are any, the release is built and waits for an
    /// approval.
    excesses: Vec<Excess>,
    accepted: AcceptedConfigs,
}

/// A release that is compiled and linked.
struct Built {
    number: ReleaseNumber,
    origin: Origin,
    manifest: Manifest,
    config: ConfigVars,
    size_bytes: u64,
    assets: Option<StoredAssets>,
    program: Program,
    planned: Vec<ProcessPlan>,
    accepted: AcceptedConfigs,
    /// Release steps that are being stored.
    storing: Vec<Storing>,
}

/// The services and settings of each run of the pipeline. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct Options {
    pub(in crate::control) releases: Releases,
    pub(in crate::control) directory: Arc<Directory>,
    /// The time limit of a run until its commit.
    pub(in crate::control) time_limit: Duration,
    pub(in crate::control) shutdown: Shutdown,
}

/// One run of the pipeline.
pub(in crate::control) struct ReleasePipeline {
    options: Options,
    pub(in crate::control) app: AppHandle,
    /// The permit to change the app. Dropping it lets the next change of the app run.
    permit: ChangePermit,
    /// The push job that started the pipeline, if any. Receives log lines and state steps.
    pub(in crate::control) push: Option<Arc<LivePush>>,
    number: OnceLock<ReleaseNumber>,
}

impl ReleasePipeline {
    pub(in crate::control) fn new(
        options: Options,
        app: AppHandle,
        permit: ChangePermit,
        push: Option<Arc<LivePush>>,
    ) -> Self {
        Self { options, app, permit, push, number: OnceLock::new() }
    }

    /// Runs the pipeline to the commit. On a failure, ends the app's deployment with `abort_cause`
    /// as its cause, and marks the release as failed.
    pub(in crate::control) async fn run(&self, mut spec: ReleaseSpec, abort_cause: &str) -> Result<Committed, Failure> {
        let limit = self.options.time_limit;
        let kind = spec.origin.kind;
        let skips_gates = self.skips_gates(&mut spec);
        let booting = async {
            let mut verified = Received(spec).verify(self).await?;
            let excesses = std::mem::take(&mut verified.excesses);
            let built = verified.build(self).await?;
            if !excesses.is_empty() {
                return Err(Failure::NotAllowed { excesses, waiting: Some(built.number) });
            }
            if !skips_gates {
                self.pass_gates(built.number, kind).await?;
            }
            built.boot(self).await
        };
        let in_time = tokio::time::timeout(limit, booting);
        let in_time = self.options.shutdown.unless_cancelled(&self.app.record, in_time).await;
        let committed = match in_time.and_then(|in_time| in_time.unwrap_or(Err(Failure::TimeLimit(limit)))) {
            // The commit is short and is never cancelled.
            Ok(booted) => booted.commit(self).await,
            Err(failure) => Err(failure),
        };
        match &committed {
            Ok(Committed { number }) => {
                tracing::info!(app = %self.app.record.name, release = %number, "a release is current")
            }
            Err(failure) => self.abort(failure, abort_cause).await,
        }
        committed
    }

    /// Returns whether the requester skips the gates. If any would apply to the app, records this
    /// in the cause of the release.
    fn skips_gates(&self, spec: &mut ReleaseSpec) -> bool {
        let skips = spec.requester.skips_gates;
        let app = &self.app.record;
        let gates = self.options.releases.plugins.gates_of(app, app.fields().app_type);
        let skipped: Vec<&str> = gates.filter(|_| skips).map(|used| used.plugin.name.as_str()).collect();
        if !skipped.is_empty() {
            spec.origin.cause.push_str("; gates skipped");
            self.log(format!("gates skipped: {}", skipped.join(", ")));
        }
        skips
    }

    async fn pass_gates(&self, number: ReleaseNumber, kind: ReleaseCause) -> Result<(), Failure> {
        let Options { releases, directory, .. } = &self.options;
        releases.pass_gates(directory, &self.app.record, (number, kind), |text| self.log(text)).await
    }

    async fn abort(&self, failure: &Failure, cause: &str) {
        let (change, cause) = (self.permit.change, cause.to_owned());
        // A destroyed app has no state.
        drop(self.app.ask(|reply| Command::DeployEnds { change, cause, reply }).await);
        if let Some(number) = self.number.get() {
            let event = if failure.is_build_failure() { ReleaseEvent::BuildFails } else { ReleaseEvent::DeployFails };
            self.options.releases.mark_failed(&self.app.record, *number, event, failure.reason()).await;
        }
    }

    fn log(&self, text: impl Into<String>) {
        if let Some(push) = &self.push {
            push.log(text);
        }
    }

    fn log_contents(&self, bundle: &ValidBundle) {
        let (info, manifest, app) = (&bundle.info, &bundle.manifest, &self.app.record);
        let fields = app.fields();
        let sdk = info.sdk_version.as_deref().map(|sdk| format!(", SDK {sdk}")).unwrap_or_default();
        self.log(format!("component: {} bytes, sha256 {}{sdk}", info.size_bytes, info.digest));
        if let BundleAssets::Packed { files, bytes, .. } = bundle.assets {
            self.log(format!("static/: {files} files, {bytes} bytes"));
            if manifest.middleware.is_empty() {
                self.log("note: no middleware serves static/; add [[middleware]] with the plugin static-files");
            }
        }
        if bundle.has_manifest && manifest.app_type != fields.app_type {
            self.log(format!(
                "the manifest's type is {}, and the app stays {}; `isopod apps type` changes the type of a stopped app",
                manifest.app_type, fields.app_type
            ));
        }
        if bundle.has_manifest && manifest.name != app.name {
            self.log(format!("the manifest's name is `{}`; deploying to `{}` as requested", manifest.name, app.name));
        }
        if !bundle.has_manifest && fields.release.is_some() {
            self.log("bare component: grants, limits, processes, config and static files don't change");
        }
    }

    fn log_notes(&self, info: &ComponentInfo, manifest: &Manifest, app_type: AppType) {
        let most = self.options.releases.engine.memory_bytes_most(app_type == AppType::Production);
        let grants = verify::grant_note(info, &manifest.grants).map(str::to_owned);
        for note in grants.into_iter().chain(verify::memory_note(&manifest.limits, most)) {
            self.log(note);
        }
    }

    async fn push_step(&self, event: PushEvent) -> Result<(), Failure> {
        match &self.push {
            Some(push) => push.step(event, None).await.map(drop).map_err(|e| Failure::Internal(e.to_string())),
            None => Ok(()),
        }
    }

    /// Compares what a release asks for with the ceilings, and a push with the grants of the
    /// current release. Returns the excesses of a push that may wait for an approval.
    fn check(
        &self,
        manifest: &Manifest,
        present: Option<&Release>,
        requester: &Requester,
        is_push: bool,
    ) -> Result<Vec<Excess>, Failure> {
        let fields = self.app.record.fields();
        let ceiling = self.options.releases.ceiling.with(&fields.ceiling);
        let current = present.map(|present| Asked::by(&present.manifest, fields.app_type));
        let excesses = requester.excesses(&ceiling, &Asked::by(manifest, fields.app_type), current.as_ref());
        if !excesses.is_empty() {
            let waits = is_push && ceiling.approve == Some(true);
            return if waits { Ok(excesses) } else { Err(Failure::NotAllowed { excesses, waiting: None }) };
        }
        if let Some(present) = present.filter(|_| is_push) {
            let grants = requester.unaccepted(&manifest.grants, &present.manifest.grants);
            if !grants.is_empty() {
                return Err(Failure::Widened { grants, than: present.number });
            }
        }
        Ok(Vec::new())
    }

    /// Hands a step to the store, which keeps the order of the calls. The commit waits for the
    /// result.
    async fn step(&self, number: ReleaseNumber, event: ReleaseEvent, storing: &mut Vec<Storing>) {
        let (store, app) = (self.options.releases.store.clone(), self.app.record.name.clone());
        let mut stored: Storing =
            Box::pin(async move { store.step_release(&app, number, event, None, Timestamp::now()).await.map(drop) });
        match futures::poll!(&mut stored) {
            std::task::Poll::Ready(done) => storing.push(Box::pin(std::future::ready(done))),
            std::task::Poll::Pending => storing.push(stored),
        }
    }
}

impl Received {
    /// Reads the bundle.
    async fn verify(self, pipeline: &ReleasePipeline) -> Result<Verified, Failure> {
        let Self(ReleaseSpec { source, origin, requester }) = self;
        let app = &pipeline.app.record;
        let present = pipeline.options.releases.current_release(app).await?;
        let (bundle, config, is_push) = match source {
            ReleaseSource::Stored(bundle, config) => (*bundle, config, false),
            ReleaseSource::Bundle(upload, kind) => {
                let manifest = present.as_ref().map(|present| present.manifest.clone());
                let none = || Manifest { kind: app.kind, ..Manifest::new(app.name.clone()) };
                let manifest = manifest.unwrap_or_else(none);
                let mut bundle = verify::read(&upload, kind, manifest).await?;
                pipeline.log_contents(&bundle);
                if let (false, BundleAssets::None) = (bundle.has_manifest, &bundle.assets)
                    && let Some(assets) = present.as_ref().and_then(|present| present.assets.clone())
                {
                    bundle.assets = BundleAssets::Stored(assets);
                }
                reached("push-verified").await;
                (bundle, app.fields().config.clone(), true)
            }
        };
        let excesses = pipeline.check(&bundle.manifest, present.as_ref(), &requester, is_push)?;
        let accepted = pipeline.options.releases.plugins.check(app, &bundle.manifest, &bundle.info).await?;
        Ok(Verified { bundle, config, origin, excesses, accepted })
    }
}

impl Verified {
    /// Compiles and links the code, while the release and its bundle are stored.
    async fn build(self, pipeline: &ReleasePipeline) -> Result<Built, Failure> {
        let Self { bundle, config, origin, accepted, .. } = self;
        let Options { releases, directory, .. } = &pipeline.options;
        let (app, store) = (&pipeline.app.record, &releases.store);
        let formation = verify::formation_of(&bundle.manifest, &bundle.info.entries)?;
        let app_type = app.fields().app_type;
        releases.check_warm_minimum(app_type, &formation, &bundle.manifest.limits, bundle.info.slots)?;
        // Loads the current release, which the rollout watch compares with and may return to.
        drop(directory.serving(&app.traffic).await);

        pipeline.push_step(PushEvent::Build).await?;
        let snapshot = releases.snapshot(pipeline, &bundle).await?;
        let ValidBundle { component, info, manifest, assets, .. } = bundle;
        let assets = releases.store_assets(assets).await?;
        let size_bytes = info.size_bytes + assets.as_ref().map_or(0, |assets| assets.bytes);
        let code = snapshot.as_ref().map_or(&component, |snapshot| &snapshot.component);
        let started_at = Instant::now();
        let digest: Digest =
            info.digest.parse().map_err(|_| Failure::Internal("invalid digest of a component".to_owned()))?;
        let release = NewRelease {
            app: app.name.clone(),
            bundle: digest,
            snapshot: snapshot.as_ref().map(|snapshot| snapshot.digest.clone()),
            assets: assets.clone(),
            manifest: manifest.clone(),
            config: config.clone(),
            cause: origin.cause.clone(),
            size_bytes,
            created_by: origin.by.clone(),
            created_at: Timestamp::now(),
        };
        let inserted = async {
            let release = store.insert_release(release).await?;
            Ok::<_, StoreError>(*pipeline.number.get_or_init(|| release.number))
        };
        let (compiled, stored, inserted) =
            tokio::join!(releases.compile(code, app_type), store.put_blob(component.clone()), inserted);
        let number = inserted?;
        stored?;
        let compiled = compiled?;
        pipeline.log(format!("compiled in {} ms", started_at.elapsed().as_millis()));
        pipeline.log_notes(&info, &manifest, app_type);
        // Linking finds imports that the host doesn't provide, so their failure is a build failure.
        let settings = boot::ReleaseSettings { manifest: &manifest, config: &config, number };
        let (program, planned) = releases.plan(app, &compiled, &settings, formation).await?;
        reached("release-built").await;
        let mut storing = Vec::new();
        pipeline.step(number, ReleaseEvent::Built, &mut storing).await;
        Ok(Built { number, origin, manifest, config, size_bytes, assets, program, planned, accepted, storing })
    }
}

impl Built {
    /// Starts instances and checks their health. The previous release serves meanwhile.
    async fn boot(self, pipeline: &ReleasePipeline) -> Result<Booted, Failure> {
        let Self { number, origin, manifest, config, size_bytes, assets, program, mut planned, accepted, mut storing } =
            self;
        let (app, isolation) = (&pipeline.app.record, manifest.isolation);
        let assets = pipeline.options.releases.assets(app, assets.as_ref());
        if let Some(assets) = &assets {
            // A release whose assets can't be read must not go live.
            assets.open().await.map_err(|error| Failure::Assets(error.to_string()))?;
        }
        pipeline.push_step(PushEvent::Deploy).await?;
        let (change, cause) = (pipeline.permit.change, format!("{number} is being deployed: {}", origin.cause));
        pipeline.app.ask(|reply| Command::DeployBegins { change, cause, reply }).await??;
        let (resources, before) = (app.traffic.resources(), app.traffic.active());
        let started = boot::start_all(resources, before.as_deref(), &mut planned, isolation).await?;
        pipeline.step(number, ReleaseEvent::Booted, &mut storing).await;
        boot::check_all(resources, &mut planned, isolation).await?;
        pipeline.log(started.to_string());
        reached("release-booted").await;
        let running = ActiveRelease::new(Some(number), program, isolation, planned, Arc::clone(resources))
            .with_middleware(&manifest.middleware, resources)
            .with_assets(assets)
            .with_plugin(manifest.plugin.as_ref());
        let push = pipeline.push.clone();
        Ok(Booted { number, origin, manifest, config, size_bytes, running, push, accepted, storing })
    }
}

impl Booted {
    /// Hands the release to the app's task, which stores it as the current release and puts it in
    /// service. The rollout watch follows.
    async fn commit(mut self, pipeline: &ReleasePipeline) -> Result<Committed, Failure> {
        let (change, accepted) = (pipeline.permit.change, std::mem::take(&mut self.accepted));
        let plugins = &pipeline.options.releases.plugins;
        let _guard = plugins.lock_commit(&pipeline.app.record, &self.manifest, &self.running, accepted).await?;
        plugins.include_in_canaries(&pipeline.app.record.name, &self.manifest);
        let committed = pipeline.app.ask(|reply| Command::Commit { change, booted: Box::new(self), reply }).await;
        committed.unwrap_or_else(|no_reply| Err(no_reply.into()))
    }
}

impl Releases {
    /// Stores the assets of a bundle. Assets that are already stored must exist. Their modification
    /// time is renewed, since the release that they were stored with may be deleted meanwhile.
    async fn store_assets(&self, assets: BundleAssets) -> Result<Option<StoredAssets>, Failure> {
        match assets {
            BundleAssets::None => Ok(None),
            BundleAssets::Stored(assets) => match self.store.blobs().touch(&assets.digest).await {
                Ok(()) => Ok(Some(assets)),
                Err(missing @ StoreError::UnknownBlob { .. }) => Err(Failure::Assets(missing.to_string())),
                Err(error) => Err(error.into()),
            },
            BundleAssets::Packed { pack, files, bytes } => {
                Ok(Some(StoredAssets { digest: self.store.put_blob(pack).await?, files, bytes }))
            }
        }
    }

    /// Marks a release as failed.
    pub(in crate::control) async fn mark_failed(
        &self,
        app: &AppRecord,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Reason,
    ) {
        let (store, name) = (self.store.clone(), app.name.clone());
        let mark = move || -> Storing {
            let (store, name, reason) = (store.clone(), name.clone(), reason.clone());
            Box::pin(
                async move { store.step_release(&name, number, event, Some(reason), Timestamp::now()).await.map(drop) },
            )
        };
        self.activity.store_or_later(app, "the failure of a release", mark).await;
    }

    /// Refuses a release if its warm minimum exceeds the operator's limit per app, so that no app
    /// can occupy all slots of the host. An instance of many memories, tables or modules takes
    /// several slots.
    pub(in crate::control) fn check_warm_minimum(
        &self,
        app_type: AppType,
        formation: &Formation,
        limits: &Limits,
        slots: u32,
    ) -> Result<(), Failure> {
        let kept = formation.values().map(|process| process.scale_at_work(app_type, limits).min);
        let (kept, most) = (kept.map(u64::from).sum::<u64>(), self.app_instances_max);
        let exceeds_limit = kept.saturating_mul(slots.into()) > most.into();
        if exceeds_limit { Err(Failure::TooManyWarmInstances { kept, most, slots }) } else { Ok(()) }
    }
}
