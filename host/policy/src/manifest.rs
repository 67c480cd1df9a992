//! The manifest of an app, `isopod.toml`. What is absent in the file has its default here, the minimum and maximum of
//! process types aside, which depend on the app's type. Owns the type and how it is printed as TOML and JSON. Reading
//! stands in `manifest/`.

mod read;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::read::explain;
pub use crate::process::{Entry, Process};

use crate::bundle::is_utf16;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::nearest::did_you_mean;
use crate::{AppName, AppType, Grants, Limits, ProcessName, UnknownWord};

/// What `isopod.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The app's name.
    pub name: AppName,
    /// The type that the app is created with.
    #[serde(rename = "type")]
    pub app_type: AppType,
    /// The command that builds the component, run in the manifest's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Where the component is after the build: a relative path that stays below the manifest's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Whether requests share instances.
    pub isolation: Isolation,
    /// The process types. None: the host makes a default one from what the component exports.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<ProcessName, Process>,
    /// What the app may reach; nothing unless granted.
    pub grants: Grants,
    /// What the app may use.
    pub limits: Limits,
    /// Whether a release's instances start from an image of one that was prepared at the deploy, and how it is prepared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Plain config vars. Secrets are set at the host and never stand in a file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// How the instance is prepared whose image is taken at a deploy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Paths that are asked for with GET, in order, after the app's own `init`.
    pub warm: Vec<String>,
}

/// Whether requests share instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// An instance serves one request after another.
    #[default]
    Reuse,
    /// Every request gets an instance of its own.
    Request,
}

impl Isolation {
    /// The word for the isolation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reuse => "reuse",
            Self::Request => "request",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Isolation {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Reuse, Self::Request].into_iter().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
            what: "isolation",
            given: text.chars().take(80).collect(),
            expected: "\"reuse\" or \"request\"",
        })
    }
}

impl Manifest {
    /// Whether nothing of such an app runs until somebody asks for it.
    pub fn sleeps(&self, app_type: AppType) -> bool {
        match self.processes.is_empty() {
            // The usual process types, of which production keeps an instance warm.
            true => app_type != AppType::Production,
            false => self.processes.values().all(|process| process.scale_at_work(app_type, &self.limits).min == 0),
        }
    }

    /// A manifest that says nothing but the app's name.
    pub fn new(name: AppName) -> Self {
        Self {
            name,
            app_type: AppType::default(),
            build: None,
            component: None,
            isolation: Isolation::default(),
            processes: BTreeMap::new(),
            grants: Grants::default(),
            limits: Limits::default(),
            snapshot: None,
            config: BTreeMap::new(),
        }
    }

    /// Reads `isopod.toml`.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        read::parse(text)
    }

    /// Prints the manifest as TOML with grants and limits spelled out; [`Manifest::parse`] reads the same manifest
    /// back.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a manifest holds only strings, numbers, lists and tables with text keys")
    }
}

impl<'de> Deserialize<'de> for Manifest {
    /// From JSON or any other format by way of TOML, so that one reader holds all rules.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let table = toml::Table::deserialize(deserializer)?;
        let text = toml::to_string(&table).map_err(D::Error::custom)?;
        read::parse_of_any_size(&text).map_err(|error| D::Error::custom(error.problem))
    }
}

/// What is wrong with a manifest, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The line, counted from 1, where one can be named.
    pub line: Option<usize>,
    /// The column in characters, counted from 1, where one can be named.
    pub column: Option<usize>,
    /// What is wrong.
    pub problem: ManifestProblem,
}

impl std::error::Error for ManifestError {}

/// Reads a manifest's bytes as text. A UTF-8 byte order mark is accepted and left out.
pub fn decode(bytes: &[u8]) -> Result<&str, ManifestError> {
    let refused = |problem| ManifestError { line: None, column: None, problem };
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(refused(ManifestProblem::TooLarge { bytes: bytes.len(), bytes_max: MANIFEST_BYTES_MAX }));
    }
    if is_utf16(bytes) {
        return Err(refused(ManifestProblem::Utf16));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        ManifestError { line: Some(line), column: None, problem: ManifestProblem::NotUtf8 }
    })
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "isopod.toml, line {line}, column {column}: {}", self.problem),
            (Some(line), None) => write!(f, "isopod.toml, line {line}: {}", self.problem),
            _ => write!(f, "isopod.toml: {}", self.problem),
        }
    }
}

/// What can be wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestProblem {
    /// The file is too large to be read.
    #[error("the manifest has {bytes} bytes, and at most {bytes_max} are read; move data into files of the app")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// It is text in another encoding.
    #[error("the file is UTF-16 text; save it as UTF-8: iconv -f UTF-16 -t UTF-8 isopod.toml")]
    Utf16,
    /// It is not text.
    #[error("the line is not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    /// It is no TOML.
    #[error("{message}")]
    Syntax { message: String },
    /// A key that means nothing here.
    #[error("unknown key {key:?}{}", did_you_mean(nearest.as_deref(), known))]
    UnknownKey { key: String, nearest: Option<String>, known: String },
    /// A key that must be there.
    #[error("{key:?} is missing; add a line like {example}")]
    Missing { key: String, example: &'static str },
    /// A value of another kind than expected.
    #[error("{key:?} is {found}, but must be {expected}")]
    WrongType { key: String, expected: &'static str, found: &'static str },
    /// A value that is not allowed.
    #[error("{key:?}: {why}")]
    Invalid { key: String, why: String },
    /// More entries than allowed.
    #[error("{key:?} has {count} entries, and at most {max} are allowed")]
    TooMany { key: String, count: usize, max: usize },
}
