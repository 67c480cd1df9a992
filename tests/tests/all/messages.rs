//! Tests that errors name their cause and no other.

use std::process::Output;

use isopod_tests::{Ask, Bundle, Host, guest, program};
use serde_json::json;

fn stderr(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_invalid_token_name_is_not_an_app_name() {
    let host = Host::start();
    let refused = host.api(Ask::post("/v1/tokens").json(&json!({ "name": "My CI", "role": "read" })));
    let problem = refused.problem(422, "bad-token-name");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with("invalid token name")), "{refused}");
    assert_eq!(problem["suggestion"], "my-ci");
}

#[test]
fn a_request_with_several_authorization_headers_is_refused() {
    let host = Host::start();
    let bearer = format!("Bearer {}", host.token);
    for second in [bearer.as_str(), "Bearer other", ""] {
        let ask = Ask::get("/v1/apps").header("authorization", &bearer).header("authorization", second);
        host.api_raw(&ask).problem(400, "bad-header");
    }
}

#[test]
fn an_app_without_a_release_says_that_its_first_build_may_be_in_progress() {
    let host = Host::start();
    host.create("shop", "dev");
    let problem = host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("first build or push")), "{problem}");
}

#[test]
fn a_deploy_of_a_missing_file_names_the_file() {
    let host = Host::start();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let admin = format!("http://{}", host.admin);
    let mut command = program::command(&["deploy", "nofile.tgz", "--host", &admin, "--token", &host.token]);
    let said = stderr(&command.current_dir(folder.path()).output().expect("it runs"));
    assert!(said.contains("cannot read nofile.tgz") && said.contains("No such file"), "{said}");
    assert!(!said.contains("which app?"), "{said}");
}

#[test]
fn several_components_in_a_bundle_are_reported_as_such() {
    let host = Host::start();
    let component = guest("hello");
    let bundle = Bundle::archive_of(&[
        ("isopod.toml", b"name = \"shop\"\n"),
        ("one.wasm", &component),
        ("two.wasm", &component),
    ]);
    let refused = host.upload("shop", &bundle, "?wait=true");
    let problem = refused.problem(422, "invalid-bundle");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.starts_with("the archive contains 2 .wasm files (one.wasm, two.wasm)"), "{detail}");
}

#[test]
fn an_invalid_setting_is_reported_with_its_file_and_line() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("host.conf");
    let file = file.to_str().expect("paths are text");
    let up = || stderr(&program::command(&["up", "--config", file]).output().expect("it runs"));
    let said = up();
    assert_eq!(said.matches("No such file or directory").count(), 1, "{said}");
    std::fs::write(file, "domain = \"example.org\"\n[pushes]\nparallel = 0\n").expect("it can be written");
    let said = up();
    assert!(said.contains("host.conf: line 3: `pushes.parallel` is 0"), "{said}");
}

#[test]
fn a_deploy_of_a_command_does_not_suggest_events() {
    let host = Host::start();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let admin = format!("http://{}", host.admin);
    for (app, entry, expected) in [("job", "command", "neither HTTP nor events"), ("bot", "events", "events send")] {
        let manifest = format!("name = \"{app}\"\n[processes.worker]\nentry = \"{entry}\"\nmin = 0\n");
        let component = guest(if entry == "command" { "shapes" } else { "greedy" });
        let bundle = folder.path().join(format!("{app}.tar.gz"));
        std::fs::write(&bundle, Bundle::archive(&manifest, &component).bytes).expect("it can be written");
        let bundle = bundle.to_str().expect("paths are text");
        let deployed = program::run(&["deploy", bundle, "--host", &admin, "--token", &host.token]);
        let said = String::from_utf8_lossy(&deployed.stderr);
        assert!(deployed.status.success() && said.contains(expected), "{app}: {said}");
    }
}
