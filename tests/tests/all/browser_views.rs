//! Tests the views of the dashboard in a headless browser: their content, filters, and hostile
//! text. Each test starts a host and runs the fact of the same name in `tests/browser/views.mjs` or
//! `filters.mjs`. Skipped without a browser.

use std::thread;

use isopod_tests::{Ask, Browser, Bundle, HeldStep, Host, Load, Queue, guest, guest_noted, wait_for};
use serde_json::json;

/// Samples often. The alert `disk-space` always fires.
const DISK_ALERT: &str =
    "[alerts]\ninterval = \"100ms\"\ndisk_space = { threshold = \"1000000GiB\", lasting = \"0s\" }\n";

/// Text that would run a script if a page inserted it as HTML. It is part of `views.mjs` too.
const HOSTILE: &str = "<img src=x onerror=window.attacked=1>";

/// The same text as a path.
const HOSTILE_PATH: &str = "/%3Cimg%20src%3Dx%20onerror%3Dwindow.attacked%3D1%3E";

/// Returns a bundle of `greedy` with a process type for requests, one for events, and a schedule
/// whose events are handled like events of the type `on_schedule`.
fn greedy(on_schedule: &str) -> Bundle {
    let manifest = format!(
        "name = \"greedy\"\n[processes.web]\nentry = \"http\"\nmin = 1\nargs = [\"{HOSTILE}\"]\n\
         [processes.worker]\nentry = \"events\"\n\
         [processes.nightly]\nentry = \"events\"\nschedule = \"0 0 29 2 *\"\n\
         [limits]\nrequest_timeout = \"10m\"\n\
         [config]\nCOLOUR = \"green\"\nON_SCHEDULE = \"{on_schedule}\"\n"
    );
    Bundle::archive(&manifest, &guest("greedy"))
}

/// Starts a host with `greedy` and these settings.
fn start_with(settings: &str, on_schedule: &str) -> Host {
    let host = Host::start_with("", settings);
    host.create("greedy", "production");
    host.deploy("greedy", greedy(on_schedule));
    host
}

fn start() -> Host {
    start_with("", "quiet")
}

/// Waits until the fact has created this app.
fn until_reported(host: &Host, app: &str) {
    wait_for(app, || (host.api(Ask::get(format!("/v1/apps/{app}"))).status == 200).then_some(()));
}

/// Starts a host whose app `greedy` has work in both queues, as `views.mjs` describes it.
fn start_busy() -> (Host, Load) {
    let host = start();
    host.set_cores("greedy", &json!({ "pull": 1, "push": 2 })).expect(200);
    let dead = host.push_event("greedy", "fail");
    host.until_event("greedy", &dead, "dead");
    for _ in 0..2 {
        let delayed = host.event("greedy", "quiet", Queue::Push).header("isopod-delay", "1d");
        host.api_raw(&delayed).expect(202);
    }
    let busy = host.push_event("greedy", "never");
    host.until_event("greedy", &busy, "leased");
    let ask = host.to_app("greedy", Ask::get("/sleep?ms=100"));
    let load = Load::of(host.listen, &ask, 3, |_| true);
    (host, load)
}

#[test]
fn the_list_shows_the_load_of_both_queues() {
    let Some(browser) = Browser::find() else { return };
    let (host, load) = start_busy();
    browser.check("the_list_shows_the_load_of_both_queues", &host);
    load.finish();
}

#[test]
fn an_app_shows_the_load_of_both_queues() {
    let Some(browser) = Browser::find() else { return };
    let (host, load) = start_busy();
    browser.check("an_app_shows_the_load_of_both_queues", &host);
    load.finish();
}

#[test]
fn a_person_restarts_an_instance() {
    let Some(browser) = Browser::find() else { return };
    let host = start();
    host.get("greedy", "/ok").expect(200);
    browser.check("a_person_restarts_an_instance", &host);
}

#[test]
fn a_page_shows_the_progress_of_a_push() {
    let Some(browser) = Browser::find() else { return };
    let (built, booted) = (HeldStep::at("release-built"), HeldStep::at("release-booted"));
    let host = Host::start_pausing(&format!("{};{}", built.failpoint(1), booted.failpoint(1)));
    host.deploy("hello", Bundle::component(guest("hello")));
    host.push("hello", &Bundle::component(guest_noted("hello", 1)));
    built.until_reached();
    thread::scope(|scope| {
        let fact = scope.spawn(|| browser.check("a_page_shows_the_progress_of_a_push", &host));
        until_reported(&host, "building-seen");
        built.release();
        booted.until_reached();
        until_reported(&host, "deploying-seen");
        booted.release();
        fact.join().expect("the page shows the progress");
    });
}

