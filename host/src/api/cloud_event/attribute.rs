//! Owns the rules of CloudEvents 1.0 for context attributes: their names, their types and their
//! values. Never reads a request.

use iri_string::types::{IriReferenceStr, IriStr};
use isopod_engine::Event;
use isopod_policy::json::explain;
use serde_json::value::RawValue;

use super::invalid;
use crate::{api::limits, api::request::BadRequest};

/// The attributes that the specification defines, which are all strings. Others are extensions.
const DEFINED: [&str; 8] = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];

/// An event's attributes as they are collected, each checked when it is set.
#[derive(Default)]
pub(super) struct Attributes {
    event: Event,
    specversion: Option<String>,
}

impl Attributes {
    /// Sets an attribute from its JSON text. Null leaves it unset.
    pub(super) fn set_json(&mut self, name: &str, value: &RawValue) -> Result<(), BadRequest> {
        let text = value.get();
        let is_extension = !DEFINED.contains(&name);
        match text.as_bytes() {
            b"null" => check_name(name),
            [b'"', ..] => {
                let text = serde_json::from_str(text)
                    .map_err(|e| invalid(Some(name), format!("the attribute `{name}` is not text: {}", explain(&e))))?;
                self.set(name, text)
            }
            b"true" | b"false" if is_extension => self.set(name, text.to_owned()),
            [b'-' | b'0'..=b'9', ..] if is_extension => {
                let number = integer(text).ok_or_else(|| {
                    let detail = format!("the attribute `{name}` is {text}, but an integer has at most 32 bits");
                    invalid(Some(name), format!("{detail}: from {} to {}; send others as strings", i32::MIN, i32::MAX))
                })?;
                self.set(name, number.to_string())
            }
            _ if is_extension => {
                let detail = format!("the attribute `{name}` must be a string, an integer or a boolean");
                Err(invalid(Some(name), detail))
            }
            _ => Err(invalid(Some(name), format!("the attribute `{name}` must be a string"))),
        }
    }

