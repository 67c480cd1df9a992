//! Tests a full disk: the host rejects operations that need space with a clear problem, running
//! apps continue, and after space is freed everything works again.

use isopod_tests::{Answer, Ask, Bundle, Host, Neighbour, SmallDisk, bundle::QUICK_WEB, guest, wait_for};
use serde_json::json;

fn sign(host: &Host, name: &str) -> Answer {
    let form = format!("name={name}&text=hello");
    host.app("book", Ask::post("/entries").body("application/x-www-form-urlencoded", form))
}

fn names(host: &Host) -> Vec<String> {
    let entries = host.get("book", "/entries").expect(200).json();
    let names =
        entries.as_array().expect("a list").iter().map(|entry| entry["name"].as_str().expect("a name").to_owned());
    names.collect()
}

#[test]
fn a_full_disk_rejects_writes_until_space_is_free() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let host = Host::on(&disk.path().join("data"));
    let manifest = "name = \"book\"\n[grants]\nkeyvalue = true\n";
    host.deploy("book", Bundle::archive(manifest, &guest("guestbook")));
    sign(&host, "Ada").expect(303);
    let neighbour = Neighbour::beside(&host);

    let filler = disk.fill();
    // The disk has no space for the upload itself.
    let refused = host.upload("book", &Bundle::component(guest("greedy")), "?wait=true");
    refused.problem(507, "disk-full");
    let created = host.api(Ask::post("/v1/apps").json(&json!({ "name": "more" })));
    // A small row may still fit into an allocated page of the database.
    assert!(created.status == 201 || created.status == 507, "{created}");
    // The store rejects an app's write or completes it. It never stores a part.
    let signed: Vec<String> =
        (0..200).map(|number| format!("late-{number}")).take_while(|name| sign(&host, name).status == 303).collect();
    assert!(signed.len() < 200, "the disk is not full");
    let mut kept: Vec<String> = names(&host);
    kept.reverse();
    assert_eq!(kept[0], "Ada");
    assert_eq!(kept[1..], signed[..], "exactly the acknowledged entries are stored");
    // Changes of settings behave in the same way: the first changes may fit.
    let change = json!({ "PADDING": "x".repeat(4000) });
    let refused = (0..50).map(|_| host.set_config("book", &change)).find(|answer| answer.status != 200);
    refused.expect("the disk is full").problem(507, "disk-full");
    assert_eq!(host.state("book"), "running");

    std::fs::remove_file(filler).expect("it exists");
    sign(&host, "Bob").expect(303);
    host.deploy("third", Bundle::component(guest("greedy")));
    assert_eq!(host.get("third", "/ok").expect(200).text(), "ok");
    neighbour.finish();
    let before = names(&host);
    assert_eq!(before.first().map(String::as_str), Some("Bob"));
    let host = host.kill_and_restart();
    assert_eq!(names(&host), before);
    for app in ["neighbour", "third"] {
        host.get(app, "/").expect(200);
    }
}

/// Followers and the cancellation of a push need no space on the disk.
#[test]
fn activity_on_a_full_disk_reaches_followers_immediately() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let host = Host::on(&disk.path().join("data"));
    host.deploy("shop", Bundle::shape(&[("GREETING", "old")]));
    let web = QUICK_WEB.replace("500ms", "2s");
    let hangs = Bundle::shapes(&format!("{web}[config]\nHEALTH = \"hangs\"\n"));
    let [first, second, third] = [(); 3].map(|()| host.push("shop", &hangs));
    wait_for("the health check", || (host.push_now(&first).state == "deploying").then_some(()));
    let mut news = host.follow("/v1/apps/shop/activity");
    let filler = disk.fill();
    // Uses up the free pages of the database.
    let tokens = (0..1_000).map(|number| {
        let token = json!({ "name": format!("t{number}-{}", "x".repeat(50)), "role": "read" });
        host.api(Ask::post("/v1/tokens").json(&token)).status
    });
    assert!(tokens.into_iter().any(|status| status == 507), "the disk is full");
    let cancelled = host.api(Ask::post(format!("{}/cancel", third.path()))).expect(200).json();
    assert_eq!(cancelled["state"], "cancelled");
    let mut reported = |kind: &str, push: &isopod_tests::Push| {
        let is_it = |entry: &serde_json::Value| entry["kind"] == kind && entry["data"]["push"] == push.id;
        assert!(news.by_ref().any(|entry| is_it(&entry)), "{kind} of {push:?} is not reported");
    };
    reported("push-cancelled", &third);
    reported("push-failed", &first);
    reported("push-failed", &second);

    std::fs::remove_file(filler).expect("it exists");
    let kinds = wait_for("the stored records", || {
        let of_pushes = host.activity("shop").into_iter().filter(|entry| entry["data"]["push"].is_string());
        let kinds: Vec<_> = of_pushes.map(|entry| (entry["kind"].clone(), entry["data"]["push"].clone())).collect();
        (kinds.len() >= 4).then_some(kinds)
    });
    let reported = |kind: &str, push: &isopod_tests::Push| (json!(kind), json!(push.id));
    assert_eq!(
        kinds[..3],
        [reported("push-failed", &second), reported("push-failed", &first), reported("push-cancelled", &third)]
    );
    let host = host.restart();
    assert_eq!(host.push_now(&third).state, "cancelled");
}

/// C3: the host knows the end of a push while the disk is full, and stores it as soon as it can.
#[test]
fn a_push_that_ends_on_a_full_disk_keeps_its_reason() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let host = Host::on(&disk.path().join("data"));
    host.deploy("shop", Bundle::shape(&[("GREETING", "old")]));
    let web = QUICK_WEB.replace("500ms", "2s");
    let push = host.push("shop", &Bundle::shapes(&format!("{web}[config]\nHEALTH = \"hangs\"\n")));
    wait_for("the health check", || (host.push_now(&push).state == "deploying").then_some(()));
    let filler = disk.fill();
    let ended = host.ended(&push);
    assert_eq!((ended.state.as_str(), ended.reason_code.as_deref()), ("failed", Some("health-check")), "{ended:?}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 old");

    std::fs::remove_file(filler).expect("it exists");
    wait_for("the stored record", || {
        let is_told = |entry: &serde_json::Value| entry["kind"] == "push-failed" && entry["data"]["push"] == push.id;
        host.activity("shop").iter().any(is_told).then_some(())
    });
    wait_for("the release's state", || (host.release_state("shop", 2) == "deployment_error").then_some(()));
    let host = host.restart();
    assert_eq!(host.push_now(&push).reason_code.as_deref(), Some("health-check"));
    assert_eq!(host.release("shop", 2)["reason"]["code"], "health-check");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 old");
}
