//! Implements `isopod ps:create`, `ps:update` and `ps:destroy`, which change an app's process
//! types, and formats formations. Never restarts instances itself.

use clap::Args;
use isopod_policy::{Entry, Missed, Order, Overlap, ProcessName};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::output::{self, field, setting};
use super::target::{RemoteApp, Target};

/// The columns of the table.
const HEADINGS: [&str; 12] =
    ["PROCESS", "ENTRY", "MIN", "MAX", "HEALTH", "SCHEDULE", "ZONE", "MISSED", "OVERLAP", "ORDER", "RETRY", "ARGS"];

/// The columns that the table omits if no process type has the setting.
const OPTIONAL: &[&str] = &["ZONE", "MISSED", "OVERLAP", "ORDER", "RETRY"];

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  isopod ps:create worker --entry events --max 4
  isopod ps:create nightly --entry events --schedule '0 3 * * *' --time-zone Europe/Berlin
  isopod ps:create import --entry command --min 1 -- --since yesterday")]
pub(crate) struct CreateArgs {
    /// The name of the new process type: lower-case letters, digits and hyphens
    name: ProcessName,
    /// The export of the component to call: http, events or command
    #[arg(long)]
    entry: Entry,
    /// When to deliver an event of type isopod.schedule, or to run a command: five cron fields
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    #[command(flatten)]
    events: EventSettings,
    /// The path of the health check, before a release takes over and while it serves; any 2xx is
    /// healthy
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
    /// The minimum number of instances [default: that of the app's type]
    #[arg(long, value_name = "COUNT")]
    min: Option<u32>,
    /// The maximum number of instances
    #[arg(long, value_name = "COUNT")]
    max: Option<u32>,
    /// The arguments of a command, after --
    #[arg(last = true)]
    args: Vec<String>,
    #[command(flatten)]
    target: Target,
}

/// The settings of schedules and of events.
#[derive(Args, Debug)]
struct EventSettings {
    /// The time zone of the schedule, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// What happens to scheduled times that passed while the host was down: once, skip or all
    #[arg(long, value_name = "WORD")]
    missed: Option<Missed>,
    /// What happens to a run that is due during the previous run: skip, queue or allow
    #[arg(long, value_name = "WORD")]
    overlap: Option<Overlap>,
    /// The order of events: none, or subject for one event of a subject at a time
    #[arg(long, value_name = "WORD")]
    order: Option<Order>,
    /// The retries of events, such as attempts=5,first=1s,max=1h
    #[arg(long, value_name = "SETTINGS", value_parser = retry_settings)]
    retry: Option<Value>,
}

