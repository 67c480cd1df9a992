//! The schemas of names, ids and other strings with a format, for the API's description. Never
//! validates a string.

use std::borrow::Cow;

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, Ref, RefOr, Schema,
        schema::{AdditionalProperties, ArrayBuilder, OneOfBuilder, SchemaType, Type},
    },
};

use crate::app_limits::Written;
use crate::limits::{
    APP_NAME_CHARS_MAX, HEALTH_THRESHOLD, MIDDLEWARE_PATHS_MAX, PROCESS_NAME_CHARS_MAX, RETRY_ATTEMPTS, TEXT_BYTES_MAX,
};
use crate::{
    AppName, AppState, Health, HttpGrant, InstanceId, Limits, MiddlewareUse, OnFailure, PluginSettings, ProcessName,
    PushId, ReleaseNumber, RetryPolicy, Schedule, TimeZone,
};

/// Implements the schema of a type that is serialised as a string with this format.
macro_rules! text_schema {
    ($type:ty, $name:literal, $pattern:expr, $chars_max:expr, $example:literal) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern::<&str>($pattern)
                    .max_length(Some($chars_max))
                    .examples([json!($example)])
                    .into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    };
}

text_schema!(AppName, "AppName", Some("^[a-z0-9]+(-[a-z0-9]+)*$"), APP_NAME_CHARS_MAX, "greeter");
text_schema!(ProcessName, "ProcessName", Some("^[a-z][a-z0-9]*(-[a-z0-9]+)*$"), PROCESS_NAME_CHARS_MAX, "web");
text_schema!(PushId, "PushId", Some("^p-[0-9a-hjkmnp-tv-z]{10}$"), 12, "p-7f3k2m9q0z");
text_schema!(
    InstanceId,
    "InstanceId",
    Some("^[a-z][a-z0-9]*(-[a-z0-9]+)*-[0-9a-hjkmnp-tv-z]{5}$"),
    PROCESS_NAME_CHARS_MAX + 6,
    "web-7f3k2"
);
text_schema!(Schedule, "Schedule", None, 200, "0 3 * * *");
text_schema!(TimeZone, "TimeZone", None, 40, "Europe/Berlin");
text_schema!(HttpGrant, "HttpGrant", None, 300, "api.github.com");

impl PartialSchema for ReleaseNumber {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(u32::MAX));
        number.examples([json!(3)]).into()
    }
}

impl ToSchema for ReleaseNumber {}

impl PartialSchema for AppState {
    fn schema() -> RefOr<Schema> {
        let words = Self::KINDS.map(Self::as_str);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
    }
}

impl ToSchema for AppState {}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn duration(example: &str) -> ObjectBuilder {
    string().pattern(Some(r"^\s*[0-9]+\s*(ms|s|m|h|d)\s*$")).examples([json!(example)])
}

/// The table of a health check.
fn health_table() -> ObjectBuilder {
    let threshold = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(*HEALTH_THRESHOLD.start()))
        .maximum(Some(*HEALTH_THRESHOLD.end()));
    ObjectBuilder::new()
        .property("path", health_path())
        .required("path")
        .property("grace", duration("5s"))
        .property("interval", duration("10s"))
        .property("timeout", duration("2s"))
        .property("threshold", threshold)
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

/// Printable ASCII without spaces and `#`, from the first `/`.
fn health_path() -> ObjectBuilder {
    string().pattern(Some(r#"^/[!"$-~]*$"#)).max_length(Some(TEXT_BYTES_MAX)).examples([json!("/healthz")])
}

impl PartialSchema for Health {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new().item(health_path()).item(health_table()).into()
    }
}

impl ToSchema for Health {}

impl PartialSchema for RetryPolicy {
    fn schema() -> RefOr<Schema> {
        let attempts = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(*RETRY_ATTEMPTS.start()))
            .maximum(Some(*RETRY_ATTEMPTS.end()));
        ObjectBuilder::new()
            .property("attempts", attempts)
            .property("first", duration("1s"))
            .property("max", duration("1h"))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

impl ToSchema for RetryPolicy {}

impl PartialSchema for Limits {
    fn schema() -> RefOr<Schema> {
        Written::schema()
    }
}

impl ToSchema for Limits {}

impl PartialSchema for PluginSettings {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .property("version", string().description(Some("A semantic version")).examples([json!("1.2.0")]))
            .required("version")
            .property("time_limit", duration("1s"))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

impl ToSchema for PluginSettings {}

impl PartialSchema for MiddlewareUse {
    fn schema() -> RefOr<Schema> {
        let plugin = string()
            .description(Some("The name of a plugin, with a range of versions after `@`"))
            .pattern(Some("^[a-z0-9]+(-[a-z0-9]+)*(@.+)?$"))
            .examples([json!("require-jwt@^1.2")]);
        let config = ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .description(Some("The plugin's config for this app; by default an empty object"));
        let on_failure = string().enum_values(Some(OnFailure::ALL.iter().map(|word| word.as_str())));
        let pattern = string()
            .description(Some("A path, or the start of paths followed by `*`"))
            .pattern(Some(r"^/[^*%?#\\]*\*?$"))
            .max_length(Some(TEXT_BYTES_MAX + 1))
            .examples([json!("/api/*")]);
        let paths = ArrayBuilder::new().items(pattern).min_items(Some(1)).max_items(Some(MIDDLEWARE_PATHS_MAX));
        ObjectBuilder::new()
            .property("use", plugin)
            .required("use")
            .property("on_failure", on_failure)
            .property("paths", paths)
            .property("config", config)
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

impl ToSchema for MiddlewareUse {}

/// A value of a field that differs between two releases.
pub(crate) enum FieldValue {}

impl PartialSchema for FieldValue {
    fn schema() -> RefOr<Schema> {
        let secret = ObjectBuilder::new()
            .property("secret", ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([true])))
            .required("secret")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        OneOfBuilder::new()
            .description(Some(
                "A setting of the manifest, a list of settings, middleware, a health check, or a redacted secret",
            ))
            .item(string())
            .item(ObjectBuilder::new().schema_type(Type::Integer))
            .item(ObjectBuilder::new().schema_type(Type::Boolean))
            .item(ArrayBuilder::new().items(string()))
            .item(ArrayBuilder::new().items(Ref::from_schema_name("MiddlewareUse")))
            .item(health_table())
            .item(secret)
            .into()
    }
}

impl ToSchema for FieldValue {}
