//! Implements `isopod releases`: lists an app's immutable releases, newest first, shows one, and
//! compares two, and approves one. Never builds a release.

use std::num::NonZeroU16;

use clap::{Args, Subcommand};
use isopod_policy::ReleaseNumber;
use serde_json::Value;

use super::failure::Failure;
use super::output::{self, field, setting};
use super::target::{RemoteApp, Target};
use super::{formation, grants};

const EXAMPLES: &str = "\
Examples:
  isopod releases                the newest releases; * marks the current one
  isopod releases info v3        one release: manifest, config vars, why it failed
  isopod releases diff v3        what v3 changed compared to the previous release
  isopod releases diff v5 v3     the differences between any two
  isopod releases approve v7     starts a release that asks for more than its ceiling allows
  isopod rollback v3             creates a new release that is a copy of v3";

/// The number of rows that fit on a screen.
const RELEASES_SHOWN: NonZeroU16 = NonZeroU16::new(20).unwrap();

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReleasesArgs {
    #[command(subcommand)]
    command: Option<ReleasesCommand>,
    /// The number of releases to list, newest first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = RELEASES_SHOWN)]
    limit: NonZeroU16,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand, Debug)]
enum ReleasesCommand {
    /// Show what a release changed
    Diff {
        /// The release, such as v3
        release: ReleaseNumber,
        /// The release to compare it with [default: the previous release]
        with: Option<ReleaseNumber>,
    },
    /// Start a release that asks for more than its ceiling allows, as a new release
    Approve {
        /// The release, such as v7
        release: ReleaseNumber,
    },
    /// Show one release
    Info {
        /// The release, such as v3
        release: ReleaseNumber,
    },
}

pub(crate) fn run(args: &ReleasesArgs) -> Result<(), Failure> {
    let app = args.target.look()?;
    match &args.command {
        None => list(&app, args.limit.get()),
        Some(ReleasesCommand::Approve { release }) => {
            let app = args.target.change()?;
            let answer = app.rolling_out(|| app.post(&format!("/releases/{release}/approve"), None))?;
            app.show(&answer, || {
                let what = format!("{} serves {}, the approved {release}", app.name, field(&answer, "name"));
                Ok(format!("{}\n", output::done(&what)))
            })
        }
        Some(ReleasesCommand::Diff { release, with }) => diff(&app, *release, *with),
        Some(ReleasesCommand::Info { release }) => {
            let answer = app.get(&format!("/releases/{release}"))?;
            app.show(&answer, || Ok(info(&answer)))
        }
    }
}

fn list(app: &RemoteApp, limit: u16) -> Result<(), Failure> {
    let answer = app.all("/releases", limit.into())?;
    app.show(&answer, || {
        let current = output::release(&app.get("")?, "release");
        let rows: Vec<Vec<String>> = output::items(&answer).iter().map(|release| row(release, &current)).collect();
        if rows.is_empty() {
            output::note("no releases yet; create the first with `isopod deploy`");
        } else if !field(&answer, "next").is_empty() {
            output::note(&output::more(limit));
        }
        Ok(output::table(&["NAME", "STATE", "CAUSE", "WHEN", "BY"], &rows))
    })
}

