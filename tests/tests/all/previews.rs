//! Tests anonymous requests to releases at their own URLs: each release is loaded once, from
//! compiled code, and a failure reveals no cause.

use isopod_tests::{Ask, Bundle, Host, wait_for};
use std::path::Path;

fn greeting(text: &str) -> Bundle {
    Bundle::shape(&[("GREETING", text)])
}

/// Starts a host that has loaded only the current release.
fn restarted_host() -> Host {
    let host = Host::start();
    host.deploy("shop", greeting("one"));
    host.deploy("shop", greeting("two"));
    host.restart()
}

fn remove_files(folder: &Path) {
    for file in std::fs::read_dir(folder).expect("it exists") {
        std::fs::remove_file(file.expect("it can be read").path()).expect("it can be removed");
    }
}

fn visited(host: &Host) -> isopod_tests::Answer {
    host.get("v1--shop", "/")
}

#[test]
fn a_previewed_release_is_loaded_from_its_compiled_code() {
    let host = restarted_host();
    remove_files(&host.data().join("blobs"));
    assert_eq!(visited(&host).expect(200).text(), "v1 one");
}

#[test]
fn a_failing_release_is_loaded_once_for_many_visitors_and_shows_no_cause() {
    const STRANGERS: usize = 60;
    let host = restarted_host();
    ["blobs", "cache"].iter().for_each(|folder| remove_files(&host.data().join(folder)));
    let waiting: Vec<_> = (0..STRANGERS).map(|_| host.begin("v1--shop", Ask::get("/"))).collect();
    for mut wire in waiting {
        let answer = wire.answer().expect("an answer");
        let problem = answer.problem_of("shop", 503, "release-unavailable");
        assert!(problem["request_id"].is_string() && answer.header("retry-after").is_some(), "{answer}");
        assert!(!answer.text().contains("blob") && !answer.text().contains("internal"), "{answer}");
    }
    let tried = || {
        let lines = host.log("shop");
        lines
            .iter()
            .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("v1 was requested by its URL")))
            .count()
    };
    let tried = wait_for("the reason in the app's log", || Some(tried()).filter(|tried| *tried > 0));
    assert!(tried < STRANGERS / 10, "{tried} loads");
}

#[test]
fn a_release_that_failed_its_deploy_looks_like_an_unknown_release() {
    let host = Host::start();
    host.deploy("shop", greeting("one"));
    host.deploy_failing("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    let texts = ["v2", "v7"].map(|release| {
        let problem = host.get(&format!("{release}--shop"), "/").problem_of("shop", 404, "unknown-part");
        problem["detail"].as_str().expect("a detail").replace(release, "vN")
    });
    assert_eq!(texts[0], texts[1]);
}
