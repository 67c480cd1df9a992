//! Owns the schemas of bodies without a Rust type: merge patches, in which null removes a member,
//! events, and problems. Never reads a body.

use std::borrow::Cow;

use isopod_policy::limits;
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema},
};

use crate::control::limits::{EVENT_ATTRIBUTE_BYTES_MAX, EVENT_ATTRIBUTE_NAME_CHARS_MAX};

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
    PolicyPatch "PolicyPatch" policy_patch();
    ConfigPatch "ConfigPatch" config_patch();
    ActivityData "ActivityData" activity_data();
    CloudEvent "CloudEvent" cloud_event();
    EventReply "EventReply" event_reply();
    EventLines "EventLines" json!({
        "type": "string",
        "description": "One CloudEvent in structured mode per line",
        "examples": ["{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/chat\",\"type\":\"chat.message\"}\n"],
    });
    EventBatch "EventBatch" json!({
        "type": "array",
        "description": "CloudEvents in structured mode",
        "items": { "$ref": "#/components/schemas/CloudEvent" },
    });
    Binary "Binary" json!({ "type": "string", "format": "binary" });
    Description "Description" description();
    ReleaseWanted "ReleaseWanted" release_wanted();
    ProblemDetails "Problem" problem();
    ServerSentEvent "ServerSentEvent" json!({
        "type": "object",
        "description": "One event of a stream; its data is one item as JSON",
        "properties": {
            "data": { "type": "string", "contentMediaType": "application/json" },
            "id": { "type": "string", "description": "Continue after it with `Last-Event-ID`" },
            "event": {
                "type": "string",
                "description": "`end` for the last event, whose data has the `reason`: don't reconnect. Other events \
                 of `?follow=true` have no type. `GET /v1/stream` also sends `started`, `apps`, `metrics`, \
                 `activity`, `log`, `missed`, `broken` and `ended`",
            },
        },
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
        "min": { "type": maybe("integer"), "minimum": 0, "maximum": limits::INSTANCES.end() },
        "max": { "type": maybe("integer"), "minimum": limits::INSTANCES.start(), "maximum": limits::INSTANCES.end() },
        "health": { "oneOf": [{ "$ref": "#/components/schemas/Health" }, { "type": "null" }] },
        "schedule": { "type": maybe("string"), "examples": ["0 3 * * *"] },
        "time_zone": { "type": maybe("string"), "examples": ["Europe/Berlin"] },
        "missed": { "type": maybe("string"), "enum": ["once", "skip", "all", null] },
        "overlap": { "type": maybe("string"), "enum": ["skip", "queue", "allow", null] },
        "args": { "type": maybe("array"), "items": { "type": "string" } },
        "order": { "type": maybe("string"), "enum": ["none", "subject", null] },
        "retry": { "oneOf": [{ "$ref": "#/components/schemas/RetryPolicy" }, { "type": "null" }] },
        "entry": { "type": "string", "enum": ["http", "events", "command"] },
    })
}

fn formation_patch() -> Value {
    json!({
        "type": "object",
        "description": "Process types by name; absent settings are unchanged, and null removes a setting",
        "propertyNames": { "pattern": NAME, "maxLength": limits::PROCESS_NAME_CHARS_MAX },
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
    properties["name"] = json!({ "type": "string", "pattern": NAME, "maxLength": limits::PROCESS_NAME_CHARS_MAX });
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
            "events": {
                "type": ["array", "null"],
                "maxItems": limits::EVENT_GRANTS_MAX,
                "items": {
                    "type": "string",
                    "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$",
                    "maxLength": limits::APP_NAME_CHARS_MAX,
                },
            },
            "interfaces": {
                "type": ["object", "null"],
                "additionalProperties": { "type": ["string", "null"], "examples": ["feature-flags@^0.1"] },
            },
        },
        "additionalProperties": false,
        "examples": [{ "http": ["api.github.com"] }],
    })
}

