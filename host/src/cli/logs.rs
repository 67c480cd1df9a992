//! Implements `isopod logs`: shows past and new lines of an app's log. Also formats log lines.
//! Never filters: the host does.

use clap::Args;
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
    /// The number of past lines to show: 1 to 1000
    #[arg(
        short = 'n',
        long,
        value_name = "LINES",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1000),
    )]
    lines: u32,
    /// Only lines of this request: the value of its response header x-request-id
    #[arg(long, value_name = "ID", conflicts_with = "event")]
    request: Option<String>,
    /// Only lines of the attempts of this stored event
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON; with --follow, one object per line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &LogsArgs) -> Result<(), Failure> {
    let app = args.app.resolve()?;
    let client = Client::near_project(&args.host)?;
    let request = match &args.event {
        Some(id) => {
            let event = client.get(&format!("/v1/apps/{app}/events/{}", escape(id)))?.success()?;
            Some(output::field(&event, "request_id"))
        }
        None => args.request.clone(),
    };
    let query = query(args.lines, request.as_deref());
    if args.follow {
        let show = |event: &str| print(event, args.json, line);
        return following::follow(&client, &app, &format!("/logs?{query}&follow=true"), show, || Ok(()));
    }
    let answer = newest(&client, app.as_str(), args.lines, request.as_deref())?;
    if args.json {
        output::json(&answer);
        return Ok(());
    }
    for entry in output::items(&answer) {
        output::emit(&line(entry));
    }
    Ok(())
}

fn query(lines: u32, request: Option<&str>) -> String {
    let request = request.map_or_else(String::new, |id| format!("&request_id={}", escape(id)));
    format!("limit={lines}{request}")
}

/// Returns the newest lines of an app's log, oldest first, as one page; with a request id, only its
/// lines. The host may return several pages for such a search, which are joined.
pub(crate) fn newest(client: &Client, app: &str, lines: u32, request: Option<&str>) -> Result<Value, Failure> {
    let path = format!("/v1/apps/{app}/logs?{}", query(lines, request));
    let mut newest = client.get(&path)?.success()?;
    while output::items(&newest).len() < lines as usize {
        let Some(cursor) = newest["next"].as_str() else { break };
        let mut older = client.get(&format!("{path}&cursor={cursor}"))?.success()?;
        let mut items = output::items(&older).to_vec();
        items.extend_from_slice(output::items(&newest));
        items.drain(..items.len().saturating_sub(lines as usize));
        older["items"] = items.into();
        newest = older;
    }
    Ok(newest)
}

/// Prints an event of a stream: a line for people, or unchanged JSON.
pub(crate) fn print(event: &str, json: bool, line: fn(&Value) -> String) {
    match serde_json::from_str::<Value>(event) {
        Ok(value) if json => output::json_line(&value),
        Ok(value) => output::emit(&line(&value)),
        Err(_) => output::emit(&format!("{event}\n")),
    }
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

    #[test]
    fn a_search_continues_until_it_has_the_lines_or_the_log_ends() {
        let page = |lines: &[&str], next: Option<&str>| (200, serde_json::json!({ "items": lines, "next": next }));
        let host = FakeHost::responding([page(&["c"], Some("2-0")), page(&[], Some("1-0")), page(&["a", "b"], None)]);
        let found = newest(&host.app("shop").client, "shop", 10, Some("3v9k2m7f0zq1x8dn")).unwrap();
        assert_eq!(found, serde_json::json!({ "items": ["a", "b", "c"], "next": null }));
        let lines: Vec<String> = host.requests().into_iter().map(|request| request.line).collect();
        let first = "GET /v1/apps/shop/logs?limit=10&request_id=3v9k2m7f0zq1x8dn";
        assert_eq!(lines, [first.to_owned(), format!("{first}&cursor=2-0"), format!("{first}&cursor=1-0")]);
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
