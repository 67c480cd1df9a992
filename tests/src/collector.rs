//! A collector of telemetry, which decodes what the host exports (OTLP over HTTP). Never stores
//! anything else.

use crate::{
    Upstream,
    tls::Identity,
    upstream::{Arrived, Then},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    logs::v1::LogsData,
    metrics::v1::{MetricsData, metric::Data, number_data_point},
    trace::v1::TracesData,
};
use prost::Message;
use std::collections::BTreeMap;

/// Attributes by name, as text.
pub type Attributes = BTreeMap<String, String>;

/// A span, with the attributes of its resource.
#[derive(Debug, Clone)]
pub struct ExportedSpan {
    pub name: String,
    pub trace_id: String,
    pub span_id: String,
    pub parent_span_id: String,
    pub trace_state: String,
    pub is_error: bool,
    pub nanoseconds: u64,
    pub attributes: Attributes,
    pub resource: Attributes,
}

/// A log record, with the attributes of its resource.
#[derive(Debug, Clone)]
pub struct ExportedRecord {
    pub body: String,
    pub severity: String,
    pub trace_id: String,
    pub span_id: String,
    pub attributes: Attributes,
    pub resource: Attributes,
}

/// The collector.
pub struct Collector {
    upstream: Upstream,
    scheme: &'static str,
}

impl Collector {
    /// Starts a collector that accepts everything.
    pub fn start() -> Self {
        Self::answering(|_| status(200))
    }

    /// Starts a collector that responds with this.
    pub fn answering(script: impl Fn(&Arrived) -> Then + Send + Sync + 'static) -> Self {
        Self { upstream: Upstream::start(script), scheme: "http" }
    }

    /// Starts a collector with TLS that accepts everything.
    pub fn start_tls(identity: &Identity) -> Self {
        Self { upstream: Upstream::start_tls(identity, |_| status(200)), scheme: "https" }
    }

    /// Returns the settings of a host that exports to this collector. `more` has further keys.
    pub fn settings(&self, more: &str) -> String {
        let (scheme, address) = (self.scheme, self.upstream.address);
        format!("[telemetry]\nendpoint = \"{scheme}://{address}\"\ninterval = \"1s\"\n{more}\n")
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<Arrived> {
        self.upstream.requests()
    }

    /// Returns the number of requests with data of a signal, such as `traces`.
    pub fn requests_of(&self, signal: &str) -> usize {
        self.requests().iter().filter(|request| is_of(request, signal)).count()
    }

    fn received<T: Message + Default>(&self, path: &str) -> Vec<T> {
        let requests = self.upstream.requests();
        let begin = format!("POST {path} ");
        let of_path = requests.iter().filter(|request| request.head.starts_with(&begin));
        of_path.map(|request| T::decode(&*request.body).expect("the body is a message of OTLP")).collect()
    }

    /// Returns the spans so far.
    pub fn spans(&self) -> Vec<ExportedSpan> {
        let mut spans = Vec::new();
        for resource in self.received::<TracesData>("/v1/traces").into_iter().flat_map(|data| data.resource_spans) {
            let attributes = named(resource.resource.iter().flat_map(|resource| &resource.attributes));
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(ExportedSpan {
                    trace_id: hex(&span.trace_id),
                    span_id: hex(&span.span_id),
                    parent_span_id: hex(&span.parent_span_id),
                    trace_state: span.trace_state,
                    is_error: span.status.is_some_and(|status| status.code == 2),
                    nanoseconds: span.end_time_unix_nano - span.start_time_unix_nano,
                    attributes: named(&span.attributes),
                    resource: attributes.clone(),
                    name: span.name,
                });
            }
        }
        spans
    }

