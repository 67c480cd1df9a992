//! The topics of a page's event stream: the metrics of all apps or of one, the activity of an app,
//! and its log. Never sends an event.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use isopod_store::{Activity, NewActivity, Page, Store};
use serde_json::value::{RawValue, to_raw_value};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Interval, MissedTickBehavior},
};

use super::unsent_lines::{Unsent, UnsentLines};
use crate::{
    api::{
        Api,
        activity::ActivityView,
        auth::Authorised,
        error::Error,
        limits,
        metrics::{AppMetrics, Top},
    },
    control::{APP_DESTROYED, AppRecord},
    observe::logs::{Cursor, FollowEnd, Follower, LogLine},
};

/// One step of a topic.
pub(super) enum Step {
    Apps(Arc<RawValue>),
    Metrics(Box<AppMetrics>),
    /// An activity with its id. The activity of a destroyed app is not stored, so it has no id.
    Activity(Option<u64>, ActivityView),
    /// A line with the position after it.
    Line(Box<LogLine>, Cursor),
    /// The number of lines that are missing before the next line.
    Missed(u64),
    /// The latest time of the log's filter has passed. It is the last step of the log.
    Past,
    /// The topic can't be read now, so the client must reconnect.
    Broken,
}

/// The steps of a topic. It ends once its app is destroyed.
pub(super) type Topic = Pin<Box<dyn Stream<Item = Step> + Send>>;

fn every(time: Duration) -> Interval {
    let mut every = tokio::time::interval(time);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

fn json(top: &Top) -> Option<Arc<RawValue>> {
    to_raw_value(top).inspect_err(|error| tracing::error!(%error, "the metrics can't be encoded")).ok().map(Arc::from)
}

/// Returns the metrics of all active apps that a token may see.
pub(super) fn apps(api: Arc<Api>, token: Authorised) -> Topic {
    let start = (api, token, every(limits::ALL_METRICS_INTERVAL));
    Box::pin(stream::unfold(start, |(api, token, mut every)| async move {
        every.tick().await;
        let measured = || json(&Top::of(&api, limits::PAGE_ITEMS_MAX as usize, |record| token.sees(record)));
        let top = if token.sees_all() { api.top.latest(measured).await } else { measured() };
        Some((Step::Apps(top?), (api, token, every)))
    }))
}

/// Returns the metrics of one app.
pub(super) fn metrics(api: Arc<Api>, record: Arc<AppRecord>) -> Topic {
    let start = (api, record, every(limits::METRICS_INTERVAL));
    Box::pin(stream::unfold(start, |(api, record, mut every)| async move {
        tokio::select! {
            _ = every.tick() => {}
            () = record.destroyed() => return None,
        }
        Some((Step::Metrics(Box::new(AppMetrics::of(&api, &record))), (api, record, every)))
    }))
}

/// Returns the id after which an app's activity begins: that of a reconnecting client, or that of
/// the newest activity.
pub(super) async fn activity_start(api: &Api, record: &AppRecord, from: Option<u64>) -> Result<u64, Error> {
    let newest = api.store.activity(Some(&record.name), Page { cursor: None, limit: Some(1) }).await?;
    let newest = newest.items.first().map_or(0, |entry| entry.id);
    // A restored backup may have lower ids than the client has seen.
    Ok(from.map_or(newest, |from| from.min(newest)))
}

/// The state of an app's activity. The published activities only wake it: it reads the stored ones,
/// which have ids, so that a slow client misses none.
struct Followed {
    store: Store,
    record: Arc<AppRecord>,
    published: Receiver<NewActivity>,
    /// The id of the last activity that was read.
    last: u64,
    read: VecDeque<Activity>,
    /// Whether activities after `last` may be stored.
    is_behind: bool,
}

/// Returns the activity of one app after `last`.
pub(super) fn activity(store: Store, record: Arc<AppRecord>, published: Receiver<NewActivity>, last: u64) -> Topic {
    let followed = Followed { store, record, published, last, read: VecDeque::new(), is_behind: true };
    Box::pin(stream::unfold(Some(followed), next_activity))
}

async fn next_activity(followed: Option<Followed>) -> Option<(Step, Option<Followed>)> {
    let mut followed = followed?;
    loop {
        if let Some(entry) = followed.read.pop_front() {
            return Some((Step::Activity(Some(entry.id), entry.into()), Some(followed)));
        }
        if followed.is_behind {
            match followed.read_stored().await {
                Ok(()) => continue,
                Err(error) => {
                    tracing::warn!(app = %followed.record.name, %error, "a follower of an activity is disconnected");
                    return Some((Step::Broken, None));
                }
            }
        }
        let is_of_app = |activity: &NewActivity| activity.app.as_ref() == Some(&followed.record.name);
        match followed.published.recv().await {
            Ok(activity) if !is_of_app(&activity) => {}
            // It is not stored, and no other follows.
            Ok(NewActivity { app, kind, text, data, at }) if kind == APP_DESTROYED => {
                return Some((Step::Activity(None, ActivityView { at, app, kind, text, data }), None));
            }
            Err(RecvError::Lagged(_)) if followed.record.is_destroyed() => return None,
            Ok(_) | Err(RecvError::Lagged(_)) => followed.is_behind = true,
            Err(RecvError::Closed) => return None,
        }
    }
}

impl Followed {
    async fn read_stored(&mut self) -> Result<(), isopod_store::StoreError> {
        let entries = self.store.activity_after(Some(&self.record.name), self.last).await?;
        // Checked after the read: a new app may have the same name.
        if self.record.is_destroyed() {
            self.is_behind = false;
            return Ok(());
        }
        match entries.last() {
            Some(newest) => self.last = newest.id,
            None => self.is_behind = false,
        }
        self.read.extend(entries);
        Ok(())
    }
}

/// Returns the lines of a log.
pub(super) fn log(follower: Follower) -> Topic {
    Box::pin(stream::unfold(Some(UnsentLines::of(follower)), |lines| async move {
        let lines = lines?;
        match lines.next().await {
            Unsent::Line(line, end) => Some((Step::Line(line, end), Some(lines))),
            Unsent::Missed(missed) => Some((Step::Missed(missed), Some(lines))),
            Unsent::End(FollowEnd::Destroyed) => None,
            Unsent::End(FollowEnd::Past) => Some((Step::Past, None)),
            Unsent::End(FollowEnd::Unreadable) => Some((Step::Broken, None)),
        }
    }))
}
