//! Names that users choose: of apps and of process types. Owns the rules and the error texts. Never
//! checks whether a name is taken.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{APP_NAME_CHARS_MAX, PROCESS_NAME_CHARS_MAX};

/// The rule that a name breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// The name is empty.
    Empty,
    /// The name has more characters than its kind allows.
    TooLong { max: usize },
    /// A character that is not a lowercase letter, a digit or a hyphen.
    BadCharacter(char),
    /// A hyphen is first or last.
    HyphenAtEdge,
    /// Two consecutive hyphens, the separator of `v3--app` in a host name.
    DoubleHyphen,
    /// The name of a process type starts with a character that is not a letter.
    NotALetterFirst,
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::TooLong { max } => write!(f, "it is longer than {max} characters"),
            Self::BadCharacter(found) => {
                write!(f, "it contains {found:?}, but only lowercase letters a-z, digits and '-' are allowed")
            }
            Self::HyphenAtEdge => write!(f, "it starts or ends with '-'"),
            Self::DoubleHyphen => write!(f, "it contains '--', which separates a release from its app in v3--app"),
            Self::NotALetterFirst => write!(f, "it doesn't start with a letter"),
        }
    }
}

/// Why a text is not a valid name, with a similar valid name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    /// The kind of name: "app name" or "process name".
    pub what: &'static str,
    /// The text as it was given, shortened if it is very long.
    pub given: String,
    /// The first rule that it breaks.
    pub rule: NameRule,
    /// A valid name derived from the text, if possible.
    pub suggestion: Option<String>,
}

impl std::error::Error for NameError {}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {} {:?}: {}", self.what, self.given, self.rule)?;
        match &self.suggestion {
            Some(name) => write!(f, "; {name:?} would be valid"),
            None => write!(f, "; choose a name like \"greeter\" or \"web-2\""),
        }
    }
}

/// The rules of one kind of name.
struct Kind {
    what: &'static str,
    chars_max: usize,
    letter_first: bool,
}

const APP: Kind = Kind { what: "app name", chars_max: APP_NAME_CHARS_MAX, letter_first: false };
const PROCESS: Kind = Kind { what: "process name", chars_max: PROCESS_NAME_CHARS_MAX, letter_first: true };

/// How much of a refused text an error repeats.
const GIVEN_SHOWN_CHARS: usize = 80;

impl Kind {
    fn check(&self, text: &str) -> Result<(), NameError> {
        match self.broken_rule(text) {
            None => Ok(()),
            Some(rule) => Err(NameError {
                what: self.what,
                given: text.chars().take(GIVEN_SHOWN_CHARS).collect(),
                rule,
                suggestion: self.suggest(text),
            }),
        }
    }

    fn broken_rule(&self, text: &str) -> Option<NameRule> {
        if text.is_empty() {
            return Some(NameRule::Empty);
        }
        if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Some(NameRule::BadCharacter(bad));
        }
        if text.len() > self.chars_max {
            return Some(NameRule::TooLong { max: self.chars_max });
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Some(NameRule::HyphenAtEdge);
        }
        if text.contains("--") {
            return Some(NameRule::DoubleHyphen);
        }
        if self.letter_first && !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Some(NameRule::NotALetterFirst);
        }
        None
    }

    fn suggest(&self, text: &str) -> Option<String> {
        // Dropping letters that aren't allowed would give a different word: "pp" for "äpp".
        if text.chars().any(|c| c.is_alphabetic() && !c.is_ascii()) {
            return None;
        }
        let mut name = String::new();
        for c in text.chars().take(self.chars_max * 4) {
            let c = c.to_ascii_lowercase();
            if c.is_ascii_lowercase() || (c.is_ascii_digit() && !(self.letter_first && name.is_empty())) {
                name.push(c);
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
            if name.len() == self.chars_max {
                break;
            }
        }
        let name = name.trim_matches('-');
        (!name.is_empty()).then(|| name.to_owned())
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $kind.check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                $kind.check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// The name of an app: one DNS label, since apps are reached as `<app>.<domain>`.
    AppName,
    APP
);

name_type!(
    /// The name of a process type such as `web`: short, since instance ids and their host names
    /// start with it.
    ProcessName,
    PROCESS
);
