//! Owns the push job: accepts it, waits for its turn, reads the bundle, and runs the release
//! pipeline. Never changes what the app serves before the pipeline's commit: a crash or a failure
//! before it leaves the former release in service.

use std::{
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use isopod_policy::{AppName, AppType, BundleKind, Manifest, PushEvent, PushId, PushState};
use isopod_store::{Control, Digest, Idempotency, Inserted, NewPush, StoreError};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::control::limits;
use crate::control::{
    AppRecord, DeployError, Deployer, Failure, Received,
    app_command::{AppHandle, Command, Origin, Turn},
    app_task::AppTask,
    failpoint::reached,
    push::progress::{LivePush, PushNow},
    push::request::{Accepted, PushRequest},
    release::pipeline::{Content, ReleasePipeline, ReleaseSpec},
    release::verify,
    storing::retry_until_stored,
};

/// A push job that waits or runs, with its permits.
struct Job {
    app: AppHandle,
    live: Arc<LivePush>,
    received: Received,
    kind: BundleKind,
    _permit: OwnedSemaphorePermit,
    _app_permit: OwnedSemaphorePermit,
}

/// The turn of a push job among the changes of its app.
type QueuedTurn = oneshot::Receiver<Turn>;

impl Deployer {
    /// Accepts a received bundle as a push job. Creates the app if it doesn't exist and the bundle
    /// is valid.
    pub(crate) async fn submit(
        &self,
        name: &AppName,
        received: Received,
        kind: BundleKind,
        by: &str,
        key: Option<String>,
    ) -> Result<Accepted, DeployError> {
        self.ensure_open()?;
        let (app, received, created_app) = self.find_or_create(name, received, kind, by).await?;
        let idempotency = match key {
            Some(key) => Some(Idempotency { key, upload: digest(&received).await? }),
            None => None,
        };
        let request = PushRequest { received, kind, by: by.to_owned(), idempotency, created_app };
        match app.request(|reply| Command::Push { request, reply }).await {
            Err(DeployError::UnknownApp(name)) => Err(DeployError::BeingDestroyed(name)),
            accepted => accepted,
        }
    }
    /// Returns the app. Creates it if it doesn't exist and the bundle is valid.
    async fn find_or_create(
        &self,
        name: &AppName,
        received: Received,
        kind: BundleKind,
        by: &str,
    ) -> Result<(AppHandle, Received, bool), DeployError> {
        match self.handle(name) {
            Ok(app) => return Ok((app, received, false)),
            Err(DeployError::UnknownApp(_)) => {}
            Err(error) => return Err(error),
        }
        let verified = verify::read(&received, kind, Manifest::new(name.clone()))
            .await
            .map_err(|failure| DeployError::Unusable(Box::new(failure)))?;
        // The manifest selects the type. A bare component, typically a first try, makes a dev app.
        let app_type = if verified.has_manifest { verified.manifest.app_type } else { AppType::Dev };
        match self.create(name, app_type, "created by its first push", by).await {
            Ok(_) => {
                let app = self.handle(name).map_err(|_| DeployError::BeingDestroyed(name.clone()))?;
                Ok((app, received, true))
            }
            // A concurrent request created it.
            Err(DeployError::AppExists(_)) => {
                let app = self.handle(name).map_err(|_| DeployError::BeingDestroyed(name.clone()))?;
                Ok((app, received, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Cancels a push job that still waits.
    pub(crate) async fn cancel(&self, name: &AppName, id: &PushId, by: &str) -> Result<PushNow, DeployError> {
        let (id, by) = (id.clone(), by.to_owned());
        self.handle(name)?.request(|reply| Command::CancelPush { id, by, reply }).await
    }

    async fn record_cancelled(&self, app: &AppRecord, id: &PushId, by: &str) {
        let text = format!("push {id} cancelled while waiting: requested");
        self.0.activity.record(app, "push-cancelled", text, json!({ "push": id, "by": by })).await;
    }

    async fn run(self, job: Job, turn: QueuedTurn) {
        let (app, live) = (Arc::clone(&job.app.record), Arc::clone(&job.live));
        let started_at = Instant::now();
        // Removes the upload and releases the permits in the end.
        if let Err(failure) = self.attempt(job, turn).await {
            self.fail(&app, &live, &failure).await;
        }
        // If its end is not stored, the next start of the host marks the push as failed.
        if let Err(error) = live.stored().await {
            tracing::warn!(push = %live.id(), %error, "not all records of a push could be stored");
        }
        if live.store_end().await.is_err_and(|error| error.is_of_full_disk()) {
            // The push stays in the table until its end is stored.
            retry_until_stored(&|| live.store_end()).await;
        }
        self.0.pushes.remove(live.id());
        self.0.parts.metrics.push_ended(live.state(), started_at.elapsed());
    }

    async fn attempt(&self, job: Job, turn: QueuedTurn) -> Result<(), Failure> {
        let Job { app, live, received, kind, _permit, _app_permit } = job;
        reached("push-queued").await;
        let turn =
            self.in_turn((&app.record, &live), turn, || "another change of the app is in progress".to_owned()).await?;
        let Some(turn) = turn else { return Ok(()) };
        let turn = turn.map_err(|_| Failure::AppDeleted)?;
        let most = || format!("{} pushes are running, the maximum", self.0.pushes.options().parallel);
        let Some(_slot) = self.in_turn((&app.record, &live), self.0.pushes.run(), most).await? else { return Ok(()) };
        if live.step(PushEvent::Take, None).await.is_err() {
            // The push was cancelled while it waited.
            return Ok(());
        }
        let origin = Origin { cause: format!("push {}", live.id()), by: live.created_by() };
        // Kept until the job ends.
        let received = Arc::new(received);
        let spec = ReleaseSpec { content: Content::Bundle(Arc::clone(&received), kind), origin };
        let pipeline = ReleasePipeline::new(self.clone(), app, turn, Some(live));
        pipeline.run(spec, "the push failed").await.map(drop)
    }

    /// Waits for a lock or a permit that a push needs, and logs the reason. Returns `None` if the
    /// push is cancelled.
    async fn in_turn<T>(
        &self,
        (app, live): (&AppRecord, &LivePush),
        turn: impl Future<Output = T>,
        waits_for: impl FnOnce() -> String,
    ) -> Result<Option<T>, Failure> {
        let mut turn = std::pin::pin!(turn);
        if let Poll::Ready(turn) = futures::poll!(&mut turn) {
            return Ok(Some(turn));
        }
        live.log(format!("waiting: {}", waits_for()));
        tokio::select! {
            // Checked first: a cancelled push must not be reported as failed.
            biased;
            () = live.cancelled() => Ok(None),
            turn = self.unless_cancelled(app, turn) => turn.map(Some),
        }
    }

    /// Runs a future until it completes, the app is destroyed, or the host shuts down.
    pub(in crate::control) async fn unless_cancelled<T>(
        &self,
        app: &AppRecord,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = app.destroyed() => Err(Failure::AppDeleted),
            () = self.0.cancel.cancelled() => Err(Failure::HostStopped),
            done = future => Ok(done),
        }
    }

    async fn fail(&self, app: &AppRecord, live: &LivePush, failure: &Failure) {
        if live.state().is_final() {
            // It was cancelled concurrently.
            return;
        }
        live.log(format!("failed: {failure}"));
        let reason = failure.reason();
        tracing::info!(push = %live.id(), app = %live.app, code = reason.code, "a push failed: {failure}");
        let text = format!("push {} failed: {failure}", live.id());
        // Recorded before the state changes, so that clients that see the failure find the reason
        // in the activity.
        if !matches!(failure, Failure::AppDeleted) {
            let data = json!({ "push": live.id(), "code": failure.code(), "by": live.created_by() });
            self.0.activity.record(app, "push-failed", text, data).await;
        }
        if let Err(refused) = live.step(PushEvent::Fail, Some(reason)).await {
            tracing::error!(push = %live.id(), %refused, "a failed push could not be marked as failed");
        }
    }
}

impl AppTask {
    /// Accepts a push: stores it, and queues its job among the changes of the app.
    pub(in crate::control) async fn accept(&mut self, request: PushRequest) -> Result<Accepted, DeployError> {
        let PushRequest { received, kind, by, idempotency, created_app } = request;
        // Checked before permits are acquired: a repeated push needs none.
        if let Some(accepted) = self.accepted_before(idempotency.as_ref()).await? {
            return Ok(accepted);
        }
        let (deployer, name) = (self.deployer.clone(), self.app.name.clone());
        let too_many = |what: String| DeployError::TooMany { what, retry_after: Duration::from_secs(5) };
        let app_permit = Arc::clone(&self.pushes).try_acquire_owned();
        let app_permit =
            app_permit.map_err(|_| too_many(format!("{} pushes of `{name}`", limits::PUSHES_QUEUED_PER_APP)))?;
        let pushes = deployer.pushes();
        let most = pushes.options().queued_max;
        let permit = pushes.queue().ok_or_else(|| too_many(format!("{most} pushes")))?;

        let inserted = deployer.0.parts.store.insert_push(new_push(&name, &by, idempotency)).await;
        let push = match inserted.map_err(|error| destroyed_meanwhile(&name, error))? {
            Inserted::New(push) => push,
            again @ (Inserted::Same(_) | Inserted::Conflict(_)) => return self.again(again).await,
        };
        reached("push-stored").await;
        let live = LivePush::new(Arc::clone(&self.app.log), deployer.0.parts.store.clone(), push);
        live.log(format!("received {} bytes", received.bytes));
        pushes.insert(Arc::clone(&live));
        // Queued before the response, so that push jobs run in the order of their acceptance.
        let (grant, turn) = oneshot::channel();
        self.enqueue(grant);
        let job = Job {
            app: self.handle.clone(),
            live: Arc::clone(&live),
            received,
            kind,
            _permit: permit,
            _app_permit: app_permit,
        };
        let (now, updates) = (live.now(), live.follow());
        let running = deployer.clone();
        deployer.0.tasks.spawn(async move { running.run(job, turn).await });
        Ok(Accepted { now, updates, created_app })
    }

    /// Returns the push that was accepted with this idempotency key before, if any.
    async fn accepted_before(&self, sent: Option<&Idempotency>) -> Result<Option<Accepted>, DeployError> {
        let Some(sent) = sent else { return Ok(None) };
        let (store, name) = (&self.deployer.0.parts.store, &self.app.name);
        let mut again = store.sent_before(name, sent.clone(), Timestamp::now()).await?;
        if let Some(Inserted::New(push) | Inserted::Same(push) | Inserted::Conflict(push)) = &again
            && let Some(live) = self.deployer.pushes().live(&push.id)
            && matches!(live.state(), PushState::Failed | PushState::Cancelled)
        {
            // The store frees the key once the end of the push is stored.
            drop(live.stored().await);
            again = store.sent_before(name, sent.clone(), Timestamp::now()).await?;
        }
        match again {
            Some(again) => self.again(again).await.map(Some),
            None => Ok(None),
        }
    }

    /// Answers a repeated idempotency key: with the push that has it, or with an error if the
    /// bundle differs.
    async fn again(&self, again: Inserted) -> Result<Accepted, DeployError> {
        let push = match again {
            Inserted::New(push) | Inserted::Same(push) => push,
            Inserted::Conflict(push) => {
                return Err(DeployError::KeyReused { app: self.app.name.clone(), id: push.id });
            }
        };
        let updates = self.deployer.pushes().follow(&self.app.name, &push.id).await?;
        let now = updates.borrow().clone();
        Ok(Accepted { now, updates, created_app: false })
    }

    /// Cancels a push job that still waits.
    pub(in crate::control) async fn cancel_push(&self, id: &PushId, by: &str) -> Result<PushNow, DeployError> {
        let (deployer, app) = (&self.deployer, &self.app);
        let now = deployer.pushes().get(&app.name, id).await?;
        let refused = |refused| DeployError::Refused { app: app.name.clone(), refused };
        let Some(live) = deployer.pushes().live(id) else {
            // A final push refuses this step. A stored push without a job can be cancelled in the
            // store alone.
            now.push.state.step(PushEvent::Cancel).map_err(refused)?;
            deployer.0.parts.store.advance_push(id, PushEvent::Cancel, None, Timestamp::now()).await?;
            deployer.record_cancelled(app, id, by).await;
            return deployer.pushes().get(&app.name, id).await;
        };
        live.step(PushEvent::Cancel, None).await.map_err(refused)?;
        live.log("cancelled while waiting");
        if let Err(error) = live.stored().await {
            // The push is cancelled nevertheless. Its state is stored once the disk has space.
            tracing::warn!(push = %id, %error, "the cancellation of a push is not stored yet");
        }
        deployer.record_cancelled(app, id, by).await;
        Ok(live.now())
    }
}

async fn digest(received: &Received) -> Result<Digest, DeployError> {
    let path = received.path();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path).map(|bytes| Digest::of(&bytes))).await;
    let read = read.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    read.map_err(|source| DeployError::Disk { doing: "the upload can't be read", source })
}

/// The app existed at the start of the request. If the store doesn't have it now, it was destroyed
/// meanwhile.
fn destroyed_meanwhile(app: &AppName, error: StoreError) -> DeployError {
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
