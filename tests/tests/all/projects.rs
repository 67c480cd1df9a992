//! I3, B3: what `isopod new` writes is built and passes its own tests, and `isopod dev` brings each saved change of it into
//! the running app.

use isopod_tests::{
    Answer, Ask,
    program::{self, Running},
    wait_for,
};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// A project as a newcomer gets it.
fn new_project(folder: &Path, name: &str, template: &str) -> PathBuf {
    let project = folder.join(name);
    let path = project.to_str().expect("paths are text");
    let made = program::run(&["new", name, "--template", template, "--path", path]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    project
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.output().expect("it can be run");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", said(&output.stdout), said(&output.stderr));
}

#[test]
fn every_new_project_passes_its_own_tests() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for template in ["http", "events", "bot"] {
        let project = new_project(folder.path(), &format!("new-{template}"), template);
        let mut tests = Command::new("cargo");
        // One for all of them: what they depend on is the same.
        tests.arg("test").current_dir(project).env("CARGO_TARGET_DIR", folder.path().join("target"));
        succeeds(&mut tests);
    }
}

/// A project that `isopod dev` serves.
struct Dev {
    project: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    token: String,
    _running: Running,
}

impl Dev {
    fn start(project: PathBuf) -> Self {
        let mut command = program::command(&["dev", "--listen", "127.0.0.1:0"]);
        let mut running = Running::start({
            command.current_dir(&project);
            command
        });
        running.line_on_stdout("✓ v1 is live");
        let read =
            |name: &str| fs::read_to_string(project.join(".isopod").join(name)).expect("the host has written it");
        let admin = read("admin.address").trim().parse().expect("an address");
        let token = read("admin.token").trim().to_owned();
        let mut dev = Self { project, listen: admin, admin, token, _running: running };
        let url = dev.app()["urls"][0].as_str().expect("it has an address").to_owned();
        let port = url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
        dev.listen.set_port(port.expect("its address has a port"));
        dev
    }

    fn app(&self) -> Value {
        let ask = Ask::get("/v1/apps/greeter").header("authorization", format!("Bearer {}", self.token));
        ask.send(self.admin).expect("an answer").expect(200).json()
    }

    fn ask(&self, accepting: &str) -> Answer {
        let ask = Ask::get("/").header("host", "greeter.localhost").header("accept", accepting);
        ask.send(self.listen).expect("an answer")
    }

    fn save(&self, code: &str) {
        fs::write(self.project.join("src/lib.rs"), code).expect("it can be written");
    }

    fn until_greeted_with(&self, word: &str) {
        let greeting = format!("{word}, world!");
        wait_for(&format!("{greeting:?}"), || self.ask("*/*").expect(200).text().contains(&greeting).then_some(()));
    }
}

/// The old code keeps serving while the new one is built or can't be; people who look in a browser see why.
#[test]
fn each_saved_change_is_live_and_a_broken_one_is_told() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let project = new_project(folder.path(), "greeter", "http");
    // What it depends on takes a while, which is nobody's patience here.
    succeeds(program::command(&["build"]).current_dir(&project));
    let code = fs::read_to_string(project.join("src/lib.rs")).expect("it was written");
    let dev = Dev::start(project);
    dev.until_greeted_with("Hello");
    let changed = code.replace("Hello", "Welcome");
    dev.save(&changed);
    dev.until_greeted_with("Welcome");
    dev.save(&changed.replace("Ok(Response", "Okay(Response"));
    let told = |app: &Value| app["build_error"].as_str().is_some_and(|error| error.contains("Okay"));
    wait_for("the compiler's words", || told(&dev.app()).then_some(()));
    dev.until_greeted_with("Welcome");
    assert!(dev.ask("text/html").expect(503).text().contains("Okay"), "a browser shows what the compiler said");
    dev.save(&code);
    dev.until_greeted_with("Hello");
    assert!(dev.ask("text/html").expect(200).text().contains("Hello, world!"), "the page has gone");
}
