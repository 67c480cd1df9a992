//! Sizes and durations as the configuration file has them. Never resolves a default.

use std::time::Duration;

use serde::Deserialize;

/// A duration in the file's form: `30s`, `7days`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Span(pub(super) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let span = humantime::parse_duration(&text);
        span.map(Self).map_err(|e| format!("invalid duration `{text}` ({e}); write it as `30s` or `7days`"))
    }
}

/// A size in the file's form: `4MiB`, `512KiB`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Size(pub(super) u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("invalid size `{text}`; write it as `512KiB` or `4MiB`");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let scale: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_with_their_unit() {
        assert_eq!(Size::try_from("4MiB".to_owned()).map(|s| s.0), Ok(4 << 20));
        assert!(Size::try_from("4MB".to_owned()).is_err());
        assert!(Size::try_from("99999999999GiB".to_owned()).is_err());
    }
}