impl EventSettings {
    /// Returns the keys of the formation and the values of the given settings.
    fn values(&self) -> [(&'static str, Option<Value>); 5] {
        [
            ("time_zone", self.time_zone.as_ref().map(|zone| json!(zone))),
            ("missed", self.missed.map(|word| json!(word))),
            ("overlap", self.overlap.map(|word| json!(word))),
            ("order", self.order.map(|word| json!(word))),
            ("retry", self.retry.clone()),
        ]
    }
}

/// Parses `attempts=5,first=1s,max=1h` as an object. The host checks its keys and values.
fn retry_settings(text: &str) -> Result<Value, String> {
    let entry = |part: &str| {
        let (key, value) = part.split_once('=')?;
        Some((
            key.trim().to_owned(),
            value.trim().parse::<u64>().map_or_else(|_| json!(value.trim()), |count| json!(count)),
        ))
    };
    let entries: Option<Map<String, Value>> = text.split(',').map(entry).collect();
    entries.map(Value::Object).ok_or_else(|| "write settings such as attempts=5,first=1s,max=1h".to_owned())
}

#[derive(Args, Debug)]
#[command(after_help = "\
Settings that are not given are unchanged. The entry of a process type can't change: destroy it and create another.

Examples:
  isopod ps:update web --health /healthz
  isopod ps:update nightly --schedule '30 2 * * *'
  isopod ps:update nightly --no-schedule --min 1
  isopod ps:update import -- --since monday")]
pub(crate) struct UpdateArgs {
    /// The process type
    name: ProcessName,
    /// The schedule: five cron fields
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// Remove the schedule with its settings
    #[arg(long, conflicts_with = "schedule")]
    no_schedule: bool,
    #[command(flatten)]
    events: EventSettings,
    /// Use UTC
    #[arg(long, conflicts_with = "time_zone")]
    no_time_zone: bool,
    /// Use the default for missed runs
    #[arg(long, conflicts_with = "missed")]
    no_missed: bool,
    /// Use the default for overlapping runs
    #[arg(long, conflicts_with = "overlap")]
    no_overlap: bool,
    /// Use the default order
    #[arg(long, conflicts_with = "order")]
    no_order: bool,
    /// Use the default retries
    #[arg(long, conflicts_with = "retry")]
    no_retry: bool,
    /// The path of the health check, before a release takes over and while it serves; any 2xx is
    /// healthy
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
    /// Remove the health check
    #[arg(long, conflicts_with = "health")]
    no_health: bool,
    /// The minimum number of instances
    #[arg(long, value_name = "COUNT")]
    min: Option<u32>,
    /// Use the minimum number of instances of the app's type
    #[arg(long, conflicts_with = "min")]
    no_min: bool,
    /// The maximum number of instances
    #[arg(long, value_name = "COUNT")]
    max: Option<u32>,
    /// Use the maximum number of instances that the app's limits allow
    #[arg(long, conflicts_with = "max")]
    no_max: bool,
    /// The arguments of a command, after --; they replace all previous arguments
    #[arg(last = true)]
    args: Vec<String>,
    /// Run it without arguments
    #[arg(long, conflicts_with = "args")]
    no_args: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  isopod ps:destroy nightly")]
pub(crate) struct DestroyArgs {
    /// The process type
    name: ProcessName,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn create(args: &CreateArgs) -> Result<(), Failure> {
    let app = args.target.change()?;
    let formation = app.rolling_out(|| app.post("/formation", Some(&new_process(args))))?;
    changed(&app, &formation, &format!("created process type {}", args.name))
}

pub(crate) fn update(args: &UpdateArgs) -> Result<(), Failure> {
    let change = process_change(args)?;
    let app = args.target.change()?;
    let formation = app.rolling_out(|| app.patch("/formation", &json!({args.name.as_str(): change})))?;
    changed(&app, &formation, &format!("changed process type {}", args.name))
}

pub(crate) fn destroy(args: &DestroyArgs) -> Result<(), Failure> {
    let app = args.target.change()?;
    app.rolling_out(|| app.delete(&format!("/formation/{}", args.name)))?;
    changed(&app, &app.get("/formation")?, &format!("destroyed process type {}", args.name))
}

/// Shows a formation after a change.
pub(crate) fn changed(app: &RemoteApp, formation: &Value, what: &str) -> Result<(), Failure> {
    app.done(what);
    app.show(formation, || Ok(table(formation)))
}

/// Formats a formation as a table, with one process type per line.
pub(crate) fn table(formation: &Value) -> String {
    let processes = formation.as_object().into_iter().flatten();
    let rows: Vec<Vec<String>> = processes.map(|(name, process)| row(name, process)).collect();
    let shown =
        |column: &usize| !OPTIONAL.contains(&HEADINGS[*column]) || rows.iter().any(|row| !row[*column].is_empty());
    let columns: Vec<usize> = (0..HEADINGS.len()).filter(shown).collect();
    let headings: Vec<&str> = columns.iter().map(|column| HEADINGS[*column]).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| row[*column].clone()).collect()).collect();
    output::table(&headings, &rows)
}

fn row(name: &str, process: &Value) -> Vec<String> {
    // A detailed health check is an object; the table shows its path.
    let health = match &process["health"] {
        Value::Object(check) => setting(check.get("path").unwrap_or(&Value::Null)),
        other => setting(other),
    };
    let args = process["args"].as_array().into_iter().flatten().map(setting).collect::<Vec<_>>().join(" ");
    vec![
        name.to_owned(),
        field(process, "entry"),
        field(process, "min"),
        field(process, "max"),
        health,
        field(process, "schedule"),
        field(process, "time_zone"),
        field(process, "missed"),
        field(process, "overlap"),
        field(process, "order"),
        retry(&process["retry"]),
        output::flat(&args),
    ]
}

/// Formats a retry policy as the table shows it: `10x 1s..1h`.
fn retry(policy: &Value) -> String {
    match policy {
        Value::Object(_) => {
            format!("{}x {}..{}", field(policy, "attempts"), field(policy, "first"), field(policy, "max"))
        }
        other => setting(other),
    }
}

fn new_process(args: &CreateArgs) -> Value {
    let mut process = Map::new();
    process.insert("name".into(), json!(args.name));
    process.insert("entry".into(), json!(args.entry));
    let texts = [("schedule", &args.schedule), ("health", &args.health)];
    process.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), json!(text.as_ref()?)))));
    process.extend(args.events.values().into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let counts = [("min", args.min), ("max", args.max)];
    process.extend(counts.into_iter().filter_map(|(key, count)| Some((key.to_owned(), json!(count?)))));
    if !args.args.is_empty() {
        process.insert("args".into(), json!(args.args));
    }
    Value::Object(process)
}

