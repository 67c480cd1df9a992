//! Owns the one road by which a release is made and put in service, whatever asked for it: a push, a change of config,
//! formation or grants, a rollback. Until the one commit near the end the app serves what it served before.

use std::sync::{Arc, OnceLock};

use futures::future::join_all;
use isopod_policy::{AppEvent, AppType, ConfigVars, Formation, Limits, Manifest, ReleaseEvent, ReleaseNumber};
use isopod_store::{Control, Digest, Intended, NewActivity, NewRelease, Reason, Store, StoreError};
use jiff::Timestamp;
use serde_json::json;

use crate::control::{
    AppRecord, Deployer, Failure,
    background::activity_log::Storing,
    failpoint::reached,
    push::progress::LivePush,
    release::boot,
    release::verify::{self, Verified},
};
use crate::{limits, runtime::ActiveRelease};
use isopod_policy::PushEvent;

/// What a release is to be made of.
pub(in crate::control) struct ReleaseSpec {
    pub(in crate::control) verified: Verified,
    pub(in crate::control) config: ConfigVars,
    /// What made somebody want it, such as `push p-7f3k2m9q0z`.
    pub(in crate::control) cause: String,
    pub(in crate::control) by: String,
}

/// A release on its way into service.
pub(in crate::control) struct ReleasePipeline {
    pub(in crate::control) entry: Arc<AppRecord>,
    store: Store,
    /// The push that asked for it, whose log is told and whose states follow.
    pub(in crate::control) push: Option<Arc<LivePush>>,
    number: OnceLock<ReleaseNumber>,
}

/// A release that is ready to serve.
pub(in crate::control) struct Ready {
    pub(in crate::control) number: ReleaseNumber,
    manifest: Manifest,
    config: ConfigVars,
    size_bytes: u64,
    cause: String,
    by: String,
    running: ActiveRelease,
    /// Steps that are being stored meanwhile.
    storing: Vec<Storing>,
}

impl ReleasePipeline {
    pub(in crate::control) fn new(entry: Arc<AppRecord>, store: Store, push: Option<Arc<LivePush>>) -> Self {
        Self { entry, store, push, number: OnceLock::new() }
    }

    fn say(&self, text: impl Into<String>) {
        if let Some(push) = &self.push {
            push.say(text);
        }
    }

    async fn push_step(&self, event: PushEvent) -> Result<(), Failure> {
        match &self.push {
            Some(push) => push.step(event, None).await.map(drop).map_err(|e| Failure::Internal(e.to_string())),
            None => Ok(()),
        }
    }

    /// Hands a step to the store, which does all in the order in which they come; it is waited for before the commit.
    async fn step(&self, number: ReleaseNumber, event: ReleaseEvent, storing: &mut Vec<Storing>) {
        let (store, app) = (self.store.clone(), self.entry.name.clone());
        let mut stored: Storing =
            Box::pin(async move { store.step_release(&app, number, event, None, Timestamp::now()).await.map(drop) });
        match futures::poll!(&mut stored) {
            std::task::Poll::Ready(done) => storing.push(Box::pin(std::future::ready(done))),
            std::task::Poll::Pending => storing.push(stored),
        }
    }
}

