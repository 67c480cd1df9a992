//! Tests the sources of an app's config vars, and the effect of a rollback on its secrets.

use isopod_tests::{Ask, Bundle, Host, guest, program};
use serde_json::json;

fn isopod(host: &Host, args: &[&str]) -> std::process::Output {
    let address = format!("http://{}", host.admin);
    let ends = ["--app", "shop", "--host", &address, "--token", &host.token];
    program::run(&[args, &ends].concat())
}

#[test]
fn the_config_lists_every_var_with_its_source() {
    let host = Host::start();
    let manifest = "name = \"shop\"\n[config]\nCOLOUR = \"green\"\nSIZE = \"1\"\n";
    host.deploy("shop", Bundle::archive(manifest, &guest("greedy")));
    host.set_config("shop", &json!({ "SIZE": "2", "TOKEN": { "secret": "s3" } })).expect(200);
    assert_eq!(host.config("shop"), json!({ "SIZE": "2", "TOKEN": { "secret": true } }));
    let effective = host.api(Ask::get("/v1/apps/shop/config?effective=true")).expect(200).json();
    let expected = json!([
        { "key": "COLOUR", "value": "green", "secret": false, "source": "manifest" },
        { "key": "SIZE", "value": "2", "secret": false, "source": "host" },
        { "key": "TOKEN", "secret": true, "source": "host" },
    ]);
    assert_eq!(effective["items"], expected);
    let listed = isopod(&host, &["config"]);
    let text = String::from_utf8(listed.stdout).expect("it is text");
    let lines = "COLOUR=green  (isopod.toml)\nSIZE=2  (set on the host)\nTOKEN=(secret)  (set on the host)\n";
    assert_eq!(text, lines);
    assert_eq!(isopod(&host, &["config", "get", "COLOUR"]).stdout, b"green\n");
}

#[test]
fn a_var_of_the_manifest_is_not_unset_and_its_source_is_named() {
    let host = Host::start();
    let manifest = "name = \"shop\"\n[config]\nCOLOUR = \"green\"\nSIZE = \"1\"\n";
    host.deploy("shop", Bundle::archive(manifest, &guest("greedy")));
    host.set_config("shop", &json!({ "SIZE": "2" })).expect(200);
    let refused = isopod(&host, &["config", "unset", "SIZE", "COLOUR"]);
    let said = String::from_utf8(refused.stderr).expect("it is text");
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("COLOUR can't be unset") && said.contains("isopod.toml sets it"), "{said}");
    assert!(said.contains("isopod config set COLOUR=VALUE --app shop"), "{said}");
    assert_eq!(host.config("shop"), json!({ "SIZE": "2" }), "nothing is changed");
    assert!(isopod(&host, &["config", "unset", "SIZE"]).status.success());
    assert_eq!(isopod(&host, &["config", "get", "SIZE"]).stdout, b"1\n", "the manifest's value applies again");
    let unknown = isopod(&host, &["config", "unset", "NOPE"]);
    let said = String::from_utf8(unknown.stderr).expect("it is text");
    assert!(unknown.status.success() && said.contains("NOPE was not set; shop has COLOUR, SIZE"), "{said}");
}

#[test]
fn config_get_writes_a_var_to_a_pipe_unchanged() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("greedy")));
    let value = "a\u{1b}[31mred\u{7}\u{9b}2J\tend";
    host.set_config("shop", &json!({ "RAW": value })).expect(200);
    assert_eq!(isopod(&host, &["config", "get", "RAW"]).stdout, format!("{value}\n").into_bytes());
    let json = isopod(&host, &["config", "--json"]).stdout;
    assert!(!json.iter().any(|byte| byte.is_ascii_control() && *byte != b'\n'), "JSON escapes control characters");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&json).expect("is JSON")["RAW"], value);
    let listed = String::from_utf8(isopod(&host, &["config"]).stdout).expect("it is text");
    assert!(listed.starts_with("RAW=ared\\x07\\x9b2J\tend"), "{listed}");
}

#[test]
fn a_rollback_lists_the_secrets_it_drops_changes_and_restores() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("greedy")));
    for change in [
        json!({ "OLD": { "secret": "1" }, "KEY": { "secret": "1" } }),
        json!({ "OLD": null, "KEY": { "secret": "2" }, "NEW": { "secret": "3" } }),
    ] {
        host.set_config("shop", &change).expect(200);
    }
    let said = isopod(&host, &["rollback", "v2"]);
    let text = String::from_utf8(said.stdout).expect("it is text");
    assert!(text.contains("secrets dropped: NEW\nsecrets changed: KEY\nsecrets restored: OLD\n"), "{text}");
    let cause = "rollback to v2; secrets dropped: NEW; secrets changed: KEY; secrets restored: OLD";
    assert_eq!(host.release("shop", 4)["cause"], cause);
    assert!(host.activity("shop").iter().any(|entry| entry.to_string().contains("secrets dropped: NEW")));
}
