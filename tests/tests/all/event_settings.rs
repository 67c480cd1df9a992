//! Tests the settings of schedules and of events in the manifest and in the formation: what is
//! shown, what is refused, and that the scheduler follows them. The policy crate tests the times.

use isopod_tests::{Bundle, Host, bundle::QUICK_WEB, guest, wait_for};
use serde_json::{Value, json};

const SETTINGS: &str = "\
[processes.worker]
entry = \"events\"
order = \"subject\"
retry = { attempts = 3, first = \"2s\" }
[processes.nightly]
entry = \"events\"
schedule = \"0 3 * * *\"
time_zone = \"Europe/Berlin\"
missed = \"all\"
overlap = \"queue\"
";

#[test]
fn the_formation_shows_the_settings_of_the_manifest() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}{SETTINGS}")));
    let formation = host.formation("shop");
    let retry = json!({ "attempts": 3, "first": "2s", "max": "1h" });
    assert_eq!((&formation["worker"]["order"], &formation["worker"]["retry"]), (&json!("subject"), &retry));
    let nightly = &formation["nightly"];
    assert_eq!(
        (&nightly["time_zone"], &nightly["missed"], &nightly["overlap"], &nightly["retry"]),
        (&json!("Europe/Berlin"), &json!("all"), &json!("queue"), &Value::Null)
    );
    let host = host.kill_and_restart();
    assert_eq!(host.formation("shop"), formation);
    let change =
        json!({ "nightly": { "time_zone": "America/New_York" }, "worker": { "retry": null, "order": "none" } });
    host.scale("shop", &change).expect(200);
    let fields: Vec<Value> = host.diff("shop", 2, Some(1)).iter().map(|change| change["field"].clone()).collect();
    let worker = ["order", "retry.attempts", "retry.first", "retry.max"].map(|key| format!("processes.worker.{key}"));
    assert_eq!(json!(fields), json!([&["processes.nightly.time_zone".to_owned()], &worker[..]].concat()));
    host.scale("shop", &json!({ "nightly": { "schedule": null } })).expect(200);
    let nightly = &host.formation("shop")["nightly"];
    assert_eq!(
        (&nightly["time_zone"], &nightly["missed"]),
        (&Value::Null, &Value::Null),
        "they belong to the schedule"
    );
}

#[test]
fn a_setting_that_does_not_apply_is_refused_with_the_reason() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    for (process, words) in [
        (json!({ "entry": "http", "retry": {} }), "\"new.retry\": retries of events require entry = \"events\""),
        (json!({ "entry": "command", "order": "subject" }), "\"new.order\": an order of events requires entry"),
        (json!({ "entry": "events", "time_zone": "UTC" }), "\"new.time_zone\": a time zone requires a schedule"),
        (
            json!({ "entry": "events", "missed": "all" }),
            "\"new.missed\": a setting for missed runs requires a schedule",
        ),
        (json!({ "entry": "events", "order": "fifo" }), "expected \"none\" or \"subject\""),
        (json!({ "entry": "events", "retry": { "attempt": 3 } }), "did you mean \"retry.attempts\"?"),
        (json!({ "entry": "events", "retry": { "first": "2h" } }), "first = 2h exceeds max = 1h; set both"),
        (
            json!({ "entry": "events", "schedule": "0 3 * * *", "time_zone": "Berlin" }),
            "unknown time zone \"Berlin\"; did you mean \"Europe/Berlin\"?",
        ),
    ] {
        let mut process = process;
        process["name"] = json!("new");
        let refused = host.add_process("shop", &process).problem_of("shop", 422, "bad-formation");
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{process}: {refused}");
    }
    for (keys, words) in [
        ("entry = \"http\"\nretry = {}", "line 4, column 9: \"processes.new.retry\": retries of events require"),
        (
            "entry = \"events\"\noverlap = \"queue\"",
            "\"processes.new.overlap\": a setting for overlapping runs requires",
        ),
        ("entry = \"events\"\nretry = { frist = \"1s\" }", "did you mean \"processes.new.retry.first\"?"),
        ("entry = \"events\"\ntimezone = \"UTC\"", "did you mean \"processes.new.time_zone\"?"),
    ] {
        let (code, reason) = host.deploy_failing("shop", &Bundle::shapes(&format!("[processes.new]\n{keys}\n")));
        assert_eq!(code, "invalid-bundle", "{reason}");
        assert!(reason.contains(words), "{keys}: {reason}");
    }
    assert_eq!(host.releases("shop").len(), 1);
}

/// Three schedules with the same times, which the host missed during a simulated downtime.
#[test]
fn missed_times_run_once_all_or_never() {
    const KINDS: [&str; 3] = ["skip", "once", "all"];
    let host = Host::start();
    let processes = KINDS.map(|kind| {
        format!(
            "[processes.{kind}]\nentry = \"events\"\nschedule = \"0 0 29 2 *\"\ntime_zone = \"Pacific/Apia\"\n\
             missed = \"{kind}\"\n"
        )
    });
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}{}", processes.concat())));
    let host = host.restart_after(|host| {
        for kind in KINDS {
            let sql = "INSERT OR REPLACE INTO schedules (app, process, last_fired_at) VALUES ('shop', ?1, ?2)";
            host.change_rows(sql, [kind, "2000-01-01T00:00:00Z"]);
        }
    });
    let runs = |kind: &str| {
        let (event, schedule) = (format!("the scheduler stored event {kind}-"), "(schedule 0 0 29 2 * Pacific/Apia)");
        let is_report = |message: &str| message.starts_with(&event) && message.ends_with(schedule);
        let reports = |line: &&Value| line["message"].as_str().is_some_and(is_report);
        host.log("shop").iter().filter(reports).count()
    };
    let missed = |kind: &str| {
        let is_about = |entry: &Value| entry["kind"] == "schedule-missed" && entry["data"]["process"] == kind;
        let runs = |entry: &Value| entry["data"]["runs"].as_u64().unwrap_or_else(|| panic!("{entry}"));
        host.activity("shop").iter().filter(|entry| is_about(entry)).map(runs).sum::<u64>()
    };
    let times = wait_for("the record of the skipped times", || Some(missed("skip")).filter(|times| *times > 0));
    wait_for("every missed time", || (runs("all") as u64 == times).then_some(()));
    wait_for("the run that makes up for the others", || (runs("once") == 1).then_some(()));
    assert_eq!(KINDS.map(missed), [times, times - 1, 0]);
    assert_eq!(KINDS.map(runs), [0, 1, usize::try_from(times).expect("it is small")]);
    wait_for("the end of the runs", || {
        (host.get("shop", "/ticks").expect(200).text() == (times + 1).to_string()).then_some(())
    });
    let stored = || -> i64 {
        let sql = "SELECT count(*) FROM schedules WHERE last_fired_at > '2020'";
        host.control_database().query_row(sql, [], |row| row.get(0)).expect("it is stored")
    };
    wait_for("the stored time of each", || (stored() == 3).then_some(()));
}
