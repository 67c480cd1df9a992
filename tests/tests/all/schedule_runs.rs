//! H1: tests the runs of schedules: each is an event in the durable queue, or a run of a command.
//! They have a history, follow `overlap`, and can be started by hand.

use isopod_tests::{Answer, Ask, Bundle, Host, bundle::QUICK_WEB, guest, limits::MINUTE_PATIENCE, program};
use isopod_tests::{wait_for, wait_up_to};
use serde_json::{Value, json};

const LEAP_DAYS: &str = "schedule = \"0 0 29 2 *\"\n";

/// Returns the schedule of a process type.
fn schedule(host: &Host, app: &str, process: &str) -> Value {
    let list = host.api(Ask::get(format!("/v1/apps/{app}/schedules"))).expect(200).json();
    let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
    items.iter().find(|item| item["process"] == process).unwrap_or_else(|| panic!("no {process} in {list}")).clone()
}

/// Returns the states of a schedule's runs, the last one first.
fn states(host: &Host, app: &str, process: &str) -> Vec<String> {
    let schedule = schedule(host, app, process);
    let runs = schedule["runs"].as_array().expect("runs").iter();
    runs.map(|run| run["state"].as_str().expect("a state").to_owned()).collect()
}

fn run(host: &Host, app: &str, process: &str) -> Answer {
    host.api(Ask::post(format!("/v1/apps/{app}/schedules/{process}/run")))
}

/// Deploys `greedy` with process types that handle the events of their schedules like events of
/// this type.
fn deploy_greedy(host: &Host, on_schedule: &str, processes: &str) {
    let manifest = format!(
        "name = \"greedy\"\n[processes.web]\nentry = \"http\"\n{processes}[limits]\nrequest_timeout = \"10m\"\n\
         [config]\nON_SCHEDULE = \"{on_schedule}\"\n"
    );
    host.create("greedy", "production");
    host.set_cores("greedy", &json!({ "push": 10 })).expect(200);
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
}

#[test]
fn a_run_is_stored_once_if_the_host_ends_before_its_firing_is_recorded() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}[processes.leap]\nentry = \"events\"\n{LEAP_DAYS}")));
    let forget_firing = |host: &Host| {
        let sql = "INSERT OR REPLACE INTO schedules (app, process, last_fired_at) VALUES ('shop', 'leap', ?1)";
        host.change_rows(sql, ["2000-01-01T00:00:00Z"]);
    };
    let firing_is_stored = |host: &Host| {
        wait_for("the stored firing", || {
            let sql = "SELECT count(*) FROM schedules WHERE last_fired_at > '2020'";
            let count: i64 = host.control_database().query_row(sql, [], |row| row.get(0)).expect("it can be read");
            (count == 1).then_some(())
        });
    };
    let mut host = host.restart_after(forget_firing);
    for _ in 0..2 {
        firing_is_stored(&host);
        wait_for("the run", || (states(&host, "shop", "leap") == ["done"]).then_some(()));
        assert_eq!(host.get("shop", "/ticks").expect(200).text(), "1");
        host = host.restart_after(forget_firing);
    }
}

#[test]
fn a_run_that_fails_is_retried_and_becomes_a_dead_letter() {
    let host = Host::start();
    let retry = "retry = { attempts = 2, first = \"100ms\", max = \"100ms\" }\n";
    deploy_greedy(&host, "panic", &format!("[processes.nightly]\nentry = \"events\"\n{LEAP_DAYS}{retry}"));
    let run = run(&host, "greedy", "nightly").expect(202).json();
    let id = run["event"]["id"].as_str().unwrap_or_else(|| panic!("{run}"));
    assert_eq!((&run["event"]["type"], &run["event"]["process"]), (&json!("isopod.schedule"), &json!("nightly")));
    let dead = host.until_event("greedy", id, "dead");
    assert_eq!((&dead["attempt"], &dead["source"]), (&json!(2), &json!("isopod/greedy/nightly")), "{dead}");
    let schedule = schedule(&host, "greedy", "nightly");
    assert_eq!((&schedule["last_state"], &schedule["runs"][0]["event"]), (&json!("dead"), &json!(id)), "{schedule}");
    assert!(schedule["runs"][0]["error"].as_str().is_some_and(|error| error.contains("trapped")), "{schedule}");
    assert_eq!(schedule["last_run_at"], schedule["runs"][0]["started_at"]);
    for (key, value) in [("schedule", "0 0 29 2 *"), ("time_zone", "UTC"), ("missed", "once"), ("overlap", "skip")] {
        assert_eq!(schedule[key], value, "{schedule}");
    }
    assert!(schedule["next_run_at"].as_str().is_some_and(|at| at.ends_with("-02-29T00:00:00Z")), "{schedule}");
}

