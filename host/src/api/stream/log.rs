//! The lines of one app's log as a topic. An unreadable log doesn't end it: it tries again after a
//! pause. Never reads a log itself.

use std::sync::Arc;

use futures::stream;

use super::{
    position::Position,
    topics::{Attempts, Data, Step, Topic, TopicName},
    unsent_lines::{Unsent, UnsentLines},
};
use crate::{
    api::sse::EndReason,
    control::AppRecord,
    observe::logs::{Cursor, FollowEnd, Follower, LineFilter, Logs},
};

struct FollowedLog {
    logs: Logs,
    record: Arc<AppRecord>,
    filter: LineFilter,
    /// The position after the last line. `None` until the log was read: its end.
    at: Option<Cursor>,
    /// `None` while the log can't be read.
    lines: Option<UnsentLines>,
    attempts: Attempts,
}

/// Returns the selected lines of a log after `from`, or after its end.
pub(super) fn log(logs: Logs, record: Arc<AppRecord>, filter: LineFilter, from: Option<Cursor>) -> Topic {
    let attempts = Attempts::of(TopicName::Log);
    let followed = FollowedLog { logs, record, filter, at: from, lines: None, attempts };
    Box::pin(stream::unfold(Some(followed), |followed| async {
        let mut followed = followed?;
        let step = followed.next().await;
        let rest = (!step.is_last()).then_some(followed);
        Some((step, rest))
    }))
}

impl FollowedLog {
    async fn next(&mut self) -> Step {
        let ended = |reason| Step::ended(TopicName::Log, reason);
        loop {
            let Some(lines) = &self.lines else {
                match self.open().await {
                    Some(step) => return step,
                    None => continue,
                }
            };
            match lines.next().await {
                Unsent::Line(line, end) => return self.moved(Data::Log(line), end),
                Unsent::Missed(lines, end) => return self.moved(Data::Missed { lines }, end),
                Unsent::End(FollowEnd::Destroyed) => return ended(EndReason::AppDestroyed),
                Unsent::End(FollowEnd::Past) => return ended(EndReason::UntilPassed),
                Unsent::End(FollowEnd::Unreadable) => self.lines = None,
            }
            if let Some(broken) = self.attempts.failed() {
                return broken;
            }
        }
    }

    fn moved(&mut self, data: Data, to: Cursor) -> Step {
        self.at = Some(to);
        Step::Data(data, Position::of_log(to))
    }

    /// Starts to follow the log. Returns the step that reports the start or a failure.
    async fn open(&mut self) -> Option<Step> {
        let opened = async {
            self.attempts.pause().await;
            self.follower().await
        };
        let opened = tokio::select! {
            opened = opened => opened,
            () = self.record.destroyed() => Err(FollowEnd::Destroyed),
        };
        match opened {
            Ok((follower, start)) => {
                self.lines = Some(UnsentLines::of(follower));
                self.attempts.succeeded();
                Some(self.moved(Data::Started { topic: TopicName::Log }, start))
            }
            Err(FollowEnd::Destroyed) => Some(Step::ended(TopicName::Log, EndReason::AppDestroyed)),
            Err(FollowEnd::Past | FollowEnd::Unreadable) => self.attempts.failed(),
        }
    }

    /// Returns a follower whose first lines are read, and the position after which it begins.
    async fn follower(&self) -> Result<(Follower, Cursor), FollowEnd> {
        let (logs, log, filter) = (self.logs.clone(), Arc::clone(&self.record.log), self.filter.clone());
        let follower = match self.at {
            Some(at) => Follower::after(logs, log, filter, at).await,
            None => Follower::of_newest(logs, log, filter, 0).await,
        };
        let mut follower = follower.map_err(|error| {
            tracing::warn!(app = %self.record.name, %error, "the log of a page's event stream can't be read");
            FollowEnd::Unreadable
        })?;
        let start = follower.prepare().await?;
        Ok((follower, start))
    }
}
