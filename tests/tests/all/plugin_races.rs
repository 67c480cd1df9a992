//! Tests concurrent changes of plugins and of the apps that use them: each commit is checked with
//! the releases that are current when it is stored. Failpoints widen the gaps between two steps, or
//! hold a step.

use isopod_tests::{
    Ask, Bundle, HeldStep, Host, Push, guest,
    middleware::{probe_plugin, used},
};

const ROUNDS: usize = 12;

/// A config that only a plugin with the config var FEATURE accepts.
const NEEDS_FEATURE: &str = "{ request = \"pass\", needs = \"FEATURE\" }";
const FEATURE: &str = "[config]\nFEATURE = \"1\"\n";

fn app(name: &str, config: &str) -> Bundle {
    Bundle::archive(&format!("name = \"{name}\"\n{}", used(config, "")), &guest("hello"))
}

/// Both operations pause while they hold the lock, and the removal arrives at a different step of
/// the push in each round.
#[test]
fn a_plugin_is_not_removed_while_an_app_begins_to_use_it() {
    let host = Host::start_pausing("release-commits=sleep(150);plugin-unused=sleep(150)");
    let mut removals = 0;
    for round in 0..ROUNDS {
        host.installed(&probe_plugin("1.0.0", ""));
        let push = host.push("shop", &app("shop", "{ request = \"pass\" }"));
        (0..8 * round).for_each(|_| drop(host.push_now(&push)));
        let removed = host.remove_plugin("probe");
        let ended = host.ended(&push);
        match removed.status {
            204 => {
                assert_eq!(ended.reason_code.as_deref(), Some("plugin-missing"), "round {round}: {ended:?}");
                removals += 1;
            }
            409 => assert_eq!(ended.state, "completed", "round {round}: {ended:?}"),
            _ => panic!("round {round}: {removed}"),
        }
        host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
        if removed.status == 409 {
            host.remove_plugin("probe").expect(204);
        }
    }
    assert!((1..ROUNDS).contains(&removals), "one operation came first in each round: {removals} removals");
}

/// The new version of the plugin has been checked with the app `old` when `shop` is deployed.
#[test]
fn a_config_that_is_deployed_during_an_upgrade_is_checked() {
    let checked = HeldStep::at("configs-accepted");
    let host = Host::start_pausing(&checked.failpoint(0));
    host.installed(&probe_plugin("1.0.0", FEATURE));
    host.deploy("old", app("old", "{ request = \"pass\" }"));
    let upgrade = Push::from(host.install(&probe_plugin("1.1.0", ""), "").expect(202).json());
    checked.until_reached();
    host.deploy("shop", app("shop", NEEDS_FEATURE));
    checked.release();
    let reason = rejected(&host.ended(&upgrade));
    assert!(reason.contains("`shop`") && reason.contains("FEATURE"), "{reason}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

/// The app has been checked with the former version of the plugin when the new one is installed.
#[test]
fn an_upgrade_of_a_plugin_during_a_deploy_checks_the_config_again() {
    let booted = HeldStep::at("release-booted");
    let host = Host::start_pausing(&booted.failpoint(1));
    host.installed(&probe_plugin("1.0.0", FEATURE));
    let push = host.push("shop", &app("shop", NEEDS_FEATURE));
    booted.until_reached();
    host.installed(&probe_plugin("1.1.0", ""));
    booted.release();
    let reason = rejected(&host.ended(&push));
    assert!(reason.contains("FEATURE"), "{reason}");
}

/// Returns the reason of a push that failed because of a config.
#[track_caller]
fn rejected(push: &Push) -> String {
    assert_eq!((push.state.as_str(), push.reason_code.as_deref()), ("failed", Some("plugin-config")), "{push:?}");
    push.reason.clone().expect("it has a reason")
}
