//! Implements `isopod logs`: shows an app's log, past lines or as they arrive. Also formats lines
//! of a log. Never filters on the host's behalf.

use clap::Args;
use serde_json::Value;

use super::client::{Client, HostArgs};
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
    let newest = format!("/logs?limit={}", args.lines);
    if args.follow {
        let show = |event: &str| print(event, args.json, line);
        return following::follow(&client, &app, &format!("{newest}&follow=true"), show, || Ok(()));
    }
    let answer = client.get(&format!("/v1/apps/{app}{newest}"))?.success()?;
    if args.json {
        output::json(&answer);
        return Ok(());
    }
    for entry in output::items(&answer) {
        output::emit(&line(entry));
    }
    Ok(())
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
    // The request id, which the error's page or problem also shows.
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
    use super::*;

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
