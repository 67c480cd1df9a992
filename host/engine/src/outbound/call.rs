//! The outbound requests of one instance: its current call waits for them, and they continue the
//! call's trace. Never sends a request itself.

use super::{Outbound, Sent, Timeouts};
use crate::{head::is_forbidden, limits, waits::CallWaits};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use isopod_policy::{Phase, TraceParent, trace_state};
use std::sync::Arc;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// The access of one instance to the network.
pub(crate) struct InstanceOutbound {
    outbound: Outbound,
    waits: Arc<CallWaits>,
    /// The trace of the current call.
    trace: Trace,
}

/// The fields of a request that identify its trace (W3C Trace Context).
#[derive(Default)]
struct Trace {
    parent: Option<HeaderValue>,
    state: Option<HeaderValue>,
}

impl InstanceOutbound {
    pub(crate) fn new(outbound: Outbound, waits: Arc<CallWaits>) -> Self {
        Self { outbound, waits, trace: Trace::default() }
    }

    /// Continues the trace of a request in the outbound requests of its call.
    pub(crate) fn begin_trace(&mut self, headers: &HeaderMap) {
        let field = |name| headers.get(name).cloned();
        self.trace = Trace { parent: field(TRACE_PARENT), state: field(TRACE_STATE) };
    }

    /// Continues the trace of an event, as its extension attributes report it (CloudEvents,
    /// Distributed Tracing).
    pub(crate) fn begin_event_trace(&mut self, extensions: &[(String, String)]) {
        let field = |wanted: &str| extensions.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let parent = field("traceparent").filter(|value| TraceParent::parse(value.as_bytes()).is_some());
        let state = field("tracestate").and_then(|value| trace_state([value.as_bytes()]));
        self.trace = Trace {
            parent: parent.and_then(|value| HeaderValue::try_from(value).ok()),
            state: state.and_then(|value| HeaderValue::try_from(value).ok()),
        };
    }

    /// Returns the trace of the current call, as a value of `traceparent`.
    pub(crate) fn trace_parent(&self) -> Option<HeaderValue> {
        self.trace.parent.clone()
    }

    /// Adds the trace of the current call to an event, unless the guest has chosen one.
    pub(crate) fn trace_event(&self, extensions: &mut Vec<(String, String)>) {
        let fields = [(&TRACE_PARENT, &self.trace.parent), (&TRACE_STATE, &self.trace.state)];
        if extensions.iter().any(|(name, _)| fields.iter().any(|(field, _)| field.as_str() == name)) {
            return;
        }
        for (name, value) in fields {
            // The ingress has checked that the values are text.
            let value = value.as_ref().and_then(|value| value.to_str().ok());
            extensions.extend(value.map(|value| (name.as_str().to_owned(), value.to_owned())));
        }
    }

    /// Ends the trace with its call.
    pub(crate) fn end_trace(&mut self) {
        self.trace = Trace::default();
    }
}

impl Trace {
    /// Adds the fields to an outbound request, unless the guest has set its own.
    fn apply(&self, headers: &mut HeaderMap) {
        let Some(parent) = &self.parent else { return };
        if headers.contains_key(TRACE_PARENT) {
            return;
        }
        headers.insert(TRACE_PARENT, parent.clone());
        match &self.state {
            Some(state) => headers.insert(TRACE_STATE, state.clone()),
            None => headers.remove(TRACE_STATE),
        };
    }
}

impl WasiHttpHooks for InstanceOutbound {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        self.trace.apply(request.headers_mut());
        let (outbound, waits) = (self.outbound.clone(), Arc::clone(&self.waits));
        // Begins here, since the future may first be polled after the guest has paused.
        let waiting = waits.begin(Phase::Http);
        Box::new(async move {
            let sent = outbound.send(request, Timeouts::of(options.unwrap_or_default()), waits).await;
            drop(waiting);
            sent
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_WRITE_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_WRITE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(trace: &[(&'static str, &'static str)], own: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let fields = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            let field = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            fields.iter().map(field).collect()
        };
        let (request, mut headers) = (fields(trace), fields(own));
        let field = |name| request.get(name).cloned();
        Trace { parent: field(TRACE_PARENT), state: field(TRACE_STATE) }.apply(&mut headers);
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().expect("it is text").to_owned())
        };
        headers.iter().map(text).collect()
    }

    #[test]
    fn an_outbound_request_continues_the_trace_of_its_call() {
        let trace = [("traceparent", "00-1-2-01"), ("tracestate", "a=1")];
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(sent(&trace, &[]), [text("traceparent", "00-1-2-01"), text("tracestate", "a=1")]);
        assert_eq!(sent(&trace[..1], &[("tracestate", "b=2")]), [text("traceparent", "00-1-2-01")]);
        assert_eq!(sent(&trace, &[("traceparent", "00-3-4-00")]), [text("traceparent", "00-3-4-00")]);
        assert_eq!(sent(&[], &[]), []);
    }
}
