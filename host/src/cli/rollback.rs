//! Implements `isopod rollback`: creates a new release from an earlier one and makes it serve.
//! Never changes an existing release.

use clap::Args;
use isopod_policy::ReleaseNumber;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use super::releases;
use super::target::{RemoteApp, Target, is_stopped};

const EXAMPLES: &str = "\
The earlier release stays unchanged: its bundle, config vars, formation and grants are copied into a new release, which
is started and checked like any other before it serves.

Examples:
  isopod releases                lists the releases
  isopod releases diff v5 v3     what a rollback from v5 to v3 would change
  isopod rollback v3
  isopod rollback v3 --skip-gates     although a gate would refuse it; needs the role admin";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RollbackArgs {
    /// The release to roll back to, such as v3
    release: ReleaseNumber,
    /// Skip the gates of the host's settings; needs a token with the role admin
    #[arg(long)]
    skip_gates: bool,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: &RollbackArgs) -> Result<(), Failure> {
    let app = args.target.change()?;
    let before = output::release(&app.get("")?, "release");
    let made = roll_back(&app, args.release, args.skip_gates)?;
    app.show(&made, || Ok(format!("{}\n{}\n", text(&app, args.release, &made)?, copied(args.release, &before, &made))))
}

fn roll_back(app: &RemoteApp, to: ReleaseNumber, skips_gates: bool) -> Result<Value, Failure> {
    let path = if skips_gates { "/rollback?skip_gates=true" } else { "/rollback" };
    app.rolling_out(|| app.post(path, Some(&json!({"release": to}))))
}

/// Returns what a rollback copies besides the bundle, and how to see the changes.
fn copied(to: ReleaseNumber, before: &str, made: &Value) -> String {
    let made = releases::name(made);
    format!("config vars, formation and grants are those of {to}; `isopod releases diff {before} {made}` shows changes")
}

fn text(app: &RemoteApp, to: ReleaseNumber, made: &Value) -> Result<String, Failure> {
    let (name, release) = (&app.name, releases::name(made));
    let text = output::done(&match is_stopped(&app.get("")?) {
        true => format!("{name} is stopped; it serves {release}, a copy of {to}, after a start"),
        false => format!("{name} serves {release}, a copy of {to}"),
    });
    // The release's cause lists the effects on secrets, and whether gates were skipped.
    let cause = output::field(made, "cause");
    let notes = cause.split("; ").skip(1).map(|note| format!("\n{note}"));
    Ok(notes.fold(text, |text, note| text + &note))
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;

    #[test]
    fn a_rollback_names_the_release_that_serves_now() {
        let made = json!({"release": 5, "name": "v5", "cause": "rollback to v3"});
        let app = |state: &str| (200, json!({"state": state, "release": 5}));
        let host = FakeHost::responding([(200, made), app("running"), app("stopped")]);
        let app = host.app("shop");
        let to = "v3".parse().unwrap();
        let made = roll_back(&app, to, false).unwrap();
        let request = &host.requests()[0];
        assert_eq!((request.line.as_str(), &request.body), ("POST /v1/apps/shop/rollback", &json!({"release": 3})));
        assert!(text(&app, to, &made).unwrap().contains("shop serves v5, a copy of v3"));
        let made = json!({"name": "v5", "cause": "rollback to v3; secrets dropped: TOKEN; secrets changed: KEY"});
        let said = text(&app, to, &made).unwrap();
        assert!(said.contains("after a start"), "{said}");
        assert!(copied(to, "v4", &made).contains("are those of v3; `isopod releases diff v4 v5`"));
        assert!(said.ends_with("\nsecrets dropped: TOKEN\nsecrets changed: KEY"), "{said}");
    }

    #[test]
    fn a_refused_rollback_shows_the_cause() {
        let problem = json!({"title": "Conflict", "detail": "v3 is in build_error", "hint": "choose another release"});
        let host = FakeHost::responding([(409, problem)]);
        let failure = roll_back(&host.app("shop"), "v3".parse().unwrap(), true).unwrap_err();
        assert_eq!(host.requests()[0].line, "POST /v1/apps/shop/rollback?skip_gates=true");
        assert!(failure.text().contains("v3 is in build_error") && failure.text().contains("choose another"));
    }
}
