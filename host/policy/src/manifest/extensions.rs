//! Parses the parts of a manifest about plugins: the kind, the settings of a plugin, and the
//! middleware of an app. Owns which keys a plugin's manifest may contain. Never checks whether a
//! plugin exists.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use toml::de::DeValue;

use super::tree::{Found, Outcome, Table, read_text};
use super::{Manifest, ManifestProblem};
use crate::app_limits::WrittenLimit;
use crate::formation::PLUGIN_PROCESS;
use crate::limits::{GATE_APPS_MAX, MIDDLEWARE_MAX, MIDDLEWARE_PATHS_MAX, PLUGIN_TIME_LIMIT, SUBSCRIPTION_ITEMS_MAX};
use crate::plugin::parse_version;
use crate::units::{parse_duration, show_duration};
use crate::{
    AppKind, AppType, Entry, GateUse, MiddlewareConfig, MiddlewareUse, PluginSettings, ProcessName, Subscription,
};

impl<'de> Deserialize<'de> for MiddlewareUse {
    /// Deserialises one `[[middleware]]` table from JSON or another format through TOML, so that a
    /// single parser owns all rules.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let table = toml::Table::deserialize(deserializer)?;
        let text = toml::to_string(&table).map_err(D::Error::custom)?;
        read_text(&text, read_use).map_err(|error| D::Error::custom(error.problem))
    }
}

impl<'de> Deserialize<'de> for GateUse {
    /// Deserialises one `[[gates]]` table of the host's settings by the rules of manifests.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let table = toml::Table::deserialize(deserializer)?;
        let text = toml::to_string(&table).map_err(D::Error::custom)?;
        read_text(&text, read_gate).map_err(|error| D::Error::custom(error.problem))
    }
}

/// Reads the kind, `[plugin]` and `[[middleware]]`, and refuses keys that a plugin can't have.
pub(super) fn read_extensions(top: &Table<'_, '_>, manifest: &mut Manifest) -> Outcome<()> {
    manifest.kind = top.parsed("kind")?.unwrap_or_default();
    match (manifest.kind, top.find("plugin")) {
        (AppKind::App, None) => {}
        (AppKind::App, Some(found)) => {
            return Err(
                found.invalid("the settings of a plugin require kind = \"plugin\"; add the line above all tables")
            );
        }
        (AppKind::Plugin, None) => return Err(top.missing("plugin", "plugin = { version = \"1.0.0\" }")),
        (AppKind::Plugin, Some(found)) => {
            manifest.plugin = Some(read_settings(&found.table()?)?);
            check_plugin(top, manifest)?;
        }
    }
    if let Some(found) = top.find("middleware") {
        let uses = found.list(MIDDLEWARE_MAX)?;
        manifest.middleware = uses.iter().map(|found| read_use(&found.table()?)).collect::<Outcome<_>>()?;
    }
    Ok(())
}

/// Checks the other keys of a plugin's manifest.
fn check_plugin(top: &Table<'_, '_>, manifest: &mut Manifest) -> Outcome<()> {
    if let Some(found) = top.find("type")
        && manifest.app_type != AppType::Production
    {
        return Err(found.invalid("the type of a plugin is always \"production\"; remove the key"));
    }
    manifest.app_type = AppType::Production;
    if let Some(found) = top.find("middleware") {
        return Err(found.invalid("a plugin can't use middleware; remove the tables"));
    }
    if let Some(found) = top.find("snapshot") {
        return Err(found.invalid("a plugin can't have a snapshot; remove the table"));
    }
    Ok(())
}

fn read_settings(table: &Table<'_, '_>) -> Outcome<PluginSettings> {
    table.only(PluginSettings::KEYS)?;
    let found = table.find("version").ok_or_else(|| table.missing("version", "version = \"1.0.0\""))?;
    let mut settings = PluginSettings::new(parse_version(found.text()?).map_err(|why| found.invalid(why))?);
    if let Some(found) = table.find("time_limit") {
        let WrittenLimit::Text(text) = found.limit()? else {
            return Err(found.wrong_type("a duration in quotes, such as \"1s\""));
        };
        let duration = parse_duration(text).map_err(|why| found.invalid(why))?;
        if !PLUGIN_TIME_LIMIT.contains(&duration) {
            let (start, end) = (show_duration(*PLUGIN_TIME_LIMIT.start()), show_duration(*PLUGIN_TIME_LIMIT.end()));
            return Err(found.invalid(format_args!("choose from {start} to {end}")));
        }
        settings.time_limit = duration;
    }
    if let Some(found) = table.find("subscribe") {
        settings.subscribe = read_subscription(&found.table()?)?;
    }
    Ok(settings)
}

fn read_subscription(table: &Table<'_, '_>) -> Outcome<Subscription> {
    table.only(Subscription::KEYS)?;
    Ok(Subscription { events: read_selected(table, "events")?, apps: read_selected(table, "apps")? })
}

