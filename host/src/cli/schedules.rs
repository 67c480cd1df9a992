//! Implements `isopod schedules`: lists an app's schedules with their last and next runs, shows the
//! latest runs of one, and starts a run manually. Never changes a schedule.

use clap::{Args, Subcommand};
use isopod_policy::ProcessName;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::failure::Failure;
use super::output::{self, field};
use super::target::{RemoteApp, Target};

const HEADINGS: [&str; 7] = ["PROCESS", "SCHEDULE", "ZONE", "NEXT RUN", "AT", "LAST RUN", "STATE"];

const RUN_HEADINGS: [&str; 6] = ["STARTED", "ENDED", "STATE", "ATTEMPT", "EVENT", "ERROR"];

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  isopod schedules                     the next and the last run of each schedule
  isopod schedules show nightly        its latest runs
  isopod schedules run nightly         runs it now; its schedule stays
  isopod ps:update nightly --schedule '0 4 * * *'")]
pub(crate) struct SchedulesArgs {
    #[command(subcommand)]
    command: Option<SchedulesCommand>,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand, Debug)]
enum SchedulesCommand {
    /// List the schedules
    List,
    /// Show the latest runs of a scheduled process type, newest first
    Show {
        /// The process type, such as nightly
        #[arg(value_name = "PROCESS")]
        process: ProcessName,
    },
    /// Run a scheduled process type now
    Run {
        /// The process type, such as nightly
        #[arg(value_name = "PROCESS")]
        process: ProcessName,
    },
}

pub(crate) fn run(args: &SchedulesArgs) -> Result<(), Failure> {
    match &args.command {
        None | Some(SchedulesCommand::List) => list(&args.target.look()?),
        Some(SchedulesCommand::Show { process }) => show(&args.target.look()?, process),
        Some(SchedulesCommand::Run { process }) => start(&args.target.change()?, process),
    }
}

fn list(app: &RemoteApp) -> Result<(), Failure> {
    let answer = app.get("/schedules")?;
    app.show(&answer, || {
        let now = Timestamp::now();
        let rows: Vec<Vec<String>> = output::items(&answer).iter().map(|schedule| row(schedule, now)).collect();
        if rows.is_empty() {
            output::note("no schedules; add one with `isopod ps:create nightly --entry events --schedule '0 3 * * *'`");
        }
        Ok(output::table(&HEADINGS, &rows))
    })
}

fn show(app: &RemoteApp, process: &ProcessName) -> Result<(), Failure> {
    let schedule = schedule(app, process)?;
    app.show(&schedule, || {
        let runs = schedule["runs"].as_array().map_or(&[][..], Vec::as_slice);
        if runs.is_empty() {
            output::note(&format!("no runs of `{process}` are recorded"));
        }
        Ok(output::table(&RUN_HEADINGS, &runs.iter().map(run_row).collect::<Vec<_>>()))
    })
}

/// Returns the schedule of a process type.
fn schedule(app: &RemoteApp, process: &ProcessName) -> Result<Value, Failure> {
    let answer = app.get("/schedules")?;
    let found = output::items(&answer).iter().find(|schedule| field(schedule, "process") == process.as_str());
    let unknown = || {
        Failure::new(format!("`{process}` of `{}` has no schedule", app.name))
            .next("list the schedules with `isopod schedules`")
    };
    found.cloned().ok_or_else(unknown)
}

fn start(app: &RemoteApp, process: &ProcessName) -> Result<(), Failure> {
    let answer = app.post(&format!("/schedules/{process}/run"), None)?;
    app.show(&answer, || {
        let text = match field(&answer["event"], "id").as_str() {
            "" => format!("started {process}"),
            id => format!("stored event {id} for {process}"),
        };
        Ok(format!("{}\n", output::done(&text)))
    })
}

fn row(schedule: &Value, now: Timestamp) -> Vec<String> {
    let at = |key: &str| field(schedule, key).parse::<Timestamp>().ok();
    let zone = field(schedule, "time_zone");
    let last_state = field(schedule, "last_state");
    vec![
        field(schedule, "process"),
        field(schedule, "schedule"),
        zone.clone(),
        at("next_run_at").map_or_else(|| "never".to_owned(), |at| format!("in {}", distance(now, at))),
        at("next_run_at").map(|at| in_zone(at, &zone)).unwrap_or_default(),
        at("last_run_at").map_or_else(|| "never".to_owned(), |at| format!("{} ago", distance(at, now))),
        if last_state.is_empty() { "-".to_owned() } else { last_state },
    ]
}

