//! Implements `isopod events list`, `show` and `cancel`, and formats stored events. Never sends an
//! event.

use std::num::NonZeroU16;

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use jiff::Timestamp;
use serde_json::Value;

use super::super::client::escape;
use super::super::failure::Failure;
use super::super::logs;
use super::super::output::{self, field};
use super::super::target::RemoteApp;

const HEADINGS: [&str; 6] = ["ID", "STATE", "TYPE", "SUBJECT", "ACCEPTED", "ERROR"];

/// The headings of dead letters. The column before the last has the end of the last attempt.
const DEAD_HEADINGS: [&str; 7] = ["ID", "STATE", "TYPE", "SUBJECT", "ACCEPTED", "DEAD SINCE", "ERROR"];

/// The number of rows that fit on a screen.
pub(crate) const EVENTS_SHOWN: NonZeroU16 = NonZeroU16::new(20).unwrap();

/// The number of log lines that `events show` shows; `isopod logs --event` shows more.
const LINES_SHOWN: u32 = 100;

/// Selects events by equal attributes.
#[derive(Args, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events about this subject
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Only events with this id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only events of this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Only events for this process type
    #[arg(long, value_name = "PROCESS")]
    process: Option<String>,
}

impl Filter {
    /// Returns the given attributes by their names in the API.
    pub(crate) fn attributes(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("type", &self.event_type),
            ("subject", &self.subject),
            ("id", &self.id),
            ("source", &self.source),
            ("process", &self.process),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }

    /// Returns the filter as a query, with `?` if it isn't empty.
    pub(crate) fn query(&self) -> String {
        query(self.attributes())
    }
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Delayed,
    #[value(alias = "leased")]
    Running,
    Done,
    Dead,
    Cancelled,
}

impl State {
    fn in_api(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Delayed => "delayed",
            Self::Running => "leased",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Args, Debug, PartialEq, Eq)]
pub(super) struct ListArgs {
    /// Only events in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(flatten)]
    filter: Filter,
    /// The number of events to list, newest first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = EVENTS_SHOWN)]
    limit: NonZeroU16,
}

impl Default for ListArgs {
    fn default() -> Self {
        Self { state: None, filter: Filter::default(), limit: EVENTS_SHOWN }
    }
}

/// Returns the error for list options that precede a subcommand, which has its own options.
pub(crate) fn misplaced_options(command: &str) -> Failure {
    Failure::usage("list options can't precede a subcommand")
        .why(format!("`isopod {command}` without a subcommand shows the list, and each subcommand has its own options"))
        .next("write the options after the subcommand")
}

/// One event.
#[derive(Args, Debug)]
pub(crate) struct OneArgs {
    /// The event's id
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: String,
    /// The event's source, if events of several sources have this id [default: the last accepted
    /// event]
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
}

impl OneArgs {
    fn path(&self, action: &str) -> String {
        let source = self.source.as_deref().map(|source| ("source", source));
        format!("/events/{}{action}{}", escape(&self.id), query(source))
    }
}

fn query<'a>(parameters: impl IntoIterator<Item = (&'static str, &'a str)>) -> String {
    let shown: Vec<String> = parameters.into_iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    if shown.is_empty() { String::new() } else { format!("?{}", shown.join("&")) }
}

pub(super) fn list(app: &RemoteApp, args: &ListArgs) -> Result<(), Failure> {
    let state = args.state.map(|state| ("state", state.in_api()));
    let query = query(state.into_iter().chain(args.filter.attributes()));
    let answer = app.all(&format!("/events{query}"), args.limit.get().into())?;
    app.show(&answer, || {
        if let Some(counts) = counts_of(app) {
            output::note(&counts);
        }
        Ok(table(&answer, args.limit.get(), "no stored events"))
    })
}

/// Returns a line with the numbers of the app's stored events, if the app has any and the host
/// reports the numbers.
pub(crate) fn counts_of(app: &RemoteApp) -> Option<String> {
    counts(&app.get("/metrics").ok()?["push"])
}

/// Formats the numbers of stored events in the metrics of a queue.
pub(crate) fn counts(queue: &Value) -> Option<String> {
    let stored = &queue["stored"];
    let all = [
        ("ready", &stored["ready"]),
        ("delayed", &stored["delayed"]),
        ("running", &stored["leased"]),
        ("dead", &queue["dead_letters"]),
    ];
    let counted = all.iter().filter_map(|(word, number)| Some((word, number.as_u64().filter(|number| *number > 0)?)));
    let parts: Vec<String> = counted.map(|(word, number)| format!("{number} {word}")).collect();
    let oldest = match output::duration_of(queue, "oldest_ms").as_str() {
        "" => String::new(),
        age => format!("; the oldest is {age} old"),
    };
    (!parts.is_empty()).then(|| format!("stored events: {}{oldest}", parts.join(", ")))
}

