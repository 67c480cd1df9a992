//! Parses a manifest. Owns the rules of the file: its keys and the values they accept. Never
//! accesses the file system.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::extensions::{check_entry, check_process, read_extensions};
use super::tree::{Found, Outcome, Table, read_text};
use super::{Isolation, Manifest, ManifestError, ManifestProblem, Snapshot};
use crate::formation::PLUGIN_PROCESS;
use crate::grants::check_folder_name;
use crate::health::check_request_path;
use crate::limits::{
    ARGUMENTS_MAX, CONFIG_VARS_MAX, EVENT_GRANTS_MAX, FOLDER_GRANTS_MAX, HTTP_GRANTS_MAX, INTERFACE_GRANTS_MAX,
    MANIFEST_BYTES_MAX, PROCESSES_MAX, WARM_UP_REQUESTS_MAX,
};
use crate::{
    Access, AppKind, AppName, Entry, Grants, Health, HttpGrant, Inapplicable, InterfaceName, Limits, PluginReference,
    Process, ProcessName, RetryPolicy,
};
use crate::{app_limits, config_vars};

const TOP_KEYS: &[&str] = &[
    "name",
    "kind",
    "type",
    "build",
    "component",
    "isolation",
    "processes",
    "grants",
    "limits",
    "snapshot",
    "config",
    "plugin",
    "middleware",
];
const PROCESS_KEYS: &[&str] =
    &["entry", "health", "min", "max", "schedule", "time_zone", "missed", "overlap", "args", "order", "retry"];
const GRANT_KEYS: &[&str] = &["http", "files", "keyvalue", "events", "interfaces"];
const SNAPSHOT_KEYS: &[&str] = &["warm"];

pub(super) fn parse(text: &str) -> Outcome<Manifest> {
    if text.len() > MANIFEST_BYTES_MAX {
        let problem = ManifestProblem::TooLarge { bytes: text.len(), bytes_max: MANIFEST_BYTES_MAX };
        return Err(ManifestError { line: None, column: None, problem });
    }
    parse_of_any_size(text)
}

/// Parses a manifest without a size limit, for text that the host wrote itself with all defaults.
pub(super) fn parse_of_any_size(text: &str) -> Outcome<Manifest> {
    read_text(text, read_manifest)
}

fn read_manifest(top: &Table<'_, '_>) -> Outcome<Manifest> {
    top.only(TOP_KEYS)?;
    let name = top.parsed("name")?.ok_or_else(|| top.missing("name", "name = \"greeter\""))?;
    let mut manifest = Manifest::new(name);
    manifest.app_type = top.parsed("type")?.unwrap_or_default();
    read_extensions(top, &mut manifest)?;
    manifest.isolation = top.parsed::<Isolation>("isolation")?.unwrap_or_default();
    if let Some(found) = top.find("build") {
        let command = found.bounded_text()?;
        if command.trim().is_empty() {
            return Err(found.invalid("the build command is empty; remove the key if there is no build"));
        }
        manifest.build = Some(command);
    }
    if let Some(found) = top.find("component") {
        let path = found.bounded_text()?;
        check_relative_path(&path).map_err(|why| found.invalid(why))?;
        manifest.component = Some(path);
    }
    if let Some(found) = top.find("grants") {
        manifest.grants = read_grants(&found.table()?, manifest.kind)?;
    }
    if let Some(found) = top.find("limits") {
        manifest.limits = read_limits(&found.table()?)?;
    }
    if let Some(found) = top.find("snapshot") {
        manifest.snapshot = Some(read_snapshot(&found.table()?)?);
    }
    if let Some(found) = top.find("config") {
        manifest.config = read_config(&found.table()?)?;
    }
    if let Some(found) = top.find("processes") {
        let table = found.table()?;
        table.at_most(PROCESSES_MAX)?;
        for (name, process) in table.each() {
            let key: ProcessName = name.get_ref().parse().map_err(|why| process.invalid(why))?;
            check_process(&process, &key, manifest.kind)?;
            let process = read_process(&process.table()?, &key, &manifest)?;
            manifest.processes.insert(key, process);
        }
    }
    Ok(manifest)
}