/// Formats a run: times to the second, in UTC.
fn run_row(run: &Value) -> Vec<String> {
    let at = |key: &str| {
        let at = field(run, key).parse::<Timestamp>().ok();
        at.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
    };
    let event = field(run, "event");
    vec![
        at("started_at"),
        at("ended_at"),
        field(run, "state"),
        field(run, "attempt"),
        if event.is_empty() { "-".to_owned() } else { event },
        field(run, "error").lines().next().unwrap_or_default().to_owned(),
    ]
}

/// Returns the time from one moment to a later one, in its largest unit.
fn distance(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Returns a time in the schedule's time zone, and in UTC.
fn in_zone(at: Timestamp, zone: &str) -> String {
    let utc = at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    match TimeZone::get(zone) {
        Ok(local) if zone != "UTC" => {
            let local = at.to_zoned(local);
            format!("{} ({})", local.strftime("%Y-%m-%d %H:%M"), at.strftime("%H:%M UTC"))
        }
        Ok(_) | Err(_) => utc,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schedule_is_one_row_with_local_and_utc_times() {
        let schedule = json!({"process": "nightly", "schedule": "0 3 * * *", "time_zone": "Europe/Berlin",
            "next_run_at": "2026-07-02T01:00:00Z", "last_run_at": "2026-07-01T01:00:00Z", "last_state": "done"});
        let now = "2026-07-01T22:00:30Z".parse().unwrap();
        let expected =
            ["nightly", "0 3 * * *", "Europe/Berlin", "in 2 h", "2026-07-02 03:00 (01:00 UTC)", "21 h ago", "done"];
        assert_eq!(row(&schedule, now), expected);
        assert_eq!(row(&schedule, now).len(), HEADINGS.len());
    }

    #[test]
    fn a_schedule_that_has_not_run_is_shown_as_such() {
        let schedule = json!({"process": "nightly", "schedule": "0 3 * * *", "time_zone": "UTC",
            "next_run_at": "2026-07-02T03:00:00Z", "last_run_at": null, "last_state": null});
        let row = row(&schedule, "2026-06-28T00:00:00Z".parse().unwrap());
        assert_eq!(row[3..], ["in 4 days", "2026-07-02 03:00 UTC", "never", "-"]);
    }

    #[test]
    fn a_run_is_one_row_with_its_times_and_result() {
        let run = json!({"event": "nightly-1", "started_at": "2026-07-01T01:00:00.2Z",
            "ended_at": "2026-07-01T01:00:09Z", "state": "dead", "attempt": 10, "error": "no disk\n    at main"});
        let expected = ["2026-07-01 01:00:00 UTC", "2026-07-01 01:00:09 UTC", "dead", "10", "nightly-1", "no disk"];
        assert_eq!(run_row(&run), expected);
        let command = json!({"event": null, "started_at": "2026-07-01T01:00:00Z", "ended_at": null,
            "state": "running", "attempt": 1, "error": null});
        assert_eq!(run_row(&command), ["2026-07-01 01:00:00 UTC", "-", "running", "1", "-", ""]);
        assert_eq!(run_row(&command).len(), RUN_HEADINGS.len());
    }

    #[test]
    fn the_runs_of_one_schedule_are_shown() {
        let list = || (200, json!({"items": [{"process": "import", "runs": []}, {"process": "nightly", "runs": []}]}));
        let host = FakeHost::responding([list(), list()]);
        let app = host.app("shop");
        assert_eq!(schedule(&app, &"nightly".parse().unwrap()).unwrap()["process"], "nightly");
        let unknown = schedule(&app, &"hourly".parse().unwrap()).unwrap_err();
        assert!(unknown.text().contains("`hourly` of `shop` has no schedule"), "{}", unknown.text());
    }

    #[test]
    fn a_distance_has_its_largest_unit() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let distances = [0, 59, 60, 3_599, 3_600, 172_799, 172_800].map(|seconds| distance(at(0), at(seconds)));
        assert_eq!(distances, ["0 s", "59 s", "1 min", "59 min", "1 h", "47 h", "2 days"]);
        assert_eq!(distance(at(5), at(0)), "0 s");
    }
}
