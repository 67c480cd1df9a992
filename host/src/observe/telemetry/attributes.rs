//! Attributes and resources of OTLP, by the semantic conventions for HTTP and FaaS. Never sends
//! anything.

use isopod_policy::{AppName, ReleaseNumber};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
};

/// The origin of a span or a log record: each is a resource of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) app: AppName,
    pub(super) release: Option<ReleaseNumber>,
    pub(super) instance: Option<String>,
}

impl Origin {
    pub(super) fn resource(&self) -> Resource {
        let mut attributes = vec![
            text("service.name", self.app.as_str()),
            text("service.namespace", "isopod"),
            text("faas.name", self.app.as_str()),
        ];
        if let Some(release) = self.release {
            attributes
                .extend([text("service.version", release.to_string()), text("faas.version", release.to_string())]);
        }
        if let Some(instance) = &self.instance {
            attributes.extend([text("service.instance.id", &**instance), text("faas.instance", &**instance)]);
        }
        Resource { attributes, ..Resource::default() }
    }
}

/// Returns the resource of the host's own metrics.
pub(super) fn host_resource() -> Resource {
    let attributes = vec![text("service.name", "isopod"), text("service.version", env!("CARGO_PKG_VERSION"))];
    Resource { attributes, ..Resource::default() }
}

/// Returns the scope of all telemetry of the host.
pub(super) fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "isopod".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    })
}

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

pub(super) fn integer(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

pub(super) fn number(key: &str, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

pub(super) fn boolean(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
