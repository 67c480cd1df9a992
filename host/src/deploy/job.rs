//! Owns the push job: accept it, run it through its states, and put its release in service. Until the one commit near
//! the end nothing of the app has changed, so a crash or a failure at any point leaves the release before it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use isopod_engine::{Instance, Program};
use isopod_policy::{
    AppEvent, AppName, AppState, AppType, BundleKind, Manifest, Process, PushEvent, PushId, ReleaseNumber,
};
use isopod_store::{Control, Digest, Intended, NewActivity, NewPush, NewRelease, Page, Reason};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    DeployError, Deployer, Entry, Failure, Received, activate,
    push::{LivePush, PushNow},
    verify::{self, Verified},
};
use crate::{dispatch, limits};

/// A push that was accepted.
pub(crate) struct Accepted {
    pub(crate) now: PushNow,
    pub(crate) created_app: bool,
}

/// What a push needs to run, kept until its turn.
struct Job {
    live: Arc<LivePush>,
    received: Received,
    kind: BundleKind,
    _room: OwnedSemaphorePermit,
    _app_room: OwnedSemaphorePermit,
}

/// A release that is ready to serve.
struct Ready {
    program: Program,
    first: Option<Instance>,
    processes: Vec<(String, Process)>,
    manifest: Manifest,
    bundle: Digest,
    size_bytes: u64,
    number: ReleaseNumber,
}

impl Deployer {
    /// Accepts a received bundle as a push. An unknown app is made for it if the bundle can be used at all.
    pub(crate) async fn submit(
        &self,
        app: &AppName,
        received: Received,
        kind: BundleKind,
        by: &str,
    ) -> Result<Accepted, DeployError> {
        self.open()?;
        let (entry, received, created_app) = self.entry_for(app, received, kind, by).await?;
        let too_many = |what: String| DeployError::TooMany { what, retry_after: Duration::from_secs(5) };
        let app_room = Arc::clone(&entry.pushes).try_acquire_owned();
        let app_room =
            app_room.map_err(|_| too_many(format!("{} pushes of `{app}`", limits::PUSHES_QUEUED_PER_APP)))?;
        let room = Arc::clone(&self.0.room).try_acquire_owned();
        let room = room.map_err(|_| too_many(format!("{} pushes", self.0.parts.pushes.queued_max)))?;

        let push = self.0.parts.store.insert_push(new_push(app, by)).await?;
        let live = LivePush::new(entry, self.0.parts.store.clone(), push);
        live.say(format!("received {} bytes", received.bytes));
        self.live_pushes().insert(live.id().clone(), Arc::clone(&live));
        let job = Job { live: Arc::clone(&live), received, kind, _room: room, _app_room: app_room };
        let deployer = self.clone();
        let now = live.now();
        self.0.tasks.spawn(async move { deployer.run(job).await });
        Ok(Accepted { now, created_app })
    }

    /// The app that is pushed to, made now if it is not there yet and the bundle is worth it.
    async fn entry_for(
        &self,
        app: &AppName,
        received: Received,
        kind: BundleKind,
        by: &str,
    ) -> Result<(Arc<Entry>, Received, bool), DeployError> {
        match self.app(app) {
            Ok(entry) => return Ok((entry, received, false)),
            Err(DeployError::UnknownApp(_)) => {}
            Err(error) => return Err(error),
        }
        let verified = read(&received, kind, Manifest::new(app.clone())).await.map_err(DeployError::Unusable)?;
        // A bundle that says its type gets it; a bare component is somebody's first try.
        let app_type = if verified.has_manifest { verified.manifest.app_type } else { AppType::Dev };
        match self.create(app, app_type, "made by its first push", by).await {
            Ok(entry) => Ok((entry, received, true)),
            // Somebody else made it in the meantime.
            Err(DeployError::AppExists(_)) => Ok((self.app(app)?, received, false)),
            Err(error) => Err(error),
        }
    }

    /// Takes a push back whose turn has not come.
    pub(crate) async fn cancel(&self, app: &AppName, id: &PushId) -> Result<PushNow, DeployError> {
        let now = self.push(app, id).await?;
        let refused = |refused| DeployError::Refused { app: app.clone(), refused };
        let Some(live) = self.live(id) else {
            // It is final, so the table says why not.
            return now.push.state.step(PushEvent::Cancel).map(|_| now.clone()).map_err(refused);
        };
        live.step(PushEvent::Cancel, None).await.map_err(refused)?;
        live.say("cancelled before its turn came");
        live.stored().await?;
        Ok(live.now())
    }

    async fn run(self, job: Job) {
        let live = Arc::clone(&job.live);
        let begun = Instant::now();
        if let Err(failure) = self.attempt(&job).await {
            self.fail(&live, &failure).await;
        }
        // Without its record a push that ended is marked as failed by the next start of the host.
        if let Err(error) = live.stored().await {
            tracing::warn!(push = %live.id(), %error, "a push could not be recorded in full");
        }
        self.live_pushes().remove(live.id());
        self.0.parts.metrics.push_ended(live.state(), begun.elapsed());
    }

