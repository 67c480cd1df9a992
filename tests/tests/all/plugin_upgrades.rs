//! Tests the upgrade of a plugin: one app uses the new version first, and a second one if its calls
//! fail. A version that fails for both is taken out of service before other apps use it.

use isopod_tests::{
    Bundle, Host, Load, guest,
    middleware::{probe_plugin, used, with_middleware},
    providers::{caller, probe_provider},
    wait_for,
};

const CLIENTS: usize = 2;

/// A plugin whose calls take 50 ms for the apps below.
fn plugin(version: &str, time_limit: &str) -> Bundle {
    let manifest = format!(
        "name = \"probe\"\nkind = \"plugin\"\n[plugin]\nversion = \"{version}\"\ntime_limit = \"{time_limit}\"\n"
    );
    Bundle::archive(&manifest, &guest("probe-plugin"))
}

fn app() -> Bundle {
    with_middleware("hello", &[used("{ request = { sleep = 50 } }", "")])
}

#[test]
fn a_plugins_upgrade_that_fails_affects_two_apps_and_is_rolled_back() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", "10s"));
    let apps = ["shop", "blog", "wiki", "mail"];
    apps.iter().for_each(|name| drop(host.deploy(name, app())));
    let loads = apps.map(|name| Load::on(&host, name, CLIENTS, |text| text == "Hello, world!"));
    loads.iter().for_each(Load::wait_for_more);
    host.installed(&plugin("2.0.0", "5ms"));
    let returned = host.activity_of("probe", "release-returned");
    assert_eq!((&returned["data"]["release"], &returned["data"]["bad"]), (&1.into(), &2.into()), "{returned}");
    loads.iter().for_each(Load::wait_for_more);
    let failures = loads.map(|load| load.end().1);
    let affected = failures.iter().filter(|failed| !failed.is_empty()).count();
    assert_eq!(affected, 2, "{failures:?}");
    assert_eq!(host.plugin("probe")["version"], "1.0.0");
}

/// The app is the only user of the plugin, or another user never calls it.
#[test]
fn a_plugins_upgrade_that_fails_for_its_only_caller_is_rolled_back() {
    for others in [&[][..], &["idle"]] {
        let host = Host::start();
        host.installed(&plugin("1.0.0", "10s"));
        ["shop"].iter().chain(others).for_each(|name| drop(host.deploy(name, app())));
        host.get("shop", "/").expect(200);
        host.installed(&plugin("2.0.0", "5ms"));
        (0..8).for_each(|_| drop(host.get("shop", "/")));
        let returned = host.activity_of("probe", "release-returned");
        assert_eq!(returned["data"]["bad"], 2, "{returned}");
        host.get("shop", "/").expect(200);
    }
}

/// The app `greedy` makes the provider trap as soon as it has the new version.
#[test]
fn one_app_cannot_cause_the_rollback_of_a_plugins_upgrade() {
    let host = Host::start();
    host.installed(&probe_provider("1.0.0", ""));
    for name in ["greedy", "shop", "wiki"] {
        host.deploy(name, caller(name, "probe"));
        host.get(name, "/caller").expect(200);
    }
    host.installed(&probe_provider("1.1.0", ""));
    let trap = || (0..4).for_each(|_| drop(host.get("greedy", "/trap").expect(502)));
    (0..4).for_each(|_| trap());
    let reported = wait_for("the end of the rollout watch", || {
        trap();
        ["shop", "wiki"].iter().for_each(|name| drop(host.get(name, "/caller").expect(200)));
        host.activity("probe").into_iter().find(|entry| entry["kind"] == "plugin-unfit")
    });
    assert_eq!((&reported["data"]["users"], &reported["data"]["release"]), (&"greedy".into(), &2.into()), "{reported}");
    host.activity_of("greedy", "plugin-unfit");
    assert_eq!(host.plugin("probe")["version"], "1.1.0");
    assert!(host.activity("probe").iter().all(|entry| entry["kind"] != "release-returned"));
}

#[test]
fn all_apps_use_a_plugins_upgrade_soon_and_those_deployed_meanwhile_immediately() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", "5ms"));
    ["first", "second"].iter().for_each(|name| drop(host.deploy(name, app())));
    ["first", "second"].iter().for_each(|name| drop(host.get(name, "/").expect(502)));
    host.installed(&plugin("2.0.0", "10s"));
    host.get("first", "/").expect(200);
    host.deploy("third", app());
    host.get("third", "/").expect(200);
    wait_for("the second app uses the new version", || (host.get("second", "/").status == 200).then_some(()));
    let text = "v2 serves all apps; `first` used it first";
    host.log_line("probe", "the end of the canary phase", |line| line["message"] == text);
}

/// The checks of configs take more calls than the canary phase has.
#[test]
fn checks_of_configs_do_not_count_as_calls_of_an_upgrade() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", "200ms"));
    let slow = || with_middleware("hello", &[used("{ request = { sleep = 600 } }", "")]);
    ["first", "second"].iter().for_each(|name| drop(host.deploy(name, slow())));
    for name in ["one", "two", "three", "four"] {
        let uses: Vec<String> = (0..16)
            .map(|number| used(&format!("{{ request = \"pass\", padding = \"{name} {number}\" }}"), ""))
            .collect();
        host.deploy(name, with_middleware("hello", &uses));
    }
    host.installed(&plugin("2.0.0", "10s"));
    host.get("first", "/").expect(200);
    host.get("second", "/").expect(502);
    wait_for("the second app uses the new version", || (host.get("second", "/").status == 200).then_some(()));
}

#[test]
fn an_app_that_fails_with_each_version_does_not_roll_back_an_upgrade() {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", ""));
    let deploy = |name: &str, act: &str| {
        host.deploy(name, with_middleware("hello", &[used(&format!("{{ request = \"{act}\" }}"), "")]));
    };
    deploy("broken", "trap");
    deploy("well", "pass");
    let call =
        |name: &str, calls: usize, status: u16| (0..calls).for_each(|_| drop(host.get(name, "/").expect(status)));
    call("well", 40, 200);
    call("broken", 8, 502);
    host.installed(&probe_plugin("2.0.0", ""));
    call("broken", 8, 502);
    let text = "v2 serves all apps; `broken` used it first";
    host.log_line("probe", "the end of the canary phase", |line| line["message"] == text);
    call("well", 8, 200);
    assert_eq!(host.plugin("probe")["version"], "2.0.0");
}

/// The release that the other apps use is older than four standby releases.
#[test]
fn the_release_that_other_apps_use_serves_during_many_upgrades() {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", ""));
    let app = || with_middleware("hello", &[used("{ request = \"pass\" }", "")]);
    ["first", "second"].iter().for_each(|name| drop(host.deploy(name, app())));
    let upgrade = |minor: u32| host.installed(&probe_plugin(&format!("1.{minor}.0"), ""));
    upgrade(1);
    let ended = "v2 serves all apps; `first` used it first";
    wait_for("the end of the canary phase", || {
        host.get("first", "/").expect(200);
        host.log("probe").iter().any(|line| line["message"] == ended).then_some(())
    });
    for minor in 2..8 {
        upgrade(minor);
        ["first", "second"].iter().for_each(|name| drop(host.get(name, "/").expect(200)));
    }
    let in_memory = |release: u64| host.instances("probe").iter().any(|instance| instance["release"] == release);
    assert!(in_memory(2), "`second` still uses v2: {:?}", host.instances("probe"));
}
