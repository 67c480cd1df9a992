//! Tests failing providers: only the requests that call them fail.

use isopod_tests::{
    Bundle, Host, Neighbour, guest,
    outbox::ask_to_store,
    providers::{caller, granting, probe_provider},
    wait_for,
};
use serde_json::{Value, json};

fn host_with_probe() -> Host {
    let host = Host::start();
    host.installed(&probe_provider("1.0.0", ""));
    host.deploy("shop", caller("shop", "probe"));
    host
}

#[test]
fn a_failing_provider_fails_only_the_requests_that_call_it() {
    let host = host_with_probe();
    let neighbour = Neighbour::beside(&host);
    for act in ["trap", "spin", "allocate", "sleep"] {
        let problem = host.get("shop", &format!("/{act}")).problem_of("shop", 502, "plugin-failed");
        assert_eq!(problem["plugin"], "probe", "{act}: {problem}");
        assert_eq!(host.get("shop", "/").expect(200).text(), "without a call");
        assert!(host.get("shop", "/caller").expect(200).text().starts_with("shop "));
    }
    let failures = "isopod_app_plugin_calls_total{app=\"shop\",plugin=\"probe\",outcome=\"failure\"}";
    assert!(host.metric(failures) >= 4.0);
    let line = host.log_line("shop", "the failure", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("the provider `probe` failed"))
    });
    assert!(!line["request_id"].is_null(), "{line}");
    assert_eq!(host.state("shop"), "running");
    neighbour.finish();
}

#[test]
fn a_provider_that_traps_under_a_hundred_callers_serves_the_next_call() {
    let host = host_with_probe();
    host.deploy("wiki", caller("wiki", "probe"));
    let neighbour = Neighbour::beside(&host);
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..100).map(|_| scope.spawn(|| host.get("shop", "/trap").status)).collect();
        asking.into_iter().map(|asking| asking.join().expect("asking does not panic")).collect()
    });
    assert!(answers.iter().all(|status| [429, 502, 503, 504].contains(status)), "{answers:?}");
    assert!(answers.contains(&502), "{answers:?}");
    for app in ["shop", "wiki"] {
        assert!(host.get(app, "/caller").expect(200).text().starts_with(app));
    }
    assert_eq!((host.state("shop"), host.show("shop")["release"].as_u64()), ("running".to_owned(), Some(1)));
    neighbour.finish();
}

#[test]
fn arguments_that_are_too_large_end_the_call_of_the_app() {
    let host = host_with_probe();
    host.get("shop", "/bytes?1000000").problem_of("shop", 502, "app-failed");
    host.get("shop", "/text?5000000").problem_of("shop", 502, "plugin-failed");
    assert!(host.get("shop", "/caller").expect(200).text().starts_with("shop "));
}

/// An app whose handler calls the provider. Each event has one attempt.
fn handler() -> Bundle {
    let processes = "[processes.worker]\nentry = \"events\"\nretry = { attempts = 1 }\n";
    let manifest = format!("name = \"shop\"\n{processes}{}", granting("probe"));
    Bundle::archive(&manifest, &guest("probe-caller"))
}

fn event_of(host: &Host, act: &str) -> String {
    let event = json!({ "specversion": "1.0", "type": "act", "source": "/test", "id": act, "data": act });
    let stored: Value = host.api(ask_to_store("shop", &event)).expect(202).json();
    stored["id"].as_str().expect("an event has an id").to_owned()
}

#[test]
fn an_event_whose_provider_is_stopped_is_postponed_without_counting_an_attempt() {
    let host = Host::start();
    host.installed(&probe_provider("1.0.0", ""));
    host.deploy("shop", handler());
    host.stop_app("probe");
    let event = event_of(&host, "nothing");
    let postponed = wait_for("a postponed event", || {
        Some(host.stored_event("shop", &event)).filter(|event| !event["error"].is_null())
    });
    assert_eq!(postponed["attempt"], 0, "{postponed}");
    assert!(postponed["error"].to_string().contains("the provider `probe`"), "{postponed}");
    host.start_app("probe");
    host.until_event("shop", &event, "done");
    let event = event_of(&host, "trap");
    host.until_event("shop", &event, "dead");
}

#[test]
fn huge_arguments_of_an_app_do_not_end_the_rollout_watch_of_a_provider() {
    let host = Host::start();
    let limits = "[limits]\nmemory = \"4MiB\"\n";
    host.installed(&probe_provider("1.0.0", limits));
    host.deploy("shop", caller("shop", "probe"));
    host.installed(&probe_provider("1.1.0", limits));
    for _ in 0..10 {
        host.get("shop", "/send?3800000").problem_of("shop", 502, "plugin-failed");
    }
    assert_eq!(host.get("shop", "/send?1000").expect(200).text(), "true");
    wait_for("the end of the rollout watch", || (host.release_state("probe", 1) == "retired").then_some(()));
    assert_eq!(host.plugin("probe")["version"], "1.1.0");
}
