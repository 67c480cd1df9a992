//! Reads the events of a request: one, a batch, or one per line. Never reads a body or a clock.

use axum::http::HeaderMap;
use isopod_engine::Event;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::{invalid, options::DeliveryOptions, read, structured};
use crate::api::{
    bad_request::EventPosition,
    limits,
    ndjson::Line,
    request::{BadRequest, json_text},
};

/// An event of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceivedEvent {
    /// The event, as the handler receives it.
    pub(crate) event: Event,
    /// When the host may deliver it.
    pub(crate) options: DeliveryOptions,
}

/// Reads the events of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventReader {
    now: Timestamp,
    /// The options of events without their own.
    defaults: DeliveryOptions,
}

impl EventReader {
    /// Returns the reader of a request with these headers, received at `now`.
    pub(crate) fn new(headers: &HeaderMap, now: Timestamp) -> Result<Self, BadRequest> {
        Ok(Self { now, defaults: DeliveryOptions::from_headers(headers, now)? })
    }

    /// Reads the event of a request. `media_type` is its content type without parameters.
    pub(crate) fn read(
        &self,
        media_type: Option<&str>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<ReceivedEvent, BadRequest> {
        self.received(read(media_type, headers, body)?)
    }

    /// Reads a batch (`application/cloudevents-batch+json`), a JSON array of events in structured
    /// mode. Returns the events in their order, each with the length of its text, or with its own
    /// error, which has its index.
    pub(crate) fn read_batch<'a>(
        &self,
        body: &'a [u8],
    ) -> Result<impl Iterator<Item = Result<(ReceivedEvent, usize), BadRequest>> + use<'a>, BadRequest> {
        if body.len() > limits::EVENT_BATCH_BODY_BYTES {
            return Err(BadRequest::TooLarge { limit_bytes: limits::EVENT_BATCH_BODY_BYTES as u64 });
        }
        let items: Vec<&RawValue> = json_text(body)?;
        let reader = *self;
        Ok(items.into_iter().enumerate().map(move |(index, item)| {
            let text = item.get().as_bytes();
            let event = reader.read_text(text).map_err(|error| error.at(EventPosition::Index(index)))?;
            Ok((event, text.len()))
        }))
    }

    /// Reads a line of NDJSON, an event in structured mode. An error has the line's number.
    pub(crate) fn read_line(&self, line: &Line) -> Result<ReceivedEvent, BadRequest> {
        self.read_text(&line.bytes).map_err(|error| error.at(EventPosition::Line(line.number)))
    }

    fn read_text(&self, text: &[u8]) -> Result<ReceivedEvent, BadRequest> {
        if text.len() > limits::EVENT_BODY_BYTES {
            return Err(invalid(None, format!("the event is larger than {} bytes", limits::EVENT_BODY_BYTES)));
        }
        self.received(structured(json_text(text)?)?)
    }

    fn received(&self, mut event: Event) -> Result<ReceivedEvent, BadRequest> {
        let options = self.defaults.taken_from(&mut event, self.now)?;
        Ok(ReceivedEvent { event, options })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;
    use crate::api::ndjson::Lines;

    fn now() -> Timestamp {
        "2026-11-29T12:00:00Z".parse().expect("is a time")
    }

    fn reader() -> EventReader {
        EventReader::new(&HeaderMap::new(), now()).expect("has no headers")
    }

    fn text(id: &str, more: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/","type":"t"{more}}}"#)
    }

    /// Returns the ids of the events and the texts of the errors of a batch.
    fn batch(body: &str) -> Vec<Result<String, String>> {
        let events = reader().read_batch(body.as_bytes()).expect("is a batch");
        events.map(|event| event.map(|(found, _)| found.event.id).map_err(|error| error.to_string())).collect()
    }

    fn line(number: u64, text: &str) -> Result<ReceivedEvent, BadRequest> {
        reader().read_line(&Line { number, bytes: Bytes::copy_from_slice(text.as_bytes()) })
    }

    #[test]
    fn an_error_of_a_batch_names_the_index_and_the_others_are_read() {
        assert_eq!(batch("[]"), []);
        let body = format!("[{}, 3, {},\n{}]", text("a", ""), text("b", r#","time":"noon""#), text("c", ""));
        let found = batch(&body);
        assert_eq!((&found[0], &found[3]), (&Ok("a".to_owned()), &Ok("c".to_owned())));
        let error = |index: usize| found[index].clone().expect_err("is invalid");
        assert!(error(1).starts_with("invalid CloudEvent at index 1: invalid JSON (column 1): "), "{}", error(1));
        assert!(error(2).starts_with("invalid CloudEvent at index 2: the attribute `time` is not"), "{}", error(2));
    }

    #[test]
    fn a_body_that_is_not_an_array_is_refused_as_a_batch() {
        for body in ["", "{}", "3", "[", "[{]", "[{},]", "[] x", "\u{feff}[]"] {
            assert!(matches!(reader().read_batch(body.as_bytes()).map(drop), Err(BadRequest::Json { .. })), "{body}");
        }
        assert!(reader().read_batch(b"[\"\xff\"]").is_err());
        let large = vec![b' '; limits::EVENT_BATCH_BODY_BYTES + 1];
        assert!(matches!(reader().read_batch(&large).map(drop), Err(BadRequest::TooLarge { .. })));
    }

    #[test]
    fn an_event_of_a_batch_has_the_limit_of_a_single_one() {
        let large = text("large", &format!(r#","data":"{}""#, "x".repeat(limits::EVENT_BODY_BYTES)));
        let found = batch(&format!("[{large},{}]", text("b", "")));
        assert!(found[0].as_ref().is_err_and(|error| error.contains("larger than 1048576 bytes")), "{:?}", found[0]);
        assert_eq!(found[1], Ok("b".to_owned()));
    }

    #[test]
    fn an_error_of_a_line_names_its_number() {
        for (text, words) in [
            (r#"{"specversion":"1.0""#, "invalid CloudEvent on line 7: invalid JSON (column 20): "),
            (r#"{"specversion":"1.0"}{}"#, "invalid CloudEvent on line 7: invalid JSON (column 22): more text"),
            (r#"{"specversion":"0.3"}"#, "invalid CloudEvent on line 7: the attribute `specversion` is not `1.0`"),
            ("[]", "invalid CloudEvent on line 7: invalid JSON (column "),
        ] {
            let error = line(7, text).expect_err(text).to_string();
            assert!(error.starts_with(words), "{text}: {error}");
        }
        let error = line(2, &text("1", r#","isopoddelay":"soon""#)).expect_err("is not a time");
        let BadRequest::Event { position, attribute, .. } = error else { panic!("{error}") };
        assert_eq!((position, attribute.as_deref()), (Some(EventPosition::Line(2)), Some("isopoddelay")));
    }

    #[test]
    fn every_form_of_an_event_has_delivery_options() {
        let later = Some(now() + SignedDuration::from_secs(90));
        let delayed = text("1", r#","isopoddelay":"90s""#);
        let not_before = |found: Result<ReceivedEvent, BadRequest>| {
            let found = found.expect("is an event");
            assert_eq!(found.event.extensions, []);
            found.options.not_before
        };
        let one = |media_type, headers: &HeaderMap, body: &str| {
            let reader = EventReader::new(headers, now()).expect("are valid");
            not_before(reader.read(Some(media_type), headers, body.as_bytes()))
        };
        let structured = "application/cloudevents+json";
        assert_eq!(one(structured, &HeaderMap::new(), &delayed), later);
        assert_eq!(one(structured, &HeaderMap::new(), &text("1", "")), None);
        assert_eq!(not_before(line(1, &delayed)), later);
        let body = format!("[{delayed}]");
        let mut events = reader().read_batch(body.as_bytes()).expect("is a batch");
        assert_eq!(events.next().map(|event| not_before(event.map(|(found, _)| found))), Some(later));
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
        };
        assert_eq!(one(structured, &headers(&[("isopod-delay", "90s")]), &text("1", "")), later);
        let binary = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/"), ("ce-type", "t")];
        assert_eq!(one("text/plain", &headers(&[&binary[..], &[("ce-isopoddelay", "90s")]].concat()), "x"), later);
        assert_eq!(one("text/plain", &headers(&[&binary[..], &[("isopod-delay", "90s")]].concat()), "x"), later);
    }

    /// Bytes that are often almost an event.
    fn almost() -> impl Strategy<Value = Vec<u8>> {
        let value = prop_oneof![
            Just("null".to_owned()),
            Just("1".to_owned()),
            Just("[]".to_owned()),
            Just("\"1.0\"".to_owned()),
            Just("\"90s\"".to_owned()),
            Just("\"\\ud800\"".to_owned()),
            "[ -~]{0,6}",
            "\"[^\"\\\\]{0,6}\"",
        ];
        let name = prop_oneof![
            Just("specversion"),
            Just("id"),
            Just("source"),
            Just("type"),
            Just("subject"),
            Just("time"),
            Just("data"),
            Just("data_base64"),
            Just("datacontenttype"),
            Just("isopoddelay"),
            Just("isopodexpires"),
            Just("x"),
            Just(""),
        ];
        let members = proptest::collection::vec((name, value), 0..8);
        let object = members.prop_map(|members| {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(",")).into_bytes()
        });
        let valid = (0..4usize).prop_map(|cut| {
            let text = text("1", r#","isopoddelay":"5s","data":{"a":[1]}"#);
            text.as_bytes()[..text.len() - cut].to_vec()
        });
        prop_oneof![object, valid, proptest::collection::vec(any::<u8>(), 0..40)]
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(
            bodies in proptest::collection::vec(almost(), 0..4),
            names in proptest::collection::vec("ce-[a-z0-9_-]{0,12}", 0..6),
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 6), kind in 0..4usize,
        ) {
            let kinds = ["application/cloudevents+json", "application/json", "text/plain", ""];
            let mut headers = HeaderMap::new();
            let fixed = ["isopod-delay", "isopod-expires", "content-type", "ce-specversion"].map(str::to_owned);
            for (name, value) in names.iter().chain(&fixed).zip(&values) {
                if let (Ok(name), Ok(value)) = (name.parse::<axum::http::HeaderName>(), value.as_slice().try_into()) {
                    headers.append::<axum::http::HeaderName>(name, value);
                }
            }
            let reader = EventReader::new(&headers, now()).unwrap_or_else(|_| self::reader());
            for body in &bodies {
                let _ = reader.read(Some(kinds[kind]), &headers, body);
                let _ = reader.read_line(&Line { number: 1, bytes: Bytes::copy_from_slice(body) });
            }
            let body = [b"[".as_slice(), &bodies.join(&b","[..]), b"]"].concat();
            if let Ok(events) = reader.read_batch(&body) {
                events.for_each(drop);
            }
            let (mut lines, mut chunk) = (Lines::new(20), Bytes::from(bodies.join(&b"\n"[..])));
            while let Ok(Some(line)) = lines.next(&mut chunk) {
                let _ = reader.read_line(&line);
            }
        }

        #[test]
        fn a_batch_and_lines_have_the_same_events(bodies in proptest::collection::vec(almost(), 0..6)) {
            let is_json = |body: &&Vec<u8>| serde_json::from_slice::<&RawValue>(body).is_ok();
            let valid: Vec<&[u8]> = bodies.iter().filter(is_json).map(Vec::as_slice).collect();
            let body = [b"[", valid.join(&b","[..]).as_slice(), b"]"].concat();
            let events = reader().read_batch(&body).expect("is a batch");
            let events: Vec<_> = events.map(|event| event.ok().map(|(found, _)| found)).collect();
            let line = |body: &&[u8]| reader().read_line(&Line { number: 1, bytes: Bytes::copy_from_slice(body) }).ok();
            prop_assert_eq!(events, valid.iter().map(line).collect::<Vec<_>>());
        }
    }
}
