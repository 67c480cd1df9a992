//! Tests the upgrade of a plugin: one app uses the new version first, and a version that fails is
//! taken out of service before other apps use it.

use isopod_tests::{
    Bundle, Host, Load, guest,
    middleware::{probe_plugin, used, with_middleware},
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
fn a_plugins_upgrade_that_fails_affects_one_app_and_is_rolled_back() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", "10s"));
    ["shop", "blog"].iter().for_each(|name| drop(host.deploy(name, app())));
    let loads = ["shop", "blog"].map(|name| Load::on(&host, name, CLIENTS, |text| text == "Hello, world!"));
    loads.iter().for_each(Load::wait_for_more);
    host.installed(&plugin("2.0.0", "5ms"));
    let returned = host.activity_of("probe", "release-returned");
    assert_eq!((&returned["data"]["release"], &returned["data"]["bad"]), (&1.into(), &2.into()), "{returned}");
    loads.iter().for_each(Load::wait_for_more);
    let failures = loads.map(|load| load.end().1);
    let affected = failures.iter().filter(|failed| !failed.is_empty()).count();
    assert_eq!(affected, 1, "{failures:?}");
    assert_eq!(host.plugin("probe")["version"], "1.0.0");
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

/// Checks the configs of its users first, which is more calls than end the canary phase.
#[test]
fn a_check_of_configs_is_not_a_call_of_a_plugins_upgrade() {
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
