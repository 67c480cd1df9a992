//! Tests resources of providers: an app holds their handles during one call, in one instance of the
//! provider, and drops them.

use isopod_tests::{
    Ask, Bundle, Host, Load, Neighbour, Wire, guest,
    providers::{caller, granting, importing, offering, probe_provider, provider},
    wait_for,
};
use serde_json::Value;

/// A host with the app `shop`, which has one instance.
fn host_with_shop() -> Host {
    let host = Host::start();
    host.installed(&probe_provider("1.0.0", ""));
    let manifest = format!("name = \"shop\"\n[limits]\ninstances_max = 1\n{}", granting("probe"));
    host.deploy("shop", Bundle::archive(&manifest, &guest("probe-caller")));
    host
}

fn text(host: &Host, path: &str) -> String {
    host.get("shop", path).expect(200).text()
}

const COUNTED: &str = "6 10; 2 1 4 1; the name is empty";

#[test]
fn an_app_uses_passes_and_drops_the_resources_of_a_provider() {
    let host = host_with_shop();
    assert_eq!(text(&host, "/caller"), "shop 1");
    assert_eq!(text(&host, "/count?5"), COUNTED);
    assert_eq!(text(&host, "/counters?1000"), "1000");
    assert_eq!(text(&host, "/live"), "0", "all counters were dropped");
    assert_eq!(text(&host, "/caller"), "shop 2", "the instance was not replaced");
}

/// More concurrent apps than the provider has instances.
#[test]
fn resources_stay_in_one_instance_while_others_call_the_provider() {
    let host = host_with_shop();
    for name in ["wiki", "blog"] {
        host.deploy(name, caller(name, "probe"));
    }
    let loads = ["shop", "wiki", "blog"].map(|name| {
        let ask = Ask::get("/count?5").header("host", format!("{name}.localhost"));
        Load::of(host.listen, &ask, 4, |answer| answer == COUNTED)
    });
    loads.iter().for_each(Load::wait_for_more);
    loads.iter().for_each(Load::wait_for_more);
    for load in loads {
        load.finish();
    }
}

/// A host whose provider has one instance, and the apps `shop` and `wiki`.
fn host_with_one_instance() -> Host {
    let host = Host::start();
    host.installed(&probe_provider("1.0.0", "[limits]\ninstances_max = 1\n"));
    for name in ["shop", "wiki"] {
        let manifest = format!("name = \"{name}\"\n[limits]\nrequest_timeout = \"15s\"\n{}", granting("probe"));
        host.deploy(name, Bundle::archive(&manifest, &guest("probe-caller")));
    }
    host
}

/// Sends `shop` a request that holds a counter, and waits until it does.
fn hold(host: &Host, path: &str) -> Wire {
    let wire = host.begin("shop", Ask::get(path));
    wait_for("the provider's instance is leased", || {
        host.instances("probe").iter().any(|instance| instance["state"] == "busy").then_some(())
    });
    wire
}

/// Returns the number of counters of the provider's instance once `wiki` gets it.
fn live_for_others(host: &Host) -> String {
    wait_for("another app gets the instance", || {
        let answer = host.get("wiki", "/live");
        if answer.status != 200 {
            answer.problem_of("wiki", 503, "plugin-busy");
            return None;
        }
        Some(answer.text())
    })
}

#[test]
fn an_app_that_holds_an_idle_instance_loses_it_to_apps_that_wait() {
    let host = host_with_one_instance();
    assert_eq!(hold(&host, "/hold?3000").answer().expect("an answer").expect(200).text(), "1", "no other app waits");
    let (mut holding, mut dropping) = (hold(&host, "/hold?8000"), None);
    for round in 0..2 {
        assert_eq!(live_for_others(&host), "0", "the new instance has no counters of another app");
        if round == 0 {
            let problem = holding.answer().expect("an answer").problem_of("shop", 502, "plugin-failed");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("for too long")), "{problem}");
            dropping = Some(hold(&host, "/hold-and-drop?4000"));
        }
    }
    let dropped = dropping.expect("it was sent").answer().expect("an answer").expect(200);
    assert_eq!(dropped.text(), "dropped", "a handle whose resource has ended can be dropped");
}

/// The components that call the provider over `wasi:http`.
const HOLDERS: [&str; 2] = ["probe-holder", "probe-holder-wasi03"];

fn deploy_holder(host: &Host, name: &str) {
    host.deploy(name, Bundle::archive(&format!("name = \"{name}\"\n{}", granting("probe")), &guest(name)));
}

#[test]
fn callers_over_wasi_http_use_pass_and_drop_resources() {
    let host = host_with_shop();
    for holder in HOLDERS {
        deploy_holder(&host, holder);
        assert_eq!(host.get(holder, "/count?5").expect(200).text(), COUNTED, "{holder}");
        assert_eq!(host.get(holder, "/stream?10").expect(200).text(), "1\n2\n", "{holder}");
        assert_eq!(text(&host, "/live"), "0", "{holder}");
    }
}

