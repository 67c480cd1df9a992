//! Reads CloudEvents 1.0 in structured or binary mode. The module `reader` owns requests with one
//! or several events, `attribute` single attributes, and `options` the attributes that set delays
//! and expiries. `control::events` has their rules. Never delivers an event.

mod attribute;
mod options;
mod reader;

use std::{borrow::Cow, collections::HashSet, fmt};

use axum::http::HeaderMap;
use base64::{
    DecodeError, Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use isopod_engine::Event;
use isopod_policy::json::explain;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

pub(crate) use self::{
    options::DeliveryOptions,
    reader::{EventReader, ReceivedEvent},
};

use self::attribute::Attributes;
use super::request::{BadRequest, json_text};

fn read(media_type: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Result<Event, BadRequest> {
    let is_binary = headers.contains_key("ce-specversion") || headers.contains_key("ce-type");
    match media_type {
        Some("application/cloudevents+json") => structured(json_text(body)?),
        Some("application/cloudevents-batch+json") => {
            Err(invalid(None, "this route accepts one event per request; send the events of a batch one by one"))
        }
        // Another event format, such as application/cloudevents+xml, is refused rather than read as
        // data.
        Some(media_type) if is_binary && !media_type.starts_with("application/cloudevents") => {
            from_headers(headers, body)
        }
        None if is_binary => from_headers(headers, body),
        // Users seldom know the content type of CloudEvents when they write an event by hand.
        Some("application/json") => structured(json_text(body)?),
        Some(_) | None => Err(BadRequest::ContentType {
            got: media_type.unwrap_or("missing").to_owned(),
            wanted: "application/cloudevents+json, or any type with the headers ce-specversion, ce-id, ce-source and \
                     ce-type",
        }),
    }
}

/// Returns an error about one attribute, or about the whole event.
fn invalid(attribute: Option<&str>, detail: impl Into<String>) -> BadRequest {
    BadRequest::Event { position: None, attribute: attribute.map(str::to_owned), detail: detail.into() }
}

/// The members of a structured event in their original order. Each value keeps its JSON text: a
/// parsed number may lose digits, and a parsed object its order and its duplicate members.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

fn structured(Members(members): Members<'_>) -> Result<Event, BadRequest> {
    let (mut data, mut data_base64, mut seen) = (None, None, HashSet::new());
    let mut attributes = Attributes::default();
    for (name, value) in &members {
        if !seen.insert(name.as_str()) {
            return Err(invalid(Some(name), format!("the member `{name}` appears more than once")));
        }
        match name.as_str() {
            "data" => data = Some(*value),
            "data_base64" => data_base64 = Some(*value).filter(|value| value.get() != "null"),
            _ => attributes.set_json(name, value)?,
        }
    }
    let mut event = attributes.event()?;
    event.data = match (data, data_base64) {
        (Some(_), Some(_)) => return Err(invalid(Some("data_base64"), "it has both `data` and `data_base64`")),
        (None, Some(value)) => Some(base64_data(value)?),
        (Some(value), None) if value.get() != "null" => Some(data_bytes(value, event.data_content_type.as_deref())?),
        (Some(_) | None, None) => None,
    };
    if event.data.is_some() && event.data_content_type.is_none() {
        event.data_content_type = Some("application/json".to_owned());
    }
    Ok(event)
}

/// Returns the data's bytes. For a content type other than JSON, a string yields its characters;
/// every other value yields its JSON text.
fn data_bytes(value: &RawValue, content_type: Option<&str>) -> Result<Vec<u8>, BadRequest> {
    let is_json = content_type.is_none_or(|content_type| {
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        media_type.ends_with("/json") || media_type.ends_with("+json")
    });
    let text = value.get();
    if is_json || !text.starts_with('"') {
        return Ok(text.as_bytes().to_vec());
    }
    let text: String =
        serde_json::from_str(text).map_err(|e| invalid(Some("data"), format!("invalid `data`: {}", explain(&e))))?;
    Ok(text.into_bytes())
}

fn base64_data(value: &RawValue) -> Result<Vec<u8>, BadRequest> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = serde_json::from_str(value.get())
        .map_err(|_| invalid(Some("data_base64"), "`data_base64` must be a string"))?;
    GeneralPurpose::new(&alphabet::STANDARD, LENIENT)
        .decode(text)
        .map_err(|e| invalid(Some("data_base64"), format!("`data_base64` is not valid base64: {}", not_base64(&e))))
}

fn not_base64(error: &DecodeError) -> String {
    match error {
        DecodeError::InvalidByte(offset, _) => format!("the character at byte {offset} is not in the base64 alphabet"),
        DecodeError::InvalidLastSymbol { offset, .. } => {
            format!("the last character, at byte {offset}, has bits left over")
        }
        DecodeError::InvalidLength(length) => format!("{length} characters don't encode whole bytes"),
        DecodeError::InvalidPadding => "its padding is wrong".to_owned(),
    }
}

fn from_headers(headers: &HeaderMap, body: &[u8]) -> Result<Event, BadRequest> {
    let mut attributes = Attributes::default();
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        let value = only_attribute(headers, name.as_str(), attribute)?;
        match attribute {
            "data" | "data_base64" | "" => {
                let detail = format!("the header {name} names no attribute; in binary mode the data is the body");
                return Err(invalid(Some(attribute), detail));
            }
            "datacontenttype" => {
                let detail = "in binary mode the header content-type is the attribute `datacontenttype`";
                return Err(invalid(Some(attribute), detail));
            }
            _ => attributes.set(attribute, decoded(attribute, value)?)?,
        }
    }
    if headers.contains_key("content-type") {
        let value = only_attribute(headers, "content-type", "datacontenttype")?;
        attributes.set("datacontenttype", value.to_owned())?;
    }
    let mut event = attributes.event()?;
    event.data = (!body.is_empty()).then(|| body.to_vec());
    Ok(event)
}