/// Returns the patch of a process type; null removes a setting.
fn process_change(args: &UpdateArgs) -> Result<Value, Failure> {
    let args_given = Some(&args.args).filter(|args| !args.is_empty());
    let removed = [args.no_time_zone, args.no_missed, args.no_overlap, args.no_order, args.no_retry];
    let events = args.events.values().into_iter().zip(removed).map(|((key, value), removed)| (key, value, removed));
    let settings = [
        ("schedule", args.schedule.as_ref().map(|text| json!(text)), args.no_schedule),
        ("health", args.health.as_ref().map(|text| json!(text)), args.no_health),
        ("min", args.min.map(|count| json!(count)), args.no_min),
        ("max", args.max.map(|count| json!(count)), args.no_max),
        ("args", args_given.map(|args| json!(args)), args.no_args),
    ];
    let mut change = Map::new();
    for (key, value, removed) in settings.into_iter().chain(events) {
        let value = value.or(removed.then_some(Value::Null));
        change.extend(value.map(|value| (key.to_owned(), value)));
    }
    if change.is_empty() {
        return Err(Failure::usage("nothing to change")
            .why("no setting was given")
            .next(format!("for example: isopod ps:update {} --min 1; --help lists all settings", args.name)));
    }
    Ok(Value::Object(change))
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Create {
        #[command(flatten)]
        args: CreateArgs,
    }

    #[derive(Parser)]
    struct Update {
        #[command(flatten)]
        args: UpdateArgs,
    }

    fn change(words: &[&str]) -> Result<Value, Failure> {
        let parsed = Update::try_parse_from([&["ps:update", "web"], words].concat());
        process_change(&parsed.unwrap_or_else(|error| panic!("{error}")).args)
    }

    #[test]
    fn a_new_process_type_contains_only_the_given_settings() {
        let words = ["ps:create", "nightly", "--entry", "events", "--schedule", "0 3 * * *", "--min", "0"];
        let args = Create::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args;
        let expected = json!({"name": "nightly", "entry": "events", "schedule": "0 3 * * *", "min": 0});
        assert_eq!(new_process(&args), expected);
    }

    #[test]
    fn arguments_follow_two_hyphens_and_may_start_with_hyphens() {
        let words = ["ps:create", "import", "--entry", "command", "--", "--since", "-1"];
        let args = Create::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args;
        assert_eq!(new_process(&args)["args"], json!(["--since", "-1"]));
    }

    #[test]
    fn a_change_sets_given_settings_and_clears_removed_ones() {
        assert_eq!(change(&["--min", "0", "--no-health"]).unwrap(), json!({"min": 0, "health": null}));
        assert_eq!(change(&["--no-schedule", "--", "-x"]).unwrap(), json!({"schedule": null, "args": ["-x"]}));
        assert_eq!(change(&["--no-args", "--no-max"]).unwrap(), json!({"args": null, "max": null}));
    }

    #[test]
    fn settings_of_schedules_and_events_are_set_and_removed() {
        let words = ["--time-zone", "Europe/Berlin", "--missed", "all", "--no-overlap", "--order", "subject"];
        let expected = json!({"time_zone": "Europe/Berlin", "missed": "all", "overlap": null, "order": "subject"});
        assert_eq!(change(&words).unwrap(), expected);
        let retry = json!({"retry": {"attempts": 5, "first": "2s"}});
        assert_eq!(change(&["--retry", "attempts=5, first=2s"]).unwrap(), retry);
        assert_eq!(change(&["--no-retry"]).unwrap(), json!({"retry": null}));
        for words in [["--missed", "never"], ["--order", "fifo"], ["--retry", "5"]] {
            assert!(Update::try_parse_from([&["ps:update", "web"], &words[..]].concat()).is_err());
        }
    }

    #[test]
    fn an_empty_change_is_a_usage_error() {
        assert!(change(&[]).unwrap_err().text().contains("--min 1"));
    }

    #[test]
    fn a_setting_cannot_be_both_set_and_removed() {
        for words in [["--health", "/x", "--no-health"], ["--min", "1", "--no-min"]] {
            assert!(Update::try_parse_from([&["ps:update", "web"], &words[..]].concat()).is_err());
        }
    }

    #[test]
    fn a_formation_is_a_table() {
        let formation = json!({
            "import": {"entry": "command", "health": null, "min": 1, "max": 1, "schedule": null, "args": ["-n", "5"]},
            "web": {"entry": "http", "health": {"path": "/healthz", "grace": "10s"}, "min": 0, "max": 10,
                "schedule": null, "args": []}});
        let expected = "PROCESS  ENTRY    MIN  MAX  HEALTH    SCHEDULE  ARGS\n\
                        import   command  1    1                        -n 5\n\
                        web      http     0    10   /healthz\n";
        assert_eq!(table(&formation), expected);
    }

    #[test]
    fn a_formation_shows_settings_of_events_that_are_set() {
        let formation = json!({
            "nightly": {"entry": "events", "min": 0, "max": 10, "schedule": "0 3 * * *", "time_zone": "Europe/Berlin"},
            "worker": {"entry": "events", "min": 0, "max": 10, "order": "subject",
                "retry": {"attempts": 5, "first": "1s", "max": "1h"}}});
        let expected = "PROCESS  ENTRY   MIN  MAX  HEALTH  SCHEDULE   ZONE           ORDER    RETRY      ARGS\n\
                        nightly  events  0    10           0 3 * * *  Europe/Berlin\n\
                        worker   events  0    10                                     subject  5x 1s..1h\n";
        assert_eq!(table(&formation), expected);
    }

    #[test]
    fn a_change_reports_the_release_that_serves() {
        let host = FakeHost::responding([(200, json!({"name": "shop", "release": 4}))]);
        changed(&host.app("shop"), &json!({}), "changed process type web").unwrap();
        assert_eq!(host.requests()[0].line, "GET /v1/apps/shop");
    }
}
