//! Owns writing down what happens to apps, in the order in which it happens: one task stores all of it and tells those who
//! follow. What a full disk has no room for is stored once there is some.

use std::collections::VecDeque;

use futures::future::{BoxFuture, join_all};
use isopod_policy::{limits::TEXT_LINE_BYTES_MAX, text::excerpt};
use isopod_store::{Control, NewActivity, StoreError};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::control::{AppRecord, Deployer};
use crate::limits;

/// What the task that writes is given.
pub(crate) enum Record {
    Happened(NewActivity),
    /// Told once everything before is stored, or can't be.
    UpTo(oneshot::Sender<()>),
}

/// An attempt to store something.
pub(in crate::control) type Storing = BoxFuture<'static, Result<(), StoreError>>;

impl Deployer {
    /// Writes down what comes, several records at a time where they wait: the store then needs one wait for the disk for
    /// all. Also what pushes bring while the host stops.
    pub(in crate::control) async fn record_activity(self, mut records: mpsc::Receiver<Record>) {
        let settled = self.0.settled.clone();
        let (mut late, mut again_at) = (VecDeque::new(), Instant::now());
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                _ = records.recv_many(&mut waiting, limits::RECORDS_AT_ONCE) => {}
                () = tokio::time::sleep_until(again_at), if !late.is_empty() => {}
                // The host does not wait for room on its disk to stop.
                () = settled.cancelled() => return,
            }
            self.write(waiting, &mut late).await;
            if !late.is_empty() && again_at <= Instant::now() {
                self.write_late(&mut late).await;
                again_at = Instant::now() + limits::STORED_AGAIN_AFTER;
            }
        }
    }

    /// Stores what happened and tells it. What a full disk has no room for, and what comes after it, is `late`: whoever
    /// follows, or waits for a record, needs no room on the disk.
    async fn write(&self, records: Vec<Record>, late: &mut VecDeque<NewActivity>) {
        let (mut happened, mut asked) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Happened(activity) => happened.push(activity),
                Record::UpTo(done) => asked.push(done),
            }
        }
        let left = if late.is_empty() { self.append(happened.clone()).await } else { happened.clone() };
        for activity in left {
            if late.len() < limits::RECORDS_WAITING {
                late.push_back(activity);
            } else {
                tracing::warn!(kind = activity.kind, "an activity is not recorded: too many wait for room on the disk");
            }
        }
        happened.into_iter().for_each(|activity| self.tell(activity));
        for done in asked {
            // Whoever asked may have given up waiting.
            let _given_up = done.send(());
        }
    }

    /// Tries again to store what is late, in its order, until all of it is stored or there is no room.
    async fn write_late(&self, late: &mut VecDeque<NewActivity>) {
        while !late.is_empty() {
            let some: Vec<_> = late.drain(..late.len().min(limits::RECORDS_AT_ONCE)).collect();
            let left = self.append(some.into_iter().filter(|activity| self.is_of_one_there(activity)).collect()).await;
            if !left.is_empty() {
                left.into_iter().rev().for_each(|activity| late.push_front(activity));
                return;
            }
        }
    }

    /// Whether it happened to an app that is there; a new one of its name has nothing to do with it.
    fn is_of_one_there(&self, activity: &NewActivity) -> bool {
        let is_its_own = |name| self.app(name).is_ok_and(|entry| entry.created_at <= activity.at);
        activity.app.as_ref().is_none_or(is_its_own)
    }

    /// Adds to the stored activity, and gives back what a full disk has no room for.
    async fn append(&self, activities: Vec<NewActivity>) -> Vec<NewActivity> {
        let store = &self.0.parts.store;
        // Each is handed to the store in its turn, and the store does them in that order.
        let stored = join_all(activities.iter().map(|activity| store.append_activity(activity.clone()))).await;
        let mut left = Vec::new();
        for (activity, stored) in activities.into_iter().zip(stored) {
            let Err(error) = stored else { continue };
            if error.is_of_full_disk() {
                tracing::debug!(%error, kind = activity.kind, "an activity is recorded once the disk has room");
                left.push(activity);
            } else {
                tracing::warn!(%error, kind = activity.kind, "an activity could not be recorded");
            }
        }
        left
    }

    /// Stores something of an app: where the disk is full, once it has room again. Says whether it is stored now.
    pub(in crate::control) async fn store_or_later(
        &self,
        entry: &AppRecord,
        what: &str,
        attempt: impl Fn() -> Storing + Send + Sync + 'static,
    ) -> bool {
        let Err(error) = attempt().await else { return true };
        if entry.gone.is_cancelled() {
            // It goes with all that is stored of it.
            return false;
        }
        tracing::error!(app = %entry.name, %error, "{what} is not stored");
        if error.is_of_full_disk() {
            let deployer = self.clone();
            // Nothing of it must be stored for a new app of its name.
            let gone = entry.gone.clone();
            self.in_background(async move {
                gone.run_until_cancelled(deployer.until_stored(&attempt)).await;
            });
        }
        false
    }

    /// Tries again to store what a full disk had no room for, until it has some or says something else.
    pub(in crate::control) async fn until_stored(&self, attempt: &(impl Fn() -> Storing + Sync)) {
        loop {
            tokio::time::sleep(limits::STORED_AGAIN_AFTER).await;
            match attempt().await {
                Ok(()) => return,
                Err(error) if error.is_of_full_disk() => {}
                Err(error) => {
                    tracing::warn!(%error, "what a full disk had no room for is not stored");
                    return;
                }
            }
        }
    }

    /// Adds to the app's activity. A record that can't be kept is no reason to undo what was done; of an app that is deleted
    /// none is kept, since a new one of its name may be there before it is stored.
    pub(in crate::control) async fn record(&self, entry: &AppRecord, kind: &str, text: String, data: Value) {
        if entry.fields().deleted {
            return;
        }
        let activity = self.activity_of(entry, kind, text, data);
        if self.0.records.send_timeout(Record::Happened(activity), limits::RECORD_WAIT).await.is_err() {
            tracing::warn!(app = %entry.name, kind, "an activity is not recorded: too many wait to be stored");
            return;
        }
        self.recorded().await;
    }

    /// The same where nobody waits until it is recorded.
    pub(in crate::control) fn note(&self, entry: &AppRecord, kind: &str, text: String, data: Value) {
        if entry.fields().deleted {
            return;
        }
        if self.0.records.try_send(Record::Happened(self.activity_of(entry, kind, text, data))).is_err() {
            tracing::warn!(app = %entry.name, kind, "an activity is not recorded: too many wait to be stored");
        }
    }

    /// Waits until what has happened so far is stored, but not for room on a full disk.
    pub(in crate::control) async fn recorded(&self) {
        let (done, when_done) = oneshot::channel();
        if self.0.records.send_timeout(Record::UpTo(done), limits::RECORD_WAIT).await.is_ok() {
            drop(tokio::time::timeout(limits::RECORD_WAIT, when_done).await);
        }
    }

    /// What happened to an app, with the numbers behind it.
    pub(in crate::control) fn activity_of(
        &self,
        entry: &AppRecord,
        kind: &str,
        text: String,
        data: Value,
    ) -> NewActivity {
        let text = excerpt(&text, TEXT_LINE_BYTES_MAX).into_owned();
        NewActivity { app: Some(entry.name.clone()), kind: kind.to_owned(), text, data, at: Timestamp::now() }
    }

    /// Tells those who follow what was recorded; that nobody follows is the usual case.
    pub(in crate::control) fn tell(&self, activity: NewActivity) {
        drop(self.0.news.send(activity));
    }
}
