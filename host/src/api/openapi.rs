//! Owns the description of the API (OpenAPI 3.1). A test holds it and the router together. Never routes anything.

use serde_json::{Map, Value, json};

/// One operation: method, path, what it does, what body it takes, and the statuses of success.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    query: &'static [(&'static str, &'static str)],
    body: &'static [&'static str],
    /// The status of success and the schema of its body, if it has one.
    success: (&'static str, Option<&'static str>),
}

const PAGE: &[(&str, &str)] =
    &[("limit", "How many items at most, 1 to 1000"), ("cursor", "The `next` of the page before")];
const FOLLOW_PAGE: &[(&str, &str)] = &[
    ("follow", "`true` answers with server-sent events, without end"),
    ("limit", "How many items at most, 1 to 1000"),
    ("cursor", "The `next` of the page before"),
];
const JSON: &[&str] = &["application/json"];
const NONE: &[&str] = &[];

const fn operation(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    success: (&'static str, Option<&'static str>),
) -> Operation {
    Operation { method, path, summary, query: &[], body: NONE, success }
}

const OPERATIONS: &[Operation] = &[
    operation("get", "/", "A page for people", ("200", None)),
    operation("get", "/livez", "Whether the process is alive; needs no token", ("200", None)),
    operation("get", "/readyz", "Whether the host can serve; needs no token", ("200", None)),
    operation("get", "/metrics", "Metrics as Prometheus reads them", ("200", None)),
    operation("get", "/v1/openapi.json", "This description", ("200", None)),
    operation("get", "/v1/status", "Whether the host is up: 200 or 503", ("200", None)),
    operation("get", "/v1/tokens", "The tokens, without their secrets", ("200", None)),
    Operation { body: JSON, ..operation("post", "/v1/tokens", "Makes a token, which is shown once", ("201", None)) },
    operation("delete", "/v1/tokens/{name}", "Deletes a token", ("204", None)),
    Operation { query: PAGE, ..operation("get", "/v1/apps", "The apps, by name", ("200", Some("AppList"))) },
    Operation { body: JSON, ..operation("post", "/v1/apps", "Makes an app", ("201", Some("App"))) },
    operation("get", "/v1/apps/{app}", "An app", ("200", Some("App"))),
    Operation {
        body: JSON,
        ..operation("patch", "/v1/apps/{app}", "Changes the type of a stopped app", ("200", Some("App")))
    },
    operation("delete", "/v1/apps/{app}", "Deletes an app with its releases, data and logs", ("204", None)),
    operation("post", "/v1/apps/{app}/start", "Starts an app", ("202", Some("App"))),
    operation("post", "/v1/apps/{app}/stop", "Stops an app; accepted requests are finished", ("202", Some("App"))),
    operation("get", "/v1/apps/{app}/status", "Whether an app takes traffic: 200 or 503", ("200", None)),
    Operation {
        body: &["text/plain"],
        ..operation(
            "put",
            "/v1/apps/{app}/build-error",
            "Says that a dev app's newest code can't be built",
            ("204", None),
        )
    },
    operation("delete", "/v1/apps/{app}/build-error", "Says that it can be built again", ("204", None)),
    Operation {
        query: PAGE,
        ..operation("get", "/v1/apps/{app}/pushes", "The pushes of an app, newest first", ("200", Some("PushList")))
    },
    Operation {
        query: &[("wait", "`true` answers once the push has ended: 200, or 422 if it failed")],
        body: &["application/wasm", "application/gzip"],
        ..operation(
            "post",
            "/v1/apps/{app}/pushes",
            "Deploys a component or a .tar.gz bundle; makes the app if there is none",
            ("202", Some("Push")),
        )
    },
    Operation {
        query: &[("follow", "`true` answers with server-sent events until the push has ended")],
        ..operation("get", "/v1/apps/{app}/pushes/{id}", "A push", ("200", Some("Push")))
    },
    operation("post", "/v1/apps/{app}/pushes/{id}/cancel", "Takes back a queued push", ("200", Some("Push"))),
    Operation {
        query: PAGE,
        ..operation("get", "/v1/apps/{app}/releases", "The releases of an app, newest first", ("200", None))
    },
    operation("get", "/v1/apps/{app}/releases/{release}", "A release", ("200", None)),
    Operation {
        query: &[("with", "The release to compare with, such as v2; the one before if left out")],
        ..operation(
            "get",
            "/v1/apps/{app}/releases/{release}/diff",
            "What is different between two releases",
            ("200", None),
        )
    },
    Operation {
        body: JSON,
        ..operation("post", "/v1/apps/{app}/rollback", "Makes a new release of an earlier one", ("200", None))
    },
    operation("get", "/v1/apps/{app}/formation", "The process types of an app", ("200", None)),
    Operation {
        body: JSON,
        ..operation("patch", "/v1/apps/{app}/formation", "Changes process types, as their numbers", ("200", None))
    },
    Operation { body: JSON, ..operation("post", "/v1/apps/{app}/formation", "Adds a process type", ("201", None)) },
    operation("delete", "/v1/apps/{app}/formation/{process}", "Removes a process type", ("204", None)),
    operation("get", "/v1/apps/{app}/instances", "What runs of an app", ("200", None)),
    operation(
        "post",
        "/v1/apps/{app}/instances/{id}/restart",
        "Puts a new instance in the place of one, under its id",
        ("202", None),
    ),
    operation("get", "/v1/apps/{app}/advice", "Which type fits an app by its measured use", ("200", None)),
    operation("get", "/v1/apps/{app}/config", "The config vars of an app, without its secrets", ("200", None)),
    Operation {
        body: JSON,
        ..operation("patch", "/v1/apps/{app}/config", "Sets config vars, or removes those set to null", ("200", None))
    },
    operation("get", "/v1/apps/{app}/grants", "What an app may reach", ("200", None)),
    Operation {
        body: JSON,
        ..operation(
            "patch",
            "/v1/apps/{app}/grants",
            "Changes what an app may reach: a JSON merge patch",
            ("200", None),
        )
    },
    Operation {
        query: &[("queue", "`pull` waits for the reply")],
        body: &["application/cloudevents+json", "*/*"],
        ..operation(
            "post",
            "/v1/apps/{app}/events",
            "Gives an app one CloudEvent and answers with its reply",
            ("200", None),
        )
    },
    Operation {
        body: &["application/x-ndjson"],
        ..operation(
            "post",
            "/v1/apps/{app}/broadcasts",
            "Gives an app many CloudEvents, one in each line; not offered by this version: 501",
            ("202", None),
        )
    },
    Operation {
        query: FOLLOW_PAGE,
        ..operation("get", "/v1/apps/{app}/logs", "The newest lines of an app's log, oldest first", ("200", None))
    },
    Operation {
        query: FOLLOW_PAGE,
        ..operation("get", "/v1/apps/{app}/activity", "What happened to an app and why, newest first", ("200", None))
    },
    Operation {
        query: &[("follow", "`true` answers with server-sent events, one a second")],
        ..operation("get", "/v1/apps/{app}/metrics", "What an app does now, for each of its queues", ("200", None))
    },
    Operation {
        query: PAGE,
        ..operation("get", "/v1/metrics", "What the apps that are awake do now, the busiest first", ("200", None))
    },
    operation("get", "/v1/apps/{app}/cores", "How many jobs of an app run at one time, in each queue", ("200", None)),
    Operation {
        body: JSON,
        ..operation("patch", "/v1/apps/{app}/cores", "Gives an app other cores than all have", ("200", None))
    },
];

