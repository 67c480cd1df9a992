//! Tests releases: each is numbered and immutable, is created by one change, and can be restored.

use crate::bundles::http_component;
use isopod_tests::{Ask, Bundle, Host, guest};
use serde_json::{Value, json};

fn text<'a>(release: &'a Value, field: &str) -> &'a str {
    release[field].as_str().unwrap_or_else(|| panic!("a release has a text {field}: {release}"))
}

fn greeting(words: &str) -> Bundle {
    Bundle::shape(&[("GREETING", words)])
}

/// H4: a change without effect creates no release. A default value that becomes explicit creates a
/// release whose cause says so.
#[test]
fn an_unchanged_formation_creates_no_release() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", Bundle::component(guest("hello")));
    let web = host.scale("shop", &json!({ "web": {} })).expect(200).json()["web"].clone();
    assert_eq!(host.current("shop"), [1]);
    let same = json!({ "web": { "min": web["min"], "max": web["max"] } });
    assert_eq!(host.scale("shop", &same).expect(200).json()["web"], web);
    let cause = text(&host.release("shop", 2), "cause").to_owned();
    let counts = format!("{}..{}", web["min"], web["max"]);
    assert_eq!(cause, format!("formation changed: web is set to {counts}, the former default"));
    assert_eq!(host.scale("shop", &same).expect(200).json()["web"], web);
    assert_eq!(host.current("shop"), [2]);
    assert_eq!(host.releases("shop").len(), 2);
}

