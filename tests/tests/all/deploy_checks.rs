//! Tests `isopod deploy` and related commands: checks before a build, output during the build, and
//! the message on Ctrl-C.

use isopod_tests::{
    Answer, Ask, Bundle, Host, Push, guest,
    guests::guest_path,
    program::{self, Running},
    wait_for,
};
use std::{
    path::Path,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// Creates a project. Its build creates a marker file, prints a line and copies a component.
fn project(more: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let component = guest_path("hello");
    let build = format!(
        "touch built && echo a-line-of-the-build && printf %s \\\"$CARGO_TARGET_DIR\\\" > where && mkdir -p target \
         && cp {} target/app.wasm",
        component.display()
    );
    let manifest = format!("name = \"shop\"\nbuild = \"{build}\"\ncomponent = \"target/app.wasm\"\n{more}");
    std::fs::write(folder.path().join("isopod.toml"), manifest).expect("a file can be written");
    folder
}

fn deploy(folder: &Path, host: &str, token: &str) -> Command {
    let mut command = program::command(&["deploy", "--host", host, "--token", token]);
    command.current_dir(folder);
    command
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_host_and_the_token_are_checked_before_the_build() {
    let host = Host::start();
    let (api, traffic) = (format!("http://{}", host.admin), format!("http://{}", host.listen));
    let project = project("");
    // A port that was free just now refuses connections almost certainly.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let unused = format!("http://{}", free.expect("a port is free"));
    for (address, token, words) in [
        (unused.as_str(), host.token.as_str(), "nothing listens at this address"),
        (&api, "wrong", "ISOPOD_TOKEN"),
        (&traffic, &host.token, "is the address of app traffic"),
    ] {
        let failed = deploy(project.path(), address, token).output().expect("it can be run");
        assert_eq!(failed.status.code(), Some(1), "{}", err(&failed));
        assert!(err(&failed).contains(words), "{words}: {}", err(&failed));
        assert!(!project.path().join("built").exists(), "{words}: the build ran");
    }
    // Every other command names the admin address as well.
    let listed = program::run(&["apps", "--host", &traffic, "--token", &host.token]);
    assert!(err(&listed).contains("admin=") && err(&listed).contains("127.0.0.1:8081"), "{}", err(&listed));
}

#[test]
fn a_build_without_a_terminal_prints_its_lines_and_uses_the_projects_target() {
    let host = Host::start();
    let project = project("");
    let elsewhere = tempfile::tempdir().expect("a folder can be made");
    let mut command = deploy(project.path(), &format!("http://{}", host.admin), &host.token);
    let deployed = command.env("CARGO_TARGET_DIR", elsewhere.path()).output().expect("it can be run");
    assert!(deployed.status.success(), "{}", err(&deployed));
    assert_eq!(err(&deployed).matches("a-line-of-the-build").count(), 1, "{}", err(&deployed));
    let target = std::fs::read_to_string(project.path().join("where")).expect("the build wrote it");
    assert_eq!(target, project.path().canonicalize().expect("it exists").join("target").display().to_string());
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

#[test]
fn an_interrupted_deploy_reports_that_the_push_job_continues() {
    let host = Host::start_pausing("release-built=pause");
    let project = project("");
    let mut deploying = Running::start(deploy(project.path(), &format!("http://{}", host.admin), &host.token));
    let id = deploying.line_on_stderr("push ").split(' ').next().expect("an id").to_owned();
    wait_for("the push to be built", || deploying.said().contains("push is building").then_some(()));
    deploying.signal(libc::SIGINT);
    let status = deploying.end();
    let said = deploying.said();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains(&format!("the push job {id} continues on the host")), "{said}");
    assert!(said.contains(&format!("isopod pushes info {id} --app shop")), "{said}");
    let push = host.api(Ask::get(format!("/v1/apps/shop/pushes/{id}"))).expect(200).json();
    assert_eq!(push["state"], "building");
}

fn upload(host: &Host, bundle: &Bundle, key: &str) -> Answer {
    let ask = Ask::post("/v1/apps/shop/pushes").header("idempotency-key", key);
    host.api(ask.body(bundle.content_type, bundle.bytes.clone()))
}

#[test]
fn the_key_of_a_failed_push_runs_again() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("greedy")));
    let bad = Bundle::archive("name = \"shop\"\n[config]\nGREEDY_START = \"trap\"\n", &guest("greedy"));
    let first = Push::from(upload(&host, &bad, "try").expect(202).json());
    assert_eq!(host.ended(&first).state, "failed");
    let second = Push::from(upload(&host, &bad, "try").expect(202).json());
    assert_ne!(first.id, second.id);
    assert_eq!(host.ended(&second).state, "failed");
    let good = Bundle::component(guest("hello"));
    let third = Push::from(upload(&host, &good, "try").expect(202).json());
    assert_eq!(host.ended(&third).state, "completed");
    assert_eq!(Push::from(upload(&host, &good, "try").expect(202).json()).id, third.id);
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let host = Host::start();
    host.create("shop", "dev");
    let address = format!("http://{}", host.admin);
    let asks: [&[&str]; 5] = [
        &["--help"],
        &["--version"],
        &["deploy", "--help"],
        &["completions", "bash"],
        &["apps", "--host", &address, "--token", &host.token],
    ];
    for args in asks {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
        let output = program::command(args).stdout(full).stderr(Stdio::piped()).output().expect("it can be run");
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", err(&output));
        assert!(err(&output).contains("standard output cannot be written"), "{args:?}: {}", err(&output));
        let shown = program::run(args);
        assert!(shown.status.success() && !shown.stdout.is_empty(), "{args:?}: {}", err(&shown));
    }
}

fn dev(folder: &Path) -> Running {
    let folder = folder.to_str().expect("paths are text");
    Running::start(program::command(&["dev", folder, "--listen", "127.0.0.1:0"]))
}

#[test]
fn dev_offers_no_url_for_an_app_without_http() {
    let project = project("[processes.worker]\nentry = \"events\"\n");
    let mut running = dev(project.path());
    let said = running.line_on_stdout("shop ");
    assert!(said.starts_with("serves no HTTP") && said.contains("isopod events send"), "{said}");
    running.signal(libc::SIGINT);
    running.end();
}

#[test]
fn dev_reports_after_a_failed_first_build_that_nothing_serves() {
    let project = tempfile::tempdir().expect("a folder can be made");
    let manifest = "name = \"shop\"\nbuild = \"echo no such type; exit 3\"\ncomponent = \"target/app.wasm\"\n";
    std::fs::write(project.path().join("isopod.toml"), manifest).expect("a file can be written");
    let mut running = dev(project.path());
    wait_for("the failed build", || running.said().contains("ended with").then_some(()));
    let said = running.said();
    assert!(said.contains("nothing serves yet") && !said.contains("the old code"), "{said}");
    running.signal(libc::SIGINT);
    running.end();
}

#[test]
fn a_folder_with_a_misnamed_manifest_names_it() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    std::fs::write(folder.path().join("isopod.toml.txt"), "name = \"shop\"\n").expect("a file can be written");
    let failed = program::run(&["build", folder.path().to_str().expect("paths are text")]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(err(&failed).contains("isopod.toml.txt") && err(&failed).contains("mv "), "{}", err(&failed));
}
