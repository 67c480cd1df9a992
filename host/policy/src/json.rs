//! JSON that users write: names the type of a value, explains errors in plain words, and rejects
//! duplicate members. Never repeats a value in an error, since it may be a secret.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use crate::limits::TEXT_NAME_BYTES_SHOWN;
use crate::nearest::nearest;
use crate::text::excerpt;

/// Returns the name of a value's type, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Returns the value as a whole number of 0 or more. JSON has one kind of number, so `3.0` equals
/// `3`.
pub fn whole(value: &Value) -> Option<u64> {
    /// From this number on, not every whole number has its own floating-point representation.
    const FLOAT_MAX: f64 = 9_007_199_254_740_992.0;
    let float = || value.as_f64().filter(|float| float.fract() == 0.0 && (0.0..FLOAT_MAX).contains(float));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in range")]
    value.as_u64().or_else(|| float().map(|float| float as u64))
}

/// JSON without duplicate members in any object. Discards the value itself: ordinary parsers keep
/// the last of two equal members and silently drop the other.
pub struct UniqueMembers;

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = UniqueMembers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if seen.contains(&name) {
                return Err(de::Error::custom(twice(&name)));
            }
            seen.insert(name);
            map.next_value::<UniqueMembers>()?;
        }
        Ok(UniqueMembers)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<UniqueMembers, A::Error> {
        while list.next_element::<UniqueMembers>()?.is_some() {}
        Ok(UniqueMembers)
    }

    fn visit_bool<E>(self, _: bool) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }

    fn visit_i64<E>(self, _: i64) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }

    fn visit_u64<E>(self, _: u64) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }

    fn visit_f64<E>(self, _: f64) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }

    fn visit_str<E>(self, _: &str) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }

    fn visit_unit<E>(self) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }
}

/// Explains an error of the JSON library in plain words, without its position.
pub fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&position).unwrap_or(&text);
    match error.classify() {
        Category::Eof => format!("it ends {}", text.replace("EOF while parsing", "in the middle of")),
        Category::Syntax | Category::Io => syntax(text).to_owned(),
        Category::Data => explain_data(text),
    }
}

fn syntax(text: &str) -> &str {
    match text {
        "expected ident" => "only `true`, `false` and `null` are written without quotes",
        "expected value" => "a value is missing",
        "key must be a string" => "the name of a member must be in double quotes",
        "trailing comma" => "there is no value after the last comma",
        "trailing characters" => "more text follows its end",
        "recursion limit exceeded" => "it is nested more than 127 levels deep",
        "invalid escape" => "a string has an unknown escape sequence",
        "invalid number" => "a number is malformed",
        "number out of range" => "a number is too large",
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" | "invalid unicode code point" => {
            "a string has text that is not Unicode"
        }
        text if text.starts_with("control character") => "a string has a control character that is not escaped",
        text => text,
    }
}

/// Explains a `serde` error about a value in plain words. The texts of our own types are returned
/// unchanged.
pub fn explain_data(text: &str) -> String {
    if let Some((found, expected)) = after(text, &["invalid type: ", "invalid value: "]) {
        return format!("it must be {}, not {}", wanted(expected), found_kind(found));
    }
    if let Some((found, expected)) = after(text, &["unknown field "]) {
        let known: Vec<&str> = quoted(expected).collect();
        return format!("unknown member {}{}", cut(found), known_words(unquoted(found), &known));
    }
    if let Some((found, expected)) = after(text, &["unknown variant "]) {
        let known: Vec<&str> = quoted(expected).collect();
        return format!("unknown value {}{}", cut(found), known_words(unquoted(found), &known));
    }
    if let Some(name) = text.strip_prefix("missing field ") {
        return format!("the member {} is missing", cut(name));
    }
    if let Some(name) = text.strip_prefix("duplicate field ") {
        return twice(unquoted(name));
    }
    text.to_owned()
}

/// Returns the text between one of the prefixes and `, expected`, and the text after that.
fn after<'t>(text: &'t str, prefixes: &[&str]) -> Option<(&'t str, &'t str)> {
    let rest = prefixes.iter().find_map(|beginning| text.strip_prefix(beginning))?;
    rest.rsplit_once(", expected ").or_else(|| rest.rsplit_once(", there are no ").map(|(found, _)| (found, "")))
}