/// Returns the value of a header that is an attribute.
fn only_attribute<'a>(headers: &'a HeaderMap, name: &str, attribute: &str) -> Result<&'a str, BadRequest> {
    only_value(headers, name).map_err(|why| invalid(Some(attribute), format!("the header {name} {why}")))
}

/// Returns the value of a header that a request may have only once. The error is the end of a
/// sentence.
fn only_value<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| "has characters other than visible ASCII"),
        _ => Err("appears more than once"),
    }
}

/// Returns the text of an attribute's header, unquoted and then percent-decoded.
fn decoded(attribute: &str, value: &str) -> Result<String, BadRequest> {
    let value = unquoted(value).ok_or_else(|| {
        invalid(Some(attribute), format!("the header ce-{attribute} begins with a quote, but is not a quoted string"))
    })?;
    let decoded = percent_encoding::percent_decode_str(&value).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| {
        invalid(Some(attribute), format!("the header ce-{attribute} is not valid UTF-8 after percent-decoding"))
    })
}

/// Unquotes a value that is a quoted string (RFC 9110), in which a backslash escapes the next
/// character. Returns `None` if the quoted string is malformed.
fn unquoted(text: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = text.strip_prefix('"') else { return Some(text.into()) };
    let (mut plain, mut characters) = (String::new(), rest.chars());
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(plain.into()),
            '\\' => plain.push(characters.next()?),
            character => plain.push(character),
        }
    }
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
    fn text_and_bytes_are_unchanged() {
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
    fn json_data_keeps_its_text() {
        for data in [
            r#"{"b": 18446744073709551616, "a":19.90 ,"a":1e2}"#,
            "[1.0, -0, 1E400]",
            r#""caf\u00e9 \/ \ud800""#,
            "false",
        ] {
            let text = format!(r#"{{"specversion":"1.0","id":"1","source":"/","type":"t","data": {data} }}"#);
            assert_eq!(from_json(&text).expect(data).data.as_deref(), Some(data.as_bytes()));
        }
    }

    #[test]
    fn data_of_another_type_than_json_is_the_characters_of_a_string() {
        let event = |kind: &str, data: &str| {
            let text = format!(
                r#"{{"data":{data},"specversion":"1.0","id":"1","source":"/","type":"t","datacontenttype":"{kind}"}}"#
            );
            from_json(&text).map(|event| String::from_utf8(event.data.expect("has data")).expect("is text"))
        };
        assert_eq!(event("text/plain", r#""a\nb""#).expect("is an event"), "a\nb");
        assert_eq!(event("text/csv", "1.50").expect("is an event"), "1.50");
        assert_eq!(event("application/vnd.x+JSON; v=1", r#""a\nb""#).expect("is an event"), r#""a\nb""#);
        assert!(event("text/plain", r#""\ud800""#).is_err(), "a lone surrogate is not valid text");
    }

    #[test]
    fn a_header_is_unquoted_then_percent_decoded() {
        for (value, text) in [
            ("a%20b%zz", "a b%zz"),
            (r#""a\"b\\""#, r#"a"b\"#),
            (r#"a"b"#, r#"a"b"#),
            ("%22a%22", "\"a\""),
            ("\"%E2%82%AC\"", "\u{20ac}"),
        ] {
            assert_eq!(decoded("subject", value).expect(value), text);
        }
        for value in ["%FF", "%C3", "%ED%A0%80", "%C0%80", "\"", "\"a", "\"a\"b", "\"a\\"] {
            assert!(decoded("subject", value).is_err(), "{value}");
        }
    }

    #[test]
    fn an_error_names_the_invalid_part_of_an_event() {
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
            (r#"{"specversion":"1.0","id":"1","source":"/","type":"t","id":"2"}"#, "`id`"),
            (r#"{"specversion":"1.0","id":"1","source":"/","type":"t","data":1,"data_base64":"AA=="}"#, "data_base64"),
        ] {
            let error = from_json(text).expect_err(text);
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
    }
}
