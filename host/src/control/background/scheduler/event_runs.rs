//! Scheduled runs of event handlers: each is an event in the app's durable queue. Owns the identity
//! of a run. Never delivers an event.

use std::{fmt::Display, sync::Arc};

use isopod_policy::{AppName, Overlap, ProcessName, Timetable, limits::SCHEDULE_LATE};
use isopod_store::{Accepted, CancelReason, Cancelled, Event, EventPayload};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{IN_PROGRESS, Service, scheduled, table::Firing};
use crate::control::{
    AppRecord,
    events::{EventsError, ProcessEvents},
};
use crate::observe::logs::LogLine;

/// The results of the runs of a firing.
pub(super) struct StoredRuns {
    /// The ids of the runs that were stored.
    stored: Vec<String>,
    /// The runs that were skipped, since an earlier run is in progress.
    skipped: usize,
}

impl Service {
    /// Stores an event for each run of a firing. A run that was stored before the host ended is not
    /// stored again.
    pub(super) async fn store_runs(&self, app: &Arc<AppRecord>, firing: &Firing) -> Result<StoredRuns, EventsError> {
        let Firing { process, timetable, runs, since, .. } = firing;
        let mut stored = StoredRuns { stored: Vec::new(), skipped: 0 };
        if runs.is_empty() {
            return Ok(stored);
        }
        let ids: Vec<String> = runs.iter().map(|time| run_id(process, *time, *since)).collect();
        let events = runs.iter().zip(&ids).map(|(time, id)| event(&app.name, process, timetable, id, *time));
        let accepted = self.events.accept_for(app, process_events(process, timetable, events.collect())).await?;
        for ((time, id), accepted) in runs.iter().zip(ids).zip(accepted) {
            let Accepted::New { .. } = accepted else {
                // The host ended before it could skip the run, or the run needs no skip.
                self.skip_if_overlapping(app, firing, *time, &id).await?;
                continue;
            };
            match self.skip_if_overlapping(app, firing, *time, &id).await? {
                true => stored.skipped += 1,
                false => stored.stored.push(id),
            }
        }
        Ok(stored)
    }

    /// Cancels a run that was due while the previous run was in progress, if the schedule skips
    /// such runs. A run that a downtime delayed was not due during another run, and waits for it.
    async fn skip_if_overlapping(
        &self,
        app: &Arc<AppRecord>,
        firing: &Firing,
        time: Timestamp,
        id: &str,
    ) -> Result<bool, EventsError> {
        let late = SignedDuration::try_from(SCHEDULE_LATE).unwrap_or(SignedDuration::MAX);
        if firing.timetable.overlap != Overlap::Skip || Timestamp::now().duration_since(time) > late {
            return Ok(false);
        }
        let run = self.events.get(app, id, Some(&source(&app.name, &firing.process))).await?;
        let Some(run) = run.filter(|run| run.is_blocked) else { return Ok(false) };
        // The previous run may have ended meanwhile; then this run isn't cancelled.
        Ok(self.events.cancel(app, run.seq, CancelReason::Overlap).await? == Cancelled::Cancelled)
    }

    /// Writes the results of the runs of a firing to the app's log and activity.
    pub(super) async fn report_runs(&self, app: &AppRecord, firing: &Firing, runs: Result<StoredRuns, EventsError>) {
        let Firing { process, timetable, .. } = firing;
        match runs {
            Ok(StoredRuns { stored, skipped }) => {
                if !stored.is_empty() {
                    self.run_follows_missed(app, process, timetable).await;
                }
                for id in stored {
                    let text = format!("the scheduler stored event {id} for {}", scheduled(process, timetable));
                    app.log.write(LogLine::host(&app.name, text).about_event(&id));
                }
                for _ in 0..skipped {
                    self.not_started(app, process, timetable, IN_PROGRESS).await;
                }
            }
            Err(EventsError::Destroyed) => {}
            Err(EventsError::NotServing(why)) => {
                for _ in &firing.runs {
                    self.missed(app, process, timetable, &why).await;
                }
            }
            Err(error @ (EventsError::NoHandler | EventsError::Store(_))) => {
                self.not_started(app, process, timetable, &error.to_string()).await;
            }
        }
    }
}

