//! The span of a request to an app. I/O threads only copy the facts; the exporter's thread converts
//! them to OTLP. Never decides which requests are recorded.

use super::attributes::{Origin, boolean, integer, number, scope, text};
use crate::observe::{access_log::AccessLine, limits};
use http::{Method, StatusCode, Version};
use isopod_policy::{Phase, RequestId, RequestTrace, SpanId, Timing};
use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status, TracesData, span::SpanKind, status::StatusCode as SpanStatus,
    },
};
use std::{collections::BTreeMap, time::Duration};

/// A request that was answered.
pub(super) struct RequestSpan {
    origin: Origin,
    request_id: RequestId,
    method: Method,
    path: Box<str>,
    is_https: bool,
    version: Version,
    status: StatusCode,
    fault: Option<&'static str>,
    trace: RequestTrace,
    timing: Timing,
    ended: Timestamp,
    /// Until the end of a streamed response.
    duration: Duration,
}

impl RequestSpan {
    pub(super) fn new(line: &AccessLine<'_>, ended: Timestamp) -> Self {
        let instance = line.instance.map(ToString::to_string);
        let path = &line.path[..line.path.floor_char_boundary(limits::LOG_PATH_BYTES)];
        Self {
            origin: Origin { app: line.app.clone(), release: line.release, instance },
            request_id: line.request_id,
            method: line.method.clone(),
            path: path.into(),
            is_https: line.is_https,
            version: line.version,
            status: line.status,
            fault: line.fault,
            trace: line.trace,
            timing: line.timing,
            ended,
            duration: line.duration + Duration::from_micros(line.timing.us(Phase::Reply).into()),
        }
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let mut attributes = vec![
            text("http.request.method", self.method.as_str()),
            text("url.path", &*self.path),
            text("url.scheme", if self.is_https { "https" } else { "http" }),
            text("network.protocol.name", "http"),
            text("network.protocol.version", version_text(self.version)),
            integer("http.response.status_code", self.status.as_u16().into()),
            text("faas.trigger", "http"),
            text("faas.invocation_id", self.request_id.as_str()),
            boolean("faas.coldstart", self.timing.us(Phase::Start) > 0),
        ];
        attributes.extend(self.error().map(|error| text("error.type", error)));
        let phases = self.timing.phases();
        attributes.extend(
            phases.map(|(phase, us)| number(&format!("isopod.timing.{}_ms", phase.name()), f64::from(us) / 1e3)),
        );
        attributes
    }

    /// Returns why the request failed: its fault, or its status if that is a server's error.
    fn error(&self) -> Option<String> {
        let status = || self.status.is_server_error().then(|| self.status.as_u16().to_string());
        self.fault.map(str::to_owned).or_else(status)
    }

    fn to_otlp(&self) -> Span {
        let end = nanoseconds(self.ended);
        let duration = u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX);
        let code = if self.error().is_some() { SpanStatus::Error } else { SpanStatus::Unset };
        let span = self.trace.span.unwrap_or_else(|| SpanId::from_random(rand::random()));
        Span {
            trace_id: self.trace.trace.get().to_be_bytes().to_vec(),
            span_id: span.get().to_be_bytes().to_vec(),
            parent_span_id: self.trace.parent.map(|parent| parent.get().to_be_bytes().to_vec()).unwrap_or_default(),
            flags: u32::from(self.trace.is_sampled),
            name: span_name(&self.method).to_owned(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: end.saturating_sub(duration),
            end_time_unix_nano: end,
            attributes: self.attributes(),
            status: Some(Status { message: String::new(), code: code.into() }),
            ..Span::default()
        }
    }
}

/// Returns the spans as the body of a request to a collector, grouped by their origin.
pub(super) fn traces(spans: &[RequestSpan]) -> TracesData {
    let mut origins: BTreeMap<&Origin, Vec<Span>> = BTreeMap::new();
    for span in spans {
        origins.entry(&span.origin).or_default().push(span.to_otlp());
    }
    let resource_spans = origins.into_iter().map(|(origin, spans)| ResourceSpans {
        resource: Some(origin.resource()),
        scope_spans: vec![ScopeSpans { scope: scope(), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    });
    TracesData { resource_spans: resource_spans.collect() }
}

/// Returns the name of a request's span. Clients choose the method, so unknown methods share one
/// name.
fn span_name(method: &Method) -> &str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    if KNOWN.contains(method) { method.as_str() } else { "HTTP" }
}

fn version_text(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// Returns a time as OTLP has it.
pub(super) fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}
