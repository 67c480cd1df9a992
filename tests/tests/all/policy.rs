//! Tests the ceilings of the host, of an app and of a token: what a release may ask for, what waits
//! for an approval, and that an administrator is not limited.

use isopod_tests::{
    Answer, Ask, Bundle, Host, guest,
    limits::MINUTE_PATIENCE,
    middleware::{probe_plugin, used},
    wait_up_to,
};
use serde_json::{Value, json};

fn token(host: &Host, body: &Value) -> String {
    let made = host.api(Ask::post("/v1/tokens").json(body)).expect(201).json();
    made["token"].as_str().expect("it is shown once").to_owned()
}

fn deployer(host: &Host) -> String {
    token(host, &json!({ "name": "ci", "role": "deploy" }))
}

/// Returns a bundle of `shop` with this rest of the manifest.
fn bundle(rest: &str) -> Bundle {
    Bundle::archive(&format!("name = \"shop\"\n{rest}"), &guest("hello"))
}

/// Deploys with a token, and waits for the end of the push job.
fn deploy(host: &Host, token: &str, rest: &str) -> Answer {
    let Bundle { content_type, bytes, .. } = bundle(rest);
    let ask = Ask::post("/v1/apps/shop/pushes?wait=true&accept_grants=true");
    host.api_with(token, ask.body(content_type, bytes))
}

/// Returns the reason of a push that exceeds a ceiling.
fn refused(answer: &Answer) -> String {
    let push = answer.problem(422, "push-failed")["push"].clone();
    assert_eq!(push["reason_code"], "grant-not-allowed", "{push}");
    push["reason"].as_str().expect("it has a reason").to_owned()
}

fn patch(host: &Host, token: &str, path: &str, body: &Value) -> Answer {
    host.api_with(token, Ask::new("PATCH", format!("/v1/apps/shop{path}")).json(body))
}

#[test]
fn only_an_administrator_grants_private_and_metadata_addresses() {
    let host = Host::start();
    let ci = deployer(&host);
    let private = "[grants]\nhttp = [\"api.github.com\", \"127.0.0.1:9000\", \"169.254.169.254\"]";
    let why = refused(&deploy(&host, &ci, private));
    assert!(why.contains("http \"127.0.0.1:9000\" (a private address)"), "{why}");
    assert!(why.contains("http \"169.254.169.254\" (a metadata service)") && !why.contains("github"), "{why}");
    deploy(&host, &ci, "[grants]\nhttp = [\"*\"]\nkeyvalue = true\nfiles = { data = \"read-write\" }").expect(200);
    let own = patch(&host, &ci, "/grants", &json!({ "http": ["localhost:9000"] }));
    own.problem(422, "grant-not-allowed");
    assert_eq!(host.grants("shop")["http"], json!(["*"]), "nothing changed");
    host.deploy("shop", bundle(private));
    let kept = deploy(&host, &ci, private).expect(200).json();
    assert_eq!(kept["state"], "completed", "a release keeps what the current one has");
    refused(&deploy(&host, &ci, "[grants]\nhttp = [\"127.0.0.1:9001\"]"));
    patch(&host, &ci, "/config", &json!({ "A": "b" })).expect(200);
    patch(&host, &ci, "/grants", &json!({ "http": [] })).expect(200);
    let back = host.api_with(&ci, Ask::post("/v1/apps/shop/rollback").json(&json!({ "release": 2 })));
    back.problem(422, "grant-not-allowed");
    host.rollback("shop", 2).expect(200);
}

#[test]
fn a_token_of_an_administrator_has_no_policy() {
    let host = Host::start();
    let create = |policy: Value| {
        let body = json!({ "name": "ops", "role": "admin", "policy": policy });
        host.api(Ask::post("/v1/tokens").json(&body))
    };
    create(json!({ "keyvalue": false })).problem(422, "bad-policy");
    create(json!({})).expect(201);
}

