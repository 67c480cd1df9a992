//! The trace of each request (W3C Trace Context): continues a valid trace of the client, and begins
//! a new one otherwise. The fields are set before any guest sees the request. Never refuses a
//! request.

use http::{HeaderMap, HeaderName, HeaderValue};
use isopod_policy::{RequestTrace, Sampling, SpanId, TraceId, TraceParent, trace_state};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// Sets the fields of a request's trace, and returns the part that the host records. Without
/// `sampling` it records nothing, and forwards a client's trace context unchanged.
pub(super) fn begin(headers: &mut HeaderMap, sampling: Option<Sampling>) -> RequestTrace {
    let received = received(headers);
    if headers.contains_key(STATE) {
        let state = received.and_then(|_| trace_state(headers.get_all(STATE).iter().map(HeaderValue::as_bytes)));
        match state.and_then(|state| HeaderValue::try_from(state).ok()) {
            Some(state) => headers.insert(STATE, state),
            None => headers.remove(STATE),
        };
    }
    // A client chooses the id of its trace, so the share of traces is taken by an id of the host.
    let id = TraceId::from_random(rand::random());
    let trace = received.map_or(id, |parent| parent.trace);
    let is_sampled = sampling.is_some_and(|sampling| sampling.records(received.as_ref(), id));
    let trusted = received.filter(|_| sampling.is_none_or(|sampling| sampling.trusts_parent()));
    // The guest's spans must not refer to a span of the host that isn't exported.
    let known = received.filter(|_| !is_sampled).map(|parent| parent.span);
    let span = known.unwrap_or_else(|| SpanId::from_random(rand::random()));
    let passed_on = TraceParent {
        trace,
        span,
        is_sampled: trusted.map_or(is_sampled, |parent| parent.is_sampled),
        is_random: received.is_none_or(|parent| parent.is_random),
    };
    if let Ok(value) = HeaderValue::from_bytes(&passed_on.to_bytes()) {
        headers.insert(PARENT, value);
    }
    let span = known.is_none().then_some(span);
    RequestTrace { trace, span, parent: received.map(|parent| parent.span), is_sampled }
}

/// Returns the `tracestate` of a request whose trace has begun.
pub(super) fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(STATE).cloned()
}

/// Returns the trace context of the client. Several fields are invalid, like a malformed one.
fn received(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(PARENT).iter();
    let value = values.next()?;
    values.next().is_none().then(|| TraceParent::parse(value.as_bytes()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn passed_on(fields: &[(&'static str, &str)], ratio: Option<f64>) -> (RequestTrace, String, Option<String>) {
        sampled(fields, ratio.map(|ratio| Sampling::new(ratio).expect("it is in range")))
    }

    fn sampled(fields: &[(&'static str, &str)], sampling: Option<Sampling>) -> (RequestTrace, String, Option<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let begun = begin(&mut headers, sampling);
        let text = |name: HeaderName| {
            assert!(headers.get_all(&name).iter().count() <= 1, "{headers:?}");
            headers.get(name).map(|value| value.to_str().expect("text").to_owned())
        };
        (begun, text(PARENT).expect("it is always set"), text(STATE))
    }

    fn sent() -> TraceParent {
        TraceParent::parse(SENT.as_bytes()).expect("it is valid")
    }

    #[test]
    fn a_valid_trace_is_continued() {
        let fields = [("traceparent", SENT), ("tracestate", "a=1"), ("tracestate", "b=2")];
        let (begun, parent, state) = passed_on(&fields, None);
        assert_eq!((parent.as_str(), state.as_deref()), (SENT, Some("a=1,b=2")));
        assert_eq!((begun.trace, begun.parent, begun.span), (sent().trace, Some(sent().span), None));
        let (_, parent, state) = passed_on(&[("traceparent", SENT), ("tracestate", "a=")], None);
        assert_eq!((parent.as_str(), state), (SENT, None));
    }

    #[test]
    fn an_invalid_trace_is_replaced_with_its_state() {
        let upper = SENT.to_uppercase();
        let cases: [&[(&str, &str)]; 4] = [
            &[],
            &[("traceparent", "00-1-2-01")],
            &[("traceparent", upper.as_str())],
            &[("traceparent", SENT), ("traceparent", SENT)],
        ];
        for fields in cases {
            let with_state = [fields, &[("tracestate", "a=1")]].concat();
            let (begun, parent, state) = passed_on(&with_state, None);
            let parent = TraceParent::parse(parent.as_bytes()).expect("it is valid");
            assert_eq!((parent.trace, Some(parent.span), state), (begun.trace, begun.span, None));
            assert!(!parent.is_sampled && begun.parent.is_none() && begun.trace != sent().trace);
        }
        assert_ne!(passed_on(&[], None).1, passed_on(&[], None).1);
    }

    #[test]
    fn a_guest_continues_the_span_of_the_host_if_it_is_recorded() {
        let (begun, parent, _) = passed_on(&[("traceparent", SENT)], Some(0.0));
        let parent = TraceParent::parse(parent.as_bytes()).expect("it is valid");
        assert!(begun.is_sampled && parent.is_sampled && parent.trace == sent().trace);
        assert_eq!((Some(parent.span), begun.parent), (begun.span, Some(sent().span)));
        let unsampled = format!("{}00", &SENT[..53]);
        let (begun, parent, _) = passed_on(&[("traceparent", &unsampled)], Some(1.0));
        assert!(!begun.is_sampled && parent == unsampled);
        let (begun, parent, _) = passed_on(&[], Some(1.0));
        assert!(begun.is_sampled && parent.ends_with("-03"), "{parent}");
    }

    #[test]
    fn an_untrusted_client_decides_nothing_about_its_trace() {
        let unsampled = format!("{}00", &SENT[..53]);
        let continued = sent();
        for (field, ratio, is_recorded) in [(SENT, 0.0, false), (unsampled.as_str(), 1.0, true)] {
            let sampling = Sampling::new(ratio).map(|sampling| sampling.trusting_parent(false));
            let (begun, parent, _) = sampled(&[("traceparent", field)], sampling);
            let parent = TraceParent::parse(parent.as_bytes()).expect("it is valid");
            assert_eq!((begun.is_sampled, parent.is_sampled), (is_recorded, is_recorded), "{field}");
            assert_eq!((begun.trace, begun.parent), (continued.trace, Some(continued.span)));
        }
    }
}
