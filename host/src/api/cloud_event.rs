//! Owns reading a CloudEvent 1.0 from a request, in structured or in binary mode, and writing a reply. Never delivers
//! one.

use axum::http::HeaderMap;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use iri_string::types::{IriReferenceStr, IriStr};
use isopod_engine::Event;
use serde_json::{Map, Value};
use std::borrow::Cow;

use super::request::{BadRequest, json};

/// Reads the event of a request. `media_type` is its content type without parameters.
pub(crate) fn read(media_type: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Result<Event, BadRequest> {
    let binary = headers.contains_key("ce-specversion") || headers.contains_key("ce-type");
    match media_type {
        Some("application/cloudevents+json") => structured(json(body)?),
        _ if binary => from_headers(headers, body),
        // People who write an event by hand seldom know its own content type.
        Some("application/json") => structured(json(body)?),
        Some("application/cloudevents-batch+json") => Err(wrong("this route takes one event; send them one by one")),
        Some(_) | None => Err(BadRequest::ContentType {
            got: media_type.unwrap_or("missing").to_owned(),
            wanted: "application/cloudevents+json, or any with the headers ce-specversion, ce-id, ce-source and ce-type",
        }),
    }
}

fn wrong(detail: impl Into<String>) -> BadRequest {
    BadRequest::Event { detail: detail.into() }
}

fn structured(mut attributes: Map<String, Value>) -> Result<Event, BadRequest> {
    let data = match (attributes.remove("data"), attributes.remove("data_base64")) {
        (data, Some(Value::Null)) => {
            data.filter(|data| !data.is_null()).map(|data| data_bytes(data, attributes.get("datacontenttype")))
        }
        (Some(_), Some(_)) => return Err(wrong("it has both `data` and `data_base64`")),
        (None, Some(Value::String(text))) => Some(base64(&text).ok_or_else(|| wrong("`data_base64` is no base64"))?),
        (None, Some(_)) => return Err(wrong("`data_base64` is no text")),
        (None, None) => None,
        (Some(Value::Null), None) => None,
        (Some(data), None) => Some(data_bytes(data, attributes.get("datacontenttype"))),
    };
    let has_data = data.is_some();
    let mut builder = Builder { event: Event { data, attempt: 1, ..Event::default() }, specversion: None };
    for (name, value) in attributes {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            Value::Null => continue,
            Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                return Err(wrong(format!("the attribute `{name}` is neither a text, a whole number nor a boolean")));
            }
        };
        builder.set(&name, text)?;
    }
    let mut event = builder.finish()?;
    if has_data && event.data_content_type.is_none() {
        event.data_content_type = Some("application/json".to_owned());
    }
    Ok(event)
}

/// Text data of a text type is the text itself; everything else is JSON.
fn data_bytes(data: Value, content_type: Option<&Value>) -> Vec<u8> {
    let is_json = content_type.and_then(Value::as_str).is_none_or(|content_type| {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        media_type.ends_with("/json") || media_type.ends_with("+json")
    });
    match data {
        Value::String(text) if !is_json => text.into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

fn from_headers(headers: &HeaderMap, body: &[u8]) -> Result<Event, BadRequest> {
    let mut builder = Builder { event: Event { attempt: 1, ..Event::default() }, specversion: None };
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let value = value.to_str().map_err(|_| wrong(format!("the header ce-{name} is no text")))?;
        if headers.get_all(format!("ce-{name}")).iter().nth(1).is_some() {
            return Err(wrong(format!("the header ce-{name} is there more than once")));
        }
        if name == "data" || name.is_empty() {
            return Err(wrong(format!("the header ce-{name} is for no attribute; the data is the body")));
        }
        builder.set(name, percent_decoded(&unquoted(value)))?;
    }
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok());
    let mut event = builder.finish()?;
    event.data_content_type = content_type.map(str::to_owned);
    event.data = (!body.is_empty()).then(|| body.to_vec());
    Ok(event)
}

struct Builder {
    event: Event,
    specversion: Option<String>,
}

impl Builder {
    fn set(&mut self, name: &str, value: String) -> Result<(), BadRequest> {
        if value.chars().any(is_no_text) {
            let detail = "has control characters or code points that are no characters, which no attribute may have";
            return Err(wrong(format!("the attribute `{name}` {detail}")));
        }
        let event = &mut self.event;
        match name {
            "specversion" => self.specversion = Some(value),
            "id" => event.id = value,
            "source" => {
                // Of people's own letters too, as browsers show addresses.
                IriReferenceStr::new(&value)
                    .map_err(|_| wrong("`source` is no URI reference, such as /shop/orders"))?;
                event.source = value;
            }
            "type" => event.event_type = value,
            "subject" => event.subject = Some(value),
            "time" => {
                value.parse::<jiff::Timestamp>().map_err(|e| wrong(format!("`time` is no RFC 3339 time: {e}")))?;
                event.time = Some(value);
            }
            "datacontenttype" => event.data_content_type = Some(value),
            "dataschema" => {
                IriStr::new(&value).map_err(|_| wrong("`dataschema` is no URI, such as https://example.org/schema"))?;
                event.data_schema = Some(value);
            }
            _ if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) => {
                event.extensions.push((name.to_owned(), value));
            }
            _ => {
                return Err(wrong(format!(
                    "the attribute `{name}` has other characters than small letters and digits"
                )));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Event, BadRequest> {
        match self.specversion.as_deref() {
            Some("1.0") => {}
            Some(other) => return Err(wrong(format!("its specversion is `{other}`, and only `1.0` is known"))),
            None => return Err(wrong("its attribute `specversion` is missing")),
        }
        let required = [("id", &self.event.id), ("source", &self.event.source), ("type", &self.event.event_type)];
        match required.iter().find(|(_, value)| value.is_empty()) {
            Some((name, _)) => Err(wrong(format!("its attribute `{name}` is missing or empty"))),
            None => Ok(self.event),
        }
    }
}

/// A value may be written as a quoted string, in which a backslash stands before a character that means itself.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.to_owned() };
    let mut is_escaped = false;
    let is_meant = |character: &char| {
        is_escaped = *character == '\\' && !is_escaped;
        !is_escaped
    };
    inner.chars().filter(is_meant).collect()
}

/// The CloudEvents binding writes characters beyond ASCII into headers percent-encoded.
fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Cow::into_owned)
}

