//! The release pipeline: the only path by which a release is created and put in service, for a
//! push, a settings change and a rollback. Never changes what the app serves before its commit, the
//! last step that can fail.

use std::sync::{Arc, OnceLock};

use futures::future::join_all;
use isopod_policy::{
    AppCommand, AppType, ChangeId, ConfigVars, Denied, Formation, Limits, Manifest, ReleaseEvent, ReleaseNumber,
};
use isopod_store::{Control, Digest, Intended, NewActivity, NewRelease, Reason, Store, StoreError};
use jiff::Timestamp;
use serde_json::json;

use crate::control::{
    AppRecord, Deployer, Failure,
    app_task::{AppTask, Command, Incoming, Turn},
    background::activity_log::Storing,
    failpoint::reached,
    push::progress::LivePush,
    release::boot,
    release::verify::{self, Verified},
};
use crate::runtime::ActiveRelease;
use isopod_policy::PushEvent;

/// The content of a new release.
pub(in crate::control) struct ReleaseSpec {
    pub(in crate::control) verified: Verified,
    pub(in crate::control) config: ConfigVars,
    /// The cause, such as `push p-7f3k2m9q0z`.
    pub(in crate::control) cause: String,
    pub(in crate::control) by: String,
}

/// One run of the pipeline.
pub(in crate::control) struct ReleasePipeline {
    pub(in crate::control) app: Arc<AppRecord>,
    /// The next change of the app runs when the pipeline ends.
    turn: Turn,
    store: Store,
    /// The push job that started the pipeline, if any. Receives log lines and state steps.
    pub(in crate::control) push: Option<Arc<LivePush>>,
    number: OnceLock<ReleaseNumber>,
}

/// A release that passed its health checks and is ready for the commit.
pub(in crate::control) struct Ready {
    pub(in crate::control) number: ReleaseNumber,
    manifest: Manifest,
    config: ConfigVars,
    size_bytes: u64,
    cause: String,
    by: String,
    running: ActiveRelease,
    /// The push job that delivered the release, if any.
    push: Option<Arc<LivePush>>,
    /// Release steps that are being stored.
    storing: Vec<Storing>,
}

impl ReleasePipeline {
    pub(in crate::control) fn new(app: Arc<AppRecord>, turn: Turn, store: Store, push: Option<Arc<LivePush>>) -> Self {
        Self { app, turn, store, push, number: OnceLock::new() }
    }

    fn log(&self, text: impl Into<String>) {
        if let Some(push) = &self.push {
            push.log(text);
        }
    }

    async fn push_step(&self, event: PushEvent) -> Result<(), Failure> {
        match &self.push {
            Some(push) => push.step(event, None).await.map(drop).map_err(|e| Failure::Internal(e.to_string())),
            None => Ok(()),
        }
    }

    /// Hands a step to the store, which keeps the order of the calls. The commit waits for the
    /// result.
    async fn step(&self, number: ReleaseNumber, event: ReleaseEvent, storing: &mut Vec<Storing>) {
        let (store, app) = (self.store.clone(), self.app.name.clone());
        let mut stored: Storing =
            Box::pin(async move { store.step_release(&app, number, event, None, Timestamp::now()).await.map(drop) });
        match futures::poll!(&mut stored) {
            std::task::Poll::Ready(done) => storing.push(Box::pin(std::future::ready(done))),
            std::task::Poll::Pending => storing.push(stored),
        }
    }
}

