//! Collects the context attributes of a CloudEvent 1.0. Owns their types in JSON. Never reads a
//! request.

use isopod_engine::Event;
use isopod_policy::json::explain;
use serde_json::value::RawValue;

use super::invalid;
use crate::{
    api::request::BadRequest,
    control::{
        events::attributes::{self, DEFINED},
        limits,
    },
};

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
        attributes::check(name, &value).map_err(|why| named(name, why))?;
        if name == "source" {
            attributes::check_sender(&value, None).map_err(|why| named(name, why))?;
        }
        let event = &mut self.event;
        match name {
            "specversion" => self.specversion = Some(value),
            "id" => event.id = value,
            "source" => event.source = value,
            "type" => event.event_type = value,
            "subject" => event.subject = Some(value),
            "time" => event.time = Some(value),
            "datacontenttype" => event.data_content_type = Some(value),
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
    attributes::check_name(name).map_err(|why| named(name, why))
}

/// Returns an error about an attribute whose name may be long.
fn named(name: &str, why: String) -> BadRequest {
    let shown: String = name.chars().take(2 * limits::EVENT_ATTRIBUTE_NAME_CHARS_MAX).collect();
    invalid(Some(&shown), why)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