#[test]
fn the_activity_shows_each_change_with_its_cause() {
    let Some(browser) = Browser::find() else { return };
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    host.deploy("hello", Bundle::component(guest_noted("hello", 1)));
    browser.check("the_activity_shows_each_change_with_its_cause", &host);
}

#[test]
fn a_person_sets_and_unsets_config_vars() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_person_sets_and_unsets_config_vars", &start());
}

#[test]
fn a_person_starts_a_run_of_a_schedule() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_person_starts_a_run_of_a_schedule", &start());
}

#[test]
fn a_person_cancels_a_stored_event() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_person_cancels_a_stored_event", &start());
}

#[test]
fn a_banner_names_the_alerts_that_fire() {
    let Some(browser) = Browser::find() else { return };
    let host = start_with(&format!("{DISK_ALERT}queue_depth = {{ threshold = 2, lasting = \"0s\" }}\n"), "quiet");
    host.set_cores("greedy", &json!({ "pull": 1 })).expect(200);
    let held = host.hold("greedy");
    let waiting: Vec<_> = (0..2).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
    thread::scope(|scope| {
        let fact = scope.spawn(|| browser.check("a_banner_names_the_alerts_that_fire", &host));
        until_reported(&host, "alerts-seen");
        held.release_core();
        for mut wire in waiting {
            wire.answer().expect("it is answered").expect(200);
        }
        fact.join().expect("the page shows the end of the alert");
    });
}

/// Uploads a bundle whose manifest has a hostile key.
fn push_hostile(host: &Host) {
    let manifest = format!("name = \"greedy\"\n\"{HOSTILE}\" = 1\n");
    host.upload("greedy", &Bundle::archive(&manifest, &guest("greedy")), "?wait=true").problem(422, "push-failed");
}

#[test]
fn hostile_text_is_shown_as_text() {
    let Some(browser) = Browser::find() else { return };
    let host = start();
    host.deploy("outbox", Bundle::component(guest("outbox")));
    host.get("greedy", HOSTILE_PATH).expect(404);
    host.get("greedy", &format!("/log-line?text={}", &HOSTILE_PATH[1..])).expect(200);
    push_hostile(&host);
    browser.check("hostile_text_is_shown_as_text", &host);
}

#[test]
fn axe_finds_no_violation_in_what_a_person_opens() {
    let Some(browser) = Browser::find() else { return };
    let host = start_with(DISK_ALERT, "quiet");
    host.set_config("greedy", &json!({ "TOKEN": { "secret": "s3cret" } })).expect(200);
    host.get("greedy", "/panic").expect(502);
    let run = host.api(Ask::post("/v1/apps/greedy/schedules/nightly/run")).expect(202).json();
    host.until_event("greedy", run["event"]["id"].as_str().expect("an event has an id"), "done");
    push_hostile(&host);
    browser.check("axe_finds_no_violation_in_what_a_person_opens", &host);
}

/// Starts a host with `greedy`, whose requests fail, and `alpha`, which has no release.
fn start_failing() -> (Host, Load) {
    let host = start();
    host.create("alpha", "dev");
    let load = Load::of(host.listen, &host.to_app("greedy", Ask::get("/error")), 1, |_| true);
    (host, load)
}

#[test]
fn the_filters_of_lists_are_part_of_the_url() {
    let Some(browser) = Browser::find() else { return };
    let (host, load) = start_failing();
    browser.check("the_filters_of_lists_are_part_of_the_url", &host);
    drop(load.end());
}

#[test]
fn the_order_of_the_list_is_part_of_the_url() {
    let Some(browser) = Browser::find() else { return };
    let (host, load) = start_failing();
    browser.check("the_order_of_the_list_is_part_of_the_url", &host);
    drop(load.end());
}

#[test]
fn the_filters_of_a_log_are_part_of_the_url() {
    let Some(browser) = Browser::find() else { return };
    let host = start();
    host.get("greedy", "/log-flood?lines=40&bytes=10").expect(200);
    host.get("greedy", "/log-line?text=haystack").expect(200);
    host.get("greedy", "/log-at?level=error&text=needle").expect(200);
    host.log_line("greedy", "needle", |line| line["message"] == "needle");
    browser.check("the_filters_of_a_log_are_part_of_the_url", &host);
}

#[test]
fn the_filters_of_events_are_part_of_the_url() {
    let Some(browser) = Browser::find() else { return };
    browser.check("the_filters_of_events_are_part_of_the_url", &start_with("", "fail"));
}

#[test]
fn the_page_of_a_list_is_part_of_the_url() {
    let Some(browser) = Browser::find() else { return };
    browser.check("the_page_of_a_list_is_part_of_the_url", &start());
}