pub(super) async fn show() -> axum::Json<Value> {
    axum::Json(description())
}

fn description() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Isopod",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Errors are problem+json (RFC 9457). Times are RFC 3339 UTC, durations end in _ms, sizes in _bytes.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn described(operation: &Operation) -> Value {
    let (status, schema) = operation.success;
    let mut success = json!({ "description": operation.summary });
    if let Some(schema) = schema {
        success["content"]["application/json"]["schema"] = reference(schema);
    }
    let problem = json!({
        "description": "A problem",
        "content": { "application/problem+json": { "schema": reference("Problem") } },
    });
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    parameters.extend(operation.query.iter().map(
        |(name, text)| json!({ "name": name, "in": "query", "description": text, "schema": { "type": "string" } }),
    ));
    let mut described = json!({
        "summary": operation.summary,
        "parameters": parameters,
        "responses": { status: success, "default": problem },
    });
    if !operation.body.is_empty() {
        let content: Map<String, Value> = operation.body.iter().map(|kind| ((*kind).to_owned(), json!({}))).collect();
        described["requestBody"] = json!({ "required": true, "content": content });
    }
    if matches!(operation.path, "/livez" | "/readyz") {
        described["security"] = json!([]);
    }
    described
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let time = || json!({ "type": "string", "format": "date-time" });
    let maybe = |kind: &str| json!({ "type": [kind, "null"] });
    let list = |schema: &str| {
        json!({
            "type": "object",
            "properties": { "items": { "type": "array", "items": reference(schema) }, "next": maybe("string") },
        })
    };
    json!({
        "App": {
            "type": "object",
            "properties": {
                "name": text(),
                "type": { "enum": ["dev", "staging", "production"] },
                "state": { "enum": ["stopped", "starting", "deploying", "running", "error"] },
                "error": maybe("object"),
                "release": maybe("integer"),
                "urls": { "type": "array", "items": text() },
                "build_error": maybe("string"),
                "created_at": time(),
            },
        },
        "AppList": list("App"),
        "Push": {
            "type": "object",
            "properties": {
                "id": text(),
                "app": text(),
                "state": {
                    "enum": ["queued", "cancelled", "running", "building", "deploying", "completed", "failed"],
                },
                "release": maybe("integer"),
                "reason": maybe("string"),
                "reason_code": maybe("string"),
                "log": { "type": "array", "items": text() },
                "steps": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": { "state": text(), "log_lines": { "type": "integer" } },
                    },
                },
                "created_by": text(),
                "created_at": time(),
                "updated_at": time(),
            },
        },
        "PushList": list("Push"),
        "Problem": {
            "type": "object",
            "properties": {
                "type": text(),
                "title": text(),
                "status": { "type": "integer" },
                "detail": text(),
                "request_id": text(),
                "hint": text(),
                "app": text(),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Method and path of each route, as the router's own text names them.
    fn routed() -> BTreeSet<(String, String)> {
        let router = include_str!("mod.rs");
        let mut routes = BTreeSet::new();
        for line in router.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
            let (path, handlers) = line.split_once("\", ").expect("a route has handlers");
            for method in ["get", "post", "put", "patch", "delete"] {
                if handlers.contains(&format!("{method}(")) {
                    routes.insert((method.to_owned(), path.to_owned()));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_no_other() {
        let described: BTreeSet<(String, String)> =
            OPERATIONS.iter().map(|operation| (operation.method.to_owned(), operation.path.to_owned())).collect();
        assert_eq!(described, routed());
    }

    #[test]
    fn path_parameters_are_described() {
        let parameters = &description()["paths"]["/v1/apps/{app}/pushes/{id}"]["get"]["parameters"];
        let names: Vec<&str> =
            parameters.as_array().expect("is a list").iter().filter_map(|p| p["name"].as_str()).collect();
        assert_eq!(names, ["app", "id", "follow"]);
    }
}
