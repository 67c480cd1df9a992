//! Owns the configuration file: its keys, and the position of an error. Never resolves a default.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use isopod_policy::{Ceiling, CoresOverride, GateUse, MiddlewareUse};
use serde::Deserialize;
use toml::de::DeTable;

use super::{
    ConfigError,
    alerts::AlertsSection,
    status::StatusSection,
    tls::TlsSection,
    units::{Size, Span},
};
use crate::{limits, observe::telemetry::Signal};

/// The contents of the configuration file. Unknown keys are errors, which reports misspelt keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) data: Option<PathBuf>,
    pub(super) listen: Option<String>,
    pub(super) admin: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) drain_time: Option<Span>,
    pub(super) freeze_after: Option<Span>,
    pub(super) compile_threads: Option<usize>,
    pub(super) instances_max: Option<u32>,
    pub(super) app_instances_max: Option<u32>,
    pub(super) memory_max: Option<Size>,
    pub(super) frozen_code_max: Option<Size>,
    pub(super) scale_window: Option<Span>,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<String>,
    #[serde(default)]
    pub(super) admin_names: Vec<String>,
    #[serde(default)]
    pub(super) pushes: PushesSection,
    #[serde(default)]
    pub(super) logs: LogsSection,
    #[serde(default)]
    pub(super) cores: CoresOverride,
    #[serde(default)]
    pub(super) policy: Ceiling,
    #[serde(default)]
    pub(super) connections: ConnectionsSection,
    #[serde(default)]
    pub(super) outbound: OutboundSection,
    #[serde(default)]
    pub(super) tls: TlsSection,
    #[serde(default)]
    pub(super) telemetry: TelemetrySection,
    #[serde(default)]
    pub(super) middleware: Vec<MiddlewareUse>,
    #[serde(default)]
    pub(super) gates: Vec<GateUse>,
    #[serde(default)]
    pub(super) alerts: AlertsSection,
    #[serde(default)]
    pub(super) status: StatusSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionsSection {
    pub(super) idle: Option<Span>,
    pub(super) head: Option<Span>,
    pub(super) age: Option<Span>,
    pub(super) write: Option<Span>,
    pub(super) traffic_max: Option<usize>,
    pub(super) admin_max: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutboundSection {
    pub(super) resolver: Option<String>,
    pub(super) idle_time: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PushesSection {
    pub(super) parallel: Option<usize>,
    pub(super) queued_max: Option<usize>,
    pub(super) time_limit: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsSection {
    pub(super) access: Option<bool>,
    pub(super) segment: Option<Size>,
    pub(super) kept: Option<Size>,
    pub(super) kept_for: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TelemetrySection {
    pub(super) endpoint: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) signals: Option<Vec<Signal>>,
    pub(super) sample: Option<f64>,
    pub(super) trust_parent: Option<bool>,
    pub(super) interval: Option<Span>,
}

/// Reads the text of the configuration file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(limits::CONFIG_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limits::CONFIG_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// Parses the configuration file.
pub(super) fn parse(path: &Path, text: &str) -> Result<ConfigFile, ConfigError> {
    toml::from_str(text).map_err(|e| ConfigError::Malformed { path: path.to_owned(), message: message(text, &e) })
}

/// Returns the line of a setting, such as `pushes.parallel`, if the file contains it.
pub(super) fn line_of(text: &str, setting: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let (mut table, mut at) = (Some(root.get_ref()), 0);
    for name in setting.split('.') {
        let (key, value) = table?.iter().find(|(key, _)| key.get_ref() == name)?;
        (table, at) = (value.get_ref().as_table(), key.span().start);
    }
    Some(text.get(..at)?.matches('\n').count() + 1)
}

/// Formats an error in the file with its position.
fn message(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (line, column) =
        (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1);
    format!("line {line}, column {column}: {}", isopod_policy::manifest::explain(text, error))
}
