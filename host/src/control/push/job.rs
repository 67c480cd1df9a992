//! Owns the push job: accept it, wait for its turn, read its bundle, and have its release made and put in service. Until
//! the one commit near the end a crash or a failure at any point leaves the release before it.

use std::{
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use isopod_policy::{AppName, AppType, BundleKind, Manifest, PushEvent, PushId, PushState};
use isopod_store::{Control, Digest, Idempotency, Inserted, NewPush, StoreError};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, watch};

use crate::control::{
    AppRecord, DeployError, Deployer, Failure, Received,
    failpoint::reached,
    push::progress::{LivePush, PushNow},
    release::pipeline::{Ready, ReleasePipeline, ReleaseSpec},
    release::verify::{self, Verified},
};
use crate::limits;

/// A push that was accepted.
pub(crate) struct Accepted {
    pub(crate) now: PushNow,
    /// The push as it becomes; the sender goes away once it is final.
    pub(crate) news: watch::Receiver<PushNow>,
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

/// A place among those who change an app, one after the other.
type Turn = BoxFuture<'static, OwnedMutexGuard<()>>;

impl Deployer {
    /// Accepts a received bundle as a push. An unknown app is made for it if the bundle can be used at all.
    pub(crate) async fn submit(
        &self,
        app: &AppName,
        received: Received,
        kind: BundleKind,
        by: &str,
        key: Option<String>,
    ) -> Result<Accepted, DeployError> {
        self.still_open()?;
        let (entry, received, created_app) = self.entry_for(app, received, kind, by).await?;
        let idempotency = match key {
            Some(key) => Some(Idempotency { key, upload: digest(&received).await? }),
            None => None,
        };
        // Before a place is asked for: what was accepted before needs none.
        if let Some(accepted) = self.accepted_before(app, &entry, idempotency.as_ref()).await? {
            return Ok(accepted);
        }
        let too_many = |what: String| DeployError::TooMany { what, retry_after: Duration::from_secs(5) };
        let app_room = Arc::clone(&entry.pushes).try_acquire_owned();
        let app_room =
            app_room.map_err(|_| too_many(format!("{} pushes of `{app}`", limits::PUSHES_QUEUED_PER_APP)))?;
        let room = Arc::clone(&self.0.room).try_acquire_owned();
        let room = room.map_err(|_| too_many(format!("{} pushes", self.0.parts.pushes.queued_max)))?;

        let accepting = entry.accepting.lock().await;
        entry.still_there().map_err(|_| DeployError::BeingDestroyed(app.clone()))?;
        let inserted = self.0.parts.store.insert_push(new_push(app, by, idempotency)).await;
        let push = match inserted.map_err(|error| gone_meanwhile(app, error))? {
            Inserted::New(push) => push,
            again @ (Inserted::Same(_) | Inserted::Conflict(_)) => {
                drop(accepting);
                return self.again(app, &entry, again).await;
            }
        };
        reached("push-stored").await;
        let live = LivePush::new(Arc::clone(&entry), self.0.parts.store.clone(), push);
        live.say(format!("received {} bytes", received.bytes));
        self.live_pushes().insert(live.id().clone(), Arc::clone(&live));
        // Taken before the push is answered, so that pushes are done in the order in which they were accepted.
        let turn = enqueue_change(&live.entry).await;
        drop(accepting);
        let job = Job { live: Arc::clone(&live), received, kind, _room: room, _app_room: app_room };
        let deployer = self.clone();
        let (now, news) = (live.now(), live.follow());
        self.0.tasks.spawn(async move { deployer.run(job, turn).await });
        Ok(Accepted { now, news, created_app })
    }

    /// The push that was accepted with this key before, if there is one.
    async fn accepted_before(
        &self,
        app: &AppName,
        entry: &AppRecord,
        sent: Option<&Idempotency>,
    ) -> Result<Option<Accepted>, DeployError> {
        let Some(sent) = sent else { return Ok(None) };
        let store = &self.0.parts.store;
        let mut again = store.sent_before(app, sent.clone(), Timestamp::now()).await?;
        if let Some(Inserted::New(push) | Inserted::Same(push) | Inserted::Conflict(push)) = &again
            && let Some(live) = self.live(&push.id)
            && matches!(live.state(), PushState::Failed | PushState::Cancelled)
        {
            // Its key is free once the store has its end.
            drop(live.stored().await);
            again = store.sent_before(app, sent.clone(), Timestamp::now()).await?;
        }
        match again {
            Some(again) => self.again(app, entry, again).await.map(Some),
            None => Ok(None),
        }
    }