    async fn attempt(&self, job: &Job) -> Result<(), Failure> {
        let (live, entry) = (&job.live, &job.live.entry);
        let _turn = self.unless_given_up(entry, entry.turn.lock()).await?;
        let _slot = self.unless_given_up(entry, self.0.running.acquire()).await?;
        if live.step(PushEvent::Take, None).await.is_err() {
            // It was cancelled while it waited.
            return Ok(());
        }
        let limit = self.0.parts.pushes.time_limit;
        let preparing = tokio::time::timeout(limit, self.prepare(job));
        let prepared = self.unless_given_up(entry, preparing).await.and_then(|in_time| match in_time {
            Ok(prepared) => prepared,
            Err(_) => Err(Failure::TimeLimit(limit)),
        });
        // The commit is short and is never given up half-way.
        let done = match prepared {
            Ok(ready) => self.commit(live, ready).await,
            Err(failure) => Err(failure),
        };
        if done.is_err() {
            back_to_before(entry);
        }
        done
    }

    /// Waits for something, but not longer than the host runs and the app is there.
    async fn unless_given_up<T>(&self, entry: &Entry, future: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = entry.gone.cancelled() => Err(Failure::AppDeleted),
            () = self.0.abandon.cancelled() => Err(Failure::HostStopped),
            done = future => Ok(done),
        }
    }

    /// Makes the release ready, changing nothing that lasts but files that are named by their content.
    async fn prepare(&self, job: &Job) -> Result<Ready, Failure> {
        let (live, entry) = (&job.live, &job.live.entry);
        let present = self.present_manifest(entry).await?;
        let verified = read(&job.received, job.kind, present).await?;
        tell_contents(live, &verified);

        advance(live, PushEvent::Build).await?;
        let begun = Instant::now();
        let app_type = entry.facts().app_type;
        let (component, bundle) =
            tokio::join!(self.compile(&verified, app_type), self.0.parts.store.blobs().put(verified.component.clone()));
        let (component, bundle) = (component?, bundle?);
        live.say(format!("compiled in {} ms", begun.elapsed().as_millis()));

        advance(live, PushEvent::Deploy).await?;
        begin_deploying(entry)?;
        let number = self.next_number(entry).await?;
        let program = self.program(entry, &component, &verified.manifest, number).await?;
        let processes = verify::formation(&verified.manifest, &verified.info.entries)?;
        let first = activate::check(&program, &processes).await?;
        live.say("a new instance started and is healthy");
        let size_bytes = verified.info.size_bytes;
        Ok(Ready { program, first, processes, manifest: verified.manifest, bundle, size_bytes, number })
    }

    /// The number that the app's next release will have; nobody else takes it while this push has the turn.
    async fn next_number(&self, entry: &Entry) -> Result<ReleaseNumber, Failure> {
        let newest = self.0.parts.store.releases(&entry.name, Page { cursor: None, limit: Some(1) }).await?;
        match newest.items.first() {
            Some(release) => {
                let next = release.number.next();
                next.ok_or_else(|| Failure::Internal("the app has used up all release numbers".to_owned()))
            }
            None => Ok(ReleaseNumber::FIRST),
        }
    }

    /// Stores the release and puts it in service.
    async fn commit(&self, live: &LivePush, ready: Ready) -> Result<(), Failure> {
        let entry = &live.entry;
        if entry.facts().deleted {
            return Err(Failure::AppDeleted);
        }
        let at = Timestamp::now();
        let before = entry.facts().release;
        let replaced = before.map_or_else(|| "the first release".to_owned(), |before| format!("in place of {before}"));
        let text = format!("push {} put {} in service, {replaced}", live.id(), ready.number);
        let release = NewRelease {
            app: entry.name.clone(),
            bundle: ready.bundle.clone(),
            manifest: ready.manifest.clone(),
            size_bytes: ready.size_bytes,
            created_by: live.created_by(),
            created_at: at,
        };
        let number = ready.number;
        self.store_release(live, number, release, text).await?;
        {
            let mut facts = entry.facts();
            facts.build_error = None;
            facts.release = Some(number);
        }
        entry.traffic.set_build_error(None);
        if entry.facts().intended == Intended::Running {
            let isolation = ready.manifest.isolation;
            let running = dispatch::Running::new(Some(number), ready.program, &ready.processes, isolation, ready.first);
            entry.traffic.install(running);
            if let Err(refused) = entry.step(AppEvent::Serving, None) {
                tracing::error!(app = %entry.name, %refused, "a served app is in a state that does not fit");
            }
            live.say(format!("{number} serves"));
        } else {
            live.say(format!("{number} is made; the app is stopped and stays so until `isopod apps start`"));
            back_to_before(entry);
        }
        // Told last: whoever waits for `completed` finds the new code serving.
        live.completed(number, at).map(drop).map_err(|refused| Failure::Internal(refused.to_string()))
    }

    async fn store_release(
        &self,
        live: &LivePush,
        number: ReleaseNumber,
        release: NewRelease,
        text: String,
    ) -> Result<(), Failure> {
        let store = &self.0.parts.store;
        let (at, by, size_bytes) = (release.created_at, release.created_by.clone(), release.size_bytes);
        let data = json!({ "push": live.id(), "release": number, "size_bytes": size_bytes, "by": by });
        let app = Some(release.app.clone());
        let activity = NewActivity { app, kind: "app-deployed".to_owned(), text, data, at };
        live.stored().await?;
        // Handed over one right after the other, so that both are done with one wait for the disk.
        let (made, completed) = tokio::join!(
            biased;
            store.insert_release(release),
            store.complete_push(live.id(), number, activity.clone(), at)
        );
        let made = made?;
        if made.number != number {
            return Err(Failure::Internal(format!("{number} was to be made, and {} was", made.number)));
        }
        completed?;
        self.tell(activity);
        Ok(())
    }

    async fn fail(&self, live: &LivePush, failure: &Failure) {
        live.say(format!("failed: {failure}"));
        let reason = Reason { code: failure.code().to_owned(), detail: failure.to_string() };
        tracing::info!(push = %live.id(), app = %live.entry.name, code = reason.code, "a push failed: {failure}");
        let text = format!("push {} failed: {failure}", live.id());
        if let Err(refused) = live.step(PushEvent::Fail, Some(reason)).await {
            tracing::error!(push = %live.id(), %refused, "a failed push could not be marked so");
        }
        if !matches!(failure, Failure::AppDeleted) {
            let data = json!({ "push": live.id(), "code": failure.code(), "by": live.created_by() });
            self.record(&live.entry, "push-failed", text, data).await;
        }
    }
}

