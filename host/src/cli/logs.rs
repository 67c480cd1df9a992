//! Implements `isopod logs`: shows past and new lines of an app's log. Also formats log lines.
//! Never filters: the host does.

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{Args, value_parser};
use isopod_policy::{InstanceId, units::parse_duration};
use jiff::Timestamp;
use serde_json::Value;

use super::client::{Client, HostArgs, escape};
use super::failure::Failure;
use super::following;
use super::output;
use super::project::AppArgs;

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Keep printing lines as they arrive
    #[arg(short, long)]
    follow: bool,
    /// The number of past lines to show: 1 to 1000 [default: 100; with --since, 1000]
    #[arg(short = 'n', long, value_name = "LINES", value_parser = value_parser!(u32).range(1..=1000))]
    lines: Option<u32>,
    /// Only lines since a time: a duration before now, such as 10m, or an RFC 3339 time
    #[arg(long, value_name = "DURATION|TIME", value_parser = moment)]
    since: Option<String>,
    /// Only lines until a time, in the same form as --since; --follow then ends at that time
    #[arg(long, value_name = "DURATION|TIME", value_parser = moment)]
    until: Option<String>,
    /// Only lines whose message contains this text, ignoring case; not a pattern
    #[arg(short, long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    grep: Option<String>,
    /// Only lines of this level or a higher one
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(LEVELS))]
    level: Option<String>,
    /// Only lines of this source
    #[arg(long, value_name = "SOURCE", value_parser = PossibleValuesParser::new(STREAMS))]
    stream: Option<String>,
    /// Only lines of this instance, such as web-7f3k2
    #[arg(long, value_name = "ID")]
    instance: Option<InstanceId>,
    /// Only lines of this request: the value of its response header x-request-id
    #[arg(long, value_name = "ID", conflicts_with = "event")]
    request: Option<String>,
    /// Only lines of the attempts of this stored event
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    event: Option<String>,
    /// The event's source, if events of several sources have this id [default: the last accepted
    /// event]
    #[arg(long, value_name = "SOURCE", requires = "event")]
    source: Option<String>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON; with --follow, one object per line
    #[arg(long)]
    json: bool,
}

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "critical"];

const STREAMS: [&str; 5] = ["stdout", "stderr", "log", "access", "host"];

/// The number of past lines to show without a start time, and the most that one page has.
const LINES_USUAL: u32 = 100;
const LINES_MAX: u32 = 1000;

/// Checks a time, which the host computes by its own clock.
fn moment(text: &str) -> Result<String, String> {
    match text.parse::<Timestamp>().is_ok() || parse_duration(text).is_ok() {
        true => Ok(text.to_owned()),
        false => Err("use a duration before now, such as 10m, or an RFC 3339 time".to_owned()),
    }
}

impl LogsArgs {
    /// Returns the criteria as query parameters. `request` is the id of the request, if any.
    fn criteria(&self, request: Option<&str>) -> String {
        let instance = self.instance.as_ref().map(InstanceId::as_str);
        query(&[
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("grep", self.grep.as_deref()),
            ("level", self.level.as_deref()),
            ("stream", self.stream.as_deref()),
            ("instance", instance),
            ("request_id", request),
        ])
    }
}

pub(crate) fn run(args: &LogsArgs) -> Result<(), Failure> {
    let app = args.app.resolve()?;
    let client = Client::near_project(&args.host)?;
    let request = match &args.event {
        Some(id) => Some(request_of_event(&client, app.as_str(), id, args.source.as_deref())?),
        None => args.request.clone(),
    };
    let usual = if args.since.is_some() { LINES_MAX } else { LINES_USUAL };
    let (lines, criteria) = (args.lines.unwrap_or(usual), args.criteria(request.as_deref()));
    let answer = newest(&client, app.as_str(), lines, &criteria)?;
    if args.since.is_some() && answer["next"].is_string() && !args.json {
        output::note(&format!(
            "only the newest {lines} lines since then are shown; for earlier lines, use --until with the time of a line"
        ));
    }
    if args.follow {
        output::items(&answer).iter().for_each(|entry| print_value(entry, args.json, line));
        let show = |event: &str| print(event, args.json, line);
        // The stored lines are printed above. A stream searches only a limited part of the log.
        let stream = format!("/logs?limit=0&follow=true{criteria}");
        return following::follow(&client, &app, &stream, answer["end"].as_str(), show, || Ok(()));
    }
    if args.json {
        output::json(&answer);
        return Ok(());
    }
    match (&args.event, output::items(&answer)) {
        (Some(id), []) => output::note(&format!("the log has no such lines of the event `{}`", output::flat(id))),
        (None, []) if !criteria.is_empty() => output::note("no line of the log matches"),
        _ => {}
    }
    for entry in output::items(&answer) {
        output::emit(&line(entry));
    }
    Ok(())
}

