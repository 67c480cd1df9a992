//! The topics of a page's event stream, and those of metrics: of all apps, and of one. Never sends
//! an event.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior};

use super::position::Position;
use crate::{
    api::{
        Api,
        activity::ActivityView,
        auth::Authorised,
        limits,
        metrics::{AppMetrics, Top},
        sse::EndReason,
    },
    control::AppRecord,
    observe::logs::LogLine,
};

/// A topic, by the query parameter that selects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TopicName {
    Apps,
    Metrics,
    Activity,
    Log,
}

/// The data of an event, except of `apps`.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Data {
    /// Everything that is new in the topic from now on is sent.
    Started {
        topic: TopicName,
    },
    Metrics(Box<AppMetrics>),
    Activity(ActivityView),
    Log(Box<LogLine>),
    /// The number of log lines that are missing before the next line.
    Missed {
        lines: u64,
    },
    /// The topic can't be read now. The host retries until it can.
    Broken {
        topic: TopicName,
    },
    /// The last event of the topic.
    Ended {
        topic: TopicName,
        #[serde(flatten)]
        reason: EndReason,
    },
}

impl Data {
    /// Returns the type of the event.
    pub(super) fn event_type(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Metrics(_) => "metrics",
            Self::Activity(_) => "activity",
            Self::Log(_) => "log",
            Self::Missed { .. } => "missed",
            Self::Broken { .. } => "broken",
            Self::Ended { .. } => "ended",
        }
    }
}

/// An event of a topic.
pub(super) enum Step {
    /// The metrics of all active apps as JSON, which several streams share.
    Apps(Bytes),
    /// Other data, with the position after it in its topic. The position is empty if the event
    /// doesn't change it.
    Data(Data, Position),
}

impl Step {
    pub(super) fn of(data: Data) -> Self {
        Self::Data(data, Position::default())
    }

    pub(super) fn started(topic: TopicName) -> Self {
        Self::of(Data::Started { topic })
    }

    pub(super) fn ended(topic: TopicName, reason: EndReason) -> Self {
        Self::of(Data::Ended { topic, reason })
    }

    /// Returns whether no step of the topic can follow.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Self::Data(Data::Ended { .. }, _))
    }
}

/// The steps of a topic.
pub(super) type Topic = Pin<Box<dyn Stream<Item = Step> + Send>>;

/// The attempts to read a topic. Reports the first failure of several in a row, and the recovery.
pub(super) struct Attempts {
    topic: TopicName,
    is_broken: bool,
    pause: Duration,
}

impl Attempts {
    pub(super) fn of(topic: TopicName) -> Self {
        Self { topic, is_broken: false, pause: limits::STREAM_RETRY_FIRST }
    }

    /// Waits before the next attempt, if the previous one failed.
    pub(super) async fn pause(&self) {
        if self.is_broken {
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Notes a failure, and returns the step that reports it.
    pub(super) fn failed(&mut self) -> Option<Step> {
        if self.is_broken {
            self.pause = (self.pause * 2).min(limits::STREAM_RETRY_MAX);
            return None;
        }
        (self.is_broken, self.pause) = (true, limits::STREAM_RETRY_FIRST);
        Some(Step::of(Data::Broken { topic: self.topic }))
    }

    /// Notes a success. Returns whether the topic was broken before.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.is_broken)
    }
}

fn json(top: &Top) -> Option<Bytes> {
    let encoded = serde_json::to_vec(top);
    encoded.inspect_err(|error| tracing::error!(%error, "the metrics can't be encoded")).ok().map(Bytes::from)
}

fn every(time: Duration) -> Interval {
    let mut every = tokio::time::interval(time);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

/// Returns the metrics of all active apps that a token may see.
pub(super) fn apps(api: Arc<Api>, token: Authorised) -> Topic {
    let start = (api, token, every(limits::ALL_METRICS_INTERVAL));
    let measured = stream::unfold(start, |(api, token, mut every)| async move {
        every.tick().await;
        let measure = || json(&Top::of(&api, limits::PAGE_ITEMS_MAX as usize, &token));
        let top = api.top.latest(&token, Instant::now(), measure).await?;
        Some((Step::Apps(top), (api, token, every)))
    });
    Box::pin(stream::iter([Step::started(TopicName::Apps)]).chain(measured))
}

/// Returns the metrics of one app.
pub(super) fn metrics(api: Arc<Api>, record: Arc<AppRecord>) -> Topic {
    let start = (api, record, every(limits::METRICS_INTERVAL));
    let measured = stream::unfold(Some(start), |measuring| async move {
        let (api, record, mut every) = measuring?;
        tokio::select! {
            _ = every.tick() => {}
            () = record.destroyed() => return Some((Step::ended(TopicName::Metrics, EndReason::AppDestroyed), None)),
        }
        let metrics = Data::Metrics(Box::new(AppMetrics::of(&api, &record)));
        Some((Step::of(metrics), Some((api, record, every))))
    });
    Box::pin(stream::iter([Step::started(TopicName::Metrics)]).chain(measured))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_failures_are_reported_once_with_growing_pauses() {
        let mut attempts = Attempts::of(TopicName::Log);
        assert!(!attempts.succeeded());
        let broken = attempts.failed();
        assert!(matches!(broken, Some(Step::Data(Data::Broken { topic: TopicName::Log }, _))));
        assert_eq!(attempts.pause, limits::STREAM_RETRY_FIRST);
        for _ in 0..20 {
            assert!(attempts.failed().is_none());
        }
        assert_eq!(attempts.pause, limits::STREAM_RETRY_MAX);
        assert!(attempts.succeeded() && !attempts.succeeded());
        assert!(attempts.failed().is_some());
        assert_eq!(attempts.pause, limits::STREAM_RETRY_FIRST);
    }

    #[test]
    fn the_data_of_an_end_names_its_topic_and_reason() {
        let ended = Data::Ended { topic: TopicName::Log, reason: EndReason::UntilPassed };
        let json = serde_json::to_string(&ended).expect("it can be encoded");
        assert_eq!(json, r#"{"topic":"log","reason":"until-passed"}"#);
    }
}
