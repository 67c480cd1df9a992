//! Identifiers that Isopod generates: of pushes, instances, requests and releases. Owns their
//! syntax. Never generates randomness: the caller passes in random bytes.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::PROCESS_NAME_CHARS_MAX;
use crate::names::ProcessName;

/// Thirty-two characters that are hard to confuse when read aloud: no `i`, `l`, `o` or `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Number of characters after the `p-` of a push id.
const PUSH_CHARS: usize = 10;
/// Number of characters after the process name of an instance id.
const INSTANCE_CHARS: usize = 5;
/// Number of characters of the longest instance id.
const INSTANCE_ID_CHARS_MAX: usize = PROCESS_NAME_CHARS_MAX + 1 + INSTANCE_CHARS;
/// Number of characters of a request id.
const REQUEST_CHARS: usize = 16;

/// Why a text is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {given:?}: expected one like {example:?}")]
pub struct IdError {
    /// The kind of id that was expected.
    pub what: &'static str,
    /// The text, shortened if it is very long.
    pub given: String,
    /// A valid example.
    pub example: &'static str,
}

fn error(what: &'static str, given: &str, example: &'static str) -> IdError {
    IdError { what, given: given.chars().take(80).collect(), example }
}

fn character(random: u8) -> u8 {
    ALPHABET[usize::from(random) % ALPHABET.len()]
}

fn all_in_alphabet(text: &str) -> bool {
    text.bytes().all(|byte| ALPHABET.contains(&byte))
}

macro_rules! text_id_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }
    };
}

/// The id of a push job, such as `p-7f3k2m9q0z`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PushId(String);

impl PushId {
    /// Creates an id from ten random bytes.
    pub fn from_random(random: [u8; PUSH_CHARS]) -> Self {
        let mut text = String::with_capacity(2 + PUSH_CHARS);
        text.push_str("p-");
        text.extend(random.iter().map(|byte| char::from(character(*byte))));
        Self(text)
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PushId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.strip_prefix("p-") {
            Some(rest) if rest.len() == PUSH_CHARS && all_in_alphabet(rest) => Ok(Self(text.to_owned())),
            _ => Err(error("push id", text, "p-7f3k2m9q0z")),
        }
    }
}

text_id_traits!(PushId);

/// The id of an instance, such as `web-7f3k2`: its process type and five random characters. It
/// needs no allocation, since every request and every line of a log refers to one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId {
    /// The text, followed by zeros.
    text: [u8; INSTANCE_ID_CHARS_MAX],
    length: u8,
}

impl InstanceId {
    /// Creates an id for an instance of `process` from five random bytes.
    pub fn from_random(process: &ProcessName, random: [u8; INSTANCE_CHARS]) -> Self {
        let random = random.map(character);
        Self::of_parts([process.as_str().as_bytes(), b"-", &random])
    }

    /// Joins the parts of an id, which fit.
    fn of_parts(parts: [&[u8]; 3]) -> Self {
        let (mut text, mut length) = ([0; INSTANCE_ID_CHARS_MAX], 0);
        for (place, byte) in text.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
            length += 1;
        }
        Self { text, length }
    }

    /// Returns the id as text.
    #[expect(clippy::expect_used, reason = "a process name and the alphabet are ASCII; both constructors check it")]
    pub fn as_str(&self) -> &str {
        let text = &self.text[..usize::from(self.length)];
        std::str::from_utf8(text).expect("a process name and the alphabet are ASCII; both constructors check it")
    }

    /// Returns the process type of the instance.
    #[expect(
        clippy::expect_used,
        reason = "an instance id starts with a valid process name; both constructors check it"
    )]
    pub fn process(&self) -> ProcessName {
        let text = self.as_str();
        let name = &text[..text.len() - INSTANCE_CHARS - 1];
        name.parse().expect("an instance id starts with a valid process name; both constructors check it")
    }
}

impl FromStr for InstanceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let valid = text.rsplit_once('-').is_some_and(|(process, rest)| {
            process.parse::<ProcessName>().is_ok() && rest.len() == INSTANCE_CHARS && all_in_alphabet(rest)
        });
        if !valid {
            return Err(error("instance id", text, "web-7f3k2"));
        }
        Ok(Self::of_parts([text.as_bytes(), b"", b""]))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({:?})", self.as_str())
    }
}

text_id_traits!(InstanceId);

/// The id of one request, such as `3v9k2m7f0zq1x8dn`. It is `Copy` and needs no allocation, since
/// every request gets one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId([u8; REQUEST_CHARS]);

impl RequestId {
    /// Creates an id from a random number, of which eighty bits are used.
    pub fn from_random(random: u128) -> Self {
        Self(random.to_le_bytes().map(character))
    }

    /// Returns the id as text.
    #[expect(clippy::expect_used, reason = "every byte comes from an alphabet of ASCII")]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every byte comes from an alphabet of ASCII")
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.as_str())
    }
}

impl FromStr for RequestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match <[u8; REQUEST_CHARS]>::try_from(text.as_bytes()) {
            Ok(bytes) if all_in_alphabet(text) => Ok(Self(bytes)),
            _ => Err(error("request id", text, "3v9k2m7f0zq1x8dn")),
        }
    }
}

text_id_traits!(RequestId);

/// The number of a release: 1, 2, 3 and so on, shown as `v1`, `v2`, `v3`; a plain number in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseNumber(NonZeroU32);

impl ReleaseNumber {
    /// The number of an app's first release.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// Returns the release number, or `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Returns the plain number.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the next number, unless the range is exhausted.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for ReleaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl FromStr for ReleaseNumber {
    type Err = IdError;

    /// Parses `v3` as well as `3`, since users type both.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix('v').unwrap_or(text);
        let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(number) if only_digits => Ok(Self(number)),
            _ => Err(error("release number", text, "v3")),
        }
    }
}