/// H4, D1: bundle, config, formation, grants and rollback: each creates one release, which serves
/// when the response arrives.
#[test]
fn every_change_creates_a_release_with_its_cause() {
    let host = Host::start();
    host.create("shop", "staging");
    let answers = |expected: &str| assert_eq!(host.get("shop", "/").expect(200).text(), expected);
    let push = host.deploy("shop", greeting("hello"));
    answers("v1 hello");
    assert_eq!(host.set_config("shop", &json!({ "GREETING": "hi" })).expect(200).json(), json!({ "GREETING": "hi" }));
    answers("v2 hi");
    assert_eq!(host.scale("shop", &json!({ "web": { "max": 3 } })).expect(200).json()["web"]["max"], 3);
    answers("v3 hi");
    assert_eq!(host.set_grants("shop", &json!({ "keyvalue": false })).expect(200).json()["keyvalue"], false);
    answers("v4 hi");
    host.deploy("shop", Bundle::component(guest("shapes")));
    answers("v5 hi");
    let back = host.rollback("shop", 1).expect(200).json();
    assert_eq!((&back["release"], &back["name"]), (&json!(6), &json!("v6")));
    answers("v6 hello");

    let releases = host.releases("shop");
    let numbers: Vec<_> = releases.iter().filter_map(|release| release["release"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    let causes = [
        format!("push {}", push.id).as_str(),
        "config changed: GREETING",
        "formation changed: web",
        "grants changed",
        "push p-",
        "rollback to v1",
    ]
    .map(str::to_owned);
    for (release, cause) in releases.iter().zip(&causes) {
        assert!(text(release, "cause").starts_with(cause.as_str()), "{cause:?} is not the cause of {release}");
        let state = if release["release"] == 6 { &["ready", "frozen"][..] } else { &["retired"] };
        assert!(state.contains(&text(release, "state")), "{release}");
        assert!(release["reason"].is_null(), "{release}");
        let url = format!("http://{}--shop.localhost:{}/", text(release, "name"), host.listen.port());
        assert_eq!(text(release, "url"), url);
        assert!(!text(release, "created_by").is_empty() && text(release, "created_at").contains('T'), "{release}");
        assert_eq!(*release, host.release("shop", release["release"].as_u64().expect("it has one")));
    }
    assert_eq!(host.current("shop"), [6]);
    assert_eq!(host.show("shop")["release"], 6);
}

#[test]
fn a_rollback_restores_code_config_and_formation() {
    let host = Host::start();
    host.deploy("shop", greeting("first"));
    host.set_config("shop", &json!({ "GREETING": "second", "MORE": "1" })).expect(200);
    host.scale("shop", &json!({ "web": { "max": 7 } })).expect(200);
    let other = "name = \"hello\"\n[processes.web]\nentry = \"http\"\n";
    host.deploy("shop", Bundle::archive(other, &guest("hello")));
    assert_eq!(host.get("shop", "/").text(), "Hello, world!");
    host.rollback("shop", 1).expect(200);
    assert_eq!(host.get("shop", "/").text(), "v5 first");
    assert_eq!(host.config("shop"), json!({}), "the rollback restores the config");
    let (first, now) = (host.release("shop", 1), host.release("shop", 5));
    for field in ["bundle", "size_bytes", "manifest", "config"] {
        assert_eq!(first[field], now[field], "{field}");
    }
    assert_eq!(host.diff("shop", 5, Some(1)), [] as [Value; 0]);
    // A second rollback restores the release before the first rollback.
    host.rollback("shop", 3).expect(200);
    assert_eq!(host.get("shop", "/").text(), "v6 second");
    assert_eq!(host.config("shop"), json!({ "GREETING": "second", "MORE": "1" }));
    assert_eq!(host.formation("shop")["web"]["max"], 7);
}

#[test]
fn a_diff_names_the_differences() {
    let host = Host::start();
    host.deploy("shop", greeting("hello"));
    host.set_config("shop", &json!({ "COLOUR": "green" })).expect(200);
    host.set_config("shop", &json!({ "COLOUR": "blue" })).expect(200);
    host.scale("shop", &json!({ "web": { "max": 3 } })).expect(200);
    let one = |number, with| {
        let changes = host.diff("shop", number, with);
        assert_eq!(changes.len(), 1, "{changes:?}");
        changes[0].clone()
    };
    assert_eq!(one(3, None), json!({ "field": "config.COLOUR", "before": "green", "after": "blue" }));
    let new = one(2, None);
    assert_eq!((&new["field"], &new["after"]), (&json!("config.COLOUR"), &json!("green")));
    assert!(new["before"].is_null(), "the var is new: {new}");
    let scaled = one(4, None);
    assert!(text(&scaled, "field").contains("web") && text(&scaled, "field").contains("max"), "{scaled}");
    let fields: Vec<Value> = host.diff("shop", 4, Some(1)).iter().map(|change| change["field"].clone()).collect();
    assert_eq!(fields.len(), 2, "{fields:?}");
    let route = |path: &str| host.api(Ask::get(format!("/v1/apps/shop/releases/{path}")));
    for path in ["v9/diff", "v4/diff?with=v9", "v4/diff?with=banana"] {
        route(path).problem_of("shop", 404, "unknown-release");
    }
}

#[test]
fn a_failed_release_has_a_reason_and_cannot_be_restored() {
    let host = Host::start();
    host.deploy("shop", greeting("hello"));
    let (code, reason) = host.deploy_failing("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    assert_eq!(code, "health-check");
    assert!(reason.contains("/healthz") && reason.contains("500"), "{reason}");
    let failed = host.release("shop", 2);
    assert_eq!((&failed["state"], &failed["reason"]["code"]), (&json!("deployment_error"), &json!("health-check")));
    assert!(text(&failed["reason"], "detail").contains("500"), "{failed}");
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![1], "running"));
    assert_eq!(host.get("shop", "/").text(), "v1 hello");

    let detail = host.rollback("shop", 2).problem_of("shop", 409, "no-way-back")["detail"].clone();
    assert!(detail.as_str().is_some_and(|detail| detail.contains("deployment_error")), "{detail}");
    host.rollback("shop", 1).problem_of("shop", 409, "no-way-back");
    host.rollback("shop", 9).problem_of("shop", 404, "unknown-release");
    let ask = |body: &Value| host.api(Ask::post("/v1/apps/shop/rollback").json(body));
    ask(&json!({ "release": "v9" })).problem_of("shop", 404, "unknown-release");
    for never in [json!("banana"), json!(0), json!(-1), json!(1.5)] {
        let problem = ask(&json!({ "release": never })).problem_of("shop", 422, "bad-release");
        let named = never.as_str().map_or_else(|| never.to_string(), str::to_owned);
        let detail = problem["detail"].as_str().expect("a problem has a detail");
        assert!(detail.contains(&named) && detail.contains("3 or \"v3\""), "{never}: {problem}");
    }
    for nonsense in [json!({}), json!({ "release": null }), json!({ "release": [1] }), json!(1), json!({ "to": 1 })] {
        let problem = ask(&nonsense).problem(400, "bad-json");
        assert!(!problem["detail"].as_str().is_some_and(|detail| detail.contains("untagged")), "{problem}");
    }
    assert_eq!(host.releases("shop").len(), 2, "a rejected request created a release");
    // The number of a failed release is not reused.
    assert_eq!(host.deploy("shop", greeting("again")).release, Some(3));
}

#[test]
fn a_failed_build_never_serves() {
    let host = Host::start();
    host.deploy("shop", greeting("hello"));
    host.deploy_failing("shop", &Bundle::component("no component"));
    host.deploy_failing("shop", &Bundle::archive("name = \"shop\"\n", b"nor this"));
    for release in host.releases("shop").iter().skip(1) {
        assert_eq!(release["state"], "build_error", "{release}");
    }
    assert_eq!(host.current("shop"), [1]);
    host.rollback("shop", 2).expect(if host.releases("shop").len() > 1 { 409 } else { 404 });
    assert_eq!(host.get("shop", "/").text(), "v1 hello");
}

/// Only the compiler checks a component's function bodies, so this upload gets a release number.
#[test]
fn a_component_that_fails_to_compile_leaves_the_app_unchanged() {
    let host = Host::start();
    host.create("new", "production");
    host.create("shop", "production");
    host.deploy("shop", greeting("hello"));
    let ill_typed = Bundle::component(http_component("(func (result i32) i64.const 1)"));
    for (app, number, state, current) in [("new", 1, "stopped", vec![]), ("shop", 2, "running", vec![1])] {
        let (code, reason) = host.deploy_failing(app, &ill_typed);
        assert_eq!(code, "invalid-component", "{reason}");
        assert!(reason.contains("type mismatch"), "{reason}");
        let failed = host.release(app, number);
        assert_eq!(failed["state"], "build_error", "{failed}");
        assert_eq!(failed["reason"]["code"], code);
        assert!(failed["reason"]["detail"].as_str().is_some_and(|detail| reason.ends_with(detail)), "{failed}");
        assert_eq!((host.current(app), host.state(app).as_str()), (current, state));
        assert!(host.show(app)["error"].is_null(), "{app}");
        host.rollback(app, number).problem_of(app, 409, if app == "new" { "no-release" } else { "no-way-back" });
    }
    host.get("v2--shop", "/").problem_of("shop", 404, "unknown-part");
    let host = host.kill_and_restart();
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 hello");
    assert_eq!((host.release_state("shop", 2).as_str(), host.state("new").as_str()), ("build_error", "stopped"));
    assert_eq!(host.deploy("new", greeting("hi")).release, Some(2));
}

/// D5: every kept release is reachable at its own URL, while another release serves.
#[test]
fn each_release_is_reachable_at_its_own_url() {
    let host = Host::start();
    host.deploy("shop", greeting("hello"));
    host.deploy("shop", greeting("salut"));
    host.deploy_failing("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    for _ in 0..2 {
        assert_eq!(host.get("v1--shop", "/").expect(200).text(), "v1 hello");
        assert_eq!(host.get("v2--shop", "/").expect(200).text(), "v2 salut");
        assert_eq!(host.get("shop", "/").expect(200).text(), "v2 salut");
    }
    assert_eq!(host.get("V1--SHOP", "/").expect(200).text(), "v1 hello", "host names are case-insensitive");
    for part in ["v3", "v9", "v0", "v", "latest", "web-00000"] {
        host.get(&format!("{part}--shop"), "/").problem_of("shop", 404, "unknown-part");
    }
    host.get("v1--nobody", "/").problem(404, "unknown-app");
    let host = host.restart();
    assert_eq!(host.get("v1--shop", "/").expect(200).text(), "v1 hello", "also after a restart");
    host.stop_app("shop");
    host.get("v1--shop", "/").problem_of("shop", 503, "app-unavailable");
}

#[test]
fn a_release_is_found_by_its_number_or_name_only() {
    let host = Host::start();
    host.deploy("shop", greeting("hello"));
    let show = |release: &str| host.api(Ask::get(format!("/v1/apps/shop/releases/{release}")));
    assert_eq!(show("1").expect(200).json(), show("v1").expect(200).json());
    for unknown in ["2", "v2", "0", "-1", "banana", "99999999999"] {
        show(unknown).problem_of("shop", 404, "unknown-release");
    }
    host.api(Ask::get("/v1/apps/nobody/releases")).problem_of("nobody", 404, "unknown-app");
    host.create("empty", "dev");
    assert_eq!(host.releases("empty"), [] as [Value; 0]);
    host.rollback("empty", 1).problem_of("empty", 409, "no-release");
}

#[test]
fn pages_of_releases_contain_each_release_once() {
    let host = Host::start();
    host.deploy("shop", greeting("0"));
    for turn in 1..5 {
        host.set_config("shop", &json!({ "GREETING": turn.to_string() })).expect(200);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = host.api(Ask::get(format!("/v1/apps/shop/releases?limit=2{cursor}"))).expect(200).json();
        seen.extend(page["items"].as_array().expect("items").iter().filter_map(|item| item["release"].as_u64()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}
