//! Tests each shipped plugin in front of an app, with its own manifest. Never tests every decision
//! of a plugin; its own tests do.

use isopod_tests::{Ask, Bundle, Host, guest, guests::repository};
use serde_json::json;

/// Starts a host with a plugin of `plugins/` and the example `probe-flat`, which uses it with this
/// config.
fn host_with(plugin: &str, config: &str) -> Host {
    let host = Host::start();
    let folder = repository().join("plugins").join(plugin);
    let manifest = std::fs::read_to_string(folder.join("isopod.toml")).unwrap();
    let built = manifest.lines().filter(|line| !line.starts_with("build =") && !line.starts_with("component ="));
    let manifest = built.collect::<Vec<_>>().join("\n");
    host.installed(&Bundle::archive(&manifest, &guest(plugin)));
    host.deploy("probe-flat", app(plugin, config));
    host
}

fn app(plugin: &str, config: &str) -> Bundle {
    let manifest = format!("name = \"probe-flat\"\n[[middleware]]\nuse = \"{plugin}\"\nconfig = {config}\n");
    Bundle::archive(&manifest, &guest("probe-flat"))
}

#[test]
fn cors_answers_preflight_requests_and_lets_pages_of_its_origins_read_responses() {
    let page = "https://app.example.org";
    let host = host_with("cors", &format!("{{ origins = [\"{page}\"], methods = [\"PUT\"], max_age = \"10m\" }}"));
    let preflight = Ask::new("OPTIONS", "/show").header("origin", page).header("access-control-request-method", "PUT");
    let answer = host.app("probe-flat", preflight).expect(204);
    let seen = ["origin", "methods"].map(|name| answer.header(&format!("access-control-allow-{name}")));
    assert_eq!(seen, [Some(page), Some("PUT")]);
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    for (origin, permitted) in [(page, Some(page)), ("https://other.example", None)] {
        let answer = host.app("probe-flat", Ask::get("/show").header("origin", origin)).expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), permitted, "{answer}");
        assert_eq!(answer.header("vary"), Some("Origin"), "{answer}");
    }
    let refused = [("{ origins = [\"*\"], credentials = true }", "can't contain"), ("{ origin = [] }", "`origins`")];
    for (config, fault) in refused {
        let (code, reason) = host.deploy_failing("probe-flat", &app("cors", config));
        assert!(code == "plugin-config" && reason.contains(fault), "{code}: {reason}");
    }
    assert_eq!(host.plugin("cors")["used_by"], json!(["probe-flat"]));
}
