//! Tests a host that is killed at each step of a push. After the restart the app serves one good
//! release, the push has ended, and the next push succeeds.

use isopod_tests::{Ask, Bundle, Host, Push, guest, wait_for};
use serde_json::{Value, json};

fn greeting(words: &str) -> Bundle {
    Bundle::shape(&[("GREETING", words)])
}

/// Starts a host with a first release in service. The second push will pause at this step.
fn about_to_hold(step: &str) -> Host {
    let host = Host::start_pausing(&format!("{step}=1*off->pause"));
    host.create("shop", "staging");
    host.deploy("shop", greeting("old"));
    host
}

/// Waits until the second push is at this step, as far as the API shows it.
fn until_held(host: &Host, push: &Push, step: &str) {
    let said = |words: &str| host.push_now(push).log.iter().any(|line| line.contains(words));
    let is_in = |state: &str| host.releases("shop").len() == 2 && host.release_state("shop", 2) == state;
    wait_for(&format!("the push to reach {step}"), || {
        let stands = match step {
            "push-queued" => host.push_now(push).state == "queued",
            "push-verified" => said("component: "),
            "release-built" => said("compiled in"),
            "release-booted" => said("healthy"),
            "release-commits" => said("healthy") && is_in("booted"),
            "release-committed" => host.releases("shop").iter().any(|release| {
                release["release"] == 2 && ["ready", "frozen"].iter().any(|state| release["state"] == *state)
            }),
            other => panic!("unknown step {other}"),
        };
        stands.then_some(())
    });
}

/// C4: the app is never in an intermediate state.
fn killed_at(step: &str, release: u64, answer: &str) {
    let host = about_to_hold(step);
    let push = host.push("shop", &greeting("new"));
    until_held(&host, &push, step);
    if step != "release-committed" {
        assert_eq!(host.get("shop", "/").expect(200).text(), "v1 old", "{step}: the app serves during the push");
    }
    let host = host.kill_and_restart();
    assert_eq!(host.get("shop", "/").expect(200).text(), answer, "{step}");
    assert_eq!(host.state("shop"), "running", "{step}");
    assert_eq!(host.show("shop")["release"], release, "{step}");
    assert_eq!(host.current("shop"), [release], "{step}");
    for other in host.releases("shop").iter().filter(|other| other["release"] != release) {
        let at_rest = ["retired", "build_error", "deployment_error"];
        assert!(at_rest.iter().any(|state| other["state"] == *state), "{step}: {other}");
        assert!(other["state"] == "retired" || other["reason"]["detail"].is_string(), "{step}: {other}");
    }
    let ended = host.push_now(&push);
    if release == 2 {
        assert_eq!((ended.state.as_str(), ended.release), ("completed", Some(2)), "{step}: {ended:?}");
    } else {
        assert_eq!(ended.state, "failed", "{step}: {ended:?}");
        assert!(ended.reason.is_some_and(|reason| reason.len() > 20), "{step}: its reason is too short");
        let reported = host.activity("shop").into_iter().find(|entry| entry["kind"] == "push-failed");
        assert_eq!(
            reported.map(|reported| reported["data"]["push"].clone()),
            Some(json!(push.id)),
            "{step}: the activity has no entry for the push"
        );
    }
    let next = host.deploy("shop", greeting("newer"));
    let number = next.release.expect("a completed push has a release");
    assert!(number > release, "{step}: {next:?}");
    assert_eq!(host.get("shop", "/").expect(200).text(), format!("v{number} newer"), "{step}");
    assert_eq!(host.current("shop"), [number], "{step}");
}

#[test]
fn killed_while_a_push_is_queued() {
    killed_at("push-queued", 1, "v1 old");
}

#[test]
fn killed_after_a_bundle_was_verified() {
    killed_at("push-verified", 1, "v1 old");
}

#[test]
fn killed_after_a_release_was_built() {
    killed_at("release-built", 1, "v1 old");
}

#[test]
fn killed_after_a_releases_instances_were_healthy() {
    killed_at("release-booted", 1, "v1 old");
}

#[test]
fn killed_right_before_a_release_is_committed() {
    killed_at("release-commits", 1, "v1 old");
}

#[test]
fn killed_right_after_a_release_was_committed() {
    killed_at("release-committed", 2, "v2 new");
}

