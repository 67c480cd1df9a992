//! Tests pushes that widen the grants of their app. Tokens with the role `deploy` and users of
//! `isopod deploy` and `isopod dev --to` must accept the new grants.

use std::process::Output;

use isopod_tests::{
    Ask, Bundle, Host, guest,
    program::{self, Running},
};
use serde_json::json;

fn bundle(grants: &str) -> Bundle {
    Bundle::archive(&format!("name = \"shop\"\n[grants]\n{grants}"), &guest("hello"))
}

fn deployer(host: &Host) -> String {
    let made = host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "deploy" }))).expect(201).json();
    made["token"].as_str().expect("it is shown once").to_owned()
}

#[test]
fn a_deploy_token_widens_grants_only_if_it_accepts_them() {
    let host = Host::start();
    let ci = deployer(&host);
    let push = |token: &str, grants: &str, query: &str| {
        let Bundle { content_type, bytes, .. } = bundle(grants);
        host.api_with(token, Ask::post(format!("/v1/apps/shop/pushes?wait=true{query}")).body(content_type, bytes))
    };
    push(&ci, "http = [\"*.example.org\"]", "").expect(200);
    push(&ci, "http = [\"a.example.org\"]", "").expect(200);
    let refused = push(&ci, "http = [\"a.example.org\", \"b.org\"]\nkeyvalue = true", "").problem(422, "push-failed");
    assert_eq!(refused["push"]["reason_code"], "grants-widened", "{refused}");
    let why = refused["push"]["reason"].as_str().expect("it has a reason");
    assert!(why.contains("grants that v2 doesn't have: http \"b.org\", keyvalue. Accept them"), "{why}");
    assert_eq!(host.show("shop")["release"], 2);
    push(&ci, "keyvalue = true", "&accept_grants=true").expect(200);
    push(&host.token, "keyvalue = true\nhttp = [\"b.org\", \"10.0.0.1\"]", "").expect(200);
    let component = Ask::post("/v1/apps/shop/pushes?wait=true").body("application/wasm", guest("hello"));
    host.api_with(&ci, component).expect(200);
    assert_eq!(host.grants("shop")["http"], json!(["b.org", "10.0.0.1"]), "a component keeps the grants");
}

/// The bundle contains the manifest from before the build.
#[test]
fn grants_that_a_build_adds_are_asked_for_at_the_next_deploy() {
    let host = Host::start();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let write = |build: &str| {
        let text = format!("name = \"shop\"\ncomponent = \"app.wasm\"\nbuild = {build:?}\n");
        std::fs::write(folder.path().join("isopod.toml"), text).expect("it can be written");
    };
    std::fs::write(folder.path().join("app.wasm"), guest("hello")).expect("it can be written");
    let deploy = || {
        let (folder, address) = (folder.path().to_str().expect("paths are text"), format!("http://{}", host.admin));
        program::run(&["deploy", folder, "--host", &address, "--token", &host.token])
    };
    write("true");
    let first = deploy();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    write(r#"printf '[grants]\nhttp = ["b.org"]\n' >> isopod.toml"#);
    assert!(deploy().status.success());
    assert_eq!(host.grants("shop")["http"], json!([]));
    let refused = deploy();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("+ http \"b.org\""), "{text}");
    assert_eq!(host.grants("shop")["http"], json!([]));
}

#[test]
fn the_command_line_shows_wider_grants_and_deploys_them_once_accepted() {
    let host = Host::start();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("shop.tar.gz");
    let deploy = |grants: &str, args: &[&str]| -> Output {
        std::fs::write(&path, bundle(grants).bytes).expect("it can be written");
        let (file, address) = (path.to_str().expect("paths are text"), format!("http://{}", host.admin));
        program::run(&[&["deploy", file, "--host", &address, "--token", &host.token], args].concat())
    };
    assert!(deploy("http = [\"a.org\"]", &[]).status.success(), "a first release needs no confirmation");
    assert!(deploy("http = [\"a.org\"]", &[]).status.success(), "the same grants need no confirmation");
    let refused = deploy("http = [\"a.org\", \"b.org\"]\nfiles = { data = \"read-write\" }", &[]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("+ http \"b.org\"") && text.contains("+ files data = \"read-write\""), "{text}");
    assert!(text.contains("isopod deploy --accept-grants") && !text.contains("a.org"), "{text}");
    assert_eq!(host.show("shop")["release"], 2);
    assert!(deploy("http = [\"b.org\"]", &["--accept-grants"]).status.success());
    assert_eq!(host.grants("shop")["http"], json!(["b.org"]));
}

#[test]
fn a_dev_session_on_a_running_host_widens_grants_only_with_the_option() {
    let host = Host::start();
    host.deploy("shop", bundle("http = [\"a.org\"]"));
    let folder = tempfile::tempdir().expect("a folder can be made");
    let manifest = "name = \"shop\"\ncomponent = \"app.wasm\"\n[grants]\nhttp = [\"a.org\", \"b.org\"]\n";
    std::fs::write(folder.path().join("isopod.toml"), manifest).expect("it can be written");
    std::fs::write(folder.path().join("app.wasm"), guest("hello")).expect("it can be written");
    let start = |args: &[&str]| {
        let (folder, address) = (folder.path().to_str().expect("paths are text"), format!("http://{}", host.admin));
        let session = ["dev", folder, "--to", &address, "--token", &host.token];
        Running::start(program::command(&[&session, args].concat()))
    };
    let mut refused = start(&[]);
    refused.line_on_stdout("error: nothing was pushed");
    refused.line_on_stdout("       + http \"b.org\"");
    drop(refused);
    assert_eq!(host.grants("shop")["http"], json!(["a.org"]));
    start(&["--accept-grants"]).line_on_stdout("✓ v2 is live");
    assert_eq!(host.grants("shop")["http"], json!(["a.org", "b.org"]));
}
