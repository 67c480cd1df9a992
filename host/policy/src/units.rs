//! Sizes and durations as users write them: "64MiB", "30s". Owns their parsing and printing; a
//! number without a unit is an error. Never rounds: a printed value parses to the same value.

use std::time::Duration;

/// Why a text is not a valid size or duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// A number without a unit.
    #[error("{given:?} has no unit; write {suggestion}")]
    NoUnit { given: String, suggestion: String },
    /// An unknown unit.
    #[error("unknown unit {unit:?} of a {what}; the units are {known}, as in {example:?}")]
    UnknownUnit { unit: String, what: &'static str, known: &'static str, example: &'static str },
    /// No whole number before the unit.
    #[error("invalid {what} {given:?}: write a whole number and a unit ({known}), as in {example:?}")]
    NotANumber { given: String, what: &'static str, known: &'static str, example: &'static str },
    /// The number exceeds the range.
    #[error("{given:?} is too large for a {what}")]
    TooLarge { given: String, what: &'static str },
}

/// A family of units, smallest first.
struct Family {
    what: &'static str,
    known: &'static str,
    example: &'static str,
    /// The unit that an error suggests for a number without one.
    suggested: &'static str,
    units: &'static [(&'static str, u64)],
}

const BYTES: Family = Family {
    what: "size",
    known: "B, KiB, MiB, GiB",
    example: "64MiB",
    suggested: "MiB",
    units: &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)],
};

const MILLISECONDS: Family = Family {
    what: "duration",
    known: "ms, s, m, h, d",
    example: "30s",
    suggested: "s",
    units: &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
};

/// How much of a refused text an error repeats.
const GIVEN_SHOWN_CHARS: usize = 40;

impl Family {
    fn parse(&self, text: &str) -> Result<u64, UnitError> {
        let text = text.trim();
        let given = || text.chars().take(GIVEN_SHOWN_CHARS).collect::<String>();
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let unit = unit.trim_start();
        if digits.is_empty() || unit.starts_with(['.', ',', '_']) {
            let Self { what, known, example, .. } = *self;
            return Err(UnitError::NotANumber { given: given(), what, known, example });
        }
        if unit.is_empty() {
            return Err(UnitError::NoUnit { given: given(), suggestion: format!("\"{}{}\"", given(), self.suggested) });
        }
        let Some((_, factor)) = self.units.iter().find(|(name, _)| *name == unit) else {
            let unit = unit.chars().take(GIVEN_SHOWN_CHARS).collect();
            return Err(UnitError::UnknownUnit { unit, what: self.what, known: self.known, example: self.example });
        };
        let number: Option<u64> = digits.parse().ok();
        number
            .and_then(|number| number.checked_mul(*factor))
            .ok_or_else(|| UnitError::TooLarge { given: given(), what: self.what })
    }

    /// Formats the value in the largest unit that divides it, so that it parses to the same value.
    fn show(&self, value: u64) -> String {
        let (name, factor) = self
            .units
            .iter()
            .rev()
            .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
            .unwrap_or(&self.units[0]);
        format!("{}{name}", value / factor)
    }
}

/// Parses a size such as "64MiB".
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    BYTES.parse(text)
}

/// Formats a size so that [`parse_bytes`] returns the same value.
pub fn show_bytes(bytes: u64) -> String {
    BYTES.show(bytes)
}

/// Parses a duration such as "30s" or "500ms".
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    MILLISECONDS.parse(text).map(Duration::from_millis)
}

/// Formats a duration so that [`parse_duration`] returns the same value. Fractions of a millisecond
/// are dropped, since they can't be written either.
pub fn show_duration(duration: Duration) -> String {
    MILLISECONDS.show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_and_durations_are_parsed_as_users_write_them() {
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes(" 8 KiB "), Ok(8 << 10));
        assert_eq!(parse_bytes("1B"), Ok(1));
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("2d"), parse_duration("48h"));
    }

    #[test]
    fn an_error_for_a_number_without_a_unit_suggests_one() {
        let error = parse_bytes("64").expect_err("a size has a unit");
        assert_eq!(error.to_string(), "\"64\" has no unit; write \"64MiB\"");
        let error = parse_duration("30").expect_err("a duration has a unit");
        assert_eq!(error.to_string(), "\"30\" has no unit; write \"30s\"");
    }

    #[test]
    fn an_error_for_an_invalid_size_lists_the_known_units() {
        for text in ["64MB", "64mib", "64 MiBs", "1KiB 2B"] {
            let error = parse_bytes(text).expect_err(text);
            assert!(error.to_string().contains("B, KiB, MiB, GiB"), "{error}");
        }
        for text in ["", "MiB", "1.5MiB", "-1MiB", "1_000B", "+1B", "١MiB"] {
            assert!(matches!(parse_bytes(text), Err(UnitError::NotANumber { .. })), "{text}");
        }
        for text in ["99999999999999999999B", "99999999999GiB"] {
            assert!(matches!(parse_bytes(text), Err(UnitError::TooLarge { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_value_parses_to_the_same_value(value in any::<u64>()) {
            prop_assert_eq!(parse_bytes(&show_bytes(value)), Ok(value));
            let duration = Duration::from_millis(value);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }

        #[test]
        fn parsing_any_text_never_panics(text in any::<String>()) {
            let _ = parse_bytes(&text);
            let _ = parse_duration(&text);
        }
    }
}
