//! Owns the progress of a push job: its state, its log, its subscribers, and the order in which its
//! records are stored. Never builds or deploys anything.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, join_all};
use isopod_policy::{
    AppName, PushEvent, PushId, PushState, Refused, ReleaseNumber,
    limits::TEXT_LINE_BYTES_MAX,
    text::{excerpt, printable},
};
use isopod_store::{Push, PushStep, Reason, Store, StoreError};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    control::{limits, storing::Storing},
    observe::logs::{AppLog, LogLine},
};

/// The current state of a push job, with its log.
#[derive(Debug, Clone)]
pub(crate) struct PushNow {
    pub(crate) push: Push,
    pub(crate) log: Vec<String>,
}

/// A push job from its acceptance until its end is stored.
pub(in crate::control) struct LivePush {
    pub(in crate::control) app: AppName,
    app_log: Arc<AppLog>,
    id: PushId,
    store: Store,
    now: watch::Sender<PushNow>,
    recorder: mpsc::Sender<Record>,
    /// Log lines that are not handed to the recorder yet.
    unstored: Mutex<Vec<(Timestamp, String)>>,
}

/// A record of the push, stored in order by the recorder while the job continues: a deployment must
/// not wait for the disk.
enum Record {
    Step(PushEvent, Option<Reason>, Timestamp),
    Line(String, Timestamp),
    /// Replies once all earlier records are stored, or failed.
    Flush(oneshot::Sender<Result<(), StoreError>>),
}

impl LivePush {
    /// Creates a job, and spawns the recorder's task. Must be called within a Tokio runtime.
    pub(in crate::control) fn new(app_log: Arc<AppLog>, store: Store, push: Push) -> Arc<Self> {
        let (recorder, records) = mpsc::channel(limits::PUSH_RECORDS_QUEUED_MAX);
        let (app, id) = (push.app.clone(), push.id.clone());
        tokio::spawn(record(store.clone(), id.clone(), records));
        let now = watch::Sender::new(PushNow { push, log: Vec::new() });
        Arc::new(Self { app, app_log, id, store, now, recorder, unstored: Mutex::default() })
    }

    pub(in crate::control) fn id(&self) -> &PushId {
        &self.id
    }

    pub(in crate::control) fn now(&self) -> PushNow {
        self.now.borrow().clone()
    }

    pub(in crate::control) fn state(&self) -> PushState {
        self.now.borrow().push.state
    }

    /// Completes when the push is cancelled, or never.
    pub(in crate::control) async fn cancelled(&self) {
        // The sender is a field of `self`, so the wait can't fail.
        drop(self.follow().wait_for(|now| now.push.state == PushState::Cancelled).await);
    }

    pub(in crate::control) fn created_by(&self) -> String {
        self.now.borrow().push.created_by.clone()
    }

    pub(in crate::control) fn follow(&self) -> watch::Receiver<PushNow> {
        self.now.subscribe()
    }

    /// Steps the state machine, and notifies subscribers. The recorder stores the step later, in
    /// order.
    pub(in crate::control) async fn step(
        &self,
        event: PushEvent,
        reason: Option<Reason>,
    ) -> Result<PushState, Refused> {
        let at = Timestamp::now();
        let state = self.show(event, at, |push| push.reason.clone_from(&reason))?;
        self.store_lines().await;
        self.store(Record::Step(event, reason, at)).await;
        Ok(state)
    }

    /// Marks the push as completed. This step was stored together with the release.
    pub(in crate::control) fn completed(&self, release: ReleaseNumber, at: Timestamp) -> Result<PushState, Refused> {
        self.show(PushEvent::Complete, at, |push| push.release = Some(release))
    }

    /// Adds a line to the logs of the push and of the app.
    pub(in crate::control) fn log(&self, text: impl Into<String>) {
        let text = excerpt(&printable(&text.into()), TEXT_LINE_BYTES_MAX).into_owned();
        self.app_log.write(LogLine::host(&self.app, format!("push {}: {text}", self.id)));
        let mut unstored = self.unstored.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.send_modify(|now| {
            if now.log.len() < limits::PUSH_LINES_WRITTEN_MAX {
                unstored.push((Timestamp::now(), text.clone()));
                now.log.push(text);
            }
        });
    }

