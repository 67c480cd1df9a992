//! Tests the differences between two releases, and the sentence about them.

use isopod_policy::release_diff::{self, changes, sentence};
use isopod_policy::{ConfigChange, ConfigVars, Manifest, ReleaseContent, Sealed};
use proptest::prelude::*;
use serde_json::{Value, json};

fn manifest(text: &str) -> Manifest {
    Manifest::parse(&format!("name = \"a\"\n{text}")).expect("the manifest is valid")
}

fn vars(body: Value) -> ConfigVars {
    let change = ConfigChange::from_json(&body).expect("the body is valid");
    let seal = |_: &str, secret: &str| Sealed::new(format!("sealed-{secret}"));
    ConfigVars::default().apply(&change, seal).expect("the change is valid").vars
}

fn diff(from: (&str, &str, Value), to: (&str, &str, Value)) -> Vec<release_diff::Change> {
    let (before, after) = (manifest(from.1), manifest(to.1));
    let (before_vars, after_vars) = (vars(from.2), vars(to.2));
    changes(
        &ReleaseContent { bundle: from.0, assets: None, manifest: &before, config: &before_vars },
        &ReleaseContent { bundle: to.0, assets: None, manifest: &after, config: &after_vars },
    )
}

#[test]
fn every_kind_of_field_is_named() {
    let before = "[grants]\nkeyvalue = true\n[processes.web]\nhealth = \"/h\"\n[processes.job]\nentry = \"command\"";
    let after = "[grants]\nhttp = [\"a.org\"]\nkeyvalue = true\n[limits]\nmemory = \"32MiB\"\n[processes.web]\n\
                 max = 3\n[processes.web.health]\npath = \"/h\"\ngrace = \"1m\"";
    let found = diff(("sha256:1", before, json!({"K": "a"})), ("sha256:2", after, json!({"K": "b", "NEW": "c"})));
    let found = serde_json::to_value(&found).expect("it serialises");
    let health = json!({"path": "/h", "grace": "1m", "interval": "10s", "timeout": "2s", "threshold": 3});
    assert_eq!(
        found,
        json!([
            {"field": "bundle", "before": "sha256:1", "after": "sha256:2"},
            {"field": "config.K", "before": "a", "after": "b"},
            {"field": "config.NEW", "before": null, "after": "c"},
            {"field": "grants.http", "before": [], "after": ["a.org"]},
            {"field": "limits.memory", "before": "64MiB", "after": "32MiB"},
            {"field": "processes.job.entry", "before": "command", "after": null},
            {"field": "processes.web.health", "before": "/h", "after": health},
            {"field": "processes.web.max", "before": null, "after": 3},
        ])
    );
}

#[test]
fn settings_of_schedules_and_events_are_fields() {
    let before = "[processes.job]\nentry = \"events\"\nschedule = \"0 3 * * *\"\nretry = {}";
    let after = "[processes.job]\nentry = \"events\"\nschedule = \"0 3 * * *\"\ntime_zone = \"Europe/Berlin\"\n\
                 order = \"subject\"\nretry = { attempts = 3 }";
    assert_eq!(
        sentence(&diff(("b", before, json!({})), ("b", after, json!({})))),
        "processes.job.order set to subject, processes.job.retry.attempts from 10 to 3 and \
         processes.job.time_zone set to Europe/Berlin"
    );
}

#[test]
fn config_is_compared_as_guests_see_it() {
    let hidden = ("b", "[config]\nK = \"1\"", json!({"K": "set"}));
    assert_eq!(diff(hidden, ("b", "[config]\nK = \"2\"", json!({"K": "set"}))), []);
    let found = diff(("b", "[config]\nK = \"1\"", json!({})), ("b", "[config]\nK = \"1\"", json!({"K": "2"})));
    assert_eq!(
        serde_json::to_value(found).expect("it serialises"),
        json!([{"field": "config.K", "before": "1", "after": "2"}])
    );
}