/// Reads a list that selects events. An absent list selects all.
fn read_selected<T: FromStr<Err: Display>>(table: &Table<'_, '_>, key: &str) -> Outcome<Vec<T>> {
    let Some(found) = table.find(key) else { return Ok(Vec::new()) };
    let items = found.list(SUBSCRIPTION_ITEMS_MAX)?;
    if items.is_empty() {
        return Err(found.invalid("the list is empty; remove the key to select all"));
    }
    items.iter().map(Found::parsed).collect()
}

fn read_use(table: &Table<'_, '_>) -> Outcome<MiddlewareUse> {
    table.only(MiddlewareUse::KEYS)?;
    let plugin = table.parsed("use")?.ok_or_else(|| table.missing("use", "use = \"require-jwt\""))?;
    let mut used = MiddlewareUse::new(plugin);
    if let Some(found) = table.find("config") {
        used.config = MiddlewareConfig::new(&found.json()?).map_err(|why| found.invalid(why))?;
    }
    used.on_failure = table.parsed("on_failure")?.unwrap_or_default();
    if let Some(found) = table.find("paths") {
        let paths = found.list(MIDDLEWARE_PATHS_MAX)?;
        if paths.is_empty() {
            return Err(found.invalid("the list is empty; remove the key to apply the middleware to all paths"));
        }
        used.paths = paths.iter().map(Found::parsed).collect::<Outcome<_>>()?;
    }
    Ok(used)
}

fn read_gate(table: &Table<'_, '_>) -> Outcome<GateUse> {
    table.only(GateUse::KEYS)?;
    let plugin = table.parsed("use")?.ok_or_else(|| table.missing("use", "use = \"deploy-window\""))?;
    let mut used = GateUse::new(plugin);
    if let Some(found) = table.find("config") {
        used.config = MiddlewareConfig::new(&found.json()?).map_err(|why| found.invalid(why))?;
    }
    used.on_failure = table.parsed("on_failure")?.unwrap_or_default();
    if let Some(found) = table.find("apps") {
        used.apps = found.list(GATE_APPS_MAX)?.iter().map(Found::parsed).collect::<Outcome<_>>()?;
        if used.apps.is_empty() {
            return Err(found.invalid("the list is empty; remove the key to apply the gate to all apps"));
        }
    }
    if let Some(found) = table.find("types") {
        used.types = found.list(AppType::ALL.len())?.iter().map(Found::parsed).collect::<Outcome<_>>()?;
        if used.types.is_empty() {
            return Err(found.invalid("the list is empty; remove the key to apply the gate to apps of all types"));
        }
    }
    Ok(used)
}

/// Checks the name of a process type: a plugin has only one.
pub(super) fn check_process(found: &Found<'_, '_>, name: &ProcessName, kind: AppKind) -> Outcome<()> {
    match kind {
        AppKind::Plugin if name.as_str() != PLUGIN_PROCESS => Err(found.invalid(format_args!(
            "the only process type of a plugin is {PLUGIN_PROCESS:?}, for its scale; remove the table"
        ))),
        AppKind::Plugin | AppKind::App => Ok(()),
    }
}

/// Checks that a process type's entry belongs to the kind of the manifest.
pub(super) fn check_entry(table: &Table<'_, '_>, entry: Entry, kind: AppKind) -> Outcome<()> {
    let Some(found) = table.find("entry") else { return Ok(()) };
    match (entry, kind) {
        (Entry::Middleware | Entry::Gate | Entry::Provider | Entry::Hook, AppKind::App) => {
            Err(found.invalid(format_args!("the entry \"{entry}\" requires kind = \"plugin\"")))
        }
        (Entry::Http | Entry::Events | Entry::Command, AppKind::Plugin) => {
            Err(found.invalid("the entry of a plugin's process type follows from its exports; remove the key"))
        }
        (Entry::Middleware | Entry::Gate | Entry::Provider | Entry::Hook, AppKind::Plugin)
        | (Entry::Http | Entry::Events | Entry::Command, AppKind::App) => Ok(()),
    }
}

impl Found<'_, '_> {
    /// Returns the value as JSON. A date or time becomes text.
    fn json(&self) -> Outcome<Value> {
        json(self.value.get_ref()).map_err(|Inexpressible(what)| {
            self.error(ManifestProblem::Invalid {
                key: self.key.clone(),
                why: format!("{what} can't be represented in JSON"),
            })
        })
    }
}

/// A number without a form in JSON.
struct Inexpressible(String);

fn json(value: &DeValue<'_>) -> Result<Value, Inexpressible> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix());
            Value::Number(number.map_err(|_| Inexpressible(integer.to_string()))?.into())
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or_else(|| Inexpressible(float.to_string()))?)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Result<_, _>>()?),
        DeValue::Table(entries) => {
            let member = |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<DeValue<'_>>)| {
                Ok((key.get_ref().to_string(), json(value.get_ref())?))
            };
            Value::Object(entries.iter().map(member).collect::<Result<Map<_, _>, Inexpressible>>()?)
        }
    })
}
