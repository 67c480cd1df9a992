//! Accepts and cancels push jobs, in the app's task. Each job runs on another task. Never runs a
//! job.

use std::{sync::Arc, time::Duration};

use isopod_policy::{AppName, PushEvent, PushId, PushState};
use isopod_store::{Idempotency, Inserted, NewPush, StoreError};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::oneshot;

use super::AppTask;
use crate::control::{
    error::DeployError,
    failpoint::reached,
    limits,
    push::{
        progress::{LivePush, PushNow},
        request::{Accepted, PushRequest},
    },
    push_runner::Job,
};

impl AppTask {
    /// Accepts a push: stores it, and queues its job among the changes of the app.
    pub(super) async fn accept(&mut self, request: PushRequest) -> Result<Accepted, DeployError> {
        let PushRequest { received, kind, requester, idempotency, created_app } = request;
        // Checked before permits are acquired: a repeated push needs none.
        if let Some(accepted) = self.accepted_before(idempotency.as_ref()).await? {
            return Ok(accepted);
        }
        let (services, name) = (Arc::clone(&self.services), self.app.name.clone());
        let too_many = |what: String| DeployError::TooMany { what, retry_after: Duration::from_secs(5) };
        let app_permit = Arc::clone(&self.pushes).try_acquire_owned();
        let app_permit =
            app_permit.map_err(|_| too_many(format!("{} pushes of `{name}`", limits::PUSHES_QUEUED_PER_APP)))?;
        let pushes = &services.pushes;
        let most = pushes.options().queued_max;
        let permit = pushes.queue().ok_or_else(|| too_many(format!("{most} pushes")))?;

        let inserted = services.store.insert_push(new_push(&name, &requester.by, idempotency)).await;
        let push = match inserted.map_err(|error| destroyed_meanwhile(&name, error))? {
            Inserted::New(push) => push,
            again @ (Inserted::Same(_) | Inserted::Conflict(_)) => return self.again(again).await,
        };
        reached("push-stored").await;
        let live = LivePush::new(Arc::clone(&self.app.log), services.store.clone(), push);
        live.log(format!("received {} bytes", received.bytes));
        pushes.insert(Arc::clone(&live));
        // Queued before the response, so that push jobs run in the order of their acceptance.
        let (reply, change_permit) = oneshot::channel();
        self.enqueue(reply);
        let (now, updates) = (live.now(), live.follow());
        let job = Job { app: self.handle.clone(), live, received, kind, requester, permits: [permit, app_permit] };
        services.push_runner.spawn(job, change_permit);
        Ok(Accepted { now, updates, created_app })
    }

    /// Returns the push that was accepted with this idempotency key before, if any.
    async fn accepted_before(&self, sent: Option<&Idempotency>) -> Result<Option<Accepted>, DeployError> {
        let Some(sent) = sent else { return Ok(None) };
        let (store, name) = (&self.services.store, &self.app.name);
        let mut again = store.sent_before(name, sent.clone(), Timestamp::now()).await?;
        if let Some(Inserted::New(push) | Inserted::Same(push) | Inserted::Conflict(push)) = &again
            && let Some(live) = self.services.pushes.live(&push.id)
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
        let updates = self.services.pushes.follow(&self.app.name, &push.id).await?;
        let now = updates.borrow().clone();
        Ok(Accepted { now, updates, created_app: false })
    }

    /// Cancels a push job that still waits.
    pub(super) async fn cancel_push(&self, id: &PushId, by: &str) -> Result<PushNow, DeployError> {
        let (services, app) = (&self.services, &self.app);
        let now = services.pushes.get(&app.name, id).await?;
        let refused = |refused| DeployError::Refused { app: app.name.clone(), refused };
        let Some(live) = services.pushes.live(id) else {
            // A final push refuses this step. A stored push without a job can be cancelled in the
            // store alone.
            now.push.state.step(PushEvent::Cancel).map_err(refused)?;
            services.store.advance_push(id, PushEvent::Cancel, None, Timestamp::now()).await?;
            self.record_cancelled(id, by).await;
            return services.pushes.get(&app.name, id).await;
        };
        live.step(PushEvent::Cancel, None).await.map_err(refused)?;
        live.log("cancelled while waiting");
        if let Err(error) = live.stored().await {
            // The push is cancelled nevertheless. Its state is stored once the disk has space.
            tracing::warn!(push = %id, %error, "the cancellation of a push is not stored yet");
        }
        self.record_cancelled(id, by).await;
        Ok(live.now())
    }

    async fn record_cancelled(&self, id: &PushId, by: &str) {
        let text = format!("push {id} cancelled while waiting: requested");
        self.services.activity.record(&self.app, "push-cancelled", text, json!({ "push": id, "by": by })).await;
    }
}

/// Returns the error of a request to an existing app. If the store doesn't have the app, it was
/// destroyed during the request.
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
