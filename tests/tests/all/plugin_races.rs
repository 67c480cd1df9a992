//! Tests concurrent changes of plugins and of the apps that use them: each commit is checked with
//! the releases that are current when it is stored. Failpoints widen the gaps between two steps.

use isopod_tests::{
    Ask, Bundle, Host, Push, guest,
    middleware::{probe_plugin, used},
    wait_for,
};

const ROUNDS: usize = 12;

/// A config that only a plugin with the config var FEATURE accepts.
const NEEDS_FEATURE: &str = "{ request = \"pass\", needs = \"FEATURE\" }";
const FEATURE: &str = "[config]\nFEATURE = \"1\"\n";

fn app(name: &str, config: &str) -> Bundle {
    Bundle::archive(&format!("name = \"{name}\"\n{}", used(config, "")), &guest("hello"))
}

/// Sends a new version of the plugin, and waits until its instances have started.
fn install_in_progress(host: &Host, bundle: &Bundle) -> Push {
    let push = Push::from(host.install(bundle, "").expect(202).json());
    until_deploying(host, &push);
    push
}

fn until_deploying(host: &Host, push: &Push) {
    wait_for("the push to start instances", || {
        let now = host.push_now(push);
        (now.state == "deploying" || now.is_final()).then_some(())
    });
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
    let host = Host::start_pausing("configs-accepted=1*sleep(3000)->off");
    host.installed(&probe_plugin("1.0.0", FEATURE));
    host.deploy("old", app("old", "{ request = \"pass\" }"));
    let upgrade = install_in_progress(&host, &probe_plugin("1.1.0", ""));
    let push = host.ended(&host.push("shop", &app("shop", NEEDS_FEATURE)));
    let upgrade = host.ended(&upgrade);
    only_one_succeeds(&push, &upgrade);
    if push.state == "completed" {
        assert!(upgrade.reason.is_some_and(|reason| reason.contains("shop") && reason.contains("FEATURE")));
    }
}

/// The app has been checked with the former version of the plugin when the new one is installed.
#[test]
fn an_upgrade_of_a_plugin_during_a_deploy_checks_the_config_again() {
    let host = Host::start_pausing("release-booted=1*off->1*sleep(3000)->off");
    host.installed(&probe_plugin("1.0.0", FEATURE));
    let push = host.push("shop", &app("shop", NEEDS_FEATURE));
    until_deploying(&host, &push);
    let upgrade = host.ended(&install_in_progress(&host, &probe_plugin("1.1.0", "")));
    only_one_succeeds(&host.ended(&push), &upgrade);
}

fn only_one_succeeds(push: &Push, upgrade: &Push) {
    let (failed, other) = if push.state == "failed" { (push, upgrade) } else { (upgrade, push) };
    assert_eq!((failed.state.as_str(), other.state.as_str()), ("failed", "completed"), "{push:?} {upgrade:?}");
    assert_eq!(failed.reason_code.as_deref(), Some("plugin-config"), "{failed:?}");
}