    /// Waits until all records of this push are stored. Returns the first error since the last
    /// call.
    pub(in crate::control) async fn stored(&self) -> Result<(), StoreError> {
        self.store_lines().await;
        let (done, when_done) = oneshot::channel();
        self.store(Record::Flush(done)).await;
        when_done.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Stores the final state, even if earlier steps could not be stored.
    pub(in crate::control) fn store_end(&self) -> Storing {
        let Push { id, state, reason, updated_at, .. } = self.now().push;
        let store = self.store.clone();
        Box::pin(async move {
            let event = match state {
                PushState::Failed => PushEvent::Fail,
                PushState::Cancelled => PushEvent::Cancel,
                // `Completed` is always stored already, and the other states are not final.
                PushState::Completed
                | PushState::Queued
                | PushState::Running
                | PushState::Building
                | PushState::Deploying => return Ok(()),
            };
            if store.push(&id).await?.is_none_or(|stored| stored.state.is_final()) {
                return Ok(());
            }
            store.advance_push(&id, event, reason, updated_at).await.map(drop)
        })
    }

    fn show(&self, event: PushEvent, at: Timestamp, change: impl FnOnce(&mut Push)) -> Result<PushState, Refused> {
        let mut stepped = Ok(PushState::Queued);
        self.now.send_if_modified(|now| {
            stepped = now.push.state.step(event);
            let Ok(state) = stepped else { return false };
            now.push.state = state;
            now.push.updated_at = at;
            let log_lines = u32::try_from(now.log.len()).unwrap_or(u32::MAX);
            now.push.steps.push(PushStep { state, log_lines });
            change(&mut now.push);
            true
        });
        stepped
    }

    async fn store_lines(&self) {
        let lines = std::mem::take(&mut *self.unstored.lock().unwrap_or_else(PoisonError::into_inner));
        for (at, text) in lines {
            self.store(Record::Line(text, at)).await;
        }
    }

    async fn store(&self, record: Record) {
        // The recorder's task ends only after this sender is dropped.
        drop(self.recorder.send(record).await);
    }
}

/// Stores records, several at a time if they queue up, so that the store waits for the disk once
/// for all.
async fn record(store: Store, id: PushId, mut records: mpsc::Receiver<Record>) {
    let mut first_error = None;
    let mut waiting = Vec::new();
    while records.recv_many(&mut waiting, limits::PUSH_RECORDS_QUEUED_MAX).await > 0 {
        let mut replies = Vec::new();
        // The calls reach the store's queue in this order, which the store keeps.
        let storing = waiting.drain(..).filter_map(|record| match record {
            Record::Step(event, reason, at) => {
                let (store, id) = (&store, &id);
                Some(Box::pin(async move { store.advance_push(id, event, reason, at).await.map(drop) })
                    as BoxFuture<'_, _>)
            }
            Record::Line(text, at) => {
                let (store, id) = (&store, &id);
                Some(Box::pin(async move { store.append_push_log(id, &text, at).await.map(drop) }) as BoxFuture<'_, _>)
            }
            Record::Flush(done) => {
                replies.push(done);
                None
            }
        });
        let stored: Vec<Result<(), StoreError>> = join_all(storing).await;
        // The records of a push are deleted with its app.
        let is_unexpected = |error: &StoreError| !matches!(error, StoreError::UnknownPush { .. });
        for error in stored.into_iter().filter_map(Result::err).filter(is_unexpected) {
            tracing::warn!(push = %id, %error, "a step of a push could not be stored");
            first_error.get_or_insert(error);
        }
        for done in replies {
            // The caller may have stopped waiting.
            drop(done.send(first_error.take().map_or(Ok(()), Err)));
        }
    }
}