#[test]
fn a_streamed_response_that_holds_a_resource_loses_it_to_apps_that_wait() {
    let host = host_with_one_instance();
    for holder in HOLDERS {
        deploy_holder(&host, holder);
        let mut wire = host.begin(holder, Ask::get("/stream?5000"));
        wire.head().expect("a head").expect(200);
        assert_eq!(wire.piece().expect("the first part"), Some(b"1\n".to_vec()), "{holder}");
        assert_eq!(live_for_others(&host), "0", "{holder}: the new instance has no counters of another app");
        assert!(wire.piece().is_err(), "{holder}: the response is aborted");
        let reason = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("for too long"));
        host.log_line(holder, "the reason", reason);
    }
}

/// A command has no time limit.
#[test]
fn a_command_that_holds_a_resource_loses_it_to_apps_that_wait() {
    let host = host_with_one_instance();
    let manifest = format!("name = \"worker\"\n[processes.job]\nentry = \"command\"\n{}", granting("probe"));
    host.deploy("worker", Bundle::archive(&manifest, &guest("probe-holder")));
    let is_line =
        |words: &'static str| move |line: &Value| line["message"].as_str().is_some_and(|text| text.contains(words));
    host.log_line("worker", "the counter", is_line("holds a counter"));
    assert_eq!(live_for_others(&host), "0", "the new instance has no counters of the command");
    host.log_line("worker", "the reason", is_line("for too long"));
}

#[test]
fn a_restart_takes_an_instance_back_from_the_app_that_holds_it() {
    let host = host_with_one_instance();
    let mut holding = hold(&host, "/hold?4000");
    let id = host.instances("probe")[0]["id"].as_str().expect("an id").to_owned();
    host.restart_instance("probe", &id).expect(202);
    let problem = holding.answer().expect("an answer").problem_of("shop", 502, "plugin-failed");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("for too long")), "{problem}");
    assert_eq!(text(&host, "/count?5"), COUNTED);
}

#[test]
fn a_call_that_ends_early_leaves_no_resources_in_the_instance() {
    let host = host_with_one_instance();
    // The client disconnects.
    drop(hold(&host, "/hold?14000"));
    assert_eq!(live_for_others(&host), "0");
    let manifest = format!("name = \"shop\"\n[limits]\nrequest_timeout = \"1s\"\n{}", granting("probe"));
    host.deploy("shop", Bundle::archive(&manifest, &guest("probe-caller")));
    let answer = hold(&host, "/hold?14000").answer().expect("an answer");
    assert_eq!(answer.status, 504, "{answer}");
    assert_eq!(live_for_others(&host), "0");
    assert_eq!(text(&host, "/count?5"), COUNTED);
}

#[test]
fn a_handle_ends_with_the_call_of_the_app_that_received_it() {
    let host = host_with_shop();
    assert_eq!(text(&host, "/keep?5"), "6");
    assert_eq!(text(&host, "/live"), "0", "the provider's instance was replaced");
    let problem = host.get("shop", "/kept").problem_of("shop", 502, "plugin-failed");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("valid only during the call"), "{problem}");
    assert_eq!(text(&host, "/keep?5"), "6");
    assert_eq!(text(&host, "/forget"), "true", "a handle that has ended can be dropped");
    assert_eq!(text(&host, "/count?5"), COUNTED);
}

#[test]
fn an_app_holds_a_limited_number_of_resources() {
    let host = host_with_shop();
    let neighbour = Neighbour::beside(&host);
    let problem = host.get("shop", "/counters?1001").problem_of("shop", 502, "plugin-failed");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1000 resources")), "{problem}");
    assert_eq!(text(&host, "/counters?1000"), "1000");
    neighbour.finish();
}

#[test]
fn a_provider_that_traps_with_resources_ends_only_the_call_of_their_app() {
    let host = host_with_shop();
    let neighbour = Neighbour::beside(&host);
    for _ in 0..5 {
        host.get("shop", "/fail-counter").problem_of("shop", 502, "plugin-failed");
        assert_eq!(text(&host, "/count?5"), COUNTED);
    }
    neighbour.finish();
}

#[test]
fn a_resource_that_the_provider_lacks_or_the_host_has_is_refused() {
    let host = Host::start();
    let component = |text: &str| wat::parse_str(text).expect("the text is a component");
    host.installed(&provider("math", "1.0.0", "", &component(&offering("1.0.0", "u64"))));
    let interface = "acme:math/double@1.0.0";
    let of_host = format!(
        "(component
          (import \"wasi:io/error@0.2.0\" (instance $e (export \"error\" (type (sub resource)))))
          (alias export $e \"error\" (type $error))
          (import \"{interface}\" (instance
            (alias outer 1 $error (type $outer))
            (export \"error\" (type $own (eq $outer)))
            (export \"double\" (func (param \"n\" (own $own))))))
          (instance $none)
          (export \"isopod:app/http@0.1.0\" (instance $none)))"
    );
    let lacking = importing(interface, "(export \"r\" (type (sub resource)))");
    for (text, word) in [(lacking, "the resource `r`"), (of_host, "of the host")] {
        let manifest = format!("name = \"shop\"\n[grants.interfaces]\n\"{interface}\" = \"math\"\n");
        let (code, reason) = host.deploy_failing("shop", &Bundle::archive(&manifest, &component(&text)));
        assert_eq!(code, "plugin-interface", "{reason}");
        assert!(reason.contains(word), "{reason}");
    }
}
