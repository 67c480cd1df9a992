//! Implements `isopod alerts`: shows the alerts that fire, and the rules. Never changes a rule.

use clap::{Args, Subcommand};
use isopod_policy::AlertUnit;
use serde_json::Value;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::output::{self, field, value};

const HEADINGS: [&str; 4] = ["RULE", "OF", "SINCE", "ALERT"];
const RULE_HEADINGS: [&str; 5] = ["RULE", "FOR", "FIRES AT", "RESOLVED AT", "LASTING"];

const EXAMPLES: &str = "\
An alert fires when a measured value stays beyond its threshold, and is resolved once the value stays on the other
side.
[alerts] in the host's configuration file sets the rules and a webhook. Earlier alerts are in the activity.

Examples:
  isopod alerts
  isopod alerts rules
  isopod activity --app shop";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AlertsArgs {
    #[command(subcommand)]
    command: Option<AlertsCommand>,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum AlertsCommand {
    /// List the alerts that fire; this is the default
    List,
    /// List the enabled rules with their thresholds
    Rules,
}

pub(crate) fn run(args: &AlertsArgs) -> Result<(), Failure> {
    let alerts = Client::near_project(&args.host)?.get("/v1/alerts")?.success()?;
    if args.json {
        output::json(&alerts);
        return Ok(());
    }
    match args.command {
        None | Some(AlertsCommand::List) => {
            match output::items(&alerts) {
                [] => output::note("no alert fires"),
                firing => output::emit(&output::table(&HEADINGS, &firing.iter().map(row).collect::<Vec<_>>())),
            }
            note_others(&alerts);
            warn_of_webhook(&alerts["webhook"]);
        }
        Some(AlertsCommand::Rules) => {
            let rules = alerts["rules"].as_array().map_or(&[][..], Vec::as_slice);
            output::emit(&output::table(&RULE_HEADINGS, &rules.iter().map(rule_row).collect::<Vec<_>>()));
        }
    }
    Ok(())
}

fn row(alert: &Value) -> Vec<String> {
    let of = if alert["app"].is_null() { "the host".to_owned() } else { field(alert, "app") };
    vec![field(alert, "rule"), of, output::time(&field(alert, "since")), value(alert, "text")]
}

fn rule_row(rule: &Value) -> Vec<String> {
    let unit = serde_json::from_value::<AlertUnit>(rule["unit"].clone()).unwrap_or(AlertUnit::Count);
    let shown = |key: &str| unit.show(rule[key].as_f64().unwrap_or_default());
    let per_app = rule["per_app"].as_bool().unwrap_or(false);
    let of = if per_app { "each app" } else { "the host" };
    vec![
        field(rule, "rule"),
        of.to_owned(),
        shown("threshold"),
        shown("clear"),
        output::duration_of(rule, "lasting_ms"),
    ]
}

/// Reports alerts that the host left out of its response.
fn note_others(alerts: &Value) {
    let listed = output::items(alerts).len() as u64;
    if let Some(others @ 1..) = alerts["total"].as_u64().and_then(|total| total.checked_sub(listed)) {
        output::note(&format!("{others} more alerts fire"));
    }
}

/// Reports messages that the webhook doesn't accept.
fn warn_of_webhook(webhook: &Value) {
    let error = value(webhook, "error");
    if !error.is_empty() {
        let waiting = field(webhook, "waiting");
        output::note(&format!("the webhook fails, and {waiting} messages wait: {error}"));
    }
    if let Some(dropped @ 1..) = webhook["dropped"].as_u64() {
        output::note(&format!("messages dropped since the host's start: {dropped}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_names_the_app_or_the_host() {
        let alert = json!({ "rule": "cpu", "app": null, "since": "2026-11-30T10:00:00.5Z", "text": "95 %\u{1b}" });
        assert_eq!(row(&alert), ["cpu", "the host", "2026-11-30 10:00:00", "95 %\\x1b"]);
        let alert = json!({ "rule": "queue-depth", "app": "shop", "since": "2026-11-30T10:00:00Z", "text": "x" });
        assert_eq!(row(&alert)[1], "shop");
    }

    #[test]
    fn a_rule_is_shown_with_its_unit() {
        let rule = json!({
            "rule": "disk-space", "per_app": false, "unit": "bytes", "threshold": 1_073_741_824.0, "clear": 2e9,
            "lasting_ms": 60_000,
        });
        assert_eq!(rule_row(&rule), ["disk-space", "the host", "1 GiB", "1.9 GiB", "1m0s"]);
    }
}
