//! `isopod activity`: what happened to an app and why, past or as it happens.

use clap::Args;
use serde_json::Value;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::output;
use super::project::AppArgs;

#[derive(Args, Debug)]
pub(crate) struct ActivityArgs {
    /// Keep printing what happens
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON; one object a line with --follow
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ActivityArgs) -> Result<(), Failure> {
    let app = args.app.resolve()?;
    let client = Client::near_project(&args.host)?;
    let path = format!("/v1/apps/{app}/activity");
    if args.follow {
        return super::logs::follow(&client, &format!("{path}?follow=true"), args.json, line);
    }
    let answer = client.get(&path)?.success()?;
    if args.json {
        output::json(&answer);
        return Ok(());
    }
    // The host lists the newest first; a terminal reads better with the newest last.
    for entry in output::items(&answer).iter().rev() {
        output::emit(&line(entry));
    }
    Ok(())
}

/// One thing that happened, as a line for people.
fn line(entry: &Value) -> String {
    let at = output::time(&output::first_field(entry, &["at", "time", "created_at"]));
    let kind = output::first_field(entry, &["kind", "type"]);
    let text = output::first_field(entry, &["text", "message", "detail", "cause", "reason"]);
    let by = Some(output::first_field(entry, &["by", "created_by", "actor"])).filter(|by| !by.is_empty());
    let by = by.map(|by| output::dim(&format!(" ({by})"))).unwrap_or_default();
    format!("{}  {kind:<18} {text}{by}\n", output::dim(&at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        let entry = serde_json::json!({"at": "2026-01-02T03:04:05Z", "kind": "released", "text": "v3 serves"});
        let text = anstream::adapter::strip_str(&line(&entry)).to_string();
        assert_eq!(text, "2026-01-02 03:04:05  released           v3 serves\n");
    }
}
