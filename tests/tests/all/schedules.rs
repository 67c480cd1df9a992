//! Schedules: which there can be, and that they last. That one fires in its minute is the policy's arithmetic.

use isopod_tests::{Bundle, Host, guest};
use serde_json::json;

#[test]
fn a_schedule_is_listed_as_it_was_written_and_lasts() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    for (name, schedule) in [
        ("every-minute", "* * * * *"),
        ("nightly", "0 3 * * *"),
        ("mondays", "30 4 * * MON"),
        ("leap-days", "0 0 29 2 *"),
        ("often", "*/5 8-18 * * 1-5"),
    ] {
        let process = json!({ "name": name, "entry": "events", "schedule": schedule });
        assert_eq!(host.add_process("shop", &process).expect(201).json()[name]["schedule"], schedule);
    }
    let command = json!({ "name": "report", "entry": "command", "schedule": "15 * * * *", "args": ["0"] });
    assert_eq!(host.add_process("shop", &command).expect(201).json()["report"]["args"], json!(["0"]));
    let before = host.formation("shop");
    let host = host.kill_and_restart();
    assert_eq!(host.formation("shop"), before);
    host.deploy("shop", Bundle::component(guest("shapes")));
    assert_eq!(host.formation("shop"), before, "also over a deploy");
    host.scale("shop", &json!({ "nightly": { "schedule": null } })).expect(200);
    assert!(host.formation("shop")["nightly"]["schedule"].is_null());
}

#[test]
fn a_schedule_that_never_comes_is_refused() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    for schedule in [
        "",
        "every day",
        "0 3 * *",
        "0 3 * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "-1 * * * *",
        "@reboot",
    ] {
        let process = json!({ "name": "nightly", "entry": "events", "schedule": schedule });
        let refused = host.add_process("shop", &process).problem_of("shop", 422, "bad-formation");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains("schedule")), "{schedule:?}: {refused}");
        host.scale("shop", &json!({ "worker": { "schedule": schedule } })).problem_of("shop", 422, "bad-formation");
    }
    for wrong in [json!(3), json!(["0 3 * * *"]), json!({ "cron": "0 3 * * *" })] {
        let process = json!({ "name": "nightly", "entry": "events", "schedule": wrong });
        host.add_process("shop", &process).problem_of("shop", 422, "bad-formation");
    }
    let manifest = "[processes.nightly]\nentry = \"events\"\nschedule = \"0 0 30 2 *\"\n";
    let (code, reason) = host.deploy_in_vain("shop", &Bundle::shapes(manifest));
    assert_eq!(code, "invalid-bundle", "{reason}");
    assert!(reason.contains("schedule"), "{reason}");
    assert_eq!(host.releases("shop").len(), 1);
}

/// A command with a schedule is not kept running: it waits for its time.
#[test]
fn what_has_a_schedule_waits_for_it() {
    let host = Host::start();
    let job = "[processes.web]\nentry = \"http\"\n[processes.job]\nentry = \"command\"\nschedule = \"0 0 29 2 *\"\n";
    host.create("shop", "production");
    host.deploy("shop", Bundle::shapes(job));
    host.running_ids("shop", "web", 1);
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 ");
    let ran = host.log("shop").iter().any(|line| line.to_string().contains("shapes works as"));
    assert!(!ran, "it ran before its time");
}
