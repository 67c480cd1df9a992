//! Owns the schemas of bodies without a Rust type: merge patches, in which null removes a member,
//! events, and problems. Never reads a body.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema},
};

/// Declares a body by its name and schema. The document contains the JSON schema unchanged:
/// utoipa's own type supports neither `propertyNames` nor a union with null.
macro_rules! bodies {
    ($($type:ident $name:literal $schema:expr;)+) => {
        $(
            pub(crate) enum $type {}

            impl PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    ObjectBuilder::new().into()
                }
            }

            impl ToSchema for $type {
                fn name() -> Cow<'static, str> {
                    $name.into()
                }
            }
        )+

        /// The schemas by name.
        pub(super) fn schemas() -> impl Iterator<Item = (&'static str, Value)> {
            [$(($name, $schema)),+].into_iter()
        }
    };
}

bodies! {
    FormationPatch "FormationPatch" formation_patch();
    NewProcess "NewProcess" new_process();
    GrantsPatch "GrantsPatch" grants_patch();
    CoresPatch "CoresPatch" cores_patch();
    ConfigPatch "ConfigPatch" config_patch();
    ShownConfig "Config" shown_config();
    CloudEvent "CloudEvent" cloud_event();
    Binary "Binary" json!({ "type": "string", "format": "binary" });
    ReleaseWanted "ReleaseWanted" release_wanted();
    ProblemDetails "Problem" problem();
    ServerSentEvent "ServerSentEvent" json!({
        "type": "object",
        "description": "One event of the stream; its data is one item as JSON",
        "properties": { "data": { "type": "string", "contentMediaType": "application/json" } },
    });
}

const NAME: &str = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$";

/// The settings of a process type. `unset` is the type of a value that removes a setting, if that
/// is allowed.
fn process_settings(unset: &[&str]) -> Value {
    let maybe = |kind: &str| {
        let kinds: Vec<&str> = std::iter::once(kind).chain(unset.iter().copied()).collect();
        json!(kinds)
    };
    json!({
        "min": { "type": maybe("integer"), "minimum": 0, "maximum": 1_000 },
        "max": { "type": maybe("integer"), "minimum": 1, "maximum": 1_000 },
        "health": { "type": ["string", "object", "null"] },
        "schedule": { "type": maybe("string"), "examples": ["0 3 * * *"] },
        "args": { "type": maybe("array"), "items": { "type": "string" } },
        "entry": { "type": "string", "enum": ["http", "events", "command"] },
    })
}

fn formation_patch() -> Value {
    json!({
        "type": "object",
        "description": "Process types by name; absent settings are unchanged, and null removes a setting",
        "propertyNames": { "pattern": NAME, "maxLength": 20 },
        "additionalProperties": {
            "type": "object",
            "properties": process_settings(&["null"]),
            "additionalProperties": false,
        },
        "examples": [{ "web": { "min": 1, "max": 3 } }],
    })
}

fn new_process() -> Value {
    let mut properties = process_settings(&["null"]);
    properties["name"] = json!({ "type": "string", "pattern": NAME, "maxLength": 20 });
    json!({
        "type": "object",
        "properties": properties,
        "required": ["name", "entry"],
        "additionalProperties": false,
        "examples": [{ "name": "nightly", "entry": "events", "schedule": "0 3 * * *" }],
    })
}

fn grants_patch() -> Value {
    json!({
        "type": "object",
        "properties": {
            "http": { "type": ["array", "null"], "items": { "type": "string" } },
            "files": {
                "type": ["object", "null"],
                "additionalProperties": { "type": ["string", "null"], "enum": ["read-only", "read-write", null] },
            },
            "keyvalue": { "type": ["boolean", "null"] },
        },
        "additionalProperties": false,
        "examples": [{ "http": ["api.github.com"] }],
    })
}

fn cores_patch() -> Value {
    let cores = json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 1_000 });
    json!({
        "type": "object",
        "properties": { "pull": cores, "push": cores },
        "additionalProperties": false,
        "examples": [{ "pull": 10, "push": null }],
    })
}

const CONFIG_KEY: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

fn config_patch() -> Value {
    let secret = json!({
        "type": "object",
        "properties": { "secret": { "type": "string" } },
        "required": ["secret"],
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "propertyNames": { "pattern": CONFIG_KEY, "maxLength": 128 },
        "additionalProperties": { "oneOf": [{ "type": ["string", "null"] }, secret] },
        "examples": [{ "GREETING": "hello", "TOKEN": { "secret": "x" }, "OLD": null }],
    })
}

fn shown_config() -> Value {
    let secret = json!({
        "type": "object",
        "properties": { "secret": { "type": "boolean" } },
        "required": ["secret"],
    });
    let effective = json!({
        "type": "object",
        "properties": {
            "key": { "type": "string" },
            "value": { "type": "string" },
            "secret": { "type": "boolean" },
            "source": { "type": "string" },
        },
        "required": ["key", "secret", "source"],
    });
    json!({
        "description": "Config vars by name; with `?effective=true` a list of all that guests receive",
        "anyOf": [
            { "type": "object", "additionalProperties": { "oneOf": [{ "type": "string" }, secret] } },
            {
                "type": "object",
                "properties": { "items": { "type": "array", "items": effective } },
                "required": ["items"],
            },
        ],
    })
}

fn cloud_event() -> Value {
    let text = || json!({ "type": "string", "minLength": 1 });
    json!({
        "type": "object",
        "description": "A CloudEvent 1.0 in structured mode. Further members with names of up to 20 letters a to z and \
                        digits are extension attributes",
        "properties": {
            "specversion": { "type": "string", "enum": ["1.0"] },
            "id": text(),
            "source": { "type": "string", "format": "uri-reference", "minLength": 1 },
            "type": text(),
            "subject": { "type": ["string", "null"], "minLength": 1 },
            "time": { "type": ["string", "null"], "format": "date-time" },
            "datacontenttype": { "type": ["string", "null"], "minLength": 1 },
            "dataschema": { "type": ["string", "null"], "format": "uri" },
            "data": {},
            "data_base64": { "type": ["string", "null"], "contentEncoding": "base64" },
        },
        "required": ["specversion", "id", "source", "type"],
        "examples": [{
            "specversion": "1.0", "id": "1", "source": "/chat", "type": "chat.message", "subject": "ann",
            "data": { "text": "hi" },
        }],
    })
}

fn release_wanted() -> Value {
    json!({
        "oneOf": [
            { "type": "integer", "minimum": 1, "maximum": u32::MAX },
            { "type": "string", "pattern": "^v?[1-9][0-9]{0,8}$" },
        ],
        "examples": [3, "v3"],
    })
}

/// Returns the schema of error responses.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457; some problems have further members",
        "properties": {
            "type": { "type": "string", "pattern": "^urn:isopod:problem:" },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string" },
            "request_id": { "type": "string" },
            "hint": { "type": "string" },
            "app": { "type": "string" },
        },
        "required": ["type", "title", "status", "detail", "request_id"],
    })
}