fn policy_patch() -> Value {
    let names = json!({
        "type": "string",
        "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$",
        "maxLength": limits::APP_NAME_CHARS_MAX,
    });
    json!({
        "type": "object",
        "properties": {
            "http": {
                "type": ["array", "null"],
                "maxItems": limits::CEILING_ITEMS_MAX,
                "items": { "type": "string", "examples": ["*.example.org"] },
            },
            "private_addresses": { "type": ["boolean", "null"] },
            "files": { "type": ["string", "null"], "enum": ["none", "read-only", "read-write", null] },
            "keyvalue": { "type": ["boolean", "null"] },
            "events": { "type": ["array", "null"], "items": &names },
            "providers": { "type": ["array", "null"], "items": &names },
            "middleware": { "type": ["array", "null"], "items": &names },
            "memory": { "type": ["string", "null"], "pattern": "^[0-9]{1,9}(B|KiB|MiB|GiB)$" },
            "instances": { "type": ["integer", "null"], "minimum": 0, "maximum": u32::MAX },
            "types": { "type": ["array", "null"], "items": { "$ref": "#/components/schemas/AppType" } },
            "approve": { "type": ["boolean", "null"] },
        },
        "additionalProperties": false,
        "examples": [{ "http": ["*.example.org"], "keyvalue": null }],
    })
}

fn cores_patch() -> Value {
    let cores =
        json!({ "type": ["integer", "null"], "minimum": limits::CORES.start(), "maximum": limits::CORES.end() });
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
        "propertyNames": { "pattern": CONFIG_KEY, "maxLength": limits::CONFIG_KEY_BYTES_MAX },
        "additionalProperties": { "oneOf": [{ "type": ["string", "null"] }, secret] },
        "examples": [{ "GREETING": "hello", "TOKEN": { "secret": "x" }, "OLD": null }],
    })
}

/// Returns the schema of an activity's members for programs. The activity's kind determines which
/// of them are present.
fn activity_data() -> Value {
    let text = || json!({ "type": "string" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let release = || json!({ "oneOf": [{ "$ref": "#/components/schemas/ReleaseNumber" }, { "type": "null" }] });
    let cores = || json!({ "$ref": "#/components/schemas/Cores" });
    // A state, an app type, a number of instances or the numbers of cores.
    let side = || json!({ "oneOf": [text(), count(), cores()] });
    json!({
        "type": "object",
        "description": "The activity's `kind` determines which members are present; later versions may add members",
        "properties": {
            "by": { "type": "string", "description": "The name of the token, or the part of the host" },
            "cause": text(),
            "code": text(),
            "detail": text(),
            "error": { "type": ["string", "null"] },
            "from": side(),
            "to": side(),
            "type": { "$ref": "#/components/schemas/AppType" },
            "release": release(),
            "before": release(),
            "bad": release(),
            "push": { "oneOf": [{ "$ref": "#/components/schemas/PushId" }, { "type": "null" }] },
            "process": { "$ref": "#/components/schemas/ProcessName" },
            "instance": { "$ref": "#/components/schemas/InstanceId" },
            "schedule": { "$ref": "#/components/schemas/Schedule" },
            "runs": count(),
            "min": count(),
            "max": count(),
            "peak": count(),
            "buffered": count(),
            "size_bytes": count(),
            "keys": { "type": "array", "items": text() },
            "path": text(),
            "saved": { "type": ["string", "null"] },
            "address": { "type": ["string", "null"], "description": "The address of the client" },
            "addresses": { "type": "array", "items": text() },
            "token": text(),
            "count": count(),
            "codes": { "type": "object", "additionalProperties": count() },
            "ceiling": { "$ref": "#/components/schemas/Ceiling" },
            "former_ceiling": { "$ref": "#/components/schemas/Ceiling" },
        },
        "examples": [{ "release": 3, "before": 2, "size_bytes": 81_920, "cause": "push", "by": "admin" }],
    })
}

/// Returns the schema of a JSON reply, which is any JSON value: the handler chooses it.
fn event_reply() -> Value {
    json!({
        "type": ["object", "array", "string", "number", "boolean", "null"],
        "description": "The handler's reply, unchanged. The host doesn't check that it is valid JSON",
    })
}

/// Returns the schema of the API's description.
fn description() -> Value {
    let object = || json!({ "type": "object" });
    let operation = json!({
        "type": "object",
        "properties": {
            "operationId": { "type": "string" },
            "summary": { "type": "string" },
            "parameters": { "type": "array", "items": object() },
            "requestBody": object(),
            "responses": { "type": "object", "additionalProperties": object() },
        },
        "required": ["operationId", "summary", "responses"],
    });
    let by_name = |of: Value| json!({ "type": "object", "additionalProperties": of });
    json!({
        "type": "object",
        "description": "OpenAPI 3.1, as in https://spec.openapis.org/oas/3.1/schema/2022-10-07",
        "properties": {
            "openapi": { "type": "string", "pattern": "^3\\.1\\.[0-9]+$" },
            "info": {
                "type": "object",
                "properties": {
                    "title": { "type": "string" },
                    "version": { "type": "string" },
                    "description": { "type": "string" },
                },
                "required": ["title", "version"],
            },
            "paths": by_name(by_name(operation)),
            "components": {
                "type": "object",
                "properties": { "schemas": by_name(object()), "securitySchemes": by_name(object()) },
                "required": ["schemas", "securitySchemes"],
            },
            "security": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": { "type": "array", "items": { "type": "string" } },
                },
            },
        },
        "required": ["openapi", "info", "paths", "components"],
    })
}