/// The schedules fire at the next full minute, while the run that was started by hand is in
/// progress.
#[test]
fn a_time_during_the_previous_run_follows_the_overlap_setting() {
    let host = Host::start();
    let each = |entry: &str| {
        let process = |overlap: &str| {
            format!("[processes.{overlap}]\nentry = \"{entry}\"\nschedule = \"* * * * *\"\noverlap = \"{overlap}\"\n")
        };
        ["skip", "queue", "allow"].map(process).concat()
    };
    deploy_greedy(&host, "never", &each("events"));
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}{}", each("command"))));
    for process in ["skip", "queue", "allow"] {
        run(&host, "greedy", process).expect(202);
        let started = run(&host, "shop", process).expect(202).json();
        assert_eq!((&started["process"], &started["event"]), (&json!(process), &Value::Null), "{started}");
    }
    run(&host, "shop", "skip").problem_of("shop", 409, "run-in-progress");
    let first_two = |app: &str, process: &str| {
        let mut states = states(&host, app, process);
        let newest = states.len().saturating_sub(2);
        states.split_off(newest)
    };
    for (process, expected) in
        [("skip", ["skipped", "leased"]), ("queue", ["ready", "leased"]), ("allow", ["leased", "leased"])]
    {
        wait_up_to(MINUTE_PATIENCE, "the next full minute", || {
            (first_two("greedy", process) == expected).then_some(())
        });
    }
    let runs = &schedule(&host, "greedy", "skip")["runs"];
    let is_explained = |run: &Value| run["error"] == "skipped, because the previous run was in progress";
    assert!(runs.as_array().is_some_and(|runs| runs.iter().any(is_explained)), "{runs}");
    wait_for("a second run of the command", || (first_two("shop", "allow") == ["running", "running"]).then_some(()));
    let skipped = host.activity_of("shop", "schedule-failed");
    assert!(skipped["text"].as_str().is_some_and(|text| text.contains("still in progress")), "{skipped}");
    for process in ["skip", "queue"] {
        assert_eq!(states(&host, "shop", process), ["running"], "{process}");
    }
    assert_eq!(host.activity_of("greedy", "schedule-failed")["data"]["process"], "skip");
}

/// Deploys `greedy` with a worker, and a schedule whose runs do nothing.
fn deploy_worker_beside_schedule(host: &Host, worker: &str) {
    let worker = format!("[processes.worker]\nentry = \"events\"\n{worker}");
    deploy_greedy(host, "quiet", &format!("{worker}[processes.nightly]\nentry = \"events\"\n{LEAP_DAYS}"));
}

/// Starts a run by hand, and waits until it is done.
fn run_to_its_end(host: &Host) {
    let run = run(host, "greedy", "nightly").expect(202).json();
    host.until_event("greedy", run["event"]["id"].as_str().expect("an id"), "done");
}

#[test]
fn a_run_is_delivered_during_a_backlog_of_another_process_type() {
    const BACKLOG: usize = 10_000;
    let host = Host::start();
    deploy_worker_beside_schedule(&host, "");
    let line = |id| json!({ "specversion": "1.0", "id": format!("b-{id}"), "source": "/test", "type": "quiet" });
    let lines: Vec<String> = (0..BACKLOG).map(|id| line(id).to_string()).collect();
    let broadcast = Ask::post("/v1/apps/greedy/broadcasts").body("application/x-ndjson", lines.join("\n"));
    host.api(broadcast).expect(202);
    run_to_its_end(&host);
    let last = host.stored_event("greedy", &format!("b-{}", BACKLOG - 1));
    assert_eq!(last["state"], "ready", "the run waited for the backlog: {last}");
}

#[test]
fn a_run_is_delivered_while_another_process_type_waits_for_its_only_instance() {
    let host = Host::start();
    deploy_worker_beside_schedule(&host, "max = 1\n");
    let slow: Vec<String> = (0..30).map(|_| host.push_event("greedy", "never")).collect();
    host.until_event("greedy", &slow[0], "leased");
    run_to_its_end(&host);
    assert_eq!(host.stored_event("greedy", &slow[0])["state"], "leased");
}

#[test]
fn a_run_by_hand_needs_a_schedule_and_an_app_that_serves() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}[processes.leap]\nentry = \"events\"\n{LEAP_DAYS}")));
    for process in ["web", "nightly", "-"] {
        run(&host, "shop", process).problem_of("shop", 404, "unknown-schedule");
    }
    host.stop_app("shop");
    run(&host, "shop", "leap").problem_of("shop", 503, "app-unavailable");
    assert_eq!(schedule(&host, "shop", "leap")["runs"], json!([]));
    host.start_app("shop");
    run(&host, "shop", "leap").expect(202);
    wait_for("the run", || (states(&host, "shop", "leap") == ["done"]).then_some(()));
}

#[test]
fn the_command_line_lists_and_runs_schedules() {
    let host = Host::start();
    let nightly = "[processes.nightly]\nentry = \"events\"\nschedule = \"0 3 * * *\"\ntime_zone = \"Asia/Tokyo\"\n";
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}{nightly}")));
    let address = format!("http://{}", host.admin);
    let isopod = |words: &[&str]| {
        let ends = ["--app", "shop", "--host", &address, "--token", &host.token];
        let output = program::run(&[&["schedules"], words, &ends[..]].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let ran = isopod(&["run", "nightly"]);
    assert!(ran.contains("nightly-"), "{ran}");
    wait_for("the run", || (states(&host, "shop", "nightly") == ["done"]).then_some(()));
    let table = isopod(&[]);
    for word in ["PROCESS", "nightly", "0 3 * * *", "Asia/Tokyo", "in ", "03:00", "18:00 UTC", "done"] {
        assert!(table.contains(word), "no {word:?} in\n{table}");
    }
    let listed: Value = serde_json::from_str(&isopod(&["list", "--json"])).expect("JSON");
    assert_eq!(listed["items"][0]["process"], "nightly");
    let event = listed["items"][0]["runs"][0]["event"].as_str().expect("the id of an event");
    let runs = isopod(&["show", "nightly"]);
    assert!(runs.starts_with("STARTED") && runs.contains(event) && runs.contains("done"), "{runs}");
    assert_eq!(runs.lines().count(), 2, "{runs}");
    let shown: Value = serde_json::from_str(&isopod(&["show", "nightly", "--json"])).expect("JSON");
    assert_eq!(shown["runs"], listed["items"][0]["runs"]);
}
