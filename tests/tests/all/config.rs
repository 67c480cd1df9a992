//! Tests config vars and secrets: users set them at the host, guests read them, and no interface
//! shows a secret.

use isopod_tests::{Answer, Ask, Bundle, Host, Load, guest};
use serde_json::{Value, json};
use std::path::Path;

/// Returns the values that a guest reads of a config var: by `wasi:config`, and from its
/// environment.
fn read(host: &Host, name: &str) -> Value {
    host.get("shop", &format!("/var?name={name}")).expect(200).json()
}

fn both(value: &str) -> Value {
    json!([value, value])
}

#[test]
fn a_guest_reads_config_vars_by_both_interfaces() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[("COLOUR", "green"), ("SIZE", "small")]));
    assert_eq!(read(&host, "COLOUR"), both("green"));
    let set = host.set_config("shop", &json!({ "COLOUR": "blue", "TASTE": "süß, \"sour\"\nor =?" })).expect(200);
    assert_eq!(set.json(), json!({ "COLOUR": "blue", "TASTE": "süß, \"sour\"\nor =?" }));
    assert_eq!(host.config("shop"), set.json());
    assert_eq!(read(&host, "COLOUR"), both("blue"), "a value set at the host takes precedence over the manifest");
    assert_eq!(read(&host, "TASTE"), both("süß, \"sour\"\nor =?"));
    assert_eq!(read(&host, "SIZE"), both("small"));
    assert_eq!(read(&host, "ISOPOD_APP")[1], "shop");
    host.set_config("shop", &json!({ "COLOUR": null, "TASTE": "" })).expect(200);
    assert_eq!(read(&host, "COLOUR"), both("green"), "unset at the host: the manifest's value applies again");
    assert_eq!(read(&host, "TASTE"), both(""));
    let host = host.restart();
    assert_eq!(host.config("shop"), json!({ "TASTE": "" }));
    assert_eq!(read(&host, "TASTE"), both(""));
    host.deploy("shop", Bundle::component(guest("shapes")));
    assert_eq!(host.config("shop"), json!({ "TASTE": "" }), "a deploy keeps values set at the host");
}

#[test]
fn config_of_an_app_without_a_release_applies_to_the_first() {
    let host = Host::start();
    host.create("shop", "staging");
    assert_eq!(host.config("shop"), json!({}));
    host.set_config("shop", &json!({ "GREETING": "early", "TOKEN": { "secret": "s3" } })).expect(200);
    assert_eq!(host.config("shop"), json!({ "GREETING": "early", "TOKEN": { "secret": true } }));
    assert!(host.releases("shop").is_empty());
    host.activity_of("shop", "config-changed");
    let host = host.kill_and_restart();
    host.deploy("shop", Bundle::shape(&[("GREETING", "late")]));
    assert_eq!(host.get("shop", "/").text(), "v1 early");
    assert_eq!(read(&host, "TOKEN"), both("s3"));
}

#[test]
fn a_change_without_effect_creates_no_release() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    host.set_config("shop", &json!({ "A": "1", "S": { "secret": "x" } })).expect(200);
    let shown = host.config("shop");
    for same in [json!({}), json!({ "A": "1" }), json!({ "NEVER": null }), shown.clone()] {
        assert_eq!(host.set_config("shop", &same).expect(200).json(), shown, "{same}");
    }
    assert_eq!(host.releases("shop").len(), 2);
}

#[test]
fn invalid_config_is_rejected_without_repeating_its_value() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    let refused = |change: &Value| {
        let answer = host.set_config("shop", change);
        assert!(matches!(answer.status, 400 | 422), "{change}: {answer}");
        let code = if answer.status == 400 { "bad-json" } else { "bad-config" };
        answer.problem(answer.status, code);
        assert!(!answer.text().contains("hush"), "the value is repeated: {answer}");
    };
    for key in ["", "1A", "A-B", "A=B", "A B", "Ä", "A.B", &"K".repeat(200)] {
        refused(&json!({ key: "hush" }));
        refused(&json!({ key: { "secret": "hush" } }));
    }
    for value in [json!(1), json!(true), json!(["hush"]), json!({ "secret": ["hush"] }), json!({ "s": "hush" })] {
        refused(&json!({ "KEY": value }));
    }
    refused(&json!({ "KEY": "hush\u{0}" }));
    refused(&json!({ "KEY": "hush".repeat(10_000) }));
    refused(&json!({ "KEY": { "secret": true } }));
    refused(&json!(["hush"]));
    refused(&Value::from_iter((0..300).map(|number| (format!("KEY_{number}"), json!("hush")))));
    // One invalid var rejects the whole change.
    refused(&json!({ "GOOD": "1", "B-D": "hush" }));
    let whole = json!({ "KEY": "x".repeat(10 << 20) });
    host.set_config("shop", &whole).problem(413, "too-large");
    let garbage = Ask::new("PATCH", "/v1/apps/shop/config").body("application/json", "{\"KEY\":\"hush");
    host.api(garbage).problem(400, "bad-json");
    let no_json = Ask::new("PATCH", "/v1/apps/shop/config").body("text/plain", "KEY=hush");
    host.api(no_json).problem(415, "wrong-content-type");
    assert_eq!((host.config("shop"), host.releases("shop").len()), (json!({}), 1));
    host.set_config("nobody", &json!({})).problem_of("nobody", 404, "unknown-app");
}

const SECRET: &str = "correct-horse-battery-staple-7c1f";

