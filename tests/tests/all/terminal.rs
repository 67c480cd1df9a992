//! Tests the command line for people and programs: its questions, its errors, and `isopod dev` with
//! an incomplete manifest.

use isopod_tests::{
    Ask, Bundle, Host, guest,
    program::{self, Running},
    wait_for,
};
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, path::Path, process::Output};

fn isopod(host: &Host, args: &[&str]) -> Output {
    let mut command = program::command(args);
    command.env("ISOPOD_HOST", format!("http://{}", host.admin)).env("ISOPOD_TOKEN", &host.token);
    command.output().expect("the program can be run")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn json_output_of_an_app_is_as_complete_as_text() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let shown = isopod(&host, &["apps", "info", "greedy", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("standard output is JSON");
    assert_eq!((&shown["name"], &shown["formation"]["web"]["entry"]), (&json!("greedy"), &json!("http")), "{shown}");
}

#[test]
fn a_destroy_without_a_terminal_needs_confirmation() {
    let host = Host::start();
    host.create("shop", "dev");
    let refused = isopod(&host, &["apps", "destroy", "shop"]);
    assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
    assert!(err(&refused).contains("isopod apps destroy shop --yes"), "{}", err(&refused));
    host.show("shop");
    assert!(isopod(&host, &["apps", "destroy", "shop", "--yes"]).status.success());
    host.api(Ask::get("/v1/apps/shop")).problem(404, "unknown-app");
}

#[test]
fn a_failure_names_commands_for_people_and_is_a_problem_for_programs() {
    let host = Host::start();
    let failed = isopod(&host, &["apps", "info", "nowhere", "--json"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(err(&failed).contains("`isopod apps`"), "{}", err(&failed));
    let problem: Value = serde_json::from_slice(&failed.stdout).expect("standard output is JSON");
    assert_eq!(problem["type"], "urn:isopod:problem:unknown-app");
    let wrong = isopod(&host, &["logs", "--app", "nowhere", "--json", "--lines", "many"]);
    assert_eq!(wrong.status.code(), Some(2));
    let problem: Value = serde_json::from_slice(&wrong.stdout).expect("standard output is JSON");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("many")), "{problem}");
}

#[test]
fn a_bundle_names_its_app() {
    let host = Host::start();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let deploy = |name: &str, bundle: &[u8]| {
        let file = folder.path().join(name);
        fs::write(&file, bundle).expect("it can be written");
        isopod(&host, &["deploy", &file.to_string_lossy()])
    };
    let whole = Bundle::archive("name = \"shop\"\n", &guest("hello")).bytes;
    let deployed = deploy("v7.tar.gz", &whole);
    assert!(deployed.status.success(), "{}", err(&deployed));
    let reported = "created shop with type dev; while it is stopped, `isopod apps type`";
    assert!(err(&deployed).contains(reported), "{}", err(&deployed));
    assert!(!err(&deploy("v7.tar.gz", &whole)).contains("created"), "the app exists already");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    let damaged = deploy("half.tar.gz", &whole[..whole.len() / 2]);
    assert_eq!(damaged.status.code(), Some(1), "{}", err(&damaged));
    assert!(err(&damaged).contains("the archive is damaged or truncated"), "{}", err(&damaged));
    let nameless = deploy("bare.wasm", &guest("hello"));
    assert_eq!(nameless.status.code(), Some(2), "{}", err(&nameless));
    assert!(err(&nameless).contains("which app?") && err(&nameless).contains("--app"), "{}", err(&nameless));
}

/// C2 from the command line: a failpoint pauses the first push, so that the second waits.
#[test]
fn a_waiting_push_is_listed_and_can_be_cancelled() {
    let host = Host::start_pausing("release-built=1*off->pause");
    host.deploy("shop", Bundle::component(guest("hello")));
    let held = host.push("shop", &Bundle::shape(&[]));
    let waits = host.push("shop", &Bundle::component(guest("hello")));
    let pushes = |args: &[&str]| isopod(&host, &[&["pushes", "--app", "shop"], args].concat());
    let list = || out(&pushes(&["-n", "2"]));
    let is_listed = |id: &str, state: &str| list().lines().any(|line| line.starts_with(&format!("{id}  {state}")));
    assert!(is_listed(&waits.id, "queued") && list().lines().count() == 3, "{}", list());
    let cancelled = pushes(&["cancel", &waits.id]);
    assert!(cancelled.status.success() && out(&cancelled).contains(&waits.id), "{}", err(&cancelled));
    assert!(is_listed(&waits.id, "cancelled"), "{}", list());
    assert_eq!(host.push_now(&waits).state, "cancelled");
    let refused = pushes(&["cancel", &held.id]);
    assert_eq!(refused.status.code(), Some(1), "{}", out(&refused));
    assert!(err(&refused).contains("only a queued push can be cancelled"), "{}", err(&refused));
    let unknown = pushes(&["cancel", "p-0000000000"]);
    assert!(err(&unknown).contains("next: isopod pushes --app shop"), "{}", err(&unknown));
    assert_eq!(pushes(&["info", "banana"]).status.code(), Some(2), "an invalid id is wrong usage");
}

#[test]
fn a_push_is_shown_with_its_reason_and_its_complete_log() {
    let host = Host::start();
    let push = host.ended(&host.push("shop", &Bundle::shape(&[("HEALTH", "fails")])));
    let shown = out(&isopod(&host, &["pushes", "info", &push.id, "--app", "shop"]));
    let expected = push.log.iter().chain(&push.reason);
    assert!(push.log.len() > 1 && expected.into_iter().all(|line| shown.contains(line)), "{shown}");
    let reported = isopod(&host, &["pushes", "--app", "shop", "--json"]);
    let reported: Value = serde_json::from_slice(&reported.stdout).expect("standard output is JSON");
    assert_eq!(reported["items"][0]["reason_code"], "health-check", "{reported}");
}

/// A project with a prebuilt component, served by `isopod dev`.
struct Dev {
    folder: tempfile::TempDir,
    running: Running,
}

impl Dev {
    const MANIFEST: &str = "name = \"typed\"\ncomponent = \"app.wasm\"\n";

    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        fs::write(folder.path().join("isopod.toml"), Self::MANIFEST).expect("it can be written");
        fs::write(folder.path().join("app.wasm"), guest("hello")).expect("it can be written");
        let mut command = program::command(&["dev", "--listen", "127.0.0.1:0"]);
        command.current_dir(folder.path());
        let mut running = Running::start(command);
        running.line_on_stdout("✓ v1 is live");
        Self { folder, running }
    }

    /// Saves a file as many editors do: writes a new file, and renames it over the old.
    fn save(&self, name: &str, content: impl AsRef<[u8]>) {
        let (new, old) = (self.folder.path().join("saved-by-editor"), self.folder.path().join(name));
        fs::write(&new, content).and_then(|()| fs::rename(&new, old)).expect("it can be written");
    }

    fn app(&self) -> Value {
        let data = self.folder.path().join(".isopod");
        let read = |name: &str| fs::read_to_string(Path::new(&data).join(name)).expect("the host has written it");
        let admin: SocketAddr = read("admin.address").trim().parse().expect("an address");
        let ask = Ask::get("/v1/apps/typed").header("authorization", format!("Bearer {}", read("admin.token").trim()));
        ask.send(admin).expect("an answer").expect(200).json()
    }

    fn wait_for_build_error(&self, words: &str) {
        let shown = |app: Value| app["build_error"].as_str().is_some_and(|error| error.contains(words));
        wait_for(&format!("a build error with {words:?}"), || shown(self.app()).then_some(()));
    }
}

/// I3: while the manifest is invalid, the former code serves and the error stays, although other
/// files are saved.
#[test]
fn dev_deploys_nothing_while_its_manifest_is_invalid() {
    let mut dev = Dev::start();
    dev.save("isopod.toml", "name = \"typed\"\ncomponent = \"app.wasm\"\nkomponent = 1\n");
    dev.running.line_on_stdout("error: invalid manifest isopod.toml");
    dev.wait_for_build_error("komponent");
    // New code waits too, since it may depend on the next manifest.
    dev.save("app.wasm", guest("hello-wasi02"));
    dev.save("isopod.toml", Dev::MANIFEST.replace("typed", "typ"));
    dev.running.line_on_stdout("error: the app's name in isopod.toml has changed from typed to typ");
    dev.wait_for_build_error("typed to typ");
    assert_eq!(dev.app()["release"], 1);
    dev.save("isopod.toml", Dev::MANIFEST);
    dev.running.line_on_stdout("✓ v2 is live");
    assert_eq!((&dev.app()["release"], &dev.app()["build_error"]), (&Value::from(2), &Value::Null));
}