impl Deployer {
    /// Runs the pipeline to the end. On a failure, ends the app's deployment with `abort_cause` as
    /// its cause, and marks the release as failed.
    pub(in crate::control) async fn carry_out(
        &self,
        pipeline: &ReleasePipeline,
        preparing: impl Future<Output = Result<Ready, Failure>>,
        abort_cause: &str,
    ) -> Result<(), Failure> {
        let limit = self.0.parts.pushes.time_limit;
        let prepared = self.unless_cancelled(&pipeline.app, tokio::time::timeout(limit, preparing)).await;
        let done = match prepared.and_then(|in_time| in_time.unwrap_or(Err(Failure::TimeLimit(limit)))) {
            // The commit is short and is never cancelled.
            Ok(ready) => {
                let change = pipeline.turn.change;
                let committed =
                    pipeline.app.ask(|reply| Command::Commit { change, ready: Box::new(ready), reply }).await;
                committed.unwrap_or_else(|no_reply| Err(no_reply.into()))
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &done {
            let (change, cause) = (pipeline.turn.change, abort_cause.to_owned());
            // A destroyed app has no state.
            drop(pipeline.app.ask(|reply| Command::DeployEnds { change, cause, reply }).await);
            if let Some(number) = pipeline.number.get() {
                let event =
                    if failure.is_build_failure() { ReleaseEvent::BuildFails } else { ReleaseEvent::DeployFails };
                let reason = failure.reason();
                self.mark_failed(&pipeline.app, *number, event, reason).await;
            }
        }
        done
    }

    /// Marks a release as failed.
    pub(in crate::control) async fn mark_failed(
        &self,
        app: &AppRecord,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Reason,
    ) {
        let (store, name) = (self.0.parts.store.clone(), app.name.clone());
        let mark = move || -> Storing {
            let (store, name, reason) = (store.clone(), name.clone(), reason.clone());
            Box::pin(
                async move { store.step_release(&name, number, event, Some(reason), Timestamp::now()).await.map(drop) },
            )
        };
        self.store_or_later(app, "the failure of a release", mark).await;
    }

    /// Builds, starts and checks a release. Doesn't change what the app serves.
    pub(in crate::control) async fn prepare(
        &self,
        pipeline: &ReleasePipeline,
        spec: ReleaseSpec,
    ) -> Result<Ready, Failure> {
        let ReleaseSpec { verified, config, cause, by } = spec;
        let (app, control) = (&pipeline.app, &self.0.parts.store);
        let formation = verify::formation_of(&verified.manifest, &verified.info.entries)?;
        let slots = verified.info.slots;
        self.check_warm_minimum(app.fields().app_type, &formation, &verified.manifest.limits, slots)?;
        // Loads the current release, which the rollout watch compares with and may return to.
        drop(self.serving(app).await);

        pipeline.push_step(PushEvent::Build).await?;
        let snapshot = self.snapshot(pipeline, &verified).await?;
        let Verified { component, info, manifest, .. } = verified;
        let code = snapshot.as_ref().map_or(&component, |snapshot| &snapshot.component);
        let started_at = std::time::Instant::now();
        let bundle: Digest =
            info.digest.parse().map_err(|_| Failure::Internal("invalid digest of a component".to_owned()))?;
        let release = NewRelease {
            app: app.name.clone(),
            bundle,
            snapshot: snapshot.as_ref().map(|snapshot| snapshot.digest.clone()),
            manifest: manifest.clone(),
            config: config.clone(),
            cause: cause.clone(),
            size_bytes: info.size_bytes,
            created_by: by.clone(),
            created_at: Timestamp::now(),
        };
        let app_type = app.fields().app_type;
        let inserted = async {
            let release = control.insert_release(release).await?;
            Ok::<_, StoreError>(*pipeline.number.get_or_init(|| release.number))
        };
        let (compiled, stored, inserted) =
            tokio::join!(self.compile(code, app_type), control.put_blob(component.clone()), inserted);
        let number = inserted?;
        stored?;
        let compiled = compiled?;
        pipeline.log(format!("compiled in {} ms", started_at.elapsed().as_millis()));
        if let Some(note) = verify::grant_note(&info, &manifest.grants) {
            pipeline.log(note);
        }
        let most = self.0.parts.engine.memory_bytes_most(app_type == AppType::Production);
        if let Some(note) = verify::memory_note(&manifest.limits, most) {
            pipeline.log(note);
        }
        // Linking finds imports that the host doesn't provide, so their failure is a build failure.
        let content = boot::Content { manifest: &manifest, config: &config, number };
        let (program, mut planned) = self.plan(app, &compiled, &content, formation).await?;
        reached("release-built").await;

        let mut storing = Vec::new();
        pipeline.step(number, ReleaseEvent::Built, &mut storing).await;
        pipeline.push_step(PushEvent::Deploy).await?;
        let (change, deploys) = (pipeline.turn.change, format!("{number} is being deployed: {cause}"));
        app.ask(|reply| Command::DeployBegins { change, cause: deploys, reply }).await??;
        let before = app.traffic.active();
        let started =
            boot::start_all(app.traffic.resources(), before.as_deref(), &mut planned, manifest.isolation).await?;
        pipeline.step(number, ReleaseEvent::Booted, &mut storing).await;
        boot::check_all(app.traffic.resources(), &mut planned, manifest.isolation).await?;
        pipeline.log(started.to_string());
        reached("release-booted").await;
        let running =
            ActiveRelease::new(Some(number), program, manifest.isolation, planned, Arc::clone(app.traffic.resources()));
        let push = pipeline.push.clone();
        Ok(Ready { number, size_bytes: info.size_bytes, manifest, config, cause, by, running, push, storing })
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
        let (kept, most) = (kept.map(u64::from).sum::<u64>(), self.0.parts.app_instances_max);
        let exceeds_limit = kept.saturating_mul(slots.into()) > most.into();
        if exceeds_limit { Err(Failure::TooManyWarmInstances { kept, most, slots }) } else { Ok(()) }
    }
}

impl AppTask {
    /// Stores that a release is the current release, and puts it in service. Short, and never
    /// cancelled.
    pub(in crate::control) async fn commit(&mut self, change: ChangeId, ready: Ready) -> Result<(), Failure> {
        let decision = self.decide(AppCommand::Commit(change, ready.number)).map_err(|denied| match denied {
            Denied::Destroyed => Failure::AppDeleted,
            denied => Failure::Internal(format!("the release can't be committed: {denied}")),
        })?;
        let Ready { number, manifest, config, size_bytes, cause, by, running, push, storing } = ready;
        let (deployer, app) = (self.deployer.clone(), Arc::clone(&self.app));
        // Activities before the commit are stored before it.
        deployer.flush_activity().await;
        let at = Timestamp::now();
        let fields = app.fields();
        let before = fields.release;
        let replaced = before.map_or_else(|| "the first release".to_owned(), |before| format!("replacing {before}"));
        let text = match fields.intended {
            Intended::Running => format!("{number} is in service, {replaced}: {cause}"),
            Intended::Stopped => format!("{number} will serve once the app is started, {replaced}: {cause}"),
        };
        let data = json!({
            "release": number, "before": before, "push": push.as_ref().map(|push| push.id()), "size_bytes": size_bytes,
            "cause": cause, "by": by
        });
        let activity = NewActivity { app: Some(app.name.clone()), kind: "app-deployed".to_owned(), text, data, at };
        deployer.store_commit(&app, push.as_deref(), number, activity, storing).await?;
        reached("release-committed").await;
        self.publish(|fields| {
            fields.build_error = None;
            fields.config = config;
        });
        app.traffic.set_build_error(None);
        let (cause, incoming) = match fields.intended {
            Intended::Running => {
                running.mark_fresh();
                (format!("{number} serves"), Some(Incoming::New { running: Arc::new(running), beside: None }))
            }
            Intended::Stopped => (format!("{number} is ready and will serve once the app is started"), None),
        };
        let serves = incoming.is_some();
        self.perform(decision, &cause, incoming);
        deployer.schedule(&app, &manifest);
        let Some(push) = push else { return Ok(()) };
        push.log(match serves {
            true => cause,
            false => format!("{number} is ready; the app is stopped and serves after `isopod apps start`"),
        });
        // Last, so that clients that wait for `completed` find the new code serving.
        push.completed(number, at).map(drop).map_err(|e| Failure::Internal(e.to_string()))
    }
}

impl Deployer {
    async fn store_commit(
        &self,
        app: &AppRecord,
        push: Option<&LivePush>,
        number: ReleaseNumber,
        activity: NewActivity,
        storing: Vec<Storing>,
    ) -> Result<(), Failure> {
        let (store, at) = (&self.0.parts.store, activity.at);
        join_all(storing).await.into_iter().collect::<Result<(), StoreError>>()?;
        reached("release-commits").await;
        match push {
            Some(push) => {
                push.stored().await?;
                store.complete_push(push.id(), number, activity.clone(), at).await?;
            }
            None => {
                store.make_current(&app.name, number, activity.clone(), at).await?;
            }
        }
        self.publish(activity);
        Ok(())
    }
}
