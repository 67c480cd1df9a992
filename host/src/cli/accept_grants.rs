//! Finds the grants that the app doesn't have yet, and asks the user of `isopod deploy` to accept
//! them. Never changes a grant.

use std::io::{BufRead as _, IsTerminal as _};

use isopod_policy::{AppName, Grant, Grants};

use super::client::{Answer, Client};
use super::failure::Failure;
use super::output;

/// Returns whether the user accepts that a deploy widens the grants of the app. Fails if they
/// don't.
pub(crate) fn confirm(client: &Client, app: &AppName, asked: &Grants, accepted: bool) -> Result<bool, Failure> {
    if accepted {
        return Ok(true);
    }
    let wider = beyond_current(client, app, asked)?;
    if wider.is_empty() {
        return Ok(false);
    }
    ask(app, &wider, std::io::stdin().is_terminal() && std::io::stderr().is_terminal())?;
    Ok(true)
}

/// Returns the requested grants that the app doesn't have; none before its first release.
pub(crate) fn beyond_current(client: &Client, app: &AppName, asked: &Grants) -> Result<Vec<Grant>, Failure> {
    let answer = client.get(&format!("/v1/apps/{app}"))?;
    if answer.status() == 404 || answer.success()?["release"].is_null() {
        return Ok(Vec::new());
    }
    let current = client.get(&format!("/v1/apps/{app}/grants")).and_then(Answer::success)?;
    // An unknown grant comes from a newer host, which compares the grants itself.
    Ok(serde_json::from_value::<Grants>(current).map_or_else(|_| Vec::new(), |current| asked.beyond(&current)))
}

/// Returns the text that lists these grants, one per line.
pub(crate) fn listed(grants: &[Grant]) -> String {
    grants.iter().map(|grant| format!("+ {grant}")).collect::<Vec<_>>().join("\n")
}

fn ask(app: &AppName, wider: &[Grant], at_terminal: bool) -> Result<(), Failure> {
    let list = listed(wider);
    let refused = || {
        Failure::new("nothing was deployed")
            .why(format!("the bundle asks for grants that {app} doesn't have:\n{list}"))
            .next("accept them with `isopod deploy --accept-grants`, or remove them from [grants] in isopod.toml")
    };
    if !at_terminal {
        return Err(refused());
    }
    output::note(&format!("The bundle asks for grants that {app} doesn't have:\n{list}"));
    output::note_part("Accept them? [y/N] ");
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    let accepts = read.is_ok() && ["y", "yes"].contains(&typed.trim().to_ascii_lowercase().as_str());
    if accepts { Ok(()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fake::FakeHost;
    use super::*;

    fn grants(value: Value) -> Grants {
        serde_json::from_value(value).expect("valid grants")
    }

    #[test]
    fn wider_grants_are_listed_and_refused_without_a_terminal() {
        let answers = [(200, json!({ "release": 3 })), (200, json!({ "http": ["api.github.com"], "keyvalue": true }))];
        let host = FakeHost::responding(answers);
        let app = host.app("shop");
        let asked = grants(json!({ "http": ["api.github.com", "10.0.0.1"], "files": { "data": "read-only" } }));
        let text = confirm(&app.client, &app.name, &asked, false).expect_err("it is refused").text();
        assert!(text.contains("+ http \"10.0.0.1\"") && text.contains("+ files data = \"read-only\""), "{text}");
        assert!(text.contains("--accept-grants") && !text.contains("github"), "{text}");
    }

    #[test]
    fn a_first_release_and_the_same_grants_need_no_confirmation() {
        let same = json!({ "http": ["*"] });
        let host = FakeHost::responding([
            (404, json!({})),
            (200, json!({ "release": null })),
            (200, json!({ "release": 1 })),
            (200, same.clone()),
        ]);
        let app = host.app("shop");
        for _ in 0..3 {
            assert_eq!(confirm(&app.client, &app.name, &grants(same.clone()), false), Ok(false));
        }
        assert_eq!(confirm(&app.client, &app.name, &grants(same), true), Ok(true));
    }
}