    /// Returns the log records so far.
    pub fn records(&self) -> Vec<ExportedRecord> {
        let mut records = Vec::new();
        for resource in self.received::<LogsData>("/v1/logs").into_iter().flat_map(|data| data.resource_logs) {
            let attributes = named(resource.resource.iter().flat_map(|resource| &resource.attributes));
            for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                records.push(ExportedRecord {
                    body: record.body.and_then(|body| body.value).map(text).unwrap_or_default(),
                    severity: record.severity_text,
                    trace_id: hex(&record.trace_id),
                    span_id: hex(&record.span_id),
                    attributes: named(&record.attributes),
                    resource: attributes.clone(),
                });
            }
        }
        records
    }

    /// Returns the last value of a counter or gauge with these attributes.
    pub fn metric(&self, name: &str, attributes: &[(&str, &str)]) -> Option<f64> {
        let wanted: Attributes =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let exports = self.received::<MetricsData>("/v1/metrics").into_iter().rev();
        let resources = exports.flat_map(|data| data.resource_metrics);
        let mut metrics = resources.flat_map(|resource| resource.scope_metrics).flat_map(|scope| scope.metrics);
        metrics.find_map(|metric| {
            let points = match metric.data.filter(|_| metric.name == name)? {
                Data::Sum(sum) => sum.data_points,
                Data::Gauge(gauge) => gauge.data_points,
                _ => return None,
            };
            let point = points.into_iter().find(|point| named(&point.attributes) == wanted)?;
            Some(match point.value? {
                number_data_point::Value::AsDouble(value) => value,
                number_data_point::Value::AsInt(value) => value as f64,
            })
        })
    }

    /// Returns whether the last value of a counter or gauge with these attributes ends its series.
    pub fn has_ended(&self, name: &str, attributes: &[(&str, &str)]) -> bool {
        let wanted: Attributes =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let exports = self.received::<MetricsData>("/v1/metrics").into_iter().rev();
        let resources = exports.flat_map(|data| data.resource_metrics);
        let metrics = resources.flat_map(|resource| resource.scope_metrics).flat_map(|scope| scope.metrics);
        let points = metrics.filter(|metric| metric.name == name).flat_map(|metric| match metric.data {
            Some(Data::Sum(sum)) => sum.data_points,
            Some(Data::Gauge(gauge)) => gauge.data_points,
            _ => Vec::new(),
        });
        let mut points = points.filter(|point| named(&point.attributes) == wanted);
        points.next().is_some_and(|point| point.value.is_none() && point.flags == 1)
    }

    /// Returns the count and the buckets of the last value of a histogram of an app.
    pub fn histogram(&self, name: &str, app: &str) -> Option<(u64, Vec<u64>)> {
        let exports = self.received::<MetricsData>("/v1/metrics").into_iter().rev();
        let resources = exports.flat_map(|data| data.resource_metrics);
        let mut metrics = resources.flat_map(|resource| resource.scope_metrics).flat_map(|scope| scope.metrics);
        metrics.find_map(|metric| {
            let Data::Histogram(histogram) = metric.data.filter(|_| metric.name == name)? else { return None };
            let mut points = histogram.data_points.into_iter();
            let point = points.find(|point| named(&point.attributes).get("app").is_some_and(|of| of == app))?;
            Some((point.count, point.bucket_counts))
        })
    }
}

/// Returns whether a request has data of a signal, such as `traces`.
pub fn is_of(request: &Arrived, signal: &str) -> bool {
    request.head.starts_with(&format!("POST /v1/{signal} "))
}

/// Returns an empty response with this status.
pub fn status(status: u16) -> Then {
    Then::Send(format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

/// Returns a response that accepts a request except for this number of items.
pub fn rejecting(rejected_spans: i64, message: &str) -> Then {
    let partial = ExportTracePartialSuccess { rejected_spans, error_message: message.to_owned() };
    let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    Then::Send([head.into_bytes(), body].concat())
}

fn named<'a>(attributes: impl IntoIterator<Item = &'a KeyValue>) -> Attributes {
    let value = |attribute: &KeyValue| attribute.value.clone().and_then(|value| value.value).map(text);
    attributes.into_iter().map(|attribute| (attribute.key.clone(), value(attribute).unwrap_or_default())).collect()
}

fn text(value: Value) -> String {
    match value {
        Value::StringValue(text) => text,
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        Value::DoubleValue(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
