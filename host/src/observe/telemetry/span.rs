//! The span of a request to an app. I/O threads only copy the facts; the exporter's thread converts
//! them to OTLP. Never decides which requests are recorded.

use super::attributes::{Origin, boolean, integer, number, scope, text};
use crate::observe::{access_log::AccessLine, limits};
use http::{HeaderValue, Method, StatusCode, Version};
use isopod_policy::{Phase, RequestId, RequestTrace, SpanId, Timing};
use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, SpanFlags, Status, TracesData, span::SpanKind,
        status::StatusCode as SpanStatus,
    },
};
use std::{collections::BTreeMap, time::Duration};

/// A request that was answered.
pub(super) struct RequestSpan {
    origin: Origin,
    request_id: RequestId,
    method: SpanMethod,
    path: Box<str>,
    is_https: bool,
    version: Version,
    status: StatusCode,
    fault: Option<&'static str>,
    trace: RequestTrace,
    trace_state: Option<HeaderValue>,
    timing: Timing,
    ended: Timestamp,
    /// Until the end of a streamed response.
    elapsed: Duration,
}

/// The method of a request. Clients choose the method, so all unknown methods share one name.
enum SpanMethod {
    Known(&'static str),
    /// The method as it was sent, shortened.
    Other(Box<str>),
}

impl SpanMethod {
    fn of(method: &Method) -> Self {
        const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
        let method = method.as_str();
        match KNOWN.into_iter().find(|known| *known == method) {
            Some(known) => Self::Known(known),
            None => Self::Other(method[..method.floor_char_boundary(limits::TELEMETRY_METHOD_BYTES)].into()),
        }
    }
}

impl RequestSpan {
    pub(super) fn new(line: &AccessLine<'_>, ended: Timestamp) -> Self {
        let instance = line.instance.map(ToString::to_string);
        let path = &line.path[..line.path.floor_char_boundary(limits::LOG_PATH_BYTES)];
        Self {
            origin: Origin { app: line.app.clone(), release: line.release, instance },
            request_id: line.request_id,
            method: SpanMethod::of(line.method),
            path: path.into(),
            is_https: line.is_https,
            version: line.version,
            status: line.status,
            fault: line.fault,
            trace: line.trace,
            trace_state: line.trace_state.cloned(),
            timing: line.timing,
            ended,
            elapsed: line.elapsed,
        }
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let (method, original) = match &self.method {
            SpanMethod::Known(method) => (*method, None),
            SpanMethod::Other(original) => ("_OTHER", Some(&**original)),
        };
        let mut attributes = vec![
            text("http.request.method", method),
            text("url.path", &*self.path),
            text("url.scheme", if self.is_https { "https" } else { "http" }),
            text("network.protocol.name", "http"),
            text("network.protocol.version", version_text(self.version)),
            integer("http.response.status_code", self.status.as_u16().into()),
            text("faas.trigger", "http"),
            text("faas.invocation_id", self.request_id.as_str()),
            boolean("faas.coldstart", self.timing.us(Phase::Start) > 0),
        ];
        attributes.extend(original.map(|original| text("http.request.method_original", original)));
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

    /// Returns the flags of the trace, and whether its parent is another system's.
    fn flags(&self) -> u32 {
        let is_remote = if self.trace.parent.is_some() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
        u32::from(self.trace.is_sampled) | SpanFlags::ContextHasIsRemoteMask as u32 | is_remote
    }

    fn to_otlp(&self) -> Span {
        let end = nanoseconds(self.ended);
        let elapsed = u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX);
        let code = if self.error().is_some() { SpanStatus::Error } else { SpanStatus::Unset };
        let span = self.trace.span.unwrap_or_else(|| SpanId::from_random(rand::random()));
        Span {
            trace_id: self.trace.trace.get().to_be_bytes().to_vec(),
            span_id: span.get().to_be_bytes().to_vec(),
            parent_span_id: self.trace.parent.map(|parent| parent.get().to_be_bytes().to_vec()).unwrap_or_default(),
            trace_state: self.trace_state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default().to_owned(),
            flags: self.flags(),
            name: match self.method {
                SpanMethod::Known(method) => method.to_owned(),
                SpanMethod::Other(_) => "HTTP".to_owned(),
            },
            kind: SpanKind::Server.into(),
            start_time_unix_nano: end.saturating_sub(elapsed),
            end_time_unix_nano: end,
            attributes: self.attributes(),
            status: Some(Status { message: String::new(), code: code.into() }),
            ..Span::default()
        }
    }
}

/// Returns the spans as the body of a request to a collector, grouped by their origin.
pub(super) fn traces(spans: impl IntoIterator<Item = Box<RequestSpan>>) -> TracesData {
    let mut origins: BTreeMap<Origin, Vec<Span>> = BTreeMap::new();
    for span in spans {
        let converted = span.to_otlp();
        origins.entry(span.origin).or_default().push(converted);
    }
    let resource_spans = origins.into_iter().map(|(origin, spans)| ResourceSpans {
        resource: Some(origin.resource()),
        scope_spans: vec![ScopeSpans { scope: scope(), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    });
    TracesData { resource_spans: resource_spans.collect() }
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use isopod_policy::{AppName, TraceId};

    /// Returns a request that failed, and whose trace isn't recorded.
    pub(in super::super) fn failed(app: &AppName) -> AccessLine<'_> {
        AccessLine {
            app,
            release: None,
            request_id: RequestId::from_random(7),
            method: &Method::GET,
            path: "/",
            status: StatusCode::SERVICE_UNAVAILABLE,
            duration: Duration::from_millis(2),
            elapsed: Duration::from_millis(2),
            bytes: None,
            fault: None,
            plugin: None,
            instance: None,
            is_https: false,
            version: Version::HTTP_11,
            trace: RequestTrace { trace: TraceId::from_random(7), span: None, parent: None, is_sampled: false },
            trace_state: None,
            timing: Timing::default(),
        }
    }

    fn span(line: &AccessLine<'_>) -> Span {
        RequestSpan::new(line, Timestamp::from_second(1_800_000_000).expect("it is in range")).to_otlp()
    }

    #[test]
    fn a_long_stream_has_its_real_start() {
        let (app, hours) = ("hello".parse().expect("valid name"), Duration::from_secs(5 * 3600));
        let timing = Timing::default().with(Phase::Reply, hours);
        let span = span(&AccessLine { elapsed: hours, timing, ..failed(&app) });
        assert_eq!(Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano), hours);
    }

    #[test]
    fn unknown_methods_share_one_name() {
        let (app, long) = ("hello".parse().expect("valid name"), "X".repeat(500));
        let of = |method: &str| {
            let method = Method::from_bytes(method.as_bytes()).expect("it is a method");
            let span = span(&AccessLine { method: &method, ..failed(&app) });
            let value = |name: &str| span.attributes.iter().find(|field| field.key == name).cloned();
            (span.name.clone(), value("http.request.method"), value("http.request.method_original"))
        };
        let other = Some(text("http.request.method", "_OTHER"));
        assert_eq!(of("PATCH"), ("PATCH".to_owned(), Some(text("http.request.method", "PATCH")), None));
        let original = |method: &str| Some(text("http.request.method_original", method));
        assert_eq!(of("PURGE"), ("HTTP".to_owned(), other.clone(), original("PURGE")));
        assert_eq!(of(&long), ("HTTP".to_owned(), other, original(&long[..limits::TELEMETRY_METHOD_BYTES])));
    }

    #[test]
    fn a_span_has_the_state_and_the_flags_of_its_trace() {
        let app = "hello".parse().expect("valid name");
        let (line, state) = (failed(&app), HeaderValue::from_static("rojo=1"));
        assert_eq!((span(&line).flags, span(&line).trace_state), (0x100, String::new()));
        let trace = RequestTrace { parent: Some(SpanId::from_random(7)), is_sampled: true, ..line.trace };
        let continued = span(&AccessLine { trace, trace_state: Some(&state), ..line });
        assert_eq!((continued.flags, continued.trace_state.as_str()), (0x301, "rojo=1"));
    }
}