fn wanted(expected: &str) -> &str {
    match expected {
        "a string" | "a borrowed string" | "string" | "str" | "variant identifier" | "field identifier" => "text",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" | "a list" => "a list",
        "a map" => "an object",
        text if text.starts_with("struct ") || text.starts_with("internally tagged enum") => "an object",
        text if text.starts_with("enum ") => "text",
        text if text.starts_with("tuple ") => "a list",
        text => text,
    }
}

/// Returns the type of a value that the library names together with the value itself.
fn found_kind(found: &str) -> &str {
    match found.split([' ', '"', '`']).next().unwrap_or_default() {
        "string" | "character" | "byte" => "text",
        "integer" | "floating" => "a number",
        "boolean" => "true or false",
        "sequence" | "tuple" => "a list",
        "map" | "struct" => "an object",
        "null" | "unit" => "null",
        _ => "a value of another kind",
    }
}

/// Returns the end of a sentence about an unknown word.
fn known_words(given: &str, known: &[&str]) -> String {
    match nearest(given, known.iter().copied()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if known.is_empty() => "; no words are known".to_owned(),
        None => format!("; known: {}", known.join(", ")),
    }
}

/// Iterates over the words in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('`').and_then(|text| text.strip_suffix('`')).unwrap_or(text)
}

fn cut(text: &str) -> String {
    format!("`{}`", excerpt(unquoted(text), TEXT_NAME_BYTES_SHOWN))
}

fn twice(name: &str) -> String {
    format!("the member {} appears more than once", cut(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors matter")]
    struct Shape {
        name: String,
        count: Option<u32>,
        list: Option<Vec<bool>>,
        kind: Option<Kind>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Small,
        Large,
    }

    fn why(text: &str) -> String {
        explain(&serde_json::from_str::<Shape>(text).expect_err("it is refused"))
    }

    #[test]
    fn errors_of_the_library_are_in_plain_words() {
        for (text, wanted) in [
            (r#"{"name":5}"#, "it must be text, not a number"),
            (r#"{"name":"x","count":"secret"}"#, "it must be a whole number of 0 or more, not text"),
            (r#"{"name":"x","count":-1}"#, "it must be a whole number of 0 or more, not a number"),
            (r#"{"name":"x","list":{}}"#, "it must be a list, not an object"),
            (r#"{"name":"x","list":[null]}"#, "it must be true or false, not null"),
            (r#""x""#, "it must be an object, not text"),
            (r#"{"count":1}"#, "the member `name` is missing"),
            (r#"{"nmae":"x"}"#, "unknown member `nmae`; did you mean `name`?"),
            (r#"{"zzzzzzzz":"x"}"#, "unknown member `zzzzzzzz`; known: name, count, list, kind"),
            (r#"{"name":"x","name":"y"}"#, "the member `name` appears more than once"),
            (r#"{"name":"x","kind":"smal"}"#, "unknown value `smal`; did you mean `small`?"),
            (r#"{"name":"x""#, "it ends in the middle of an object"),
            ("", "it ends in the middle of a value"),
            (r#"{"name":"x"} y"#, "more text follows its end"),
            (r#"{name:"x"}"#, "the name of a member must be in double quotes"),
            (r#"{"name":nope}"#, "only `true`, `false` and `null` are written without quotes"),
        ] {
            assert_eq!(why(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
        let read = |text: &str| whole(&serde_json::from_str(text).expect("it is JSON"));
        for (text, number) in
            [("3", 3), ("3.0", 3), ("1e3", 1_000), ("0", 0), ("-0.0", 0), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(read(text), Some(number), "{text}");
        }
        for text in ["3.5", "-1", "-1.0", "1e300", "9007199254740992.0", "\"3\"", "null", "true"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_member_that_appears_twice_is_named_at_every_depth() {
        let unique = |text: &str| serde_json::from_str::<UniqueMembers>(text).map(drop);
        assert!(unique(r#"{"a":{"b":1,"c":[{"b":null},{"b":true}]},"b":-1.5}"#).is_ok());
        for text in
            [r#"{"b":1,"b":1}"#, r#"{"a":{"b":1,"b":2}}"#, r#"[{"a":[{"b":"","b":null}]}]"#, r#"{"b":1,"\u0062":2}"#]
        {
            let error = unique(text).expect_err("it is refused");
            assert_eq!(explain(&error), "the member `b` appears more than once", "{text}");
            assert!(error.line() == 1 && error.column() > 1, "{error}");
        }
    }
}
