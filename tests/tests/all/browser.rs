//! Tests the dashboard in a headless browser, as a person uses it. Each test starts a host and runs
//! the fact of the same name in `tests/browser/facts.mjs`. Skipped without a browser.

use std::thread;

use isopod_tests::{Ask, Browser, Bundle, CuttingProxy, Host, Load, guest, guest_noted, wait_for};

/// Starts a host with `hello`, deployed twice.
fn start() -> Host {
    let host = Host::start();
    host.create("hello", "production");
    host.deploy("hello", Bundle::component(guest("hello")));
    host.deploy("hello", Bundle::component(guest_noted("hello", 1)));
    host
}

/// Deploys the guest `greedy`, which handles requests and events, as a new app.
fn deploy_greedy(host: &Host, app: &str) {
    host.create(app, "production");
    let processes = "[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n";
    host.deploy(app, Bundle::archive(&format!("name = \"{app}\"\n{processes}"), &guest("greedy")));
}

/// Starts a host with `greedy`, and with log lines.
fn start_greedy() -> Host {
    let host = Host::start();
    deploy_greedy(&host, "greedy");
    host.get("greedy", "/log-line?text=haystack").expect(200);
    host.get("greedy", "/log-line?text=%3Cb%3Eneedle%3C/b%3E").expect(200);
    host
}

/// Adds dead letters to an app of the guest `greedy`.
fn add_dead_letters(host: &Host, app: &str) {
    let events: Vec<String> = (0..3).map(|_| host.push_event(app, "fail")).collect();
    for event in &events {
        host.until_event(app, event, "dead");
    }
}

fn load(host: &Host) -> Load {
    Load::on(host, "hello", 2, |_| true)
}

#[test]
fn a_person_signs_in_and_out() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_person_signs_in_and_out", &start());
}

#[test]
fn the_list_of_apps_is_live() {
    let Some(browser) = Browser::find() else { return };
    let host = start();
    let load = load(&host);
    browser.check("the_list_of_apps_is_live", &host);
    // The app is stopped by then, so the last requests fail.
    drop(load.end());
}

#[test]
fn a_scoped_token_sees_the_errors_of_its_apps() {
    let Some(browser) = Browser::find() else { return };
    let host = start_greedy();
    let ask = host.to_app("greedy", Ask::get("/error"));
    let load = Load::of(host.listen, &ask, 1, |_| true);
    browser.check("a_scoped_token_sees_the_errors_of_its_apps", &host);
    drop(load.end());
}

#[test]
fn an_app_under_load_shows_live_charts() {
    let Some(browser) = Browser::find() else { return };
    let host = start();
    let load = load(&host);
    browser.check("an_app_under_load_shows_live_charts", &host);
    load.finish();
}

#[test]
fn a_page_shows_a_new_state_of_a_slow_host() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_page_shows_a_new_state_of_a_slow_host", &start());
}

#[test]
fn a_person_rolls_a_release_back() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_person_rolls_a_release_back", &start());
}

#[test]
fn a_person_scales_a_process_type() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_person_scales_a_process_type", &start());
}

#[test]
fn a_person_searches_a_log_and_follows_it() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_person_searches_a_log_and_follows_it", &start_greedy());
}

#[test]
fn a_person_finds_the_backtrace_of_a_failed_request() {
    let Some(browser) = Browser::find() else { return };
    let host = start_greedy();
    host.get("greedy", "/panic").expect(502);
    browser.check("a_person_finds_the_backtrace_of_a_failed_request", &host);
}

#[test]
fn a_person_redrives_dead_letters() {
    let Some(browser) = Browser::find() else { return };
    let host = start_greedy();
    add_dead_letters(&host, "greedy");
    browser.check("a_person_redrives_dead_letters", &host);
}

#[test]
fn the_theme_follows_the_system_until_a_person_chooses() {
    let Some(browser) = Browser::find() else { return };
    browser.check("the_theme_follows_the_system_until_a_person_chooses", &Host::start());
}

#[test]
fn every_view_fits_a_phone() {
    let Some(browser) = Browser::find() else { return };
    let host = start_greedy();
    add_dead_letters(&host, "greedy");
    browser.check("every_view_fits_a_phone", &host);
}

#[test]
fn a_person_needs_only_a_keyboard() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_person_needs_only_a_keyboard", &start());
}

#[test]
fn axe_finds_no_violation_in_any_view() {
    let Some(browser) = Browser::find() else { return };
    let host = start_greedy();
    add_dead_letters(&host, "greedy");
    browser.check("axe_finds_no_violation_in_any_view", &host);
}

#[test]
fn a_page_has_one_stream() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_page_has_one_stream", &start_greedy());
}

#[test]
fn rates_use_the_times_of_the_measurements() {
    let Some(browser) = Browser::find() else { return };
    browser.check("rates_use_the_times_of_the_measurements", &start());
}

#[test]
fn a_page_asks_a_failing_stream_less_and_less_often() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_page_asks_a_failing_stream_less_and_less_often", &Host::start());
}

#[test]
fn a_page_shows_an_app_that_is_created_again() {
    let Some(browser) = Browser::find() else { return };
    browser.check("a_page_shows_an_app_that_is_created_again", &start_greedy());
}

#[test]
fn a_page_reconnects_after_the_host_restarts() {
    let Some(browser) = Browser::find() else { return };
    let host = start();
    // The address of the proxy stays the same.
    let (proxy, token) = (CuttingProxy::start(host.admin, []), host.token.clone());
    thread::scope(|scope| {
        let fact = scope.spawn(|| browser.check_at("a_page_reconnects_after_the_host_restarts", proxy.address, &token));
        wait_for("the page to be open", || (host.api(Ask::get("/v1/apps/opened")).status == 200).then_some(()));
        // It runs until the page has shown what the fact creates.
        let host = host.restart();
        host.create("later", "dev");
        proxy.forward_to(host.admin);
        fact.join().expect("the page reconnects");
    });
}

#[test]
fn images_for_the_documentation_can_be_made() {
    let Some(browser) = Browser::find() else { return };
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", Bundle::component(guest("hello")));
    deploy_greedy(&host, "billing");
    add_dead_letters(&host, "billing");
    host.create("intranet", "staging");
    browser.check("images_for_the_documentation_can_be_made", &host);
}
