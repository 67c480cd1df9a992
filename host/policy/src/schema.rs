//! The schemas of names, ids and other strings with a format, for the API's description. Never
//! validates a string.

use std::borrow::Cow;

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{OneOfBuilder, Type},
    },
};

use crate::limits::{APP_NAME_CHARS_MAX, PROCESS_NAME_CHARS_MAX};
use crate::{AppName, AppState, Health, HttpGrant, InstanceId, ProcessName, PushId, ReleaseNumber, Schedule};

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

impl PartialSchema for Health {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let table = ObjectBuilder::new()
            .property("path", text())
            .required("path")
            .property("grace", text())
            .property("interval", text())
            .property("timeout", text())
            .property("threshold", ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)));
        OneOfBuilder::new().item(text().examples([json!("/healthz")])).item(table).into()
    }
}

impl ToSchema for Health {}
