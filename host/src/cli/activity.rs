//! Implements `isopod activity`: shows what happened to an app and why, past entries or as they
//! happen. Never changes the app.

use std::cell::Cell;
use std::num::NonZeroU16;

use clap::Args;
use isopod_policy::AppName;
use jiff::Timestamp;
use serde_json::Value;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::following;
use super::logs;
use super::output;
use super::project::AppArgs;

/// The number of entries that fit on a few screens.
const ENTRIES_SHOWN: NonZeroU16 = NonZeroU16::new(100).unwrap();

#[derive(Args, Debug)]
pub(crate) struct ActivityArgs {
    /// Keep printing new entries
    #[arg(short, long)]
    follow: bool,
    /// Show the audit trail of the whole host, or of one app with --app: the changes and refused
    /// calls of each token
    #[arg(long, conflicts_with = "follow")]
    audit: bool,
    /// The number of past entries to show
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = ENTRIES_SHOWN, conflicts_with = "follow")]
    limit: NonZeroU16,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON; with --follow, one object per line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ActivityArgs) -> Result<(), Failure> {
    let client = Client::near_project(&args.host)?;
    let path = if args.audit {
        let app = args.app.app.as_ref().map(|app| format!("&app={app}")).unwrap_or_default();
        format!("/v1/activity?audit=true{app}")
    } else {
        let app = args.app.resolve()?;
        let path = format!("/v1/apps/{app}/activity");
        if args.follow {
            return follow(&client, &app, &path, args.json);
        }
        path
    };
    let answer = client.all(&path, args.limit.get().into())?;
    if args.json {
        output::json(&answer);
        return Ok(());
    }
    if !output::field(&answer, "next").is_empty() {
        output::note(&output::more(args.limit.get()));
    }
    // The host lists the newest first; a terminal reads better with the newest last.
    for entry in output::items(&answer).iter().rev() {
        // The audit trail contains the entries of several apps, so each entry names its app.
        let app = if args.audit { output::field(entry, "app") } else { String::new() };
        output::emit(&if app.is_empty() { line(entry) } else { line_of_app(entry, &app) });
    }
    Ok(())
}

/// Prints new entries. After a reconnect, lists the entries that were written while the host was
/// unreachable.
fn follow(client: &Client, app: &AppName, path: &str, json: bool) -> Result<(), Failure> {
    let newest_of = |answer: &Value| output::items(answer).first().and_then(happened_at);
    // The newest entry that was printed, or that is older than the command's start.
    let newest = Cell::new(newest_of(&client.get(&format!("{path}?limit=1"))?.success()?));
    // The newest entry that was listed; the stream may repeat entries up to it.
    let listed = Cell::new(None);
    let show = |event: &str| {
        let at = serde_json::from_str::<Value>(event).ok().and_then(|entry| happened_at(&entry));
        if at.is_none() || at > listed.get() {
            newest.set(at.max(newest.get()));
            logs::print(event, json, line);
        }
    };
    let list_missed = || {
        let answer = client.all(path, crate::api::limits::PAGE_ITEMS_MAX as usize)?;
        for entry in output::items(&answer).iter().rev().filter(|entry| happened_at(entry) > newest.get()) {
            logs::print(&entry.to_string(), json, line);
        }
        newest.set(newest_of(&answer).max(newest.get()));
        listed.set(newest.get());
        Ok(())
    };
    following::follow(client, app, "/activity?follow=true", None, show, list_missed)
}

fn happened_at(entry: &Value) -> Option<Timestamp> {
    output::field(entry, "at").parse().ok()
}

/// Formats an entry like [`line()`], with the name of its app before the text.
fn line_of_app(entry: &Value, app: &str) -> String {
    let mut entry = entry.clone();
    entry["text"] = format!("{app}: {}", output::first_field(&entry, &["text"])).into();
    line(&entry)
}

/// Formats an entry as one line: its time, its kind, its text, its numbers, and its requester with
/// its address.
fn line(entry: &Value) -> String {
    let at = output::time(&output::first_field(entry, &["at", "time", "created_at"]));
    let kind = output::first_field(entry, &["kind", "type"]);
    let text = output::flat(&output::first_field(entry, &["text", "message", "detail", "cause", "reason"]));
    let data = &entry["data"];
    let by = [entry, data].map(|from| output::first_field(from, &["by", "created_by", "actor"]));
    let from = data["address"].as_str().map(|address| format!(" from {address}")).unwrap_or_default();
    let by = by.into_iter().find(|by| !by.is_empty()).map(|by| format!("by {by}{from}"));
    let rest: Vec<String> = numbers(data, &text).into_iter().chain(by).collect();
    let rest = if rest.is_empty() { String::new() } else { output::dim(&format!("  ({})", rest.join(", "))) };
    format!("{}  {kind:<18} {text}{rest}\n", output::dim(&at))
}

/// Returns the numbers of an entry in units for people, without those that its text contains.
fn numbers(data: &Value, text: &str) -> Vec<String> {
    let in_text: Vec<&str> = text.split(|c: char| !c.is_ascii_digit() && c != '.').collect();
    let numbers = data.as_object().into_iter().flatten().filter(|(_, value)| value.is_number());
    numbers
        .filter(|(_, value)| !in_text.contains(&value.to_string().as_str()))
        .map(|(key, value)| {
            let (name, shown) = match value.as_u64() {
                Some(ms) if key.ends_with("_ms") => (key.trim_end_matches("_ms"), output::duration(ms)),
                Some(bytes) if key.ends_with("_bytes") => (key.trim_end_matches("_bytes"), output::size(bytes)),
                _ => (key.as_str(), value.to_string()),
            };
            format!("{} {shown}", name.replace('_', " "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        let entry = serde_json::json!({"at": "2026-01-02T03:04:05Z", "kind": "released", "text": "v3 serves"});
        let text = crate::cli::terminal::plain(&line(&entry));
        assert_eq!(text, "2026-01-02 03:04:05  released           v3 serves\n");
    }

    #[test]
    fn numbers_and_the_requester_follow_the_text_unless_it_contains_them() {
        let data = serde_json::json!({"from": 1, "to": 3, "p95_ms": 1500, "queue": 12, "why": "busy", "by": "scaler"});
        let entry =
            serde_json::json!({"at": "2026-01-02T03:04:05Z", "kind": "scaled", "text": "web 1 to 3", "data": data});
        let text = crate::cli::terminal::plain(&line(&entry));
        let expected = "2026-01-02 03:04:05  scaled             web 1 to 3  (p95 1.5s, queue 12, by scaler)\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_entry_with_a_text_of_several_lines_is_one_line() {
        let entry =
            serde_json::json!({"at": "2026-01-02T03:04:05Z", "kind": "app-error", "text": "a\nb\n", "data": null});
        assert_eq!(line(&entry).lines().count(), 1);
    }
}
