//! Owns the API's description (OpenAPI 3.1), except for the descriptions of single handlers. Never
//! routes a request.

mod bodies;
#[cfg(test)]
mod free_schemas;
mod links;

use std::sync::{Arc, OnceLock};

use axum::{Extension, http::header, response::IntoResponse};
use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa::{PartialSchema, ToSchema};

use crate::observe::logs::Cursor;

pub(super) use self::bodies::{
    ActivityData, Binary, CloudEvent, ConfigPatch, CoresPatch, Description, EventBatch, EventLines, EventReply,
    FormationPatch, GrantsPatch, NewProcess, PolicyPatch, ProblemDetails, ReleaseWanted, ServerSentEvent,
};

/// The name of the security scheme.
const TOKEN: &str = "token";

/// The routes that need no token.
const OPEN: [&str; 4] = ["/livez", "/readyz", "/status", "/status/{app}"];

/// Returns the description of an optional request header.
pub(super) fn header(name: &str, text: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some(text))
        .schema(Some(schema))
        .build()
}

/// Returns the description without routes.
pub(super) fn base() -> OpenApi {
    let info = InfoBuilder::new().title("Isopod").version(env!("CARGO_PKG_VERSION")).description(Some(
        "Errors are problem+json (RFC 9457). Times are RFC 3339 UTC, durations end in _ms, sizes in _bytes.",
    ));
    let mut components = Components::new();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token of this host"));
    components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme.build()));
    components.schemas.insert(ProblemDetails::name().into_owned(), ProblemDetails::schema());
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new(TOKEN, [] as [&str; 0])]))
        .build()
}

/// Adds the members that follow from the shape of an operation: its possible problems, and whether
/// it needs a token.
pub(super) fn completed(mut description: OpenApi) -> OpenApi {
    for (path, item) in &mut description.paths.paths {
        let is_open = OPEN.contains(&path.as_str());
        for (changes, operation) in operations(item) {
            if is_open {
                operation.security = Some(vec![SecurityRequirement::default()]);
            }
            let follows = path == "/v1/stream" || parameters(operation).any(|parameter| parameter.name == "follow");
            let has_parts = path.contains('{');
            let has_body = operation.request_body.is_some();
            let problems: [(bool, u16, &str); 12] = [
                (true, 400, "The request is invalid"),
                (!is_open, 401, "The token is missing or unknown"),
                (!is_open, 403, "The token's role or scope does not allow it"),
                (has_parts, 404, "The app, or a part of the app, does not exist"),
                (has_body, 408, "The body arrived too slowly"),
                (changes, 409, "The request conflicts with the current state"),
                (has_body, 413, "The body is too large"),
                (has_body, 415, "The content type is not accepted"),
                (changes, 422, "The request is well-formed, but its values are not possible"),
                (changes || follows, 429, "Too many concurrent requests; retry after `Retry-After`"),
                (true, 500, "The host failed"),
                (!is_open, 503, "The host is stopping, busy or full"),
            ];
            for (_, status, text) in problems.iter().filter(|(applies, ..)| *applies) {
                add_problem(operation, *status, text);
            }
            if changes {
                add_problem(operation, 507, "The disk is full");
            }
        }
    }
    description
}

/// Returns the operations of a path, and whether each is a mutation.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let reads = item.get.iter_mut().map(|operation| (false, operation));
    let changing = [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
    reads.chain(changing.into_iter().flatten().map(|operation| (true, operation)))
}

/// Returns the parameters of an operation. None of the descriptions uses a reference.
pub(super) fn parameters(operation: &Operation) -> impl Iterator<Item = &Parameter> {
    operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    })
}

/// Adds a problem to an operation that doesn't describe a response with this status itself.
fn add_problem(operation: &mut Operation, status: u16, text: &str) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemDetails::name()))).build();
    let problem =
        |text: &str| ResponseBuilder::new().description(text).content("application/problem+json", content.clone());
    let status = status.to_string();
    match operation.responses.responses.get_mut(&status) {
        None => {
            operation.responses.responses.insert(status, RefOr::T(problem(text).build()));
        }
        // Status routes answer 503 with their own body, or with a problem if the check failed.
        Some(RefOr::T(Response { content: present, .. })) => {
            present.entry("application/problem+json".to_owned()).or_insert(content.into());
        }
        Some(RefOr::Ref(_)) => {}
    }
}

/// The served description. It is rendered for its first request, since most hosts get none.
pub(super) struct Document {
    describe: fn() -> OpenApi,
    text: OnceLock<Bytes>,
}

impl Document {
    pub(super) fn new(describe: fn() -> OpenApi) -> Self {
        Self { describe, text: OnceLock::new() }
    }

    /// Returns the description as JSON text.
    fn text(&self) -> Bytes {
        self.text.get_or_init(|| rendered(&(self.describe)()).to_string().into()).clone()
    }
}

