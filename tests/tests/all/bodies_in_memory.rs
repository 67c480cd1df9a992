//! A guest of `wasi:http` that runs out of memory because it holds a large request body: the client
//! gets 413, as from a guest of the flat interface.

use isopod_tests::{Ask, Bundle, Host, guest, guests::guest_if_built};

const MIB: usize = 1 << 20;

fn deploy(host: &Host, app: &str, component: &[u8]) {
    let manifest = format!("name = \"{app}\"\n[limits]\nmemory = \"64MiB\"\n");
    host.create(app, "dev");
    host.deploy(app, Bundle::archive(&manifest, component));
}

fn post(path: &str, bytes: usize) -> Ask {
    Ask::post(path).body("application/octet-stream", vec![b'x'; bytes])
}

fn assert_bodies_are_refused_by_size(host: &Host, app: &str, path: &str) {
    assert_eq!(host.app(app, post(path, MIB)).expect(200).text(), MIB.to_string(), "{app}");
    for _ in 0..8 {
        let problem = host.app(app, post(path, 60 * MIB)).problem_of(app, 413, "body-too-large");
        let hint = problem["hint"].as_str().expect("the problem has a hint");
        let detail = problem["detail"].as_str().unwrap_or_default();
        let advice = if detail.contains("ran out of handles") { "handles" } else { "memory under [limits]" };
        assert!(detail.contains("ran out of") && hint.contains(advice), "{app}: {problem}");
    }
    assert_eq!(host.metric(&format!("isopod_faults_total{{app=\"{app}\",fault=\"out-of-memory\"}}")), 8.0, "{app}");
    assert_eq!(host.app(app, post(path, 4 * MIB)).expect(200).text(), (4 * MIB).to_string(), "{app}");
}

#[test]
fn a_body_that_a_plain_guest_cannot_hold_is_413() {
    let host = Host::start();
    for app in ["probe-wasi02", "probe-wasi03"] {
        deploy(&host, app, &guest(app));
        assert_bodies_are_refused_by_size(&host, app, "/hold");
    }
}

#[test]
fn a_body_that_a_javascript_guest_cannot_hold_is_413() {
    let Some(component) = guest_if_built("probe-js") else { return };
    let host = Host::start();
    deploy(&host, "probe-js", &component);
    assert_bodies_are_refused_by_size(&host, "probe-js", "/length");
}

/// The engine holds a handle for each part of the body, so more memory doesn't help.
#[test]
fn a_body_that_uses_up_the_handles_of_a_guest_is_413_with_any_memory() {
    let Some(component) = guest_if_built("probe-js") else { return };
    let host = Host::start();
    for (app, memory) in [("small", "64MiB"), ("large", "1GiB")] {
        let manifest = format!("name = \"{app}\"\n[limits]\nmemory = \"{memory}\"\n");
        host.create(app, "dev");
        host.deploy(app, Bundle::archive(&manifest, &component));
        let problem = host.app(app, post("/length", 20 * MIB)).problem_of(app, 413, "body-too-large");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("handles")), "{app}: {problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("larger parts")), "{app}: {problem}");
    }
}

/// The counterparts: a guest that runs out of memory on a small request, and a guest that has
/// started its response.
#[test]
fn out_of_memory_for_another_reason_is_not_413() {
    let host = Host::start();
    deploy(&host, "greedy", &guest("greedy"));
    host.get("greedy", "/allocate").problem_of("greedy", 502, "app-failed");
    host.app("greedy", post("/allocate", MIB)).problem_of("greedy", 502, "app-failed");
}