/// Standard base64, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, LENIENT).decode(text).ok()
}

/// What CloudEvents allows in no attribute: control characters, and what Unicode will never make a character.
fn is_no_text(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_json(text: &str) -> Result<Event, BadRequest> {
        read(Some("application/cloudevents+json"), &HeaderMap::new(), text.as_bytes())
    }

    #[test]
    fn a_structured_event_is_read_with_its_extensions() {
        let event = from_json(
            r#"{"specversion":"1.0","id":"1","source":"/chat","type":"chat.message","subject":"ann","trace":"x","n":3,
               "time":"2026-01-02T03:04:05Z","data":{"text":"hi"}}"#,
        )
        .expect("is an event");
        assert_eq!((event.id.as_str(), event.event_type.as_str()), ("1", "chat.message"));
        assert_eq!(event.data.as_deref(), Some(br#"{"text":"hi"}"#.as_slice()));
        assert_eq!(event.data_content_type.as_deref(), Some("application/json"));
        let mut extensions = event.extensions.clone();
        extensions.sort();
        assert_eq!(extensions, [("n".to_owned(), "3".to_owned()), ("trace".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn text_and_bytes_come_through_as_they_are() {
        let text = from_json(
            r#"{"specversion":"1.0","id":"1","source":"/","type":"t","datacontenttype":"text/plain","data":"hi"}"#,
        );
        assert_eq!(text.expect("is an event").data.as_deref(), Some(b"hi".as_slice()));
        let bytes = from_json(r#"{"specversion":"1.0","id":"1","source":"/","type":"t","data_base64":"AP8Q"}"#);
        assert_eq!(bytes.expect("is an event").data.as_deref(), Some([0, 255, 16].as_slice()));
    }

    #[test]
    fn a_source_may_be_any_uri_reference() {
        for source in
            ["/", "https://example.org/a?b#c", "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", "a@b.c", "/bücher"]
        {
            let text = format!(r#"{{"specversion":"1.0","id":"1","source":"{source}","type":"t"}}"#);
            assert_eq!(from_json(&text).expect(source).source, source);
        }
    }

    #[test]
    fn a_binary_event_is_read_from_headers() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-source", "/x"),
            ("ce-type", r#""a \"quoted\" \\ type""#),
            ("ce-subject", "J%C3%BCrgen 100%"),
            ("content-type", "text/plain"),
        ] {
            headers.insert(name, value.parse().expect("is a header"));
        }
        let event = read(Some("text/plain"), &headers, b"hello").expect("is an event");
        assert_eq!(event.event_type, r#"a "quoted" \ type"#);
        assert_eq!(event.subject.as_deref(), Some("Jürgen 100%"));
        assert_eq!(event.data.as_deref(), Some(b"hello".as_slice()));
    }

    #[test]
    fn what_is_wrong_with_an_event_is_named() {
        for (text, named) in [
            (r#"{"id":"1","source":"/","type":"t"}"#, "specversion"),
            (r#"{"specversion":"0.3","id":"1","source":"/","type":"t"}"#, "0.3"),
            (r#"{"specversion":"1.0","source":"/","type":"t"}"#, "`id`"),
            (r#"{"specversion":"1.0","id":"1","source":"/","type":"t","time":"noon"}"#, "time"),
            (r#"{"specversion":"1.0","id":"1","source":"/","type":"t","Bad":"x"}"#, "Bad"),
            (r#"{"specversion":"1.0","id":"1","source":"/","type":"t","x":[]}"#, "`x`"),
            (r#"{"specversion":"1.0","id":"1","source":"/","type":"t","data_base64":"*"}"#, "base64"),
            (r#"{"specversion":"1.0","id":"1","source":"/a b","type":"t"}"#, "`source`"),
            (r#"{"specversion":"1.0","id":"1","source":"/","type":"t\uFFFE"}"#, "`type`"),
            (r#"{"specversion":"1.0","id":"1\n","source":"/","type":"t"}"#, "`id`"),
        ] {
            let error = from_json(text).expect_err(text);
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
    }
}
