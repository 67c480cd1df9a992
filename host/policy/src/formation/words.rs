//! Parses scales as users type them: `web=3..10`, `web=1`. Never applies a scale.

use crate::{NameError, ProcessName, Scale};

/// Why a text is not a valid scale.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// The syntax is wrong.
    #[error("invalid scale {given:?}: write web=1 for a fixed number, or web=3..10 for minimum and maximum")]
    BadForm { given: String },
    /// The text before the '=' isn't a process type's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The minimum is above the maximum.
    #[error("invalid scale {given:?}: the minimum {min} exceeds the maximum {max}; did you mean {max}..{min}?")]
    MinAboveMax { given: String, min: u32, max: u32 },
    /// The maximum is zero.
    #[error("{given:?} would allow no instance; stop the app instead, or write 0..1 to have it frozen when idle")]
    Zero { given: String },
}

/// Parses `web=3..10`, or `web=1`, which means `web=1..1`.
pub fn parse_scale(text: &str) -> Result<(ProcessName, Scale), ScaleError> {
    let given = || text.chars().take(80).collect::<String>();
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits).ok_or_else(|| ScaleError::BadForm { given: given() })
    };
    let (name, numbers) = text.split_once('=').ok_or_else(|| ScaleError::BadForm { given: given() })?;
    let name = name.parse::<ProcessName>()?;
    let (min, max) = match numbers.split_once("..") {
        Some((min, max)) => (number(min)?, number(max)?),
        None => (number(numbers)?, number(numbers)?),
    };
    if max == 0 {
        return Err(ScaleError::Zero { given: given() });
    }
    if min > max {
        return Err(ScaleError::MinAboveMax { given: given(), min, max });
    }
    Ok((name, Scale { min, max }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_scale_is_a_number_or_a_range() {
        let read = |text: &str| parse_scale(text).map(|(name, scale)| (name.to_string(), scale.min, scale.max));
        assert_eq!(read("web=3..10"), Ok(("web".to_owned(), 3, 10)));
        assert_eq!(read("web=1"), Ok(("web".to_owned(), 1, 1)));
        assert_eq!(read("web=0..5"), Ok(("web".to_owned(), 0, 5)));
    }

    #[test]
    fn an_error_for_an_invalid_scale_shows_the_syntax() {
        for text in
            ["", "web", "web=", "web=a", "web=-1", "web=+1", "web=1..", "web=..2", "web=1...2", "web=99999999999"]
        {
            assert_eq!(parse_scale(text), Err(ScaleError::BadForm { given: text.to_owned() }));
        }
        let table = [
            ("Web=1", "\"web\" would be valid"),
            ("web=5..3", "did you mean 3..5?"),
            ("web=0", "stop the app instead"),
            ("web=0..0", "write 0..1"),
        ];
        for (text, words) in table {
            let error = parse_scale(text).expect_err(text).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>(), near in "(web)?=?[0-9.]{0,8}") {
            for text in [text, near] {
                if let Ok((_, Scale { min, max })) = parse_scale(&text) {
                    prop_assert!(min <= max && max > 0);
                }
            }
        }
    }
}
