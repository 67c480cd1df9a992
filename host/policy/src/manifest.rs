//! The manifest of an app, `isopod.toml`. Owns the type, its defaults and how it is printed as TOML
//! and JSON; the minimum and maximum of process types depend on the app's type instead. Never
//! parses; `manifest/` does.

mod extensions;
mod read;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::tree::explain;
pub use crate::process::{Entry, Process};

use crate::encoding::is_utf16;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::nearest::did_you_mean;
use crate::{AppKind, AppName, AppType, Grants, Limits, MiddlewareUse, PluginSettings, ProcessName, UnknownWord};

/// The contents of `isopod.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Manifest {
    /// The app's name.
    pub name: AppName,
    /// Whether it describes an app or a plugin.
    #[serde(skip_serializing_if = "AppKind::is_app")]
    pub kind: AppKind,
    /// The app's type when it is created. A plugin's is always production.
    #[serde(rename = "type")]
    pub app_type: AppType,
    /// The command that builds the component, run in the manifest's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// The path of the component after the build, relative to the manifest's folder and below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Whether requests share instances.
    pub isolation: Isolation,
    /// The process types; if empty, the host derives defaults from the component's exports.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<ProcessName, Process>,
    /// The app's grants; everything else is denied.
    pub grants: Grants,
    /// The app's limits.
    pub limits: Limits,
    /// Whether instances start from a snapshot taken at the deploy, and how the snapshot is
    /// prepared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Plain config vars. Secrets are set at the host and are never in a file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// The settings of a plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginSettings>,
    /// The middleware of the app's requests, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub middleware: Vec<MiddlewareUse>,
}

/// How an instance is prepared before its snapshot is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Snapshot {
    /// Paths requested with GET, in order, after the app's own `init`.
    pub warm: Vec<String>,
}

/// Whether requests share instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// An instance serves one request after another.
    #[default]
    Reuse,
    /// Every request gets a separate instance.
    Request,
}

impl Isolation {
    /// Returns the name of the isolation.
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
    /// Returns whether the app runs no instance until it receives a request.
    pub fn sleeps(&self, app_type: AppType) -> bool {
        match self.processes.is_empty() {
            // The default process types; production keeps a warm instance of those.
            true => app_type != AppType::Production,
            false => self.processes.values().all(|process| process.scale_at_work(app_type, &self.limits).min == 0),
        }
    }

    /// Returns a manifest that contains only the app's name.
    pub fn new(name: AppName) -> Self {
        Self {
            name,
            kind: AppKind::App,
            app_type: AppType::default(),
            build: None,
            component: None,
            isolation: Isolation::default(),
            processes: BTreeMap::new(),
            grants: Grants::default(),
            limits: Limits::default(),
            snapshot: None,
            config: BTreeMap::new(),
            plugin: None,
            middleware: Vec::new(),
        }
    }

    /// Parses `isopod.toml`.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        read::parse(text)
    }

    /// Prints the manifest as TOML with all grants and limits; [`Manifest::parse`] parses it to the
    /// same manifest.
    #[expect(
        clippy::expect_used,
        reason = "a manifest contains only strings, numbers, booleans, lists and tables with text keys"
    )]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a manifest contains only values that TOML can represent")
    }
}

impl<'de> Deserialize<'de> for Manifest {
    /// Deserialises from JSON or another format through TOML, so that a single parser owns all
    /// rules.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let table = toml::Table::deserialize(deserializer)?;
        let text = toml::to_string(&table).map_err(D::Error::custom)?;
        read::parse_of_any_size(&text).map_err(|error| D::Error::custom(error.problem))
    }
}

/// An error in a manifest, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The line, counted from 1, if known.
    pub line: Option<usize>,
    /// The column in characters, counted from 1, if known.
    pub column: Option<usize>,
    /// The problem.
    pub problem: ManifestProblem,
}

impl std::error::Error for ManifestError {}

/// Decodes a manifest's bytes as text. A UTF-8 byte order mark is accepted and stripped.
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

/// A problem in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestProblem {
    /// The file is too large.
    #[error("the manifest has {bytes} bytes; the maximum is {bytes_max}. Move data into files of the app")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// The text has another encoding.
    #[error("the file is UTF-16 text; save it as UTF-8: iconv -f UTF-16 -t UTF-8 isopod.toml")]
    Utf16,
    /// The file isn't text.
    #[error("the line is not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    /// The file isn't valid TOML.
    #[error("{message}")]
    Syntax { message: String },
    /// An unknown key.
    #[error("unknown key {key:?}{}", did_you_mean(nearest.as_deref(), known))]
    UnknownKey { key: String, nearest: Option<String>, known: String },
    /// A required key is missing.
    #[error("{key:?} is missing; add a line like {example}")]
    Missing { key: String, example: &'static str },
    /// The value has the wrong type.
    #[error("{key:?} is {found}, but must be {expected}")]
    WrongType { key: String, expected: &'static str, found: &'static str },
    /// The value isn't allowed.
    #[error("{key:?}: {why}")]
    Invalid { key: String, why: String },
    /// A list or table has too many entries.
    #[error("{key:?} has {count} entries; the maximum is {max}")]
    TooMany { key: String, count: usize, max: usize },
}
