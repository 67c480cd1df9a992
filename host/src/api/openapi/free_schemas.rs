//! Tests that each body of the API's description has a schema that states its shape. Never checks
//! that the host follows the schema.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// The schemas that allow any value, each with the reason.
const FREE: [(&str, &str); 8] = [
    ("#CloudEvent/properties/data", "the sender chooses the event's data"),
    ("#EventReply", "the handler chooses its reply"),
    ("#MiddlewareUse/properties/config", "the plugin defines its config"),
    ("#Description/properties/components/properties/schemas/additionalProperties", "JSON Schema defines it"),
    ("#Description/properties/components/properties/securitySchemes/additionalProperties", OPENAPI),
    ("#Description/properties/paths/additionalProperties/additionalProperties/properties/parameters/items", OPENAPI),
    ("#Description/properties/paths/additionalProperties/additionalProperties/properties/requestBody", OPENAPI),
    (
        "#Description/properties/paths/additionalProperties/additionalProperties/properties/responses/\
         additionalProperties",
        OPENAPI,
    ),
];

const OPENAPI: &str = "the OpenAPI specification defines it";

/// The keywords that contain one schema, many schemas, and schemas by name.
const ONE: [&str; 3] = ["items", "additionalProperties", "contains"];
const MANY: [&str; 4] = ["oneOf", "anyOf", "allOf", "prefixItems"];
const NAMED: [&str; 2] = ["properties", "patternProperties"];

/// The keywords that state nothing about a value's shape.
const ANNOTATIONS: [&str; 7] = ["description", "title", "default", "example", "examples", "readOnly", "writeOnly"];

/// Walks the schemas that a body reaches, and collects those that allow any value of a type.
struct Walk<'d> {
    components: &'d Map<String, Value>,
    seen: BTreeSet<&'d str>,
    free: BTreeSet<String>,
}

impl<'d> Walk<'d> {
    fn visit(&mut self, at: &str, schema: &'d Value) {
        let Some(members) = schema.as_object() else {
            // `false` allows nothing, and `true` everything.
            if schema != &Value::Bool(false) {
                self.free.insert(at.to_owned());
            }
            return;
        };
        if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().expect("a reference has a name");
            if self.seen.insert(name) {
                self.visit(&format!("#{name}"), &self.components[name]);
            }
            return;
        }
        if !states_a_shape(members) {
            self.free.insert(at.to_owned());
        }
        for (keyword, value) in members {
            let keyword_is = |list: &[&str]| list.contains(&keyword.as_str());
            if keyword_is(&ONE) {
                self.visit(&format!("{at}/{keyword}"), value);
            } else if keyword_is(&MANY) {
                for (index, schema) in value.as_array().into_iter().flatten().enumerate() {
                    // The absence of a part of an object is a condition, not a shape.
                    if schema.get("not").is_none() {
                        self.visit(&format!("{at}/{keyword}/{index}"), schema);
                    }
                }
            } else if keyword_is(&NAMED) {
                for (name, schema) in value.as_object().into_iter().flatten() {
                    self.visit(&format!("{at}/{keyword}/{name}"), schema);
                }
            }
        }
    }
}

/// Returns whether a schema says more than a type of which each value has a shape of its own.
fn states_a_shape(members: &Map<String, Value>) -> bool {
    let has = |keywords: &[&str]| keywords.iter().any(|keyword| members.contains_key(*keyword));
    if has(&MANY) || has(&["enum", "const"]) {
        return true;
    }
    let types: Vec<&str> = match members.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let has_its_shape = |of: &&str| match *of {
        "object" => has(&["properties", "patternProperties", "additionalProperties"]),
        "array" => has(&["items", "prefixItems"]),
        _ => true,
    };
    let says_something = members.keys().any(|keyword| !ANNOTATIONS.contains(&keyword.as_str()));
    says_something && !types.is_empty() && types.iter().all(has_its_shape)
}

/// Returns every schema of a body that allows any value, by the operation or component and its
/// path.
fn free_schemas(document: &Value) -> BTreeSet<String> {
    let components = document["components"]["schemas"].as_object().expect("schemas");
    let mut walk = Walk { components, seen: BTreeSet::new(), free: BTreeSet::new() };
    for operation in document["paths"].as_object().expect("paths").values().flat_map(|item| {
        let operations = item.as_object().expect("operations");
        operations.values()
    }) {
        let id = operation["operationId"].as_str().expect("an operation id");
        let responses = operation["responses"].as_object().expect("responses");
        let responses = responses.iter().map(|(status, response)| (status.as_str(), response));
        for (name, body) in responses.chain([("request", &operation["requestBody"])]) {
            for (media_type, content) in body["content"].as_object().into_iter().flatten() {
                walk.visit(&format!("{id} {name} {media_type}"), &content["schema"]);
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            walk.visit(&format!("{id} {}", parameter["name"]), &parameter["schema"]);
        }
    }
    walk.free
}

#[test]
fn every_body_has_a_schema_that_states_its_shape() {
    let free = free_schemas(&super::document());
    let allowed = FREE.map(|(at, _)| at.to_owned()).into();
    let more: Vec<&String> = free.difference(&allowed).collect();
    assert!(more.is_empty(), "describe their shape, or name them in FREE with the reason: {more:#?}");
    let fewer: Vec<&String> = allowed.difference(&free).collect();
    assert!(fewer.is_empty(), "they have a shape now, so remove them from FREE: {fewer:#?}");
}

#[test]
fn a_schema_without_a_shape_is_found_wherever_it_is() {
    let found = |schema: Value| {
        let document = json!({
            "paths": { "/x": { "post": {
                "operationId": "x",
                "responses": { "200": { "content": { "application/json": { "schema": schema } } } },
            } } },
            "components": { "schemas": { "Any": {}, "Text": { "type": "string" } } },
        });
        !free_schemas(&document).is_empty()
    };
    for free in [
        json!({}),
        json!(true),
        json!(null),
        json!({ "description": "anything" }),
        json!({ "type": "object" }),
        json!({ "type": ["string", "object"] }),
        json!({ "type": "array" }),
        json!({ "$ref": "#/components/schemas/Any" }),
        json!({ "type": "object", "additionalProperties": true }),
        json!({ "type": "object", "properties": { "a": {} } }),
        json!({ "oneOf": [{ "type": "null" }, { "type": "object" }] }),
    ] {
        assert!(found(free.clone()), "{free}");
    }
    for shaped in [
        json!({ "type": "string" }),
        json!({ "$ref": "#/components/schemas/Text" }),
        json!({ "type": "object", "additionalProperties": false, "properties": {} }),
        json!({ "type": "array", "items": { "type": ["integer", "null"] } }),
        json!({ "enum": ["a", 1] }),
    ] {
        assert!(!found(shaped.clone()), "{shaped}");
    }
}
