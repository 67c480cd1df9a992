//! The activity of one app as a topic. The published activities only wake it: it reads the stored
//! ones, which have ids, so that a slow client misses none. Never sends an event.

use std::{collections::VecDeque, sync::Arc};

use futures::stream;
use isopod_store::{Activity, NewActivity, Page, Store, StoreError};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    position::Position,
    topics::{Attempts, Data, Step, Topic, TopicName},
};
use crate::{
    api::{activity::ActivityView, sse::EndReason},
    control::{APP_DESTROYED, AppRecord},
};

struct FollowedActivity {
    store: Store,
    record: Arc<AppRecord>,
    published: Receiver<NewActivity>,
    /// The id after which a reconnecting client continues.
    from: Option<u64>,
    /// The id of the last activity that was read. `None` before the first read.
    last: Option<u64>,
    read: VecDeque<Activity>,
    /// Whether activities after `last` may be stored.
    is_behind: bool,
    /// Whether the app was destroyed, and its last activity returned.
    is_over: bool,
    attempts: Attempts,
}

/// Returns the activity of one app after `from`, or after the newest activity.
pub(super) fn activity(
    store: Store,
    record: Arc<AppRecord>,
    published: Receiver<NewActivity>,
    from: Option<u64>,
) -> Topic {
    let attempts = Attempts::of(TopicName::Activity);
    let (read, is_behind, is_over) = (VecDeque::new(), true, false);
    let followed = FollowedActivity { store, record, published, from, last: None, read, is_behind, is_over, attempts };
    Box::pin(stream::unfold(Some(followed), |followed| async {
        let mut followed = followed?;
        let step = followed.next().await?;
        let rest = (!step.is_last()).then_some(followed);
        Some((step, rest))
    }))
}

impl FollowedActivity {
    /// Returns the next step, or `None` if the host stops.
    async fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                let position = Position::of_activity(entry.id);
                return Some(Step::Data(Data::Activity(entry.into()), position));
            }
            if self.is_over {
                return Some(Step::ended(TopicName::Activity, EndReason::AppDestroyed));
            }
            if self.is_behind {
                match self.read_stored().await {
                    Some(step) => return Some(step),
                    None => continue,
                }
            }
            let is_of_app = |activity: &NewActivity| activity.app.as_ref() == Some(&self.record.name);
            match self.published.recv().await {
                Ok(activity) if !is_of_app(&activity) => {}
                // It is not stored, and no other follows.
                Ok(NewActivity { app, kind, text, data, at }) if kind == APP_DESTROYED => {
                    self.is_over = true;
                    return Some(Step::of(Data::Activity(ActivityView { at, app, kind, text, data })));
                }
                Err(RecvError::Lagged(_)) if self.record.is_destroyed() => self.is_over = true,
                Ok(_) | Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Reads stored activities. Returns the step that reports a start, a failure or a recovery.
    async fn read_stored(&mut self) -> Option<Step> {
        self.attempts.pause().await;
        let read = self.stored().await;
        // Checked after the read: a new app may have the same name. Its destruction is published.
        if self.record.is_destroyed() {
            self.is_behind = false;
            return None;
        }
        let (entries, start) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(app = %self.record.name, %error, "the activity of a page's event stream can't be read");
                return self.attempts.failed();
            }
        };
        let is_start = self.last.is_none();
        self.is_behind = !entries.is_empty();
        let last = entries.last().map_or(start, |newest| newest.id);
        self.last = Some(last);
        self.read.extend(entries);
        let has_recovered = self.attempts.succeeded();
        (is_start || has_recovered)
            .then(|| Step::Data(Data::Started { topic: TopicName::Activity }, Position::of_activity(start)))
    }

    /// Returns the stored activities after `last`, and the id after which they begin.
    async fn stored(&self) -> Result<(Vec<Activity>, u64), StoreError> {
        let app = Some(&self.record.name);
        let start = match self.last {
            Some(last) => last,
            None => {
                let newest = self.store.activity(app, Page { cursor: None, limit: Some(1) }).await?;
                let newest = newest.items.first().map_or(0, |entry| entry.id);
                // A restored backup may have lower ids than the client has seen.
                self.from.map_or(newest, |from| from.min(newest))
            }
        };
        Ok((self.store.activity_after(app, start).await?, start))
    }
}