/// Returns every file below a folder that contains these bytes.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("it has entries").path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if std::fs::read(&path).is_ok_and(|held| held.windows(bytes.len()).any(|window| window == bytes)) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_is_visible_to_the_guest_only() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    host.set_config("shop", &json!({ "TOKEN": { "secret": "older-word-0d9b" } })).expect(200);
    let set = host.set_config("shop", &json!({ "TOKEN": { "secret": SECRET }, "PLAIN": "1" })).expect(200);
    assert_eq!(set.json(), json!({ "TOKEN": { "secret": true }, "PLAIN": "1" }));
    assert_eq!(read(&host, "TOKEN"), both(SECRET));
    // A change that fails after the host decrypted the secret for a guest doesn't show it either.
    host.set_config("shop", &json!({ "TOKEN": { "secret": SECRET }, "HEALTH": "fails" })).expect(422);

    let mut shown = vec![("the answer".to_owned(), set)];
    for what in
        ["config", "releases", "releases/3", "releases/3/diff", "releases/3/diff?with=1", "activity", "logs", "pushes"]
    {
        shown.push((what.to_owned(), host.api(Ask::get(format!("/v1/apps/shop/{what}"))).expect(200)));
    }
    shown.push(("the app".to_owned(), host.api(Ask::get("/v1/apps/shop")).expect(200)));
    shown.push(("instances".to_owned(), host.api(Ask::get("/v1/apps/shop/instances")).expect(200)));
    shown.push(("metrics".to_owned(), host.api(Ask::get("/metrics")).expect(200)));
    for secret in [SECRET, "older-word-0d9b"] {
        let leaks = |answer: &Answer| answer.text().contains(secret);
        let leaking: Vec<&String> = shown.iter().filter(|(_, answer)| leaks(answer)).map(|(what, _)| what).collect();
        assert!(leaking.is_empty(), "the secret is shown by {leaking:?}");
        assert!(!host.said().contains(secret), "the secret is in the host's log");
    }
    let diff = host.diff("shop", 3, None);
    assert!(diff.iter().any(|change| change["field"] == "config.TOKEN"), "the change is not listed: {diff:?}");

    let mut host = host.restart();
    assert_eq!(read(&host, "TOKEN"), both(SECRET), "after a restart");
    host.rollback("shop", 2).expect(200);
    assert_eq!(read(&host, "TOKEN"), both("older-word-0d9b"), "a release keeps its secrets");
    host.stop();
    for secret in [SECRET, "older-word-0d9b"] {
        assert_eq!(
            files_with(host.data(), secret.as_bytes()),
            [] as [String; 0],
            "the secret is on disk in plain text"
        );
    }
    let key = std::fs::metadata(host.data().join("secrets.key")).expect("the key is a file");
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.permissions());
    assert_eq!((key.len(), mode & 0o777), (32, 0o600));
}

/// H4, H5: after an error nothing has changed.
#[test]
fn a_change_that_makes_the_app_unhealthy_changes_nothing_and_gives_the_reason() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", Bundle::shape(&[("GREETING", "hello")]));
    host.set_config("shop", &json!({ "COLOUR": "green" })).expect(200);
    let load = Load::on(&host, "shop", 2, |text| text == "v2 hello");
    let refused = host.set_config("shop", &json!({ "HEALTH": "fails", "GREETING": "bye" }));
    let problem = refused.problem_of("shop", 422, "health-check");
    for word in ["not applied", "/healthz", "500"] {
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{word:?}: {problem}");
    }
    assert_eq!(host.config("shop"), json!({ "COLOUR": "green" }));
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![2], "running"));
    assert_eq!(host.release_state("shop", 3), "deployment_error");
    assert_eq!(host.release("shop", 3)["reason"]["code"], "health-check");
    let reported = host.activity_of("shop", "change-failed");
    assert!(
        reported["text"].as_str().is_some_and(|text| text.contains("HEALTH") && text.contains("500")),
        "{reported}"
    );
    load.finish();
    let host = host.kill_and_restart();
    assert_eq!(host.get("shop", "/").text(), "v2 hello");
    assert_eq!(host.config("shop"), json!({ "COLOUR": "green" }));
}

/// Grants follow the rules of a manifest, and invalid grants are never stored.
#[test]
fn invalid_grants_are_rejected_and_leave_nothing_behind() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    let patch = |body: &Value| host.api(Ask::new("PATCH", "/v1/apps/shop/grants").json(body));
    for bad in [
        json!([]),
        json!("all"),
        json!({ "files": { "../x": "read-write" } }),
        json!({ "files": { "": "read" } }),
        json!({ "http": [7] }),
        json!({ "network": true }),
    ] {
        patch(&bad).problem_of("shop", 422, "bad-grants");
    }
    assert_eq!(host.releases("shop").len(), 1);
    patch(&json!({ "http": ["api.example.org"] })).expect(200);
    let host = host.kill_and_restart();
    let grants = host.api(Ask::get("/v1/apps/shop/grants")).expect(200).json();
    assert_eq!(
        (&grants["http"], &grants["keyvalue"]),
        (&json!(["api.example.org"]), &json!(true)),
        "the other grants stay"
    );
}

/// Names that the host reserves for facts about the app can't be config vars.
#[test]
fn names_of_reserved_variables_are_rejected() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    for name in ["ISOPOD_APP", "ISOPOD_RELEASE"] {
        let refused = host.set_config("shop", &json!({ name: "other" })).problem_of("shop", 422, "bad-config");
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(name)), "{refused}");
        host.set_config("shop", &json!({ name: null })).expect(200);
    }
    assert_eq!(host.current("shop"), [1]);
}