#[test]
fn the_ceiling_of_the_host_limits_every_kind_of_request() {
    let settings = "[policy]\nhttp = [\"*.example.org\"]\nfiles = \"read-only\"\nkeyvalue = false\nevents = [\"crm\"]\n\
                    memory = \"64MiB\"\ninstances = 10\ntypes = [\"dev\", \"staging\"]\n";
    let host = Host::start_with("", settings);
    let ci = deployer(&host);
    host.api_with(&ci, Ask::post("/v1/apps").json(&json!({ "name": "shop", "type": "production" })))
        .problem(422, "grant-not-allowed");
    let why = refused(&deploy(
        &host,
        &ci,
        "[grants]\nhttp = [\"api.github.com\"]\nfiles = { data = \"read-write\" }\nkeyvalue = true\n\
         events = [\"billing\"]\n\
         [limits]\nmemory = \"128MiB\"\ninstances_max = 11\n",
    ));
    for excess in [
        "http \"api.github.com\" (allowed: *.example.org)",
        "files data = \"read-write\" (folders are read-only)",
        "keyvalue (no key-value data)",
        "events \"billing\" (allowed: crm)",
        "memory 128MiB (at most 64MiB)",
        "instances_max 11 (at most 10)",
        "`isopod policy set`",
    ] {
        assert!(why.contains(excess), "{excess}: {why}");
    }
    let fitting = "[grants]\nhttp = [\"a.example.org:8443\"]\nfiles = { data = \"read-only\" }\nevents = [\"crm\"]\n";
    deploy(&host, &ci, fitting).expect(200);
    host.stop_app("shop");
    let typed = |token: &str, to: &str| patch(&host, token, "", &json!({ "type": to }));
    typed(&ci, "staging").expect(200);
    let problem = typed(&ci, "production").problem(422, "grant-not-allowed");
    assert_eq!(problem["excesses"], json!(["type production (allowed: dev, staging)"]));
    typed(&host.token, "production").expect(200);
    let shown = host.api_with(&ci, Ask::get("/v1/policy")).expect(200).json();
    let ceiling = &shown["ceiling"];
    assert_eq!((&ceiling["memory"], &ceiling["private_addresses"]), (&json!("64MiB"), &json!(false)));
}

#[test]
fn an_administrator_raises_the_ceiling_of_one_app() {
    let host = Host::start_with("", "[policy]\nkeyvalue = false\n");
    let ci = deployer(&host);
    let wanted = "[grants]\nhttp = [\"127.0.0.1:9000\"]\nkeyvalue = true\n";
    refused(&deploy(&host, &ci, wanted));
    patch(&host, &ci, "/policy", &json!({ "keyvalue": true })).problem(403, "role-too-small");
    let change = json!({ "keyvalue": true, "http": ["127.0.0.1:9000"], "instances": 10 });
    let shown = patch(&host, &host.token, "/policy", &change).expect(200).json();
    assert_eq!((&shown["ceiling"]["keyvalue"], &shown["override"]), (&json!(true), &change));
    deploy(&host, &ci, wanted).expect(200);
    let host = host.restart();
    let shown = host.api_with(&ci, Ask::get("/v1/apps/shop/policy")).expect(200).json();
    assert_eq!(shown["override"], change);
    let reset = json!({ "keyvalue": null, "http": null });
    let shown = patch(&host, &host.token, "/policy", &reset).expect(200).json();
    assert_eq!((&shown["ceiling"]["keyvalue"], &shown["override"]), (&json!(false), &json!({ "instances": 10 })));
    refused(&deploy(&host, &ci, "[grants]\nkeyvalue = true\nhttp = [\"127.0.0.1:9001\"]\n"));
    assert_eq!(host.activity_of("shop", "app-ceiling")["data"]["by"], "admin");
}

#[test]
fn the_ceiling_of_a_token_lowers_that_of_the_app() {
    let host = Host::start();
    let policy = json!({ "types": ["dev"], "http": ["*.example.org"], "keyvalue": false });
    let ci = token(&host, &json!({ "name": "ci", "role": "deploy", "policy": policy }));
    let why = refused(&deploy(&host, &ci, "[grants]\nhttp = [\"10.0.0.1\", \"b.org\"]\nkeyvalue = true\n"));
    assert!(
        why.contains("\"10.0.0.1\" (a private address)") && why.contains("\"b.org\" (allowed: *.example.org)"),
        "{why}"
    );
    patch(&host, &host.token, "/policy", &json!({ "private_addresses": true, "keyvalue": true })).expect(200);
    refused(&deploy(&host, &ci, "[grants]\nkeyvalue = true\n"));
    refused(&deploy(&host, &ci, "[grants]\nhttp = [\"10.0.0.1\"]\n"));
    deploy(&host, &ci, "[grants]\nhttp = [\"a.example.org\"]\n").expect(200);
    host.api_with(&ci, Ask::post("/v1/apps").json(&json!({ "name": "blog", "type": "staging" })))
        .problem(422, "grant-not-allowed");
    let host = host.restart();
    refused(&deploy(&host, &ci, "[grants]\nkeyvalue = true\n"));
    let bad = json!({ "name": "x", "role": "deploy", "policy": { "http": ["169.254.169.254"] } });
    host.api(Ask::post("/v1/tokens").json(&bad)).problem(400, "bad-json");
}

