//! Finds and loads the release to which an app can return, and decides how long an automatic
//! rollback waits for a release that can't be read. Never puts a release in service: the app's task
//! does (`app_task/automatic_rollback.rs`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isopod_policy::{ReleaseNumber, ReleaseState, back_off};
use tokio::time::Instant;

use crate::control::{
    app::AppRecord,
    error::Failure,
    failpoint, limits,
    release::{boot::Purpose, releases::Releases},
};
use crate::{observe::logs::LogLine, runtime::ActiveRelease};

/// A loaded release to which an app can return.
pub(in crate::control) type LastGood = (ReleaseNumber, Arc<ActiveRelease>);

/// The attempts to find the release that replaces a bad one.
#[derive(Default)]
pub(in crate::control) struct LastGoodSearch {
    /// The time of the first attempt that failed because the host couldn't read its own files.
    deferred_since: Option<Instant>,
    /// The number of such attempts.
    deferrals: u32,
    /// The last log line about each release.
    lines: BTreeMap<ReleaseNumber, String>,
}

impl LastGoodSearch {
    /// Returns the delay before the next attempt. `random` is a uniformly distributed number.
    pub(in crate::control) fn delay(&self, random: u32) -> Option<Duration> {
        let delay = back_off(limits::RESTORE_RETRY_INTERVAL, limits::ROLLBACK_RETRY_MAX, self.deferrals, random);
        (self.deferrals > 0).then_some(delay)
    }

    /// Records that the host can't read the release that would replace `bad`, for a reason outside
    /// the releases.
    pub(in crate::control) fn defer(&mut self, app: &AppRecord, bad: ReleaseNumber, failure: &Failure) {
        self.deferred_since.get_or_insert_with(Instant::now);
        self.deferrals = self.deferrals.saturating_add(1);
        let code = failure.code();
        let text =
            format!("{bad} can't be replaced by the last good release now; the host tries again: {code}: {failure}");
        if self.log(app, bad, text) {
            let text = "the last good release can't be loaded now; the host tries again";
            tracing::warn!(app = %app.name, %bad, %failure, "{text}");
        }
    }

    /// Returns whether the rollback has waited long enough for a release that can't be read.
    fn waits_no_longer(&self) -> bool {
        let limit = failpoint::interval("rollback-reads", limits::ROLLBACK_READS_TIMEOUT);
        self.deferred_since.is_some_and(|since| since.elapsed() >= limit)
    }

    /// Writes a line about a release to the app's log, unless the last line about it was the same.
    fn log(&mut self, app: &AppRecord, release: ReleaseNumber, text: String) -> bool {
        if self.lines.get(&release) == Some(&text) {
            return false;
        }
        app.log.write(LogLine::host(&app.name, text.clone()));
        self.lines.insert(release, text);
        true
    }
}

impl Releases {
    /// Loads the last release that served before `bad` and was not stopped because of a failure.
    /// Returns an error if the host can't read its own files. The caller then tries again later: a
    /// failed read doesn't show that a release is bad, so the app must not return to an older one.
    /// After a time limit, a release that can't be read is treated as unusable.
    pub(in crate::control) async fn last_good(
        &self,
        app: &AppRecord,
        bad: ReleaseNumber,
        search: &mut LastGoodSearch,
    ) -> Result<Option<LastGood>, Failure> {
        let stamps = self.store.release_stamps(&app.name).await?;
        let mut good: Vec<_> = stamps
            .into_iter()
            .filter(|stamp| stamp.number != bad && stamp.state == ReleaseState::Retired)
            .filter_map(|stamp| stamp.last_current_at.map(|at| (at, stamp.number)))
            .collect();
        good.sort_unstable();
        // Tries a few releases, newest first, since some may fail to load.
        for (_, number) in good.into_iter().rev().take(limits::ROLLBACK_CANDIDATES_MAX) {
            match self.load(app, number, Purpose::Serve).await {
                Ok(running) => return Ok(Some((number, Arc::new(running)))),
                Err(failure) if failure.is_passing() && !search.waits_no_longer() => return Err(failure),
                Err(failure) => {
                    let text = format!("{number} can't be loaded to serve again: {}: {failure}", failure.code());
                    search.log(app, number, text);
                }
            }
        }
        Ok(None)
    }
}
