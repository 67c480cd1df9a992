//! Finds stored events that wait for a process type which a release lacks. Never changes a queue.

use isopod_policy::{ProcessName, ReleaseNumber};
use isopod_store::QueueStats;

use super::Events;
use crate::{control::AppRecord, runtime::ActiveRelease};

/// The events that wait for one absent process type.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) struct Stranded {
    pub(in crate::control) process: ProcessName,
    pub(in crate::control) events: u64,
}

impl Stranded {
    /// Returns a sentence with the number of the events and the next step.
    pub(in crate::control) fn describe(&self, release: ReleaseNumber) -> String {
        let Self { process, events } = self;
        let (wait, them) = if *events == 1 { ("event waits", "it") } else { ("events wait", "them") };
        format!(
            "{events} {wait} for the process type `{process}`, which {release} doesn't have; deploy a release with \
             it, or cancel {them}"
        )
    }
}

impl Events {
    /// Returns the events that wait for process types which `release` lacks. Reads only queues
    /// whose last known counts include waiting events.
    pub(in crate::control) async fn stranded(&self, app: &AppRecord, release: &ActiveRelease) -> Vec<Stranded> {
        let known = app.traffic.resources().stored_events().unwrap_or_default();
        if known.ready + known.delayed == 0 {
            return Vec::new();
        }
        let Some(_guard) = app.data_gate.guard() else { return Vec::new() };
        match self.0.stats(app).await {
            Ok(stats) => of_absent(stats, |process| release.event_process(process).is_some()),
            Err(error) => {
                tracing::warn!(app = %app.name, %error, "the app's event queue can't be read");
                Vec::new()
            }
        }
    }
}

/// Returns the waiting events of absent process types. Leased events aren't counted, since an
/// earlier release may still handle them.
fn of_absent(stats: Vec<QueueStats>, is_present: impl Fn(&ProcessName) -> bool) -> Vec<Stranded> {
    let absent = stats.into_iter().filter(|of| !is_present(&of.process));
    let stranded = absent.map(|of| Stranded { events: of.ready + of.delayed, process: of.process });
    stranded.filter(|stranded| stranded.events > 0).collect()
}