    /// Sets an attribute.
    pub(super) fn set(&mut self, name: &str, value: String) -> Result<(), BadRequest> {
        check_name(name)?;
        if value.chars().any(is_forbidden) {
            let detail = format!("the attribute `{name}` has control characters or Unicode noncharacters");
            return Err(invalid(Some(name), detail));
        }
        if value.is_empty() && DEFINED.contains(&name) {
            return Err(invalid(Some(name), format!("the attribute `{name}` is empty")));
        }
        let refuse =
            |wanted: &str| Err(invalid(Some(name), format!("the attribute `{name}` is not {wanted}: `{value}`")));
        let event = &mut self.event;
        match name {
            "specversion" if value != "1.0" => return refuse("`1.0`, the only version that is supported"),
            "specversion" => self.specversion = Some(value),
            "id" => event.id = value,
            // Letters beyond ASCII are accepted, as browsers show addresses.
            "source" if IriReferenceStr::new(&value).is_err() => {
                return refuse("a URI reference, such as /shop/orders");
            }
            "source" => event.source = value,
            "type" => event.event_type = value,
            "subject" => event.subject = Some(value),
            "time" if !is_rfc3339(&value) => return refuse("an RFC 3339 time, such as 2026-01-31T08:30:00Z"),
            "time" => event.time = Some(value),
            "datacontenttype" if !is_media_type(&value) => return refuse("a media type, such as application/json"),
            "datacontenttype" => event.data_content_type = Some(value),
            "dataschema" if IriStr::new(&value).is_err() => {
                return refuse("a URI with a scheme, such as https://example.org/schema");
            }
            "dataschema" => event.data_schema = Some(value),
            _ => event.extensions.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Returns the event if it has all required attributes.
    pub(super) fn event(self) -> Result<Event, BadRequest> {
        let event = self.event;
        let required = [
            ("specversion", self.specversion.as_deref().unwrap_or_default()),
            ("id", &event.id),
            ("source", &event.source),
            ("type", &event.event_type),
        ];
        match required.iter().find(|(_, value)| value.is_empty()) {
            Some((name, _)) => Err(invalid(Some(name), format!("the attribute `{name}` is missing"))),
            None => Ok(Event { attempt: 1, ..event }),
        }
    }
}

/// Returns the integer of a JSON number. JSON has one kind of number, so `3.0` equals `3`.
fn integer(text: &str) -> Option<i32> {
    let whole = || text.parse::<f64>().ok().filter(|number| number.fract() == 0.0);
    text.parse().ok().or_else(|| format!("{:.0}", whole()?).parse().ok())
}

fn check_name(name: &str) -> Result<(), BadRequest> {
    let most = limits::EVENT_ATTRIBUTE_NAME_CHARS_MAX;
    let shown: String = name.chars().take(2 * most).collect();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        let detail = format!("the attribute name `{shown}` has characters other than the letters a to z and digits");
        return Err(invalid(Some(&shown), detail));
    }
    if name.len() > most {
        let detail = format!("the attribute name `{shown}` has {} characters; the limit is {most}", name.len());
        return Err(invalid(Some(&shown), detail));
    }
    Ok(())
}

/// Returns whether attributes must not contain this character: control characters and Unicode
/// noncharacters.
fn is_forbidden(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Returns whether a text is an RFC 3339 time. The time parser also accepts other forms of ISO
/// 8601.
pub(super) fn is_rfc3339(text: &str) -> bool {
    const DATE_AND_TIME: &[u8] = b"0000-00-00T00:00:00";
    const OFFSET: &[u8] = b"+00:00";
    let fits = |text: &[u8], pattern: &[u8]| {
        text.len() == pattern.len()
            && text.iter().zip(pattern).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                b'+' => matches!(byte, b'+' | b'-'),
                _ => byte.eq_ignore_ascii_case(wanted),
            })
    };
    let Some((start, rest)) = text.as_bytes().split_at_checked(DATE_AND_TIME.len()) else { return false };
    let digits = match rest {
        [b'.', fraction @ ..] => fraction.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    };
    let has_fraction = rest.first() == Some(&b'.');
    if has_fraction && digits == 0 {
        return false;
    }
    let offset = &rest[if has_fraction { digits + 1 } else { 0 }..];
    fits(start, DATE_AND_TIME)
        && (offset.eq_ignore_ascii_case(b"Z") || fits(offset, OFFSET))
        && text.parse::<jiff::Timestamp>().is_ok()
}

/// Returns whether a text is a media type with its parameters. A range such as `text/*` is not.
fn is_media_type(text: &str) -> bool {
    text.parse::<mime::Mime>().is_ok_and(|media_type| {
        !media_type.subtype().as_str().is_empty() && media_type.type_() != "*" && media_type.subtype() != "*"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_form_of_rfc_3339() {
        for good in [
            "2026-01-02T03:04:05Z",
            "2026-01-02t03:04:05.123456z",
            "2026-12-31T23:59:60+01:30",
            "1969-01-02T03:04:05-00:00",
        ] {
            assert!(is_rfc3339(good), "{good}");
        }
        for bad in [
            "",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04Z",
            "20260102T030405Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05,5Z",
            "2026-01-02T03:04:05+01",
            "2026-01-02T03:04:05+01:30:10",
            "2026-01-02T03:04:05+00:00[UTC]",
            "2026-02-30T03:04:05Z",
            "2026-01-02T25:04:05Z",
            "2026-01-02T03:04:0\u{666}",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }

    #[test]
    fn a_whole_number_is_an_integer_in_every_notation() {
        for (text, number) in [
            ("3", Some(3)),
            ("3.0", Some(3)),
            ("-0", Some(0)),
            ("-0.0", Some(0)),
            ("3e2", Some(300)),
            ("2147483647.0", Some(i32::MAX)),
            ("-2147483648", Some(i32::MIN)),
            ("2147483648.0", None),
            ("0.5", None),
            ("1e400", None),
        ] {
            assert_eq!(integer(text), number, "{text}");
        }
    }

    #[test]
    fn a_media_type_has_two_parts_and_parameters() {
        for good in ["application/json", "text/plain; charset=utf-8", "application/vnd.x+json;v=\"1 2\""] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["json", "a b/c", "text/", "/x", "*/*", "text/*", "text/plain; =x", "text/plain; charset"] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }
}