/// A plugin uses its own grants with a config of the app, which may contain a URL.
#[test]
fn the_ceiling_limits_the_plugins_that_an_app_uses_as_middleware() {
    let host = Host::start_with("", "[policy]\nmiddleware = [\"cors\"]\n");
    host.installed(&probe_plugin("1.0.0", ""));
    let (ci, uses) = (deployer(&host), used("{ request = \"pass\" }", ""));
    let why = refused(&deploy(&host, &ci, &uses));
    assert!(why.contains("middleware \"probe\" (allowed: cors)"), "{why}");
    deploy(&host, &host.token, &uses).expect(200);
    deploy(&host, &ci, &uses).expect(200);
    deploy(&host, &ci, "").expect(200);
    let back = host.api_with(&ci, Ask::post("/v1/apps/shop/rollback").json(&json!({ "release": 1 })));
    let problem = back.problem(422, "grant-not-allowed");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("middleware \"probe\"")), "{problem}");
    patch(&host, &host.token, "/policy", &json!({ "middleware": ["probe"] })).expect(200);
    deploy(&host, &ci, &uses).expect(200);
}

#[test]
fn a_release_beyond_the_ceiling_waits_for_an_approval() {
    let host = Host::start_with("", "[policy]\napprove = true\n");
    let ci = deployer(&host);
    let why = refused(&deploy(&host, &ci, "[grants]\nhttp = [\"127.0.0.1:9000\"]\n"));
    assert!(why.contains("`isopod releases approve v1`"), "{why}");
    assert_eq!(host.release_state("shop", 1), "deployment_error");
    let approve = |token: &str, release: &str| {
        host.api_with(token, Ask::post(format!("/v1/apps/shop/releases/{release}/approve")))
    };
    approve(&ci, "v1").problem(403, "role-too-small");
    approve(&host.token, "v9").problem(404, "unknown-release");
    host.set_config("shop", &json!({ "A": "b" })).expect(200);
    let approved = approve(&host.token, "v1").expect(200).json();
    assert_eq!(
        (&approved["name"], &approved["state"], &approved["cause"]),
        (&json!("v2"), &json!("ready"), &json!("approval of v1"))
    );
    assert_eq!(approved["created_by"], "admin");
    assert_eq!(host.grants("shop")["http"], json!(["127.0.0.1:9000"]));
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    approve(&host.token, "v2").problem(409, "not-waiting");
    host.api_with(&ci, Ask::new("PATCH", "/v1/apps/shop/grants").json(&json!({ "http": ["10.0.0.1"] })))
        .problem(422, "grant-not-allowed");
    assert_eq!(host.releases("shop").len(), 2, "a change of the settings never waits");
}

#[test]
fn refused_grants_are_counted_in_the_audit_trail_and_not_recorded_in_the_activity() {
    let host = Host::start_pausing("refused-calls=return(200)");
    let ci = deployer(&host);
    deploy(&host, &ci, "").expect(200);
    let before = host.activity("shop").len();
    for _ in 0..5 {
        patch(&host, &ci, "/grants", &json!({ "http": ["10.0.0.1"] })).problem(422, "grant-not-allowed");
    }
    wait_up_to(MINUTE_PATIENCE, "the refused calls", || {
        let page = host.api(Ask::get("/v1/activity?audit=true")).expect(200).json();
        let refused = page["items"].as_array().expect("a page has items").iter();
        let count: u64 = refused.filter_map(|entry| entry["data"]["codes"]["grant-not-allowed"].as_u64()).sum();
        (count == 5).then_some(())
    });
    let kinds: Vec<Value> = host.activity("shop").iter().map(|entry| entry["kind"].clone()).collect();
    assert!(!kinds.contains(&json!("change-failed")), "{kinds:?}");
    assert!(kinds.len() <= before + 10, "{kinds:?}");
}

#[test]
fn invalid_ceilings_are_refused_by_the_api_and_at_the_start() {
    let host = Host::start();
    host.create("shop", "dev");
    for (body, why) in [
        (json!({ "http": ["http://x/"] }), "without scheme"),
        (json!({ "http": ["169.254.169.254"] }), "metadata"),
        (json!({ "http": vec!["a.example.org"; 300] }), "300"),
        (json!({ "memory": "64MB" }), "unknown unit"),
        (json!({ "folders": "none" }), "folders"),
        (json!(["http"]), "must be an object"),
    ] {
        let problem = patch(&host, &host.token, "/policy", &body).problem(422, "bad-policy");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{body}: {problem}");
    }
    assert_eq!(host.api(Ask::get("/v1/apps/shop/policy")).expect(200).json()["override"], json!({}));
    let large = Ask::new("PATCH", "/v1/apps/shop/policy").body("application/json", vec![b' '; 10 << 20]);
    host.api(large).problem(413, "too-large");
}