    /// Somebody was not sure whether a push had arrived, or uses its key for another one.
    async fn again(&self, app: &AppName, entry: &AppRecord, again: Inserted) -> Result<Accepted, DeployError> {
        let push = match again {
            Inserted::New(push) | Inserted::Same(push) => push,
            Inserted::Conflict(push) => return Err(DeployError::KeyReused { app: app.clone(), id: push.id }),
        };
        // It may be in the store a moment before it can be followed.
        drop(entry.accepting.lock().await);
        let news = self.follow(app, &push.id).await?;
        let now = news.borrow().clone();
        Ok(Accepted { now, news, created_app: false })
    }

    /// The app that is pushed to, made now if it is not there yet and the bundle is worth it.
    async fn entry_for(
        &self,
        app: &AppName,
        received: Received,
        kind: BundleKind,
        by: &str,
    ) -> Result<(Arc<AppRecord>, Received, bool), DeployError> {
        match self.app(app) {
            Ok(entry) => return Ok((entry, received, false)),
            Err(DeployError::UnknownApp(_)) => {}
            Err(error) => return Err(error),
        }
        let verified = read(&received, kind, Manifest::new(app.clone()))
            .await
            .map_err(|failure| DeployError::Unusable(Box::new(failure)))?;
        // A bundle that says its type gets it; a bare component is somebody's first try.
        let app_type = if verified.has_manifest { verified.manifest.app_type } else { AppType::Dev };
        match self.create(app, app_type, "made by its first push", by).await {
            Ok(entry) => Ok((entry, received, true)),
            // Somebody else made it in the meantime.
            Err(DeployError::AppExists(_)) => {
                let entry = self.app(app).map_err(|_| DeployError::BeingDestroyed(app.clone()))?;
                Ok((entry, received, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a push back whose turn has not come.
    pub(crate) async fn cancel(&self, app: &AppName, id: &PushId, by: &str) -> Result<PushNow, DeployError> {
        let entry = self.app(app)?;
        let now = self.push(app, id).await?;
        let refused = |refused| DeployError::Refused { app: app.clone(), refused };
        // It is not known here before it is accepted in full.
        let accepting = entry.accepting.lock().await;
        let Some(live) = self.live(id) else {
            // It is final, so the table says why not; or nobody is left to do it, and then nobody needs to be told.
            now.push.state.step(PushEvent::Cancel).map_err(refused)?;
            self.0.parts.store.advance_push(id, PushEvent::Cancel, None, Timestamp::now()).await?;
            self.note_cancelled(&entry, id, by).await;
            return self.push(app, id).await;
        };
        drop(accepting);
        live.step(PushEvent::Cancel, None).await.map_err(refused)?;
        live.say("cancelled before its turn came");
        if let Err(error) = live.stored().await {
            // It is so all the same, and stored once there is room.
            tracing::warn!(push = %id, %error, "that a push is cancelled is not stored yet");
        }
        self.note_cancelled(&entry, id, by).await;
        Ok(live.now())
    }

    async fn note_cancelled(&self, entry: &AppRecord, id: &PushId, by: &str) {
        let text = format!("push {id} cancelled before its turn came: asked for");
        self.record(entry, "push-cancelled", text, json!({ "push": id, "by": by })).await;
    }

    async fn run(self, job: Job, turn: Turn) {
        let live = Arc::clone(&job.live);
        let begun = Instant::now();
        let attempted = self.attempt(&job, turn).await;
        // Its upload and its places are of use to others from now on.
        drop(job);
        if let Err(failure) = attempted {
            self.fail(&live, &failure).await;
        }
        // Without its record a push that ended is marked as failed by the next start of the host.
        if let Err(error) = live.stored().await {
            tracing::warn!(push = %live.id(), %error, "a push could not be recorded in full");
        }
        if live.store_end().await.is_err_and(|error| error.is_of_full_disk()) {
            // It is known here until it is stored how it ended.
            self.until_stored(&|| live.store_end()).await;
        }
        self.live_pushes().remove(live.id());
        self.0.parts.metrics.push_ended(live.state(), begun.elapsed());
    }

    async fn attempt(&self, job: &Job, turn: Turn) -> Result<(), Failure> {
        let (live, entry) = (&job.live, &job.live.entry);
        reached("push-queued").await;
        let turn = self.in_turn(live, turn, || "another change of the app is under way".to_owned()).await?;
        let Some(_turn) = turn else { return Ok(()) };
        let most = || format!("{} pushes run, as many as may at one time", self.0.parts.pushes.parallel);
        let Some(_slot) = self.in_turn(live, self.0.running.acquire(), most).await? else { return Ok(()) };
        if live.step(PushEvent::Take, None).await.is_err() {
            // It was cancelled while it waited.
            return Ok(());
        }
        let making = ReleasePipeline::new(Arc::clone(entry), self.0.parts.store.clone(), Some(Arc::clone(live)));
        self.carry_out(&making, self.prepare_push(job, &making), "the push failed").await
    }

    /// Waits for something that a push needs, and says in its log for what. None once the push is cancelled.
    async fn in_turn<T>(
        &self,
        live: &LivePush,
        turn: impl Future<Output = T>,
        waits_for: impl FnOnce() -> String,
    ) -> Result<Option<T>, Failure> {
        let mut turn = std::pin::pin!(turn);
        if let Poll::Ready(turn) = futures::poll!(&mut turn) {
            return Ok(Some(turn));
        }
        live.say(format!("waits for its turn: {}", waits_for()));
        tokio::select! {
            // First, since whoever took it back wants no word of its failure.
            biased;
            () = live.cancelled() => Ok(None),
            turn = self.unless_cancelled(&live.entry, turn) => turn.map(Some),
        }
    }

    /// Waits for something, but not longer than the host runs and the app is there.
    pub(in crate::control) async fn unless_cancelled<T>(
        &self,
        entry: &AppRecord,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = entry.gone.cancelled() => Err(Failure::AppDeleted),
            () = self.0.cancel.cancelled() => Err(Failure::HostStopped),
            done = future => Ok(done),
        }
    }

    /// Reads the bundle and makes its release ready.
    async fn prepare_push(&self, job: &Job, making: &ReleasePipeline) -> Result<Ready, Failure> {
        let (live, entry) = (&job.live, &job.live.entry);
        let present = match self.present(entry).await? {
            Some(release) => release.manifest,
            None => Manifest::new(entry.name.clone()),
        };
        let verified = read(&job.received, job.kind, present).await?;
        log_contents(live, &verified);
        reached("push-verified").await;
        let config = entry.fields().config.clone();
        let wanted = ReleaseSpec { verified, config, cause: format!("push {}", live.id()), by: live.created_by() };
        self.prepare(making, wanted).await
    }

    async fn fail(&self, live: &LivePush, failure: &Failure) {
        if live.state().is_final() {
            // It was taken back at that very moment.
            return;
        }
        live.say(format!("failed: {failure}"));
        let reason = failure.reason();
        tracing::info!(push = %live.id(), app = %live.entry.name, code = reason.code, "a push failed: {failure}");
        let text = format!("push {} failed: {failure}", live.id());
        // Recorded first: whoever sees the push failed finds the reason in the activity.
        if !matches!(failure, Failure::AppDeleted) {
            let data = json!({ "push": live.id(), "code": failure.code(), "by": live.created_by() });
            self.record(&live.entry, "push-failed", text, data).await;
        }
        if let Err(refused) = live.step(PushEvent::Fail, Some(reason)).await {
            tracing::error!(push = %live.id(), %refused, "a failed push could not be marked so");
        }
    }
}

/// The turn to change an app, for which the caller stands in line from now on.
pub(in crate::control) async fn enqueue_change(entry: &AppRecord) -> Turn {
    let mut turn: Turn = Box::pin(Arc::clone(&entry.turn).lock_owned());
    match futures::poll!(&mut turn) {
        Poll::Ready(guard) => Box::pin(std::future::ready(guard)),
        Poll::Pending => turn,
    }
}

fn log_contents(live: &LivePush, verified: &Verified) {
    let info = &verified.info;
    let sdk = info.sdk_version.as_deref().map(|sdk| format!(", SDK {sdk}")).unwrap_or_default();
    live.say(format!("a component of {} bytes, sha256 {}{sdk}", info.size_bytes, info.digest));
    let fields = live.entry.fields().clone();
    if verified.has_manifest && verified.manifest.app_type != fields.app_type {
        live.say(format!(
            "the manifest says type {}, and the app stays {}; `isopod apps type` changes it while it is stopped",
            verified.manifest.app_type, fields.app_type
        ));
    }
    if verified.has_manifest && verified.manifest.name != live.entry.name {
        live.say(format!(
            "the manifest is of an app `{}`, and is deployed to `{}` as was asked",
            verified.manifest.name, live.entry.name
        ));
    }
    if !verified.has_manifest && fields.release.is_some() {
        live.say("a bare component: grants, limits, processes and config stay as they are");
    }
}

async fn digest(received: &Received) -> Result<Digest, DeployError> {
    let path = received.path();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path).map(|bytes| Digest::of(&bytes))).await;
    let read = read.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    read.map_err(|source| DeployError::Disk { doing: "the upload can't be read", source })
}

/// The app was there when the push came: if it is no more, somebody destroyed it in between.
fn gone_meanwhile(app: &AppName, error: StoreError) -> DeployError {
    match error {
        StoreError::UnknownApp { .. } => DeployError::BeingDestroyed(app.clone()),
        error => error.into(),
    }
}

fn new_push(app: &AppName, by: &str, idempotency: Option<Idempotency>) -> NewPush {
    NewPush {
        id: PushId::from_random(rand::random()),
        app: app.clone(),
        bundle: None,
        idempotency,
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