impl Deployer {
    /// Carries out the making of a release, or leaves the app as it was before: `given_up` says so in its activity.
    pub(in crate::control) async fn carry_out(
        &self,
        making: &ReleasePipeline,
        preparing: impl Future<Output = Result<Ready, Failure>>,
        given_up: &str,
    ) -> Result<(), Failure> {
        let limit = self.0.parts.pushes.time_limit;
        let prepared = self.unless_cancelled(&making.entry, tokio::time::timeout(limit, preparing)).await;
        let done = match prepared.and_then(|in_time| in_time.unwrap_or(Err(Failure::TimeLimit(limit)))) {
            // The commit is short and is never given up half-way.
            Ok(ready) => self.commit(making, ready).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &done {
            making.entry.step_back(given_up);
            self.start_if_wanted(&making.entry);
            if let Some(number) = making.number.get() {
                let event = if failure.is_of_build() { ReleaseEvent::BuildFails } else { ReleaseEvent::DeployFails };
                let reason = failure.reason();
                self.mark_failed(&making.entry, *number, event, reason).await;
            }
        }
        done
    }

    /// Marks a release as failed.
    pub(in crate::control) async fn mark_failed(
        &self,
        entry: &AppRecord,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Reason,
    ) {
        let (store, app) = (self.0.parts.store.clone(), entry.name.clone());
        let mark = move || -> Storing {
            let (store, app, reason) = (store.clone(), app.clone(), reason.clone());
            Box::pin(
                async move { store.step_release(&app, number, event, Some(reason), Timestamp::now()).await.map(drop) },
            )
        };
        self.store_or_later(entry, "that a release failed", mark).await;
    }

    /// Makes a release ready, changing nothing of what serves.
    pub(in crate::control) async fn prepare(
        &self,
        making: &ReleasePipeline,
        wanted: ReleaseSpec,
    ) -> Result<Ready, Failure> {
        let ReleaseSpec { verified, config, cause, by } = wanted;
        let (entry, control) = (&making.entry, &self.0.parts.store);
        let formation = verify::formation_of(&verified.manifest, &verified.info.entries)?;
        let slots = verified.info.slots;
        self.check_kept(entry.fields().app_type, &formation, &verified.manifest.limits, slots)?;
        // What the new release is compared with, and gone back to.
        drop(self.serving(entry).await);

        making.push_step(PushEvent::Build).await?;
        let image = self.image(making, &verified).await?;
        let Verified { component, info, manifest, .. } = verified;
        let code = image.as_ref().map_or(&component, |image| &image.component);
        let begun = std::time::Instant::now();
        let bundle: Digest = info.digest.parse().map_err(|_| Failure::Internal("a digest is none".to_owned()))?;
        let release = NewRelease {
            app: entry.name.clone(),
            bundle,
            snapshot: image.as_ref().map(|image| image.digest.clone()),
            manifest: manifest.clone(),
            config: config.clone(),
            cause: cause.clone(),
            size_bytes: info.size_bytes,
            created_by: by.clone(),
            created_at: Timestamp::now(),
        };
        let app_type = entry.fields().app_type;
        let made = async {
            let release = control.insert_release(release).await?;
            Ok::<_, StoreError>(*making.number.get_or_init(|| release.number))
        };
        let (compiled, stored, made) =
            tokio::join!(self.compile(code, app_type), control.put_blob(component.clone()), made);
        let number = made?;
        stored?;
        let compiled = compiled?;
        making.say(format!("compiled in {} ms", begun.elapsed().as_millis()));
        if let Some(missing) = verify::missing_grant(&info, &manifest.grants) {
            making.say(missing);
        }
        let most = self.0.parts.engine.memory_bytes_most(app_type == AppType::Production);
        if let Some(too_much) = verify::more_memory_than_there_is(&manifest.limits, most) {
            making.say(too_much);
        }
        // An import that the host has no such function for is found here, and is a fault of the build.
        let content = boot::Content { manifest: &manifest, config: &config, number };
        let (program, mut planned) = self.plan(entry, &compiled, &content, formation).await?;
        reached("release-built").await;

        let mut storing = Vec::new();
        making.step(number, ReleaseEvent::Built, &mut storing).await;
        making.push_step(PushEvent::Deploy).await?;
        let begun = entry.begin_deploying(&format!("{number} is brought into service: {cause}"));
        begun.map_err(|refused| Failure::Internal(refused.to_string()))?;
        let before = entry.traffic.active();
        let started =
            boot::start_all(entry.traffic.resources(), before.as_deref(), &mut planned, manifest.isolation).await?;
        making.step(number, ReleaseEvent::Booted, &mut storing).await;
        boot::check_all(entry.traffic.resources(), &mut planned, manifest.isolation).await?;
        making.say(started.to_string());
        reached("release-booted").await;
        let running = ActiveRelease::new(
            Some(number),
            program,
            manifest.isolation,
            planned,
            Arc::clone(entry.traffic.resources()),
        );
        Ok(Ready { number, size_bytes: info.size_bytes, manifest, config, cause, by, running, storing })
    }

    /// No app may take all places of a host by asking for them: what it keeps running has a bound of the operator's.
    /// An instance of many memories, tables or modules takes several.
    pub(in crate::control) fn check_kept(
        &self,
        app_type: AppType,
        formation: &Formation,
        limits: &Limits,
        slots: u32,
    ) -> Result<(), Failure> {
        let kept = formation.values().map(|process| process.scale_at_work(app_type, limits).min);
        let (kept, most) = (kept.map(u64::from).sum::<u64>(), self.0.parts.app_instances_max);
        let is_too_many = kept.saturating_mul(slots.into()) > most.into();
        if is_too_many { Err(Failure::KeepsTooMany { kept, most, slots }) } else { Ok(()) }
    }

    /// Stores that a release is the current one, and lets it serve. Short, and never given up half-way.
    async fn commit(&self, making: &ReleasePipeline, ready: Ready) -> Result<(), Failure> {
        let Ready { number, manifest, config, size_bytes, cause, by, running, storing } = ready;
        let entry = &making.entry;
        let _alone = entry.commit.lock().await;
        if entry.fields().deleted {
            return Err(Failure::AppDeleted);
        }
        // What happened before is told before.
        self.recorded().await;
        let at = Timestamp::now();
        let before = entry.fields().release;
        let replaced = before.map_or_else(|| "the first release".to_owned(), |before| format!("in place of {before}"));
        let text = match entry.fields().intended {
            Intended::Running => format!("{number} is in service, {replaced}: {cause}"),
            Intended::Stopped => format!("{number} serves once the app is started, {replaced}: {cause}"),
        };
        let push = making.push.as_ref().map(|push| push.id().clone());
        let data = json!({
            "release": number, "before": before, "push": push, "size_bytes": size_bytes, "cause": cause, "by": by
        });
        let (app, kind) = (Some(entry.name.clone()), "app-deployed".to_owned());
        let activity = NewActivity { app, kind, text, data, at };
        self.store_commit(making, number, activity, storing).await?;
        reached("release-committed").await;
        {
            let mut fields = entry.fields();
            fields.build_error = None;
            fields.release = Some(number);
            fields.config = config;
        }
        entry.traffic.set_build_error(None);
        if entry.fields().intended == Intended::Running {
            running.mark_fresh();
            self.put_in_service(entry, Arc::new(running), None);
            if let Err(refused) = entry.step(AppEvent::Serving, &format!("{number} serves")) {
                tracing::error!(app = %entry.name, %refused, "a served app is in a state that does not fit");
            }
            self.schedule(entry, &manifest);
            making.say(format!("{number} serves"));
        } else {
            self.schedule(entry, &manifest);
            drop(entry.traffic.set_stopped("the app is stopped"));
            making.say(format!("{number} is made; the app is stopped and stays so until `isopod apps start`"));
            entry.step_back(&format!("{number} is made, and serves once the app is started"));
        }
        // Told last: whoever waits for `completed` finds the new code serving.
        match &making.push {
            Some(push) => push.completed(number, at).map(drop).map_err(|e| Failure::Internal(e.to_string())),
            None => Ok(()),
        }
    }

    async fn store_commit(
        &self,
        making: &ReleasePipeline,
        number: ReleaseNumber,
        activity: NewActivity,
        storing: Vec<Storing>,
    ) -> Result<(), Failure> {
        let (store, at) = (&self.0.parts.store, activity.at);
        join_all(storing).await.into_iter().collect::<Result<(), StoreError>>()?;
        reached("release-commits").await;
        match &making.push {
            Some(push) => {
                push.stored().await?;
                store.complete_push(push.id(), number, activity.clone(), at).await?;
            }
            None => {
                store.make_current(&making.entry.name, number, activity.clone(), at).await?;
            }
        }
        self.tell(activity);
        Ok(())
    }

    /// Lets a release serve, watched beside the one before, which is `last_good` where none serves. That one waits until
    /// the new one has proven well, together with those before it that had no time to do so themselves.
    pub(in crate::control) fn put_in_service(
        &self,
        entry: &Arc<AppRecord>,
        running: Arc<ActiveRelease>,
        last_good: Option<Arc<ActiveRelease>>,
    ) {
        running.supervise(&self.0.crash_reports);
        entry.fields().serves_http = running.serves_http();
        let before = entry.traffic.install(Arc::clone(&running));
        let (nothing_to_watch, too_many) = {
            let mut earlier = entry.earlier();
            earlier.extend(before.or(last_good));
            // The oldest one has proven well, so it stays.
            let too_many = (earlier.len() > limits::EARLIER_RELEASES_MAX).then(|| earlier.remove(1));
            (earlier.is_empty(), too_many)
        };
        if nothing_to_watch {
            return;
        }
        if let Some(too_many) = too_many {
            self.in_background(async move { too_many.drain().await });
        }
        let (deployer, entry) = (self.clone(), Arc::clone(entry));
        self.in_background(async move { deployer.hand_over(&entry, running).await });
    }
}
