//! Runs push jobs: each waits for its permits, reads its bundle, and runs the release pipeline.
//! Never changes what the app serves before the pipeline's commit: a crash or a failure before it
//! leaves the former release in service.

use std::{panic::AssertUnwindSafe, sync::Arc, task::Poll, time::Instant};

use futures::FutureExt;
use isopod_policy::{BundleKind, PushEvent, ReleaseCause};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::control::{
    app::AppRecord,
    app_command::{AppHandle, ChangePermit, Origin},
    background::activity_log::ActivityLog,
    error::Failure,
    failpoint::reached,
    push::{progress::LivePush, pushes::Pushes, upload::Received},
    release::pipeline::{self, ReleasePipeline, ReleaseSource, ReleaseSpec},
    requester::Requester,
    shutdown::Shutdown,
    storing::retry_until_stored,
};
use crate::observe::metrics::Metrics;

/// A push job that waits or runs, with its permits.
pub(in crate::control) struct Job {
    pub(in crate::control) app: AppHandle,
    pub(in crate::control) live: Arc<LivePush>,
    pub(in crate::control) received: Received,
    pub(in crate::control) kind: BundleKind,
    pub(in crate::control) requester: Requester,
    /// The permits of the host and of the app.
    pub(in crate::control) permits: [OwnedSemaphorePermit; 2],
}

/// The permit to change the app, which a push job waits for.
type QueuedPermit = oneshot::Receiver<ChangePermit>;

/// Runs push jobs. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct PushRunner {
    pub(in crate::control) pushes: Pushes,
    pub(in crate::control) pipeline: pipeline::Options,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) metrics: Metrics,
    pub(in crate::control) shutdown: Shutdown,
}

impl PushRunner {
    /// Spawns a job, which a shutdown drains.
    pub(in crate::control) fn spawn(&self, job: Job, permit: QueuedPermit) {
        self.shutdown.tasks.spawn(self.clone().run(job, permit));
    }

    async fn run(self, job: Job, permit: QueuedPermit) {
        let (app, live) = (Arc::clone(&job.app.record), Arc::clone(&job.live));
        let started_at = Instant::now();
        // Removes the upload and releases the permits in the end. A panic fails only this push.
        let attempt = AssertUnwindSafe(self.attempt(job, permit)).catch_unwind().await;
        let panicked = || Failure::Internal("the push panicked; the output of the host shows where".to_owned());
        if let Err(failure) = attempt.unwrap_or_else(|_| Err(panicked())) {
            self.fail(&app, &live, &failure).await;
        }
        // If its end is not stored, the next start of the host marks the push as failed.
        if let Err(error) = live.stored().await {
            tracing::warn!(push = %live.id(), %error, "not all records of a push could be stored");
        }
        if live.store_end().await.is_err_and(|error| error.is_of_unwritable_disk()) {
            // The push stays in the table until its end is stored.
            retry_until_stored(&|| live.store_end()).await;
        }
        self.pushes.remove(live.id());
        self.metrics.push_ended(live.state(), started_at.elapsed());
    }

    async fn attempt(&self, job: Job, permit: QueuedPermit) -> Result<(), Failure> {
        let Job { app, live, received, kind, requester, permits: _permits } = job;
        reached("push-queued").await;
        let permit = self
            .acquire((&app.record, &live), permit, || "another change of the app is in progress".to_owned())
            .await?;
        let Some(permit) = permit else { return Ok(()) };
        let permit = permit.map_err(|_| Failure::AppDeleted)?;
        let most = || format!("{} pushes are running, the maximum", self.pushes.options().parallel);
        let Some(_running) = self.acquire((&app.record, &live), self.pushes.acquire_running(), most).await? else {
            return Ok(());
        };
        if live.step(PushEvent::Take, None).await.is_err() {
            // The push was cancelled while it waited.
            return Ok(());
        }
        let cause = format!("push {}", live.id());
        let origin = Origin { kind: ReleaseCause::Push, cause, by: live.created_by() };
        // Kept until the job ends.
        let received = Arc::new(received);
        let spec = ReleaseSpec { source: ReleaseSource::Bundle(Arc::clone(&received), kind), origin, requester };
        let pipeline = ReleasePipeline::new(self.pipeline.clone(), app, permit, Some(live));
        pipeline.run(spec, "the push failed").await.map(drop)
    }

    /// Waits for a permit that a push needs, and logs why it waits. Returns `None` if the push is
    /// cancelled.
    async fn acquire<T>(
        &self,
        (app, live): (&AppRecord, &LivePush),
        permit: impl Future<Output = T>,
        waits_for: impl FnOnce() -> String,
    ) -> Result<Option<T>, Failure> {
        let mut permit = std::pin::pin!(permit);
        if let Poll::Ready(permit) = futures::poll!(&mut permit) {
            return Ok(Some(permit));
        }
        live.log(format!("waiting: {}", waits_for()));
        tokio::select! {
            // Checked first: a cancelled push must not be reported as failed.
            biased;
            () = live.cancelled() => Ok(None),
            permit = self.shutdown.unless_cancelled(app, permit) => permit.map(Some),
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
            self.activity.record(app, "push-failed", text, data).await;
        }
        if let Err(refused) = live.step(PushEvent::Fail, Some(reason)).await {
            tracing::error!(push = %live.id(), %refused, "a failed push could not be marked as failed");
        }
    }
}