/// H4: changes of config, formation or grants, and rollbacks, use the same release pipeline, so a
/// kill interrupts them in the same way.
#[test]
fn killed_during_the_rollout_of_a_change() {
    for (method, what, body) in [
        ("PATCH", "config", json!({ "GREETING": "changed" })),
        ("PATCH", "formation", json!({ "web": { "min": 2 } })),
        ("POST", "rollback", json!({ "release": 1 })),
    ] {
        let host = Host::start_pausing("release-commits=2*off->pause");
        host.deploy("shop", greeting("old"));
        host.deploy("shop", greeting("good"));
        let before = (host.config("shop"), host.formation("shop"));
        let ask = Ask::new(method, format!("/v1/apps/shop/{what}")).json(&body);
        let ask = ask.header("authorization", format!("Bearer {}", host.token));
        let admin = host.admin;
        let waiting = std::thread::spawn(move || ask.send(admin).map(|answer| answer.to_string()));
        wait_for("the change's release", || {
            (host.releases("shop").len() == 3 && host.release_state("shop", 3) == "booted").then_some(())
        });
        assert_eq!(
            (host.config("shop"), host.formation("shop")),
            before,
            "{what}: the change applies before its release serves"
        );
        let host = host.kill_and_restart();
        let answered = waiting.join().expect("asking does not panic");
        assert!(answered.is_err(), "{what}: the client got a response: {answered:?}");
        assert_eq!(host.get("shop", "/").expect(200).text(), "v2 good", "{what}");
        assert_eq!((host.config("shop"), host.formation("shop")), before, "{what}");
        assert_eq!((host.current("shop"), host.release_state("shop", 3).as_str()), (vec![2], "deployment_error"));
        host.set_config("shop", &json!({ "GREETING": "now" })).expect(200);
        assert_eq!(host.get("shop", "/").expect(200).text(), "v4 now", "{what}");
    }
}

/// Repeated kills of an idle host: each start finds the same state.
#[test]
fn repeated_kills_of_an_idle_host_change_nothing() {
    let mut host = Host::start();
    host.deploy("shop", greeting("hello"));
    host.scale("shop", &json!({ "web": { "min": 1 } })).expect(200);
    // The URLs contain the host's ports, which change.
    let all = |host: &Host| host.releases("shop").into_iter().map(without_url).collect::<Vec<_>>();
    let releases = all(&host);
    for _ in 0..3 {
        host = host.kill_and_restart();
        assert_eq!(host.get("shop", "/").expect(200).text(), "v2 hello");
        assert_eq!(all(&host), releases);
        host.running_ids("shop", "web", 1);
    }
}

fn without_url(mut release: Value) -> Value {
    release["url"] = Value::Null;
    release
}

/// A1: if the host temporarily can't read its files, the app is not at fault. It recovers without a
/// new push.
#[test]
fn temporarily_unreadable_code_does_not_change_an_apps_state() {
    let host = Host::start();
    host.deploy("asleep", Bundle::component(guest("hello")));
    host.create("kept", "production");
    host.deploy("kept", greeting("kept"));
    let (mut blobs, aside) = (Vec::new(), tempfile::tempdir().expect("a folder can be made"));
    let host = host.restart_after(|host| {
        for blob in std::fs::read_dir(host.data().join("blobs")).expect("there are some") {
            let blob = blob.expect("it can be read").path();
            let kept = aside.path().join(blob.file_name().expect("it has a name"));
            std::fs::copy(&blob, &kept).and_then(|_| std::fs::remove_file(&blob)).expect("it can be moved");
            // Reading a folder fails with another error than "not found".
            std::fs::create_dir(&blob).expect("a folder can be made");
            blobs.push((blob, kept));
        }
    });
    for _ in 0..2 {
        let refused = host.get("asleep", "/");
        refused.problem_of("asleep", 503, "app-unavailable");
        assert!(refused.header("retry-after").is_some() && !refused.text().contains("blobs"), "{refused}");
    }
    host.log_line("kept", "the reason for the retry", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("tries again"))
    });
    assert_eq!(["asleep", "kept"].map(|app| host.state(app)), ["running", "starting"]);
    for (blob, kept) in &blobs {
        std::fs::remove_dir(blob).and_then(|()| std::fs::copy(kept, blob)).expect("it can be put back");
    }
    assert_eq!(host.get("asleep", "/").expect(200).text(), "Hello, world!");
    host.until_state("kept", "running");
    assert!(host.get("kept", "/").expect(200).text().contains("kept"));
}