/// Returns the query parameters that have a value, each after `&`.
pub(crate) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let present = parameters.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    present.map(|(name, value)| format!("&{name}={}", escape(value))).collect()
}

/// Returns the request id of all attempts of a stored event.
fn request_of_event(client: &Client, app: &str, id: &str, source: Option<&str>) -> Result<String, Failure> {
    let source = source.map_or_else(String::new, |source| format!("?source={}", escape(source)));
    let event = client.get(&format!("/v1/apps/{app}/events/{}{source}", escape(id)))?.success()?;
    Ok(output::field(&event, "request_id"))
}

/// Returns the newest lines of an app's log that match the criteria, oldest first, as one page. The
/// host may return several pages for a search, which are joined.
pub(crate) fn newest(client: &Client, app: &str, lines: u32, criteria: &str) -> Result<Value, Failure> {
    let path = |lines: u32| format!("/v1/apps/{app}/logs?limit={lines}{criteria}");
    let mut newest = client.get(&path(lines))?.success()?;
    loop {
        let found = u32::try_from(output::items(&newest).len()).unwrap_or(u32::MAX);
        let Some(cursor) = newest["next"].as_str().filter(|_| found < lines) else { break };
        let older = client.get(&format!("{}&cursor={cursor}", path(lines - found)))?.success()?;
        let mut items = output::items(&older).to_vec();
        items.extend_from_slice(output::items(&newest));
        newest["items"] = items.into();
        newest["next"] = older["next"].clone();
        newest["partial"] = older["partial"].clone();
    }
    Ok(newest)
}

/// Prints an event of a stream: a line for people, or unchanged JSON.
pub(crate) fn print(event: &str, json: bool, line: fn(&Value) -> String) {
    match serde_json::from_str::<Value>(event) {
        Ok(value) => print_value(&value, json, line),
        Err(_) => output::emit(&format!("{event}\n")),
    }
}

fn print_value(value: &Value, json: bool, line: fn(&Value) -> String) {
    if json { output::json_line(value) } else { output::emit(&line(value)) }
}

/// Formats one line of an app's log.
pub(crate) fn line(entry: &Value) -> String {
    let at = output::first_field(entry, &["time", "at", "created_at"]);
    let source = output::first_field(entry, &["instance", "process", "source"]);
    let level = output::first_field(entry, &["level", "stream"]);
    let text = output::first_field(entry, &["text", "message", "line"]);
    let head: Vec<&str> = [output::clock(&at), &source, &level].into_iter().filter(|part| !part.is_empty()).collect();
    // The request id, which the client's error page or problem also shows.
    let id = if is_of_failure(entry) { output::field(entry, "request_id") } else { String::new() };
    let id = if id.is_empty() { id } else { format!(" {}", output::dim(&format!("request {id}"))) };
    // Continuation lines are indented, so that none resembles a separate log line.
    let text = text.trim_end().replace('\n', "\n    ");
    format!("{} {text}{id}\n", output::dim(&head.join(" ")))
}

