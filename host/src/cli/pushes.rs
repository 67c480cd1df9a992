//! Implements `isopod pushes`: lists an app's push jobs, newest first, shows one with its log, and
//! cancels a queued one. Never starts or follows a push job; `isopod deploy` does.

use std::num::NonZeroU16;

use clap::{Args, Subcommand};
use isopod_policy::PushId;
use serde_json::Value;

use super::failure::Failure;
use super::output::{self, field};
use super::target::{RemoteApp, Target};

const EXAMPLES: &str = "\
Examples:
  isopod pushes                        the newest push jobs
  isopod pushes info p-7f3k2m9q0z      one push job: why it failed, and its whole log
  isopod pushes cancel p-7f3k2m9q0z    cancels a push job that is still queued
  isopod deploy --detach               starts a push job and prints its id";

const HEADINGS: [&str; 6] = ["ID", "STATE", "RELEASE", "REASON", "WHEN", "BY"];

/// The number of rows that fit on a screen.
const PUSHES_SHOWN: NonZeroU16 = NonZeroU16::new(20).unwrap();

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PushesArgs {
    #[command(subcommand)]
    command: Option<PushesCommand>,
    /// The number of push jobs to list, newest first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = PUSHES_SHOWN)]
    limit: NonZeroU16,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand, Debug)]
enum PushesCommand {
    /// Show one push job with its whole log
    Info {
        /// The push job, such as p-7f3k2m9q0z
        #[arg(value_name = "ID")]
        push: PushId,
    },
    /// Cancel a push job that is still queued
    Cancel {
        /// The push job, such as p-7f3k2m9q0z
        #[arg(value_name = "ID")]
        push: PushId,
    },
}

pub(crate) fn run(args: &PushesArgs) -> Result<(), Failure> {
    match &args.command {
        None => list(&args.target.look()?, args.limit.get()),
        Some(PushesCommand::Info { push }) => {
            let app = args.target.look()?;
            let answer = app.get(&format!("/pushes/{push}"))?;
            app.show(&answer, || Ok(info(&answer)))
        }
        Some(PushesCommand::Cancel { push }) => {
            let app = args.target.change()?;
            let answer = app.post(&format!("/pushes/{push}/cancel"), None)?;
            let what = format!("cancelled push {push} of {}; it creates no release", app.name);
            app.show(&answer, || Ok(format!("{}\n", output::done(&what))))
        }
    }
}

fn list(app: &RemoteApp, limit: u16) -> Result<(), Failure> {
    let answer = app.all("/pushes", limit.into())?;
    app.show(&answer, || {
        let rows: Vec<Vec<String>> = output::items(&answer).iter().map(row).collect();
        if rows.is_empty() {
            output::note(&format!("no pushes yet; start the first with `isopod deploy --app {}`", app.name));
        } else if !field(&answer, "next").is_empty() {
            output::note(&output::more(limit));
        }
        Ok(output::table(&HEADINGS, &rows))
    })
}

fn row(push: &Value) -> Vec<String> {
    vec![
        field(push, "id"),
        field(push, "state"),
        output::release(push, "release"),
        field(push, "reason_code"),
        output::time(&field(push, "created_at")),
        field(push, "created_by"),
    ]
}

fn info(push: &Value) -> String {
    let mut text = output::pairs(&[
        ("push", field(push, "id")),
        ("app", field(push, "app")),
        ("state", field(push, "state")),
        ("release", output::release(push, "release")),
        ("reason", field(push, "reason")),
        ("created", output::time(&field(push, "created_at"))),
        ("updated", output::time(&field(push, "updated_at"))),
        ("by", field(push, "created_by")),
    ]);
    let log = push["log"].as_array().map_or(&[][..], Vec::as_slice);
    if !log.is_empty() {
        text.push_str("\nlog\n");
        text.extend(log.iter().map(|line| format!("  {}\n", output::log_text(line))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;
    use serde_json::json;

    fn push() -> Value {
        json!({"id": "p-7f3k2m9q0z", "app": "shop", "state": "failed", "release": 3,
            "reason": "health-check: GET /healthz: 500", "reason_code": "health-check", "log": ["received", "compiled"],
            "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:09Z", "created_by": "ann"})
    }

    #[test]
    fn a_push_is_one_row_with_the_code_of_its_reason() {
        let expected = ["p-7f3k2m9q0z", "failed", "v3", "health-check", "2026-01-02 03:04:05", "ann"];
        assert_eq!(row(&push()), expected);
        assert_eq!(row(&json!({"id": "p-7f3k2m9q0z", "state": "queued", "release": null}))[2..4], ["", ""]);
    }

    #[test]
    fn a_push_shows_why_it_failed_and_its_whole_log() {
        let text = info(&push());
        assert!(text.contains("health-check: GET /healthz: 500\n"), "{text}");
        assert!(text.ends_with("\nlog\n  received\n  compiled\n"), "{text}");
    }

    #[test]
    fn only_the_shown_number_of_pushes_is_requested() {
        let host = FakeHost::responding([(200, json!({"items": [push()], "next": null}))]);
        list(&host.app("shop"), 7).unwrap();
        assert_eq!(host.requests()[0].line, "GET /v1/apps/shop/pushes?limit=7");
    }
}
