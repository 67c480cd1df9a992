//! `isopod rollback`: makes a new release that is what an earlier one was, and lets it serve.

use clap::Args;
use isopod_policy::ReleaseNumber;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use super::releases;
use super::target::{RemoteApp, Target, is_stopped};

const EXAMPLES: &str = "\
The earlier release stays as it is: its bundle, config vars, formation and grants are copied into a new one, which is
started and checked like any other before it serves.

Examples:
  isopod releases                which there are
  isopod releases diff v5 v3     what going back from v5 to v3 would change
  isopod rollback v3";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RollbackArgs {
    /// The release to go back to, such as v3
    release: ReleaseNumber,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: &RollbackArgs) -> Result<(), Failure> {
    let app = args.target.change()?;
    let made = roll_back(&app, args.release)?;
    app.show(&made, || Ok(format!("{}\n", text(&app, args.release, &made)?)))
}

fn roll_back(app: &RemoteApp, to: ReleaseNumber) -> Result<Value, Failure> {
    app.rolling_out(|| app.post("/rollback", Some(&json!({"release": to}))))
}

fn text(app: &RemoteApp, to: ReleaseNumber, made: &Value) -> Result<String, Failure> {
    let (name, release) = (&app.name, releases::name(made));
    let said = output::done(&match is_stopped(&app.get("")?) {
        true => format!("{name} is stopped, and serves {release}, which is what {to} was, once it is started"),
        false => format!("{name} serves {release}, which is what {to} was"),
    });
    // The release's cause lists the effects on secrets.
    let cause = output::field(made, "cause");
    let secrets = cause.split("; ").skip(1).map(|secrets| format!("\n{secrets}"));
    Ok(secrets.fold(said, |said, secrets| said + &secrets))
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;

    #[test]
    fn a_rollback_names_the_release_that_serves_now() {
        let made = json!({"release": 5, "name": "v5", "cause": "rollback to v3"});
        let app = |state: &str| (200, json!({"state": state, "release": 5}));
        let host = FakeHost::answering([(200, made), app("running"), app("stopped")]);
        let app = host.app("shop");
        let to = "v3".parse().unwrap();
        let made = roll_back(&app, to).unwrap();
        let asked = &host.asked()[0];
        assert_eq!((asked.line.as_str(), &asked.body), ("POST /v1/apps/shop/rollback", &json!({"release": 3})));
        assert!(text(&app, to, &made).unwrap().contains("shop serves v5, which is what v3 was"));
        let made = json!({"name": "v5", "cause": "rollback to v3; secrets dropped: TOKEN; secrets changed: KEY"});
        let said = text(&app, to, &made).unwrap();
        assert!(said.contains("once it is started"), "{said}");
        assert!(said.ends_with("\nsecrets dropped: TOKEN\nsecrets changed: KEY"), "{said}");
    }

    #[test]
    fn a_refused_rollback_says_why() {
        let problem = json!({"title": "Conflict", "detail": "v3 is in build_error", "hint": "choose another release"});
        let host = FakeHost::answering([(409, problem)]);
        let failure = roll_back(&host.app("shop"), "v3".parse().unwrap()).unwrap_err();
        assert!(failure.text().contains("v3 is in build_error") && failure.text().contains("choose another"));
    }
}