/// Returns whether a line is about a request that the app failed to answer.
fn is_of_failure(entry: &Value) -> bool {
    entry["status"].as_u64().is_some_and(|status| status >= 500) || output::field(entry, "context") == "isopod"
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Logs {
        #[command(flatten)]
        args: LogsArgs,
    }

    #[test]
    fn each_option_is_a_parameter_of_the_query() {
        let parsed = |options: &[(&str, &str)]| {
            let words = options.iter().flat_map(|(option, value)| [*option, *value]);
            let args = Logs::try_parse_from(["logs"].into_iter().chain(words)).unwrap().args;
            args.criteria(args.request.as_deref())
        };
        let options = [
            ("--since", "10m", "&since=10m"),
            ("--until", "2026-11-30T12:00:00Z", "&until=2026-11-30T12%3A00%3A00Z"),
            ("--grep", "a b&c", "&grep=a%20b%26c"),
            ("--level", "warn", "&level=warn"),
            ("--stream", "log", "&stream=log"),
            ("--instance", "web-7f3k2", "&instance=web-7f3k2"),
            ("--request", "3v9k2m7f0zq1x8dn", "&request_id=3v9k2m7f0zq1x8dn"),
        ];
        for (option, value, parameter) in options {
            assert_eq!(parsed(&[(option, value)]), parameter);
        }
        let all = options.map(|(option, value, _)| (option, value));
        assert_eq!(parsed(&all), options.map(|(_, _, parameter)| parameter).concat());
        assert_eq!(parsed(&[]), "");
    }

    #[test]
    fn a_search_continues_until_it_has_the_lines_or_the_log_ends() {
        let page = |lines: &[&str], next: Option<&str>| {
            (200, serde_json::json!({ "items": lines, "next": next, "partial": next.is_some() }))
        };
        let host = FakeHost::responding([page(&["c"], Some("2-0")), page(&[], Some("1-0")), page(&["a", "b"], None)]);
        let criteria = query(&[("grep", Some("a b&c")), ("level", None), ("request_id", Some("3v9k2m7f0zq1x8dn"))]);
        let found = newest(&host.app("shop").client, "shop", 10, &criteria).unwrap();
        assert_eq!(found, serde_json::json!({ "items": ["a", "b", "c"], "next": null, "partial": false }));
        let lines: Vec<String> = host.requests().into_iter().map(|request| request.line).collect();
        let path =
            |limit: u32| format!("GET /v1/apps/shop/logs?limit={limit}&grep=a%20b%26c&request_id=3v9k2m7f0zq1x8dn");
        assert_eq!(lines, [path(10), format!("{}&cursor=2-0", path(9)), format!("{}&cursor=1-0", path(9))]);
    }

    #[test]
    fn joined_pages_continue_before_their_oldest_line_and_end_after_their_newest() {
        let page = |lines: &[&str], next: &str, end: &str| {
            (200, serde_json::json!({ "items": lines, "next": next, "end": end, "partial": false }))
        };
        let host = FakeHost::responding([page(&["c"], "3-0", "9-0"), page(&["a", "b"], "1-0", "3-0")]);
        let found = newest(&host.app("shop").client, "shop", 3, "").unwrap();
        let wanted = serde_json::json!({ "items": ["a", "b", "c"], "next": "1-0", "end": "9-0", "partial": false });
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_source_of_an_event_selects_its_request() {
        let event = || (200, serde_json::json!({ "id": "a/1", "request_id": "3v9k2m7f0zq1x8dn" }));
        let host = FakeHost::responding([event(), event()]);
        let client = host.app("shop").client;
        assert_eq!(request_of_event(&client, "shop", "a/1", Some("/x?")).unwrap(), "3v9k2m7f0zq1x8dn");
        request_of_event(&client, "shop", "a/1", None).unwrap();
        let lines: Vec<String> = host.requests().into_iter().map(|request| request.line).collect();
        assert_eq!(lines, ["GET /v1/apps/shop/events/a%2F1?source=%2Fx%3F", "GET /v1/apps/shop/events/a%2F1"]);
    }

    #[test]
    fn a_time_is_a_duration_or_an_instant() {
        for valid in ["10m", "90s", "2d", "2026-11-30T12:00:00Z", "2026-11-30T12:00:00+01:00"] {
            assert_eq!(moment(valid).as_deref(), Ok(valid));
        }
        for invalid in ["", "10", "-5m", "yesterday", "2026-11-30"] {
            assert!(moment(invalid).is_err_and(|why| why.contains("such as 10m")), "{invalid}");
        }
    }

    #[test]
    fn a_line_shows_time_source_and_text() {
        let entry =
            serde_json::json!({"time": "2026-01-02T03:04:05Z", "instance": "web-1", "stream": "stdout", "text": "hi"});
        assert_eq!(crate::cli::terminal::plain(&line(&entry)), "03:04:05 web-1 stdout hi\n");
    }

    #[test]
    fn a_failed_request_can_be_found_by_its_id() {
        let entry = |status: u16| {
            serde_json::json!({
                "time": "2026-01-02T03:04:05Z",
                "stream": "access",
                "message": "GET /",
                "status": status,
                "request_id": "r-1",
            })
        };
        let shown = |status| crate::cli::terminal::plain(&line(&entry(status)));
        assert_eq!(shown(502), "03:04:05 access GET / request r-1\n");
        assert_eq!(shown(200), "03:04:05 access GET /\n");
    }
}