/// The text of an attribute, without control characters and noncharacters.
const EVENT_TEXT: &str = r"^[^\u0000-\u001f\u007f-\u009f\ufdd0-\ufdef\ufffe\uffff]*$";

/// A media type, perhaps with parameters.
const MEDIA_TYPE: &str = r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(; ?[a-z]+=[A-Za-z0-9_.+-]+)*$";

/// Base64 whose unused last bits are zero.
const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";

fn cloud_event() -> Value {
    let most = EVENT_ATTRIBUTE_BYTES_MAX;
    let text = || json!({ "type": "string", "minLength": 1, "maxLength": most, "pattern": EVENT_TEXT });
    let name = format!("^([a-z0-9]{{1,{}}}|data_base64)$", EVENT_ATTRIBUTE_NAME_CHARS_MAX);
    json!({
        "type": "object",
        "description": "A CloudEvent 1.0 in structured mode. Further members are extension attributes",
        "properties": {
            "specversion": { "type": "string", "enum": ["1.0"] },
            "id": text(),
            "source": { "type": "string", "format": "uri-reference", "minLength": 1, "maxLength": most },
            "type": text(),
            "subject": { "type": ["string", "null"], "minLength": 1, "maxLength": most, "pattern": EVENT_TEXT },
            "time": { "type": ["string", "null"], "format": "date-time" },
            "datacontenttype": { "type": ["string", "null"], "minLength": 1, "pattern": MEDIA_TYPE },
            "dataschema": { "type": ["string", "null"], "format": "uri" },
            "data": {},
            "data_base64": { "type": ["string", "null"], "contentEncoding": "base64", "pattern": BASE64 },
        },
        "propertyNames": { "pattern": name },
        "additionalProperties": {
            "type": ["string", "integer", "boolean", "null"],
            "pattern": EVENT_TEXT,
            "minimum": i32::MIN,
            "maximum": i32::MAX,
        },
        "not": { "required": ["data", "data_base64"] },
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
        "description": "RFC 9457. The members after `app` belong to single problems",
        "properties": {
            "type": { "type": "string", "pattern": "^urn:isopod:problem:" },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string" },
            "request_id": { "type": "string" },
            "hint": { "type": "string" },
            "app": { "type": "string" },
            "suggestion": { "type": "string", "description": "The nearest known name" },
            "push": { "$ref": "#/components/schemas/Push" },
            "state": { "type": "string", "description": "The state that doesn't allow the request" },
            "reason": { "type": "string" },
            "fault": { "type": "string", "description": "The kind of the handler's fault" },
            "attribute": { "type": "string", "description": "The attribute of an event that is invalid" },
            "limit_bytes": { "type": "integer", "minimum": 0 },
            "line": { "type": "integer", "minimum": 0 },
            "column": { "type": "integer", "minimum": 0 },
        },
        "required": ["type", "title", "status", "detail", "request_id"],
    })
}