/// Returns the events of runs. Each is delivered after the previous one has ended, unless the
/// schedule allows overlapping runs.
pub(super) fn process_events(process: &ProcessName, timetable: &Timetable, events: Vec<Event>) -> ProcessEvents {
    ProcessEvents { process: process.clone(), is_ordered: timetable.overlap != Overlap::Allow, events }
}

/// Returns the id of a scheduled run. It is the same whenever the host stores the run. It differs
/// if a corrected clock reaches the scheduled time a second time, since that run follows another
/// firing.
fn run_id(process: &ProcessName, time: Timestamp, previous_firing: Timestamp) -> String {
    id_at(process, time, format_args!("{:x}", previous_firing.as_millisecond()))
}

/// Returns the id of a run at this time. Ids of the same process type sort by time.
pub(super) fn id_at(process: &ProcessName, time: Timestamp, unique: impl Display) -> String {
    format!("{}{}-{unique}", id_prefix(process), time.strftime("%Y%m%dT%H%M%SZ"))
}

/// Returns the start of the ids of all runs of a process type.
pub(super) fn id_prefix(process: &ProcessName) -> String {
    format!("{process}-")
}

/// Returns the source of a schedule's events.
pub(super) fn source(app: &AppName, process: &ProcessName) -> String {
    format!("isopod/{app}/{process}")
}

/// Returns the event that a scheduled handler receives. Its time is the scheduled time.
pub(super) fn event(app: &AppName, process: &ProcessName, timetable: &Timetable, id: &str, at: Timestamp) -> Event {
    let data = json!({ "process": process, "schedule": timetable.schedule });
    Event {
        id: id.to_owned(),
        source: source(app, process),
        event_type: "isopod.schedule".to_owned(),
        // The same subject, so that all runs of the schedule are ordered.
        subject: Some(process.to_string()),
        payload: EventPayload {
            time: Some(at.to_string()),
            data_content_type: Some("application/json".to_owned()),
            data: Some(data.to_string().into_bytes()),
            ..EventPayload::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::events::attributes;

    /// The manifest's limits are below those of events, so that no deployed schedule produces an
    /// event that the queue refuses.
    #[test]
    fn the_largest_schedule_produces_valid_events() {
        let text = format!("{}0 3 * * *", " \t".repeat(isopod_policy::limits::TEXT_BYTES_MAX / 2 - 5));
        let schedule: isopod_policy::Schedule = serde_json::from_value(json!(text)).expect("a valid schedule");
        let (app, process): (AppName, ProcessName) = (longest().parse().unwrap(), longest().parse().unwrap());
        let timetable = Timetable::new(schedule, isopod_policy::TimeZone::default());
        let id = run_id(&process, Timestamp::MAX, Timestamp::MIN);
        let event = event(&app, &process, &timetable, &id, Timestamp::MAX);
        let (time, subject) = (event.payload.time.clone().unwrap(), event.subject.clone().unwrap());
        for (name, value) in [
            ("id", &event.id),
            ("source", &event.source),
            ("type", &event.event_type),
            ("subject", &subject),
            ("time", &time),
        ] {
            assert_eq!(attributes::check(name, value), Ok(()));
        }
        let runs_max = isopod_policy::limits::MISSED_RUNS_MAX as u64;
        assert!(runs_max * event.bytes() < isopod_store::limits::EVENT_BATCH_BYTES_MAX, "{}", event.bytes());
    }

    /// Returns the longest name that is valid.
    fn longest() -> String {
        let is_valid = |length: &usize| "x".repeat(*length).parse::<ProcessName>().is_ok();
        "x".repeat((1..=1_024).filter(is_valid).max().expect("some name is valid"))
    }

    #[test]
    fn a_run_has_one_id_until_its_firing_is_stored() {
        let process: ProcessName = "nightly".parse().expect("valid name");
        let [time, later] = ["2026-03-01T03:00:00Z", "2026-03-02T03:00:00Z"].map(|text| text.parse().expect("a time"));
        let firing = Timestamp::UNIX_EPOCH;
        let id = run_id(&process, time, firing);
        assert_eq!(id, "nightly-20260301T030000Z-0");
        assert_eq!(run_id(&process, time, firing), id);
        assert_ne!(run_id(&process, later, firing), id);
        assert_ne!(run_id(&process, time, later), id, "a run after a corrected clock");
    }
}
