//! Tests failing providers: only the requests that call them fail.

use isopod_tests::{
    Host, Neighbour,
    providers::{caller, probe_provider},
};

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
