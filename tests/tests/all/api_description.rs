//! Tests that the API's description is complete and matches the host. Compares them with
//! schemathesis, where it can be installed.

use isopod_tests::{Ask, Bundle, Host, guest, guests::repository};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn description(host: &Host) -> Value {
    host.api(Ask::get("/v1/openapi.json")).expect(200).json()
}

/// Returns every operation with its path.
fn operations(description: &Value) -> Vec<(String, Value)> {
    let items = description["paths"].as_object().expect("paths").iter();
    items
        .flat_map(|(path, item)| {
            let operations = item.as_object().expect("operations").values();
            operations.map(|operation| (path.clone(), operation.clone()))
        })
        .collect()
}

#[test]
fn every_body_and_answer_of_the_api_has_a_schema() {
    let host = Host::start();
    let description = description(&host);
    let operations = operations(&description);
    assert!(operations.len() >= 46, "{}", operations.len());
    let has_schemas = |content: &Value| {
        content.as_object().is_some_and(|content| content.values().all(|media_type| media_type["schema"].is_object()))
    };
    for (path, operation) in &operations {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{path} has no operationId"));
        if !operation["requestBody"].is_null() {
            let content = &operation["requestBody"]["content"];
            assert!(has_schemas(content), "{id}");
            // A body may be absent, and is never null.
            let mut schemas = content.as_object().into_iter().flat_map(|content| content.values());
            assert!(schemas.all(|media_type| media_type["schema"]["oneOf"].is_null()), "{id}: {content}");
        }
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let has_content = has_schemas(&response["content"]);
            assert!(has_content || status == "204" || id == "restart_instance", "{id} {status}");
            let is_problem = response["content"]["application/problem+json"].is_object();
            assert!(
                is_problem || status.as_str() < "400" || path.ends_with('z') || path == "/status/{app}",
                "{id} {status}"
            );
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let kind = &parameter["schema"]["type"];
            let wanted = match parameter["name"].as_str().expect("a name") {
                "limit" => "integer",
                "apps" | "follow" | "wait" | "effective" | "audit" | "accept_grants" | "skip_gates" => "boolean",
                _ => "string",
            };
            assert_eq!(kind, wanted, "{id} {parameter}");
        }
    }
    let bodies = operations.iter().filter(|(_, operation)| operation["requestBody"].is_object()).count();
    assert!(bodies >= 13, "{bodies}");
    assert_eq!(description["components"]["securitySchemes"]["token"]["scheme"], "bearer");
}

#[test]
fn links_and_the_header_of_a_continued_stream_are_described() {
    let host = Host::start();
    let description = description(&host);
    let push = &description["paths"]["/v1/apps/{app}/pushes"]["post"]["responses"]["202"]["links"]["show_push"];
    let parameters = json!({ "app": "$request.path.app", "id": "$response.body#/id" });
    assert_eq!(push, &json!({ "operationId": "show_push", "parameters": parameters }));
    let log = description["paths"]["/v1/apps/{app}/logs"]["get"]["parameters"].as_array().expect("parameters");
    let header = log.iter().find(|parameter| parameter["name"] == "Last-Event-ID").expect("it is described");
    assert_eq!((&header["in"], &header["required"]), (&json!("header"), &json!(false)));
}

#[test]
fn replies_and_manifests_are_described_by_their_shape() {
    let host = Host::start();
    let description = description(&host);
    let schema = |path: &str, method: &str, status: &str, media_type: &str| {
        let content = &description["paths"][path][method]["responses"][status]["content"];
        let reference = content[media_type]["schema"]["$ref"].as_str().unwrap_or_else(|| panic!("{path}: {content}"));
        description.pointer(reference.trim_start_matches('#')).expect("a schema").clone()
    };
    let reply = |media_type| schema("/v1/apps/{app}/events", "post", "200", media_type);
    assert_eq!(reply("application/json")["type"].as_array().map(Vec::len), Some(6), "any JSON value");
    assert_eq!(reply("*/*")["format"], "binary");
    let document = schema("/v1/openapi.json", "get", "200", "application/json");
    assert_eq!(document["required"], json!(["openapi", "info", "paths", "components"]));
    let manifest = &description["components"]["schemas"]["Manifest"]["properties"];
    assert_eq!(manifest["limits"]["$ref"], "#/components/schemas/Limits");
    let limits = &description["components"]["schemas"]["Limits"]["properties"];
    assert_eq!((&limits["memory"]["type"], &limits["queue_max"]["type"]), (&json!("string"), &json!("integer")));
}