/// Checks that a path stays below its folder, on every system.
fn check_relative_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.ends_with('/') {
        return Err("the path must name a file");
    }
    if path.starts_with('/') || path.contains(':') {
        return Err("the path must be relative to the manifest's folder");
    }
    if path.contains('\\') {
        return Err("write '/' between folders");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("the path must stay below the manifest's folder, so \"..\" is not allowed");
    }
    Ok(())
}

/// The entry of a plugin's process type until the component's exports are known: the entry that
/// allows the most settings.
const UNKNOWN_PLUGIN: Entry = Entry::Hook;

fn read_process(table: &Table<'_, '_>, name: &ProcessName, manifest: &Manifest) -> Outcome<Process> {
    table.only(PROCESS_KEYS)?;
    let entry = match table.parsed("entry")? {
        Some(entry) => entry,
        None if name.as_str() == "web" => Entry::Http,
        None if name.as_str() == PLUGIN_PROCESS && manifest.kind == AppKind::Plugin => UNKNOWN_PLUGIN,
        None => return Err(table.missing("entry", "entry = \"http\"")),
    };
    check_entry(table, entry, manifest.kind)?;
    let mut process = Process::new(entry);
    if let Some(found) = table.find("health") {
        process.health = Some(read_health(&found)?);
    }
    process.schedule = table.parsed("schedule")?;
    process.time_zone = table.parsed("time_zone")?;
    process.missed = table.parsed("missed")?;
    process.overlap = table.parsed("overlap")?;
    if let Some(found) = table.find("args") {
        process.args = found.list(ARGUMENTS_MAX)?.iter().map(Found::bounded_text).collect::<Outcome<_>>()?;
    }
    process.order = table.parsed("order")?;
    if let Some(found) = table.find("retry") {
        process.retry = Some(read_retry(&found)?);
    }
    read_scale(table, &mut process, &manifest.limits)?;
    if let Err(Inapplicable { key, why }) = process.check_applicable()
        && let Some(found) = table.find(key)
    {
        return Err(found.invalid(why));
    }
    Ok(process)
}

/// Parses a retry policy: a table whose absent keys have their defaults.
fn read_retry(found: &Found<'_, '_>) -> Outcome<RetryPolicy> {
    let table = found.table()?;
    table.only(RetryPolicy::KEYS)?;
    let mut retry = RetryPolicy::default();
    for key in RetryPolicy::KEYS.iter().copied() {
        if let Some(found) = table.find(key) {
            retry.set(key, found.limit()?).map_err(|error| found.not_set(error))?;
        }
    }
    retry.check().map_err(|error| found.invalid(error))?;
    Ok(retry)
}

/// Parses a health check: its path alone, or a table with the key `path`.
fn read_health(found: &Found<'_, '_>) -> Outcome<Health> {
    let of_path = |found: &Found<'_, '_>| Health::of_path(found.text()?).map_err(|why| found.invalid(why));
    match found.value.get_ref() {
        DeValue::String(_) => return of_path(found),
        DeValue::Table(_) => {}
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
            return Err(found.wrong_type("a path in quotes or a table"));
        }
    }
    let table = found.table()?;
    table.only(Health::KEYS)?;
    let path = table.find("path").ok_or_else(|| table.missing("path", "path = \"/healthz\""))?;
    let mut health = of_path(&path)?;
    for key in Health::KEYS.iter().copied().filter(|key| *key != "path") {
        if let Some(found) = table.find(key) {
            health.set(key, found.limit()?).map_err(|error| found.not_set(error))?;
        }
    }
    Ok(health)
}

