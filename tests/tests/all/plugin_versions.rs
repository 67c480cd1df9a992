//! Tests versions of the interfaces between the host, plugins and apps: several versions work at
//! the same time, and an unknown version is refused with those that the host has.

use isopod_tests::{
    Bundle, Host, guest,
    providers::{offering, offering_both, provider},
};

const MIDDLEWARE: &str = "isopod:plugin/middleware@0.1.0";
const COUNTERS: &str = "isopod:plugin/counters@0.1.0";
const LIMITED: &str = "{ limit = 100, per = \"1m\" }";

/// A component with another name of the same length for one of its interfaces.
fn renamed(name: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "the names have the same length");
    let mut component = guest(name);
    let found: Vec<usize> = component
        .windows(from.len())
        .enumerate()
        .filter(|(_, text)| *text == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!found.is_empty(), "{name} has no {from}");
    for at in found {
        component[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    component
}

fn plugin(name: &str, component: &[u8]) -> Bundle {
    Bundle::archive(&format!("name = \"{name}\"\nkind = \"plugin\"\nplugin = {{ version = \"1.0.0\" }}\n"), component)
}

/// The plugin `later` was built for a later patch of the interface that the plugin `probe` exports.
#[test]
fn plugins_for_two_versions_of_an_interface_serve_one_app() {
    let host = Host::start();
    host.installed(&plugin("probe", &guest("probe-plugin")));
    host.installed(&plugin("later", &renamed("probe-plugin", MIDDLEWARE, "isopod:plugin/middleware@0.1.9")));
    let used = |name: &str, act: &str| format!("[[middleware]]\nuse = \"{name}\"\nconfig = {{ request = {act} }}\n");
    let uses = [
        used("probe", "{ set = [\"x-first\", \"1\"] }"),
        used("later", "{ set = [\"x-second\", \"2\"] }"),
        used("probe", "\"show\""),
    ];
    host.deploy("shop", Bundle::archive(&format!("name = \"shop\"\n{}", uses.concat()), &guest("hello")));
    let shown = host.get("shop", "/").expect(200).text();
    assert!(shown.contains("x-first") && shown.contains("x-second"), "{shown}");
}

/// The plugins `limit` and `later` count with different patches of the imported interface.
#[test]
fn plugins_import_two_versions_of_an_interface() {
    let host = Host::start();
    host.installed(&plugin("limit", &guest("rate-limit")));
    host.installed(&plugin("later", &renamed("rate-limit", COUNTERS, "isopod:plugin/counters@0.1.9")));
    let used = |name: &str| format!("[[middleware]]\nuse = \"{name}\"\nconfig = {LIMITED}\n");
    let manifest = format!("name = \"shop\"\n{}{}", used("limit"), used("later"));
    host.deploy("shop", Bundle::archive(&manifest, &guest("hello")));
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

#[test]
fn a_plugin_for_an_unknown_version_is_refused_with_the_known_one() {
    let host = Host::start();
    let newer = "isopod:plugin/middleware@0.2.0";
    let refused = host.install(&plugin("probe", &renamed("probe-plugin", MIDDLEWARE, newer)), "");
    let problem = refused.problem(422, "nothing-to-run");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains(newer) && detail.contains(MIDDLEWARE), "{problem}");
    assert_eq!(host.plugins(), Vec::<serde_json::Value>::new(), "nothing was created");
    let newer = "isopod:plugin/counters@0.2.0";
    let refused = host.install(&plugin("limit", &renamed("rate-limit", COUNTERS, newer)), "?wait=true");
    let push = refused.problem(422, "push-failed")["push"].clone();
    assert_eq!(push["reason_code"], "unknown-import", "{push}");
    let reason = push["reason"].as_str().expect("a reason");
    assert!(reason.contains(newer) && reason.contains("this host has version 0.1"), "{push}");
}

/// The apps import nothing, so that only their grants count.
#[test]
fn a_provider_offers_two_versions_until_no_app_uses_the_old_one() {
    let host = Host::start();
    let component = |text: &str| wat::parse_str(text).expect("the text is a component");
    let math = |version: &str, text: &str| provider("math", version, "", &component(text));
    host.installed(&math("1.0.0", &offering("1.0.0", "u32")));
    let app = |name: &str, version: &str| {
        let grants = format!("[grants.interfaces]\n\"acme:math/double@{version}\" = \"math\"\n");
        host.deploy(name, Bundle::archive(&format!("name = \"{name}\"\n{grants}"), &guest("hello")));
    };
    app("old", "1.0.0");
    host.installed(&math("1.1.0", &offering_both("1.0.0", "2.0.0")));
    let offered = host.plugin("math")["interfaces"].clone();
    assert_eq!(offered, serde_json::json!(["acme:math/double@1.0.0", "acme:math/double@2.0.0"]));
    app("new", "2.0.0");
    let only_new = math("2.0.0", &offering("2.0.0", "u32"));
    let (code, reason) = host.deploy_failing("math", &only_new);
    assert_eq!(code, "plugin-interface", "{reason}");
    assert!(reason.contains("old") && !reason.contains("new"), "{reason}");
    app("old", "2.0.0");
    host.installed(&only_new);
    ["old", "new"].iter().for_each(|name| drop(host.get(name, "/").expect(200)));
}