#[test]
fn a_broadcast_is_described_as_the_host_answers_it() {
    let host = Host::start();
    let description = description(&host);
    let described = &description["paths"]["/v1/apps/{app}/broadcasts"]["post"]["responses"];
    let statuses: Vec<_> = described.as_object().expect("statuses").keys().map(String::as_str).collect();
    assert!(["202", "400", "415", "429"].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    assert!(!statuses.contains(&"501"), "{statuses:?}");
    host.create("shop", "dev");
    let broadcast =
        |app: &str| host.api(Ask::post(format!("/v1/apps/{app}/broadcasts")).body("application/x-ndjson", "{}\n"));
    assert_eq!(broadcast("shop").problem(400, "bad-event")["line"], 1);
    broadcast("missing").problem(404, "unknown-app");
}

#[test]
fn an_unknown_query_parameter_is_rejected_with_the_nearest_name() {
    let host = Host::start();
    host.create("shop", "dev");
    for (path, word) in [
        ("/v1/apps?limt=3", "`limit`"),
        ("/v1/apps/shop/logs?folow=true", "`follow`"),
        ("/v1/apps/shop/pushes?cursr=1", "`cursor`"),
        ("/v1/status?verbose", "`verbose`"),
        ("/v1/metrics?cursor=x", "`cursor`"),
    ] {
        let refused = host.api(Ask::get(path)).problem(400, "bad-query");
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{path}: {refused}");
    }
    host.api(Ask::new("PATCH", "/v1/apps/shop?dry_run=true").json(&json!({ "type": "staging" })))
        .problem(400, "bad-query");
    assert_eq!(host.show("shop")["type"], "dev");
}

#[test]
fn an_invalid_cursor_is_a_bad_cursor() {
    let host = Host::start();
    host.create("shop", "dev");
    for list in [
        "apps",
        "plugins",
        "tokens",
        "apps/shop/pushes",
        "apps/shop/releases",
        "apps/shop/instances",
        "apps/shop/logs",
        "apps/shop/activity",
    ] {
        let is_text = ["apps", "plugins", "tokens", "apps/shop/instances", "apps/shop/logs"].contains(&list);
        let others: &[&str] = if is_text { &[] } else { &["0", "007", "%2B1", "1234567890123456789"] };
        for cursor in ["%21", "no+such", ""].iter().chain(others) {
            host.api(Ask::get(format!("/v1/{list}?cursor={cursor}"))).problem(400, "bad-cursor");
        }
    }
    for stream in ["logs", "activity"] {
        let ask = Ask::get(format!("/v1/apps/shop/{stream}?follow=true&cursor=x"));
        host.api(ask).problem(400, "bad-cursor");
    }
    for query in ["", "?follow=true"] {
        let ask = Ask::get(format!("/v1/apps/shop/logs{query}")).header("last-event-id", "+1-0");
        host.api(ask).problem(400, "bad-header");
    }
    host.api(Ask::get("/v1/apps/shop/logs").header("last-event-id", "")).expect(200);
}

#[test]
fn a_patch_is_accepted_as_a_json_merge_patch() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    let patch = |path: &str, change: Value| {
        let ask = Ask::new("PATCH", format!("/v1/apps/shop/{path}"));
        host.api(ask.body("application/merge-patch+json; charset=utf-8", change.to_string()))
    };
    assert_eq!(patch("config", json!({ "GREETING": "hi" })).expect(200).json()["GREETING"], "hi");
    assert_eq!(patch("cores", json!({ "pull": 3 })).expect(200).json()["pull"], 3);
    assert_eq!(patch("grants", json!({ "keyvalue": true })).expect(200).json()["keyvalue"], true);
    assert_eq!(patch("formation", json!({ "web": { "max": 2 } })).expect(200).json()["web"]["max"], 2);
    let post = Ask::post("/v1/apps").body("application/merge-patch+json", r#"{"name":"other"}"#);
    host.api(post).problem(415, "wrong-content-type");
}

#[test]
fn an_idempotency_key_is_one_value_of_visible_ascii() {
    let host = Host::start();
    host.create("shop", "dev");
    for keys in [&["a b"][..], &["a\tb"], &[""], &["ü"], &["a", "b"]] {
        let ask = keys.iter().fold(Ask::post("/v1/apps/shop/pushes"), |ask, key| ask.header("idempotency-key", *key));
        host.api(ask.body("application/wasm", guest("hello"))).problem(400, "bad-header");
    }
    let ask = Ask::post("/v1/apps/shop/pushes").header("idempotency-key", "a!~b");
    host.api(ask.body("application/wasm", guest("hello"))).expect(202);
}

#[test]
fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    let send = |method: &'static str, path: &str, body: &str| {
        let ask = Ask::new(method, format!("/v1/apps/shop/{path}"));
        host.api(ask.body("application/json", body)).expect(200).json()
    };
    assert_eq!(send("PATCH", "cores", r#"{"pull":3.0}"#)["pull"], 3);
    assert_eq!(send("PATCH", "formation", r#"{"web":{"max":2.0}}"#)["web"]["max"], 2);
    assert_eq!(send("POST", "rollback", r#"{"release":1.0}"#)["release"], 3);
}

/// Settings of schemathesis. Two of its checks compare a status with a fixed list and ignore the
/// statuses that the description documents, so each documented status outside the list is named.
const SETTINGS: &str = r#"
# Its responses don't end.
[[operations]]
include-operation-id = "show_stream"
enabled = false

# `not_a_server_error` counts every 5xx as a failure of the host. Uptime monitors rely on the documented 503 for "down".
[[operations]]
include-operation-id = ["show_host_status", "show_app_status", "show_public_app_status"]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "503"]

# The same check: an app without a release answers events with the documented 503.
[[operations]]
include-operation-id = ["send_event", "send_broadcast"]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "503"]

# `positive_data_acceptance` counts 400 as a rejection of the schema, but no schema can express the lines of NDJSON.
[[operations]]
include-operation-id = "send_broadcast"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "429", "5xx"]

# The same check: no schema can express that a time must lie in the future, or the form of a host.
[[operations]]
include-operation-id = ["create_token", "rotate_token", "change_app_policy", "add_drain"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422", "429", "5xx"]

# `positive_data_acceptance` counts 422 as a rejection of the schema, although the status means that the request is
# well-formed. The documented 422 means that the uploaded bytes are not a bundle, which no schema can express.
[[operations]]
include-operation-id = ["create_push", "install_plugin"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429", "5xx"]

# The same check: no schema can express that `since` must not be after `until`, or the days of a month.
# `negative_data_rejection` sends null as `grep`, which is the text `null` in a query.
[[operations]]
include-operation-id = "show_log"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "429", "5xx"]
checks.negative_data_rejection.expected-statuses = ["200", "4xx", "5xx"]

# `negative_data_rejection` sends null as a cursor, which is the text `null` in a query.
[[operations]]
include-operation-id = "list_plugins"
checks.negative_data_rejection.expected-statuses = ["200", "4xx", "5xx"]
"#;

/// Adds a media type that schemathesis doesn't know, and the relation between headers and content
/// types that OpenAPI can't express.
const HOOKS: &str = r#"
import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return str(value).encode()


schemathesis.serializer.alias("application/cloudevents-batch+json", "application/json")


# The attributes of an event are headers in binary mode and members in structured mode. OpenAPI can't tie headers to a
# content type, so this sets the required headers in binary mode and removes them in structured mode.
# A delay needs a stored event, and a time that lies ahead, which OpenAPI can't express either.
@schemathesis.hook
def before_call(context, case, **kwargs):
    # A rotation of the administrator's token would end the token of these requests.
    if case.operation.definition.raw.get("operationId") == "rotate_token" and case.path_parameters["name"] == "admin":
        case.path_parameters["name"] = "another"
    if case.operation.definition.raw.get("operationId") not in ["send_event", "send_broadcast"]:
        return
    # A changed request would lose its marks: this one has no token.
    if getattr(case.meta.phase.data, "parameter", None) == "Authorization":
        return
    for name in [name for name in case.headers if name.lower().startswith("isopod-")]:
        del case.headers[name]
    if case.operation.definition.raw.get("operationId") != "send_event":
        return
    if case.media_type == "application/octet-stream":
        for name, value in [("specversion", "1.0"), ("id", "1"), ("source", "/test"), ("type", "test")]:
            case.headers.setdefault(f"ce-{name}", value)
    else:
        for name in [name for name in case.headers if name.lower().startswith("ce-")]:
            del case.headers[name]
"#;

/// Installs schemathesis in its own environment below `target`. Returns `None` without Python or
/// the package.
fn schemathesis() -> Option<PathBuf> {
    let folder = repository().join("target/schemathesis");
    let program = folder.join("bin/schemathesis");
    if program.is_file() {
        return Some(program);
    }
    let succeeds = |output: std::io::Result<Output>| output.is_ok_and(|output| output.status.success());
    let has_environment = succeeds(Command::new("python3").args(["-m", "venv"]).arg(&folder).output());
    let pip = folder.join("bin/pip");
    let installed =
        has_environment && succeeds(Command::new(&pip).args(["install", "--quiet", "schemathesis"]).output());
    if !installed || !program.is_file() {
        println!("note: skipped, since schemathesis could not be installed: it needs python3 with venv, and PyPI");
        return None;
    }
    Some(program)
}

fn run(program: &Path, settings: &Path, host: &Host) -> Output {
    let mut command = Command::new(program);
    command.arg("--config-file").arg(settings).arg("run");
    command.arg(format!("http://{}/v1/openapi.json", host.admin));
    command.args(["-H", &format!("Authorization: Bearer {}", host.token)]);
    // Python 3.11 can't parse source in two threads at a time, so there is one worker.
    command.args(["--workers", "1", "--max-examples", "2", "--max-time", "180"]);
    command.args(["--seed", "1", "--generation-deterministic", "--request-timeout", "20", "--no-color"]);
    command.current_dir(settings.parent().expect("it is in a folder")).output().expect("schemathesis runs")
}

/// Uses its own host, since schemathesis destroys the apps that it finds.
#[test]
fn schemathesis_finds_no_difference_between_host_and_description() {
    let Some(program) = schemathesis() else { return };
    let (host, folder) = (Host::start(), tempfile::tempdir().expect("a folder can be made"));
    let (settings, hooks) = (folder.path().join("schemathesis.toml"), folder.path().join("hooks.py"));
    std::fs::write(&hooks, HOOKS).expect("a file can be written");
    std::fs::write(&settings, format!("hooks = {hooks:?}\n{SETTINGS}")).expect("a file can be written");
    let output = run(&program, &settings, &host);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}