fn read_scale(table: &Table<'_, '_>, process: &mut Process, limits: &Limits) -> Outcome<()> {
    let most = limits.instances_max;
    let count = |name: &str| match table.find(name) {
        None => Ok(None),
        Some(found) => match u32::try_from(found.whole_number()?) {
            Ok(count) if count <= most => Ok(Some(count)),
            _ => Err(found.invalid(format_args!("choose from 0 to {most}, which is limits.instances_max"))),
        },
    };
    (process.min, process.max) = (count("min")?, count("max")?);
    if let (Some(0), Some(found)) = (process.max, table.find("max")) {
        return Err(found.invalid("the maximum must be at least 1; stop the app instead"));
    }
    if let (Some(min), Some(max), Some(found)) = (process.min, process.max, table.find("min"))
        && min > max
    {
        return Err(found.invalid(format_args!("min = {min} exceeds max = {max}")));
    }
    Ok(())
}

fn read_grants(table: &Table<'_, '_>, kind: AppKind) -> Outcome<Grants> {
    table.only(GRANT_KEYS)?;
    let mut grants = Grants::default();
    if let Some(found) = table.find("http") {
        let hosts = found.list(HTTP_GRANTS_MAX)?;
        grants.http = hosts.iter().map(Found::parsed::<HttpGrant>).collect::<Outcome<_>>()?;
    }
    if let Some(found) = table.find("files") {
        let folders = found.table()?;
        folders.at_most(FOLDER_GRANTS_MAX)?;
        for (name, access) in folders.each() {
            check_folder_name(name.get_ref()).map_err(|why| access.invalid(why))?;
            grants.files.insert(name.get_ref().to_string(), access.parsed::<Access>()?);
        }
    }
    if let Some(found) = table.find("keyvalue") {
        grants.keyvalue = found.bool()?;
    }
    if let Some(found) = table.find("events") {
        let apps = found.list(EVENT_GRANTS_MAX)?;
        grants.events = apps.iter().map(Found::parsed::<AppName>).collect::<Outcome<_>>()?;
    }
    if let Some(found) = table.find("interfaces") {
        let interfaces = found.table()?;
        // Plugins don't use providers, so that they can't form a cycle.
        if kind == AppKind::Plugin {
            return Err(found.invalid("a plugin can't use providers; remove the table"));
        }
        interfaces.at_most(INTERFACE_GRANTS_MAX)?;
        for (name, provider) in interfaces.each() {
            let name: InterfaceName = name.get_ref().parse().map_err(|why| provider.invalid(why))?;
            grants.interfaces.insert(name, provider.parsed::<PluginReference>()?);
        }
    }
    Ok(grants)
}

fn read_limits(table: &Table<'_, '_>) -> Outcome<Limits> {
    table.only(app_limits::NAMES)?;
    let mut limits = Limits::default();
    for (name, found) in table.each() {
        limits.set(name.get_ref(), found.limit()?).map_err(|error| found.not_set(error))?;
    }
    Ok(limits)
}

fn read_snapshot(table: &Table<'_, '_>) -> Outcome<Snapshot> {
    table.only(SNAPSHOT_KEYS)?;
    let Some(found) = table.find("warm") else { return Ok(Snapshot::default()) };
    let paths = found.list(WARM_UP_REQUESTS_MAX)?;
    let warm = paths.iter().map(|found| {
        let path = found.text()?;
        check_request_path(path).map_err(|why| found.invalid(why))?;
        Ok(path.to_owned())
    });
    Ok(Snapshot { warm: warm.collect::<Outcome<_>>()? })
}

fn read_config(table: &Table<'_, '_>) -> Outcome<BTreeMap<String, String>> {
    table.at_most(CONFIG_VARS_MAX)?;
    let mut config = BTreeMap::new();
    for (name, found) in table.each() {
        let name = name.get_ref();
        config_vars::check_key(name).map_err(|why| found.invalid(why))?;
        let value = found.text()?;
        config_vars::check_value(name, value).map_err(|why| found.invalid(why))?;
        config.insert(name.to_string(), value.to_owned());
    }
    Ok(config)
}