fn rendered(description: &OpenApi) -> Value {
    let mut document = serde_json::to_value(description).unwrap_or_default();
    for (name, schema) in bodies::schemas() {
        document["components"]["schemas"][name] = schema;
    }
    let schemas = &mut document["components"]["schemas"];
    let described = schemas.clone();
    schemas.as_object_mut().into_iter().flatten().for_each(|(_, schema)| allow_absent_parts(schema, &described));
    let items = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    for (method, operation) in items.filter_map(Value::as_object_mut).flatten() {
        if method == "get" {
            describe_cursor(operation);
        }
        require_body_objects(operation);
        links::add(operation);
    }
    document
}

/// Describes flattened optional members as all present or all absent: utoipa describes them as an
/// object or null, but they are never null.
fn allow_absent_parts(schema: &mut Value, described: &Value) {
    for part in schema.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
        let either =
            part.get("oneOf").and_then(Value::as_array).filter(|either| either.contains(&json!({ "type": "null" })));
        if let Some(present) = either.and_then(|either| either.iter().find(|either| either.get("$ref").is_some())) {
            let name = present["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
            let required = name.and_then(|name| described[name]["required"].as_array()).into_iter().flatten();
            let one_present: Vec<Value> = required.map(|member| json!({ "required": [member] })).collect();
            *part = json!({ "anyOf": [present, { "not": { "anyOf": one_present } }] });
        }
    }
}

/// Describes an optional body as absent or an object: utoipa describes it as an object or null, but
/// null is refused.
fn require_body_objects(operation: &mut Value) {
    let content = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
    for (_, media_type) in content.into_iter().flatten() {
        let either = media_type["schema"]["oneOf"].as_array().cloned().unwrap_or_default();
        let objects: Vec<_> = either.iter().filter(|schema| **schema != json!({ "type": "null" })).collect();
        if let [object] = objects.as_slice() {
            media_type["schema"] = Value::clone(object);
        }
    }
}

/// Describes the form of a list's cursors, which differs between lists.
fn describe_cursor(operation: &mut Value) {
    let (pattern, chars_max) = match operation.get("operationId").and_then(Value::as_str) {
        Some("list_apps" | "list_tokens") => ("^[a-z0-9]+(-[a-z0-9]+)*$", 63),
        Some("list_instances") => ("^[a-z][a-z0-9]*(-[a-z0-9]+)*-[0-9a-hjkmnp-tv-z]{5}$", 26),
        Some("show_log") => (Cursor::PATTERN, Cursor::CHARS_MAX),
        _ => ("^[1-9][0-9]{0,17}$", 18),
    };
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten();
    for cursor in parameters.filter(|parameter| parameter["name"] == "cursor") {
        cursor["schema"] = json!({ "type": "string", "pattern": pattern, "maxLength": chars_max });
    }
}

#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    operation_id = "show_description",
    summary = "Shows this description",
    responses(
        (status = 200, description = "An OpenAPI document", body = Description),
    )
)]
pub(super) async fn show(Extension(document): Extension<Arc<Document>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.text())
}

#[cfg(test)]
fn document() -> Value {
    rendered(&super::described().2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::openapi::Content;

    use super::*;

    fn described() -> OpenApi {
        super::super::described().2
    }

    #[test]
    fn no_route_is_added_without_a_description() {
        let router = include_str!("../api.rs");
        assert!(!router.contains(".route("), "add routes by `.routes(routes!(…))`, which includes the description");
    }

    /// Collects every reference in a part of the document.
    fn references(part: &Value, found: &mut BTreeSet<String>) {
        match part {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let (document, mut found) = (document(), BTreeSet::new());
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some_and(|schema| schema != &Value::Null), "{reference}");
        }
        assert_eq!(document["openapi"], "3.1.0");
    }

    fn has_schema(content: &RefOr<Content>) -> bool {
        matches!(content, RefOr::T(content) if content.schema.is_some())
    }

    #[test]
    fn every_operation_is_completely_described() {
        let mut ids = BTreeSet::new();
        for (path, item) in &mut described().paths.paths {
            for (_, operation) in operations(item) {
                let id = operation.operation_id.clone().unwrap_or_else(|| panic!("{path} has no operationId"));
                assert!(ids.insert(id.clone()), "{id} appears twice");
                assert!(operation.summary.is_some(), "{id} has no summary");
                let parts = path.matches('{').count();
                let parameters: Vec<&Parameter> = parameters(operation).collect();
                let in_path = |parameter: &&&Parameter| path.contains(&format!("{{{}}}", parameter.name));
                assert_eq!(parameters.iter().filter(in_path).count(), parts, "{id}");
                assert!(parameters.iter().all(|parameter| parameter.schema.is_some()), "{id}");
                for (status, response) in &operation.responses.responses {
                    let RefOr::T(response) = response else { panic!("{id} refers to a response") };
                    assert_eq!(
                        response.content.is_empty(),
                        status == "204" || id == "restart_instance" && status == "202",
                        "{id} {status}"
                    );
                    assert!(response.content.values().all(has_schema), "{id} {status}");
                }
                if let Some(RefOr::T(body)) = &operation.request_body {
                    assert!(body.content.values().all(has_schema), "{id}");
                }
            }
        }
        assert!(ids.len() >= 45, "{ids:?}");
    }
}