/// Returns a release's number as people write it.
pub(crate) fn name(release: &Value) -> String {
    let keys = ["name", "release"].iter().map(|key| output::release(release, key));
    keys.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn row(release: &Value, current: &str) -> Vec<String> {
    let name = name(release);
    let mark = if name == current { " *" } else { "" };
    vec![
        format!("{name}{mark}"),
        state(release),
        output::first_field(release, &["cause", "damaged"]),
        output::time(&field(release, "created_at")),
        field(release, "created_by"),
    ]
}

/// Returns a release's state with the code of its reason, which distinguishes the causes of a
/// failure.
fn state(release: &Value) -> String {
    if release["damaged"].is_string() {
        return "damaged".to_owned();
    }
    match field(&release["reason"], "code") {
        code if code.is_empty() => field(release, "state"),
        code => format!("{}: {code}", field(release, "state")),
    }
}

/// Returns the reason for a release's state, if the host reports one.
fn reason(release: &Value) -> String {
    match release.get("reason") {
        Some(reason @ Value::Object(_)) => {
            let parts = [field(reason, "code"), field(reason, "detail")];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
        }
        _ => field(release, "reason"),
    }
}

fn info(release: &Value) -> String {
    let mut text = output::pairs(&[
        ("release", name(release)),
        ("app", field(release, "app")),
        ("state", field(release, "state")),
        ("reason", reason(release)),
        ("cause", field(release, "cause")),
        ("created", output::time(&field(release, "created_at"))),
        ("by", field(release, "created_by")),
        ("bundle", field(release, "bundle")),
        ("size", output::size_of(release, "size_bytes")),
        ("url", field(release, "url")),
    ]);
    let manifest = &release["manifest"];
    if manifest["processes"].as_object().is_some_and(|processes| !processes.is_empty()) {
        text.push_str(&format!("\n{}", formation::table(&manifest["processes"])));
    }
    for (heading, settings) in [("config in the manifest", &manifest["config"]), ("config vars", &release["config"])] {
        let settings = settings.as_object().into_iter().flatten();
        let rows: Vec<(&str, String)> =
            settings.map(|(key, value)| (key.as_str(), output::flat(&setting(value)))).collect();
        if !rows.is_empty() {
            text.push_str(&format!("\n{heading}\n{}", output::pairs(&rows)));
        }
    }
    let granted = grants::rows(&manifest["grants"]);
    if !granted.is_empty() {
        text.push_str(&format!("\n{}", output::table(&grants::HEADINGS, &granted)));
    }
    text
}

fn diff(app: &RemoteApp, release: ReleaseNumber, with: Option<ReleaseNumber>) -> Result<(), Failure> {
    if release == ReleaseNumber::FIRST && with.is_none() {
        return Err(Failure::usage(format!("{release} is the first release"))
            .why("there is no previous release to compare it with")
            .next(format!("isopod releases info {release} --app {}", app.name)));
    }
    let query = with.map(|with| format!("?with={with}")).unwrap_or_default();
    let answer = app.get(&format!("/releases/{release}/diff{query}"))?;
    app.show(&answer, || {
        let (from, to) = (output::release(&answer, "from"), output::release(&answer, "to"));
        let rows = differences(&answer);
        if rows.is_empty() {
            return Ok(format!("{from} and {to} have the same content\n"));
        }
        // The releases are the headings, so that the sides can't be confused.
        Ok(output::table(&["FIELD", &from, &to], &rows))
    })
}

fn differences(diff: &Value) -> Vec<Vec<String>> {
    let changes = diff.get("changes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let side = |change: &Value, key: &str| match output::flat(&setting(&change[key])) {
        empty if empty.is_empty() => "-".to_owned(),
        shown => shown,
    };
    changes.iter().map(|change| vec![field(change, "field"), side(change, "before"), side(change, "after")]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;
    use serde_json::json;

    fn release() -> Value {
        json!({"release": 3, "name": "v3", "app": "shop", "state": "deployment_error",
            "reason": {"code": "crash-loop", "detail": "it ended 5 times in 10 s"}, "cause": "config changed: COLOUR",
            "bundle": "sha256:ab", "size_bytes": 2048, "config": {"COLOUR": "red", "TOKEN": {"secret": true}},
            "manifest": {"processes": {"web": {"entry": "http", "min": 0, "max": 3}}, "config": {"COLOUR": "blue"},
                "grants": {"http": ["api.github.com"], "files": {}, "keyvalue": false}},
            "created_at": "2026-01-02T03:04:05Z", "created_by": "ann", "url": "http://v3--shop.localhost:8080/"})
    }

    #[test]
    fn a_release_is_one_row_and_the_serving_release_is_marked() {
        let rest = ["deployment_error: crash-loop", "config changed: COLOUR", "2026-01-02 03:04:05", "ann"];
        assert_eq!(row(&release(), "v3"), [&["v3 *"], &rest[..]].concat());
        assert_eq!(row(&release(), "v30")[0], "v3");
        let ready = json!({"release": 4, "name": "v4", "state": "ready", "reason": null});
        assert_eq!(row(&ready, "v4")[..2], ["v4 *", "ready"]);
        assert_eq!(row(&json!({"release": 5, "name": "v5", "damaged": "bad row"}), "v4")[..2], ["v5", "damaged"]);
    }

    #[test]
    fn a_release_shows_why_it_failed_and_its_settings() {
        let text = info(&release());
        for shown in ["crash-loop: it ended 5 times in 10 s", "2.0 KiB", "web", "TOKEN", "(secret)", "api.github.com"] {
            assert!(text.contains(shown), "{shown} is not in:\n{text}");
        }
    }

    #[test]
    fn a_change_shows_both_sides_and_a_dash_for_nothing() {
        let diff = json!({"from": 2, "to": 3, "changes": [
            {"field": "config.TOKEN", "before": null, "after": {"secret": true}},
            {"field": "processes.web.max", "before": 1, "after": 3}]});
        assert_eq!(differences(&diff), [["config.TOKEN", "-", "(secret)"], ["processes.web.max", "1", "3"]]);
    }

    #[test]
    fn two_releases_are_compared_in_the_given_order() {
        let host = FakeHost::responding([(200, json!({"from": 3, "to": 5, "changes": []}))]);
        diff(&host.app("shop"), "v5".parse().unwrap(), "v3".parse().ok()).unwrap();
        assert_eq!(host.requests()[0].line, "GET /v1/apps/shop/releases/v5/diff?with=v3");
    }

    #[test]
    fn the_first_release_has_no_previous_release() {
        let host = FakeHost::responding([]);
        assert!(diff(&host.app("shop"), ReleaseNumber::FIRST, None).unwrap_err().text().contains("releases info v1"));
    }
}
