//! I3, B3: tests that projects from `isopod new` build and pass their own tests, and that `isopod
//! dev` deploys each saved change.

use isopod_tests::{
    Answer, Ask, Bundle, Host, Upstream, guest,
    program::{self, Running},
    upstream::{Then, response},
    wait_for,
};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// Creates a project from a template. Its compiled dependencies are in the same folder, and not in
/// that of cargo, which tests must not change.
fn new_project(folder: &Path, name: &str, template: &str) -> PathBuf {
    let project = folder.join(name);
    let path = project.to_str().expect("paths are text");
    let made = program::run(&["new", name, "--template", template, "--path", path]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let settings = project.join(".cargo/config.toml");
    let text = fs::read_to_string(&settings).expect("it was written");
    let text = text.replace("{cargo-cache-home}", folder.to_str().expect("paths are text"));
    fs::write(&settings, text).expect("it can be written");
    project
}

/// Runs a command, which must succeed. Returns its output.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("it can be run");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let text = format!("{}\n{}", said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{text}");
    text
}

#[test]
fn projects_share_their_compiled_dependencies() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let build = |name: &str| {
        let project = new_project(folder.path(), name, "http");
        let text = succeeds(program::command(&["build"]).current_dir(&project));
        let component = format!("target/wasm32-wasip2/release/{name}.wasm");
        assert!(project.join(component).is_file() && text.contains(&format!("Compiling {name}")), "{text}");
        text.contains("Compiling serde_json")
    };
    assert!(build("first"), "the first project compiles the dependencies");
    assert!(!build("second"), "the second project finds them");
}

#[test]
fn every_new_project_passes_its_own_tests() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for template in ["http", "events", "bot", "middleware", "hook", "gate"] {
        let project = new_project(folder.path(), &format!("new-{template}"), template);
        let mut tests = Command::new("cargo");
        // A shared target folder: the dependencies are identical.
        tests.arg("test").current_dir(project).env("CARGO_TARGET_DIR", folder.path().join("target"));
        succeeds(&mut tests);
    }
}

/// Installs the plugin of a new project with the command that `isopod new` shows.
#[track_caller]
fn install(host: &Host, project: &Path) -> String {
    let (address, token) = (format!("http://{}", host.admin), host.token.clone());
    succeeds(program::command(&["plugins", "install", "--host", &address, "--token", &token]).current_dir(project))
}

/// Returns the first block in this language of a project's README.
fn block_of_readme(project: &Path, language: &str) -> String {
    let readme = fs::read_to_string(project.join("README.md")).expect("it was written");
    let block = readme.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split_once("```"));
    block.expect("it shows a use").0.to_owned()
}

#[test]
fn a_new_middleware_is_installed_and_refuses_requests_to_an_app() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let project = new_project(folder.path(), "require-header", "middleware");
    let host = Host::start();
    let text = install(&host, &project);
    assert!(text.contains("require-header 0.1.0 is installed as v1"), "{text}");
    let uses = block_of_readme(&project, "toml");
    host.deploy("shop", Bundle::archive(&format!("name = \"shop\"\n{uses}"), &guest("hello")));
    let refused = host.get("shop", "/").expect(400);
    assert_eq!(refused.text(), "the header x-key is missing\n");
    host.app("shop", Ask::get("/").header("x-key", "42")).expect(200);
}

#[test]
fn a_new_hook_is_installed_and_posts_a_deploy_to_a_webhook() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let project = new_project(folder.path(), "post-deploys", "hook");
    let (host, webhook) = (Host::start(), Upstream::start(|_| Then::Send(response("ok"))));
    let text = install(&host, &project);
    assert!(text.contains("post-deploys 0.1.0 is installed as v1"), "{text}");
    let (address, token) = (format!("http://{}", host.admin), host.token.clone());
    let server = webhook.address.to_string();
    for line in block_of_readme(&project, "sh").lines() {
        let line = line.replace("https://hooks.example.org", &format!("http://{server}"));
        let line = line.replace("hooks.example.org", &server);
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        succeeds(program::command(&words).args(["--host", &address, "--token", &token]));
    }
    host.deploy("shop", Bundle::component(guest("hello")));
    let request = wait_for("a request to the webhook", || webhook.requests().into_iter().next());
    let line = String::from_utf8_lossy(&request.body).into_owned();
    assert!(line.starts_with("shop: v1 is in service"), "{line}");
    assert_eq!(request.header("idempotency-key").len(), 1, "{}", request.head);
}

#[test]
fn a_new_gate_is_installed_and_refuses_a_release_that_adds_a_grant() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let project = new_project(folder.path(), "keep-grants", "gate");
    let host = Host::start_with("", &block_of_readme(&project, "toml"));
    let text = install(&host, &project);
    assert!(text.contains("keep-grants 0.1.0 is installed as v1"), "{text}");
    let with = |grant: &str| Bundle::archive(&format!("name = \"shop\"\n[grants]\n{grant}\n"), &guest("hello"));
    host.deploy("shop", with("keyvalue = true"));
    let (code, reason) = host.deploy_failing("blog", &with("http = [\"b.org\"]"));
    assert_eq!(code, "gate-refused", "{reason}");
    assert!(reason.ends_with("`keep-grants` refused the release: it adds the grant http \"b.org\""), "{reason}");
}

/// Returns a block of Rust from a page of the documentation that contains `text`.
fn block_with(page: &str, text: &str) -> String {
    let blocks = page.split("```rust\n").skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block));
    blocks.into_iter().find(|block| block.contains(text)).unwrap_or_else(|| panic!("no block has {text:?}")).to_owned()
}

#[test]
fn the_example_of_the_event_handlers_page_passes_its_test_in_a_new_project() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let project = new_project(folder.path(), "shop", "events");
    let page = include_str!("../../../docs/events.md");
    let code = block_with(page, "isopod_sdk::events!") + "\n" + &block_with(page, "TestHost");
    fs::write(project.join("src/lib.rs"), code).expect("it can be written");
    let mut tests = Command::new("cargo");
    let text = succeeds(tests.arg("test").current_dir(project).env("RUSTFLAGS", "-D warnings"));
    assert!(text.contains("1 passed"), "{text}");
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

/// The former code keeps serving while the new code is built or fails to build; a browser shows the
/// error.
#[test]
fn each_saved_change_is_deployed_and_a_build_error_is_shown() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let project = new_project(folder.path(), "greeter", "http");
    // Builds the dependencies beforehand, since this can take longer than the test's timeout.
    succeeds(program::command(&["build"]).current_dir(&project));
    let code = fs::read_to_string(project.join("src/lib.rs")).expect("it was written");
    let dev = Dev::start(project);
    dev.until_greeted_with("Hello");
    let changed = code.replace("Hello", "Welcome");
    dev.save(&changed);
    dev.until_greeted_with("Welcome");
    dev.save(&changed.replace("Ok(Response", "Okay(Response"));
    let reported = |app: &Value| app["build_error"].as_str().is_some_and(|error| error.contains("Okay"));
    wait_for("the compiler's error", || reported(&dev.app()).then_some(()));
    dev.until_greeted_with("Welcome");
    assert!(dev.ask("text/html").expect(503).text().contains("Okay"), "a browser shows the compiler's error");
    dev.save(&code);
    dev.until_greeted_with("Hello");
    assert!(dev.ask("text/html").expect(200).text().contains("Hello, world!"), "the error page is still shown");
}