#[test]
fn middleware_is_one_field_whose_sentence_names_plugins() {
    let say = |before: &str, after: &str| sentence(&diff(("b", before, json!({})), ("b", after, json!({}))));
    let (jwt, cors) = ("[[middleware]]\nuse = \"jwt@^1\"\n", "[[middleware]]\nuse = \"cors\"\n");
    assert_eq!(say("", jwt), "middleware set to jwt@^1");
    assert_eq!(say(jwt, &format!("{cors}{jwt}")), "middleware from jwt@^1 to cors, jwt@^1");
    assert_eq!(say(jwt, &format!("{jwt}config = {{ secret = \"s3cr3t\" }}")), "middleware changed");
    assert_eq!(say(jwt, ""), "middleware removed");
    let found = diff(("b", "", json!({})), ("b", &format!("{jwt}config = {{ a = 1 }}"), json!({})));
    let after = json!([{"use": "jwt@^1", "on_failure": "refuse", "config": {"a": 1}}]);
    assert_eq!(
        serde_json::to_value(found).expect("it serialises"),
        json!([{"field": "middleware", "before": null, "after": after}])
    );
}

#[test]
fn the_version_of_a_plugin_is_a_field() {
    let plugin = |version: &str| format!("kind = \"plugin\"\nplugin = {{ version = \"{version}\" }}");
    let found = diff(("b", &plugin("1.2.0"), json!({})), ("b", &plugin("1.3.0"), json!({})));
    assert_eq!(sentence(&found), "plugin.version from 1.2.0 to 1.3.0");
}

#[test]
fn a_process_type_may_be_called_health() {
    let text = |max: u32| format!("[processes.health]\nentry = \"http\"\nhealth = \"/h\"\nmax = {max}");
    let found = diff(("b", &text(1), json!({})), ("b", &text(2), json!({})));
    assert_eq!(sentence(&found), "processes.health.max from 1 to 2");
}

#[test]
fn only_the_change_of_a_secret_is_shown() {
    let with = |secret: &str| ("b", "", json!({"TOKEN": {"secret": secret}}));
    let found = diff(with("one"), with("two"));
    let mark = json!({"secret": true});
    assert_eq!(
        serde_json::to_value(&found).expect("it serialises"),
        json!([{"field": "config.TOKEN", "before": mark, "after": mark}])
    );
    assert_eq!(sentence(&found), "config.TOKEN changed");
    assert_eq!(diff(with("one"), with("one")), []);
}

#[test]
fn the_sentence_names_a_few_and_counts_the_rest() {
    let say = |before: &str, after: &str| sentence(&diff(("b", before, json!({})), ("b", after, json!({}))));
    assert_eq!(say("", ""), "nothing changed");
    assert_eq!(say("[processes.web]\nmax = 3", "[processes.web]\nmax = 10"), "processes.web.max from 3 to 10");
    assert_eq!(
        say("[processes.web]\nmin = 1", "[processes.web]\nmax = 2"),
        "processes.web.max set to 2 and processes.web.min removed"
    );
    assert_eq!(say("[config]\nA = \"1\"", "[config]\nB = \"2\""), "config.A removed and config.B set");
    let many = "[config]\nA = \"1\"\nB = \"2\"\nC = \"3\"\nD = \"4\"\nE = \"5\"\nF = \"6\"";
    assert_eq!(say("", many), "config.A set, config.B set, config.C set, config.D set and 2 more");
    let long = format!("build = \"{}\"", "x".repeat(100));
    assert_eq!(say("", &long), format!("build set to {}…", "x".repeat(60)));
}

proptest! {
    #[test]
    fn differences_are_symmetric(
        one in proptest::collection::btree_map("[A-D]", "[a-c]", 0..4),
        other in proptest::collection::btree_map("[A-D]", "[a-c]", 0..4), max in 1..4u32,
    ) {
        let text = format!("[processes.web]\nmax = {max}");
        let there = diff(("x", "", json!(one)), ("x", &text, json!(other)));
        let mut back = diff(("x", &text, json!(other)), ("x", "", json!(one)));
        for change in &mut back {
            std::mem::swap(&mut change.before, &mut change.after);
        }
        prop_assert_eq!(&there, &back);
        prop_assert!(there.iter().all(|change| change.before != change.after));
        prop_assert_eq!(diff(("x", &text, json!(one)), ("x", &text, json!(one))), []);
    }
}