/// The app is again what it was before the push: it serves the release it has, or it is stopped.
fn back_to_before(entry: &Entry) {
    if entry.facts().state != AppState::Deploying {
        return;
    }
    let (before, detail) = entry.facts().before_deploy.clone();
    let steps: &[AppEvent] = match before {
        AppState::Running | AppState::Deploying if entry.traffic.is_serving() => &[AppEvent::Serving],
        AppState::Error(cause) => &[AppEvent::Failed(cause)],
        // Whoever was about to start it still waits for the turn, and goes on from there.
        AppState::Starting => &[AppEvent::Stop, AppEvent::Start],
        AppState::Stopped | AppState::Running | AppState::Deploying => &[AppEvent::Stop],
    };
    for event in steps {
        if let Err(refused) = entry.step(*event, detail.clone()) {
            tracing::error!(app = %entry.name, %refused, "an app could not go back to its state before a push");
        }
    }
}

fn begin_deploying(entry: &Entry) -> Result<(), Failure> {
    {
        let mut facts = entry.facts();
        facts.before_deploy = (facts.state, facts.error_detail.clone());
    }
    let stepped = entry.step(AppEvent::DeployBegins, None);
    stepped.map(drop).map_err(|refused| Failure::Internal(refused.to_string()))
}

async fn advance(live: &LivePush, event: PushEvent) -> Result<(), Failure> {
    live.step(event, None).await.map(drop).map_err(|refused| Failure::Internal(refused.to_string()))
}

fn tell_contents(live: &LivePush, verified: &Verified) {
    let info = &verified.info;
    let sdk = info.sdk_version.as_deref().map(|sdk| format!(", SDK {sdk}")).unwrap_or_default();
    live.say(format!("a component of {} bytes, sha256 {}{sdk}", info.size_bytes, info.digest));
    let facts = live.entry.facts().clone();
    if verified.has_manifest && verified.manifest.app_type != facts.app_type {
        live.say(format!(
            "the manifest says type {}, and the app stays {}; `isopod apps type` changes it while it is stopped",
            verified.manifest.app_type, facts.app_type
        ));
    }
    if !verified.has_manifest && facts.release.is_some() {
        live.say("a bare component: grants, limits, processes and config stay as they are");
    }
}

fn new_push(app: &AppName, by: &str) -> NewPush {
    NewPush {
        id: PushId::from_random(rand::random()),
        app: app.clone(),
        bundle: None,
        created_by: by.to_owned(),
        created_at: Timestamp::now(),
    }
}

async fn read(received: &Received, kind: BundleKind, present: Manifest) -> Result<Verified, Failure> {
    let path = received.path();
    let reading = tokio::task::spawn_blocking(move || {
        let bytes = std::fs::read(path).map_err(|e| Failure::Internal(format!("the upload can't be read: {e}")))?;
        verify::verify(kind, bytes, present)
    });
    reading.await.unwrap_or_else(|e| Err(Failure::Internal(e.to_string())))
}