/// Formats a list of events. Prints a note on standard error if the list is empty or incomplete.
pub(super) fn table(answer: &Value, limit: u16, none: &str) -> String {
    table_of(answer, limit, none, (&HEADINGS, row))
}

/// Formats a list of dead letters like [`table`].
pub(crate) fn dead_letters(answer: &Value, limit: u16) -> String {
    table_of(answer, limit, "no dead letters", (&DEAD_HEADINGS, dead_row))
}

/// The headings of a table, and the function that formats the row of an event.
type Columns<'a> = (&'a [&'a str], fn(&Value) -> Vec<String>);

fn table_of(answer: &Value, limit: u16, none: &str, (headings, row): Columns<'_>) -> String {
    let rows: Vec<Vec<String>> = output::items(answer).iter().map(row).collect();
    if rows.is_empty() {
        output::note(none);
    } else if !field(answer, "next").is_empty() {
        output::note(&output::more(limit));
    }
    output::table(headings, &rows)
}

pub(crate) fn show(app: &RemoteApp, args: &OneArgs) -> Result<(), Failure> {
    let event = app.get(&args.path(""))?;
    app.show(&event, || {
        let request = field(&event, "request_id");
        let log =
            logs::newest(&app.client, app.name.as_str(), LINES_SHOWN, &logs::query(&[("request_id", Some(&request))]))?;
        let lines: Vec<String> = output::items(&log).iter().map(|line| format!("  {}", logs::line(line))).collect();
        let heading = if lines.is_empty() { "" } else { "\nlog of its attempts\n" };
        if let Some(advice) = advice_if_stranded(&event) {
            output::note(&advice);
        }
        Ok(format!("{}{heading}{}", info(&event), lines.concat()))
    })
}

pub(super) fn cancel(app: &RemoteApp, args: &OneArgs) -> Result<(), Failure> {
    let event = app.post(&args.path("/cancel"), None)?;
    app.show(&event, || Ok(format!("{}\n", output::done(&format!("cancelled event {}", args.id)))))
}

/// Returns an event's state for people.
pub(crate) fn state(event: &Value) -> String {
    state_at(event, Timestamp::now())
}

/// Returns the next step for an event whose process type the app's current release lacks.
fn advice_if_stranded(event: &Value) -> Option<String> {
    let (process, is_dead) = (output::value(event, "process"), event["state"] == "dead");
    let (effect, action) = if is_dead { ("can't be redriven", "drop") } else { ("waits", "cancel") };
    (event["is_stranded"] == true).then(|| {
        format!(
            "the app's current release has no process type `{process}` that handles events, so the event {effect}; \
             deploy a release with it, or {action} the event"
        )
    })
}

fn state_at(event: &Value, now: Timestamp) -> String {
    let state = state_without_process(event, now);
    match event["is_stranded"] == true {
        true => format!("{state}, no process type {}", output::value(event, "process")),
        false => state,
    }
}

fn state_without_process(event: &Value, now: Timestamp) -> String {
    let state = field(event, "state");
    let attempt = format!("attempt {} of {}", field(event, "attempt"), field(event, "attempts_max"));
    match state.as_str() {
        "leased" => format!("running ({attempt})"),
        "ready" if event["is_blocked"] == true => "ready (after an earlier event of its subject)".to_owned(),
        "delayed" => {
            let due = field(event, "due_at");
            // An event can be due and still wait for its delivery.
            let is_due = due.parse::<Timestamp>().is_ok_and(|due| due <= now);
            format!("{} {}", if is_due { "due since" } else { "delayed until" }, output::time(&due))
        }
        "dead" => format!("dead ({attempt})"),
        _ => state,
    }
}

fn row(event: &Value) -> Vec<String> {
    let error = field(event, "error");
    vec![
        output::value(event, "id"),
        state(event),
        output::value(event, "type"),
        output::value(event, "subject"),
        output::time(&field(event, "accepted_at")),
        error.lines().next().unwrap_or_default().to_owned(),
    ]
}

fn dead_row(event: &Value) -> Vec<String> {
    let (mut row, since) = (row(event), output::time(&field(event, "ended_at")));
    row.insert(row.len() - 1, since);
    row
}

fn info(event: &Value) -> String {
    let attempts = match field(event, "attempt").as_str() {
        "0" => String::new(),
        attempt => format!("{attempt} of {}", field(event, "attempts_max")),
    };
    let text = output::pairs(&[
        ("event", output::value(event, "id")),
        ("state", state(event)),
        ("type", output::value(event, "type")),
        ("source", output::value(event, "source")),
        ("subject", output::value(event, "subject")),
        ("process", field(event, "process")),
        ("attempts", attempts),
        ("accepted", output::time(&field(event, "accepted_at"))),
        ("expires", output::time(&field(event, "expires_at"))),
        ("ended", output::time(&field(event, "ended_at"))),
    ]);
    match field(event, "error").trim_end() {
        "" => text,
        error => format!("{text}\nerror\n  {}\n", error.replace('\n', "\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fake::FakeHost;
    use super::*;
    use serde_json::json;

    fn event(state: &str) -> Value {
        json!({"id": "42", "source": "/shop", "type": "order", "subject": "ann", "process": "worker", "queue": "push",
            "state": state, "is_blocked": false, "attempt": 2, "attempts_max": 10,
            "error": "the shop is closed\n    at shop::open", "accepted_at": "2026-01-02T03:04:05.678Z",
            "due_at": "2026-01-02T04:00:00Z", "expires_at": null, "ended_at": null})
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn stored_events_are_counted_in_one_line() {
        let queue = json!({"stored": {"ready": 12, "delayed": 0, "leased": 1}, "oldest_ms": 61_000, "dead_letters": 3});
        let shown = "stored events: 12 ready, 1 running, 3 dead; the oldest is 1m1s old";
        assert_eq!(counts(&queue).as_deref(), Some(shown));
        let none = json!({"stored": {"ready": 0, "delayed": 0, "leased": 0}, "dead_letters": 0});
        assert_eq!((counts(&none), counts(&json!({}))), (None, None));
    }

    #[test]
    fn a_state_is_shown_in_words() {
        for (name, shown) in [
            ("ready", "ready"),
            ("leased", "running (attempt 2 of 10)"),
            ("delayed", "delayed until 2026-01-02 04:00:00"),
            ("done", "done"),
            ("dead", "dead (attempt 2 of 10)"),
            ("cancelled", "cancelled"),
        ] {
            assert_eq!(state_at(&event(name), at("2026-01-02T03:59:59Z")), shown);
        }
        let due = "due since 2026-01-02 04:00:00";
        assert_eq!(state_at(&event("delayed"), at("2026-01-02T04:00:00Z")), due, "it waits for its delivery");
        let mut stranded = event("dead");
        assert_eq!(advice_if_stranded(&stranded), None);
        stranded["is_stranded"] = json!(true);
        assert_eq!(state(&stranded), "dead (attempt 2 of 10), no process type worker");
        let advice = advice_if_stranded(&stranded).unwrap();
        assert!(advice.contains("can't be redriven; deploy a release with it, or drop the event"), "{advice}");
        let blocked = json!({"state": "ready", "is_blocked": true});
        assert_eq!(state(&blocked), "ready (after an earlier event of its subject)");
    }

    #[test]
    fn an_event_is_one_row_and_is_shown_with_its_whole_error() {
        let expected = ["42", "dead (attempt 2 of 10)", "order", "ann", "2026-01-02 03:04:05", "the shop is closed"];
        assert_eq!(row(&event("dead")), expected);
        let mut dead = event("dead");
        dead["ended_at"] = json!("2026-01-02T05:06:07.890Z");
        assert_eq!(dead_row(&dead)[4..], ["2026-01-02 03:04:05", "2026-01-02 05:06:07", "the shop is closed"]);
        let text = info(&event("dead"));
        assert!(text.ends_with("\nerror\n  the shop is closed\n      at shop::open\n"), "{text}");
        assert!(text.contains("attempts  2 of 10\n") && !text.contains("expires"), "{text}");
    }

    #[test]
    fn the_attributes_of_an_event_cannot_forge_a_line() {
        let attributes = ["id", "source", "type", "subject"];
        let mut forged = event("dead");
        attributes.iter().for_each(|name| forged[*name] = json!("x\r\nfake\u{1b}[2J"));
        let text = table(&json!({ "items": [forged] }), 20, "none") + &info(&forged);
        assert!(!text.contains(['\r', '\u{1b}']) && !text.contains("\nfake"), "{text}");
        assert_eq!(text.matches("x\\nfake\\x1b[2J").count(), 3 + attributes.len(), "{text}");
    }

    #[test]
    fn events_are_selected_by_their_attributes() {
        let page = |next: Value| (200, json!({"items": [], "next": next}));
        let host = FakeHost::responding([page(json!("7")), page(Value::Null)]);
        let filter =
            Filter { event_type: Some("chat.message".into()), subject: Some("a b".into()), ..Filter::default() };
        list(&host.app("shop"), &ListArgs { state: Some(State::Running), filter, limit: EVENTS_SHOWN }).unwrap();
        let lines: Vec<String> = host.requests().into_iter().map(|request| request.line).collect();
        let first = "GET /v1/apps/shop/events?state=leased&type=chat.message&subject=a%20b&limit=20";
        assert_eq!(lines, [first.to_owned(), format!("{first}&cursor=7")], "an empty page may have a next one");
    }

    #[test]
    fn an_id_and_a_source_are_encoded() {
        let host = FakeHost::responding([(200, event("cancelled"))]);
        cancel(&host.app("shop"), &OneArgs { id: "a/b".into(), source: Some("/x?".into()) }).unwrap();
        assert_eq!(host.requests()[0].line, "POST /v1/apps/shop/events/a%2Fb/cancel?source=%2Fx%3F");
    }
}
