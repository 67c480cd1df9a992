//! Owns a push job's record while it is under way: its state, its log and its followers, and the order in which they are
//! stored. Never does the work.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, join_all};
use isopod_policy::{PushEvent, PushId, PushState, Refused, ReleaseNumber, limits::TEXT_LINE_BYTES_MAX, text::excerpt};
use isopod_store::{Control, Push, Reason, Store, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::control::{AppRecord, background::activity_log::Storing};
use crate::{limits, observe::logs::LogLine};

/// A push as it is now, with its log.
#[derive(Debug, Clone)]
pub(crate) struct PushNow {
    pub(crate) push: Push,
    pub(crate) log: Vec<String>,
    /// The states that it came into since it was accepted here; none of one that is read from the store.
    pub(crate) steps: Vec<Step>,
}

/// A state, and how much of the log was written before it: so a follower who hears of several at once can tell what
/// came first.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub(crate) struct Step {
    state: PushState,
    log_lines: usize,
}

/// A push that is not final yet, or has just become so.
pub(in crate::control) struct LivePush {
    pub(in crate::control) entry: Arc<AppRecord>,
    id: PushId,
    store: Store,
    now: watch::Sender<PushNow>,
    recorder: mpsc::Sender<Record>,
    /// Lines of the log that are not stored yet.
    unsaid: Mutex<Vec<(Timestamp, String)>>,
}

/// What is stored of a push, in order, while the job goes on: a disk's wait must not stand in a reload's way.
enum Record {
    Step(PushEvent, Option<Reason>, Timestamp),
    Line(String, Timestamp),
    /// Everything before is stored, or could not be.
    Done(oneshot::Sender<Result<(), StoreError>>),
}

impl LivePush {
    /// Needs a runtime: the recorder is a task of its own.
    pub(in crate::control) fn new(entry: Arc<AppRecord>, store: Store, push: Push) -> Arc<Self> {
        let (recorder, records) = mpsc::channel(limits::PUSH_RECORDS_WAITING);
        let id = push.id.clone();
        tokio::spawn(record(store.clone(), id.clone(), records));
        let now = watch::Sender::new(PushNow { push, log: Vec::new(), steps: Vec::new() });
        Arc::new(Self { entry, id, store, now, recorder, unsaid: Mutex::default() })
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

    /// Waits until it is cancelled, which it may never be.
    pub(in crate::control) async fn cancelled(&self) {
        // The sender lives as long as this.
        drop(self.follow().wait_for(|now| now.push.state == PushState::Cancelled).await);
    }

    pub(in crate::control) fn created_by(&self) -> String {
        self.now.borrow().push.created_by.clone()
    }

    pub(in crate::control) fn follow(&self) -> watch::Receiver<PushNow> {
        self.now.subscribe()
    }

    /// Takes a step of the state machine, for all to see. It is stored in its turn.
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

    /// The last step of all: it was stored together with the release.
    pub(in crate::control) fn completed(&self, release: ReleaseNumber, at: Timestamp) -> Result<PushState, Refused> {
        self.show(PushEvent::Complete, at, |push| push.release = Some(release))
    }

    /// Adds a line to the push's log and to the app's.
    pub(in crate::control) fn say(&self, text: impl Into<String>) {
        let text = excerpt(&text.into(), TEXT_LINE_BYTES_MAX).into_owned();
        self.entry.log.write(LogLine::host(&self.entry.name, format!("push {}: {text}", self.id)));
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.send_modify(|now| {
            if now.log.len() < limits::PUSH_LOG_LINES_MAX {
                unsaid.push((Timestamp::now(), text.clone()));
                now.log.push(text);
            }
        });
    }

    /// Waits until all of this push is stored, and says whether it could be.
    pub(in crate::control) async fn stored(&self) -> Result<(), StoreError> {
        self.store_lines().await;
        let (done, when_done) = oneshot::channel();
        self.store(Record::Done(done)).await;
        when_done.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Stores how it ended, whatever could be stored of the steps before.
    pub(in crate::control) fn store_end(&self) -> Storing {
        let Push { id, state, reason, updated_at, .. } = self.now().push;
        let store = self.store.clone();
        Box::pin(async move {
            let event = match state {
                PushState::Failed => PushEvent::Fail,
                PushState::Cancelled => PushEvent::Cancel,
                // It is completed only where that is stored; any other state is none that it ends in.
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
            now.steps.push(Step { state, log_lines: now.log.len() });
            change(&mut now.push);
            true
        });
        stepped
    }

    async fn store_lines(&self) {
        let lines = std::mem::take(&mut *self.unsaid.lock().unwrap_or_else(PoisonError::into_inner));
        for (at, text) in lines {
            self.store(Record::Line(text, at)).await;
        }
    }

    async fn store(&self, record: Record) {
        // The recorder ends only with this push.
        drop(self.recorder.send(record).await);
    }
}

/// Stores what comes, several records at a time where they wait: the store then needs one wait for the disk for all.
async fn record(store: Store, id: PushId, mut records: mpsc::Receiver<Record>) {
    let mut trouble = None;
    let mut waiting = Vec::new();
    while records.recv_many(&mut waiting, limits::PUSH_RECORDS_WAITING).await > 0 {
        let mut asked = Vec::new();
        // Each is handed to the store in its turn, and the store does them in that order.
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
            Record::Done(done) => {
                asked.push(done);
                None
            }
        });
        let stored: Vec<Result<(), StoreError>> = join_all(storing).await;
        // What belongs to no push any more went with its app.
        let is_trouble = |error: &StoreError| !matches!(error, StoreError::UnknownPush { .. });
        for error in stored.into_iter().filter_map(Result::err).filter(is_trouble) {
            tracing::warn!(push = %id, %error, "a step of a push could not be stored");
            trouble.get_or_insert(error);
        }
        for done in asked {
            // Whoever asked may have given up waiting.
            drop(done.send(trouble.take().map_or(Ok(()), Err)));
        }
    }
}
