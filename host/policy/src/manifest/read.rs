//! Reads a manifest: walks the TOML tree with the place of every key and value at hand, so that each error says where it
//! is and what would be right. Owns the rules of the file. Never touches the file system.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Entry, Isolation, Manifest, ManifestError, ManifestProblem, Process};
use crate::app_limits::{self, SetError, WrittenLimit};
use crate::grants::check_folder_name;
use crate::limits::{
    ARGUMENTS_MAX, CONFIG_VALUE_BYTES_MAX, CONFIG_VARS_MAX, FOLDER_GRANTS_MAX, HTTP_GRANTS_MAX, MANIFEST_BYTES_MAX,
    PROCESSES_MAX, TEXT_BYTES_MAX,
};
use crate::{Access, AppType, Grants, HttpGrant, Limits, ProcessName};

type Value<'t> = Spanned<DeValue<'t>>;
type Outcome<T> = Result<T, ManifestError>;

const TOP_KEYS: &[&str] =
    &["name", "type", "build", "component", "isolation", "processes", "grants", "limits", "config"];
const PROCESS_KEYS: &[&str] = &["entry", "health", "min", "max", "schedule", "args"];
const GRANT_KEYS: &[&str] = &["http", "files", "keyvalue"];

pub(super) fn parse(text: &str) -> Outcome<Manifest> {
    if text.len() > MANIFEST_BYTES_MAX {
        let problem = ManifestProblem::TooLarge { bytes: text.len(), bytes_max: MANIFEST_BYTES_MAX };
        return Err(ManifestError { line: None, column: None, problem });
    }
    parse_of_any_size(text)
}

/// Reads a manifest that is already bounded otherwise, as one is that the host wrote itself with all defaults in it.
pub(super) fn parse_of_any_size(text: &str) -> Outcome<Manifest> {
    let reader = Reader { text };
    let tree = DeTable::parse(text).map_err(|error| {
        let message = error.message().to_owned();
        reader.error(error.span().map(|span| span.start), ManifestProblem::Syntax { message })
    })?;
    let top = Table { reader: &reader, path: "", at: 0, entries: tree.get_ref() };
    read_manifest(&top)
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn error(&self, offset: Option<usize>, problem: ManifestProblem) -> ManifestError {
        let before = offset.and_then(|offset| self.text.get(..offset));
        let line = before.map(|before| before.matches('\n').count() + 1);
        let column = before.map(|before| before.rsplit('\n').next().unwrap_or("").chars().count() + 1);
        ManifestError { line, column, problem }
    }
}

/// One table of the file, with the path of keys that leads to it.
struct Table<'r, 't> {
    reader: &'r Reader<'r>,
    path: &'r str,
    at: usize,
    entries: &'r DeTable<'t>,
}

/// A value found under a key.
struct Found<'r, 't> {
    reader: &'r Reader<'r>,
    key: String,
    value: &'r Value<'t>,
}

impl<'r, 't> Table<'r, 't> {
    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Refuses keys that are not known, naming the nearest known one.
    fn only(&self, known: &[&str]) -> Outcome<()> {
        for name in self.entries.keys() {
            if known.contains(&name.get_ref().as_ref()) {
                continue;
            }
            let given: String = name.get_ref().chars().take(80).collect();
            let nearest = nearest(&given, known).map(|near| self.key(near));
            let known = known.join(", ");
            let problem = ManifestProblem::UnknownKey { key: self.key(&given), nearest, known };
            return Err(self.reader.error(Some(name.span().start), problem));
        }
        Ok(())
    }

    fn at_most(&self, max: usize) -> Outcome<()> {
        let count = self.entries.len();
        if count <= max {
            return Ok(());
        }
        let problem = ManifestProblem::TooMany { key: self.path.to_owned(), count, max };
        Err(self.reader.error(Some(self.at), problem))
    }

    fn find(&self, name: &str) -> Option<Found<'r, 't>> {
        let (_, value) = self.entries.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(Found { reader: self.reader, key: self.key(name), value })
    }

    fn missing(&self, name: &str, example: &'static str) -> ManifestError {
        self.reader.error(Some(self.at), ManifestProblem::Missing { key: self.key(name), example })
    }

    fn each(&self) -> impl Iterator<Item = (&'r Spanned<toml::de::DeString<'t>>, Found<'r, 't>)> {
        self.entries.iter().map(|(name, value)| {
            let shown: String = name.get_ref().chars().take(80).collect();
            (name, Found { reader: self.reader, key: self.key(&shown), value })
        })
    }

    /// Reads the text under a key into a type of its own.
    fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Outcome<Option<T>> {
        self.find(name).map(|found| found.parsed()).transpose()
    }

    fn text(&self, name: &str) -> Outcome<Option<String>> {
        self.find(name).map(|found| found.bounded_text()).transpose()
    }
}

/// The known key that a person most probably meant, if any is near.
fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let given = given.to_ascii_lowercase();
    let (distance, best) = known
        .iter()
        .map(|key| {
            // One that begins with the other is near however long the rest is, as "mem" is to "memory".
            let prefix = given.len() >= 3 && (key.starts_with(&given) || given.starts_with(*key));
            (if prefix { 0 } else { strsim::damerau_levenshtein(&given, key) }, *key)
        })
        .min()?;
    (distance <= 1 + best.len() / 3).then_some(best)
}

impl<'r, 't> Found<'r, 't> {
    fn error(&self, problem: ManifestProblem) -> ManifestError {
        self.reader.error(Some(self.value.span().start), problem)
    }

    fn invalid(&self, why: impl Display) -> ManifestError {
        self.error(ManifestProblem::Invalid { key: self.key.clone(), why: why.to_string() })
    }

    fn wrong_type(&self, expected: &'static str) -> ManifestError {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(ManifestProblem::WrongType { key: self.key.clone(), expected, found })
    }

    fn text(&self) -> Outcome<&'r str> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong_type("text in quotes"))
    }

    fn bounded_text(&self) -> Outcome<String> {
        let text = self.text()?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(self.invalid(format_args!("the text is longer than {TEXT_BYTES_MAX} bytes")));
        }
        if text.contains('\0') {
            return Err(self.invalid("the text holds a NUL character"));
        }
        Ok(text.to_owned())
    }

    fn parsed<T: FromStr<Err: Display>>(&self) -> Outcome<T> {
        self.text()?.parse().map_err(|error| self.invalid(error))
    }

    fn bool(&self) -> Outcome<bool> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    fn whole_number(&self) -> Outcome<u64> {
        let integer = self.value.get_ref().as_integer().ok_or_else(|| self.wrong_type("a whole number"))?;
        u64::from_str_radix(integer.as_str(), integer.radix())
            .map_err(|_| self.invalid("the number is negative or too large"))
    }

    fn table<'p>(&'p self) -> Outcome<Table<'p, 't>> {
        let entries = self.value.get_ref().as_table().ok_or_else(|| self.wrong_type("a table"))?;
        Ok(Table { reader: self.reader, path: &self.key, at: self.value.span().start, entries })
    }

    fn list(&self, max: usize) -> Outcome<Vec<Found<'r, 't>>> {
        let items = self.value.get_ref().as_array().ok_or_else(|| self.wrong_type("a list"))?;
        if items.len() > max {
            let problem = ManifestProblem::TooMany { key: self.key.clone(), count: items.len(), max };
            return Err(self.error(problem));
        }
        let item = |(index, value)| Found { reader: self.reader, key: format!("{}[{index}]", self.key), value };
        Ok(items.iter().enumerate().map(item).collect())
    }
}

fn read_manifest(top: &Table<'_, '_>) -> Outcome<Manifest> {
    top.only(TOP_KEYS)?;
    let name = top.parsed("name")?.ok_or_else(|| top.missing("name", "name = \"greeter\""))?;
    let mut manifest = Manifest::new(name);
    manifest.app_type = top.parsed("type")?.unwrap_or_default();
    manifest.isolation = top.parsed::<Isolation>("isolation")?.unwrap_or_default();
    if let Some(found) = top.find("build") {
        let command = found.bounded_text()?;
        if command.trim().is_empty() {
            return Err(found.invalid("the build command is empty; leave the key out if nothing is to be built"));
        }
        manifest.build = Some(command);
    }
    if let Some(found) = top.find("component") {
        let path = found.bounded_text()?;
        check_relative_path(&path).map_err(|why| found.invalid(why))?;
        manifest.component = Some(path);
    }
    if let Some(found) = top.find("grants") {
        manifest.grants = read_grants(&found.table()?)?;
    }
    if let Some(found) = top.find("limits") {
        manifest.limits = read_limits(&found.table()?)?;
    }
    if let Some(found) = top.find("config") {
        manifest.config = read_config(&found.table()?)?;
    }
    if let Some(found) = top.find("processes") {
        let table = found.table()?;
        table.at_most(PROCESSES_MAX)?;
        for (name, process) in table.each() {
            let key: ProcessName = name.get_ref().parse().map_err(|why| process.invalid(why))?;
            let process = read_process(&process.table()?, &key, &manifest)?;
            manifest.processes.insert(key, process);
        }
    }
    Ok(manifest)
}

/// Checks that a path stays below the folder it starts from, on every system.
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

fn read_process(table: &Table<'_, '_>, name: &ProcessName, manifest: &Manifest) -> Outcome<Process> {
    table.only(PROCESS_KEYS)?;
    let entry = match table.parsed("entry")? {
        Some(entry) => entry,
        None if name.as_str() == "web" => Entry::Http,
        None => return Err(table.missing("entry", "entry = \"http\"")),
    };
    let mut process = Process { max: manifest.limits.instances_max, ..Process::new(entry) };
    process.health = table.text("health")?;
    process.schedule = table.text("schedule")?;
    if let (Some(health), Some(found)) = (&process.health, table.find("health")) {
        check_health(health, entry).map_err(|why| found.invalid(why))?;
    }
    if let (Some(schedule), Some(found)) = (&process.schedule, table.find("schedule")) {
        check_schedule(schedule, entry).map_err(|why| found.invalid(why))?;
    }
    if let Some(found) = table.find("args") {
        process.args = found.list(ARGUMENTS_MAX)?.iter().map(Found::bounded_text).collect::<Outcome<_>>()?;
    }
    read_scale(table, &mut process, manifest)?;
    Ok(process)
}

fn read_scale(table: &Table<'_, '_>, process: &mut Process, manifest: &Manifest) -> Outcome<()> {
    let most = manifest.limits.instances_max;
    let count = |name: &str| match table.find(name) {
        None => Ok(None),
        Some(found) => match u32::try_from(found.whole_number()?) {
            Ok(count) if count <= most => Ok(Some(count)),
            _ => Err(found.invalid(format_args!("choose from 0 to {most}, which is limits.instances_max"))),
        },
    };
    let (min, max) = (count("min")?, count("max")?);
    if let (Some(0), Some(found)) = (max, table.find("max")) {
        return Err(found.invalid("at least one instance must be allowed; stop the app instead"));
    }
    process.max = max.unwrap_or(most.max(1));
    // People wait for production apps, so one instance is kept warm unless the manifest says otherwise.
    let warm = manifest.app_type == AppType::Production && process.schedule.is_none();
    process.min = min.unwrap_or(u32::from(warm)).min(if min.is_some() { u32::MAX } else { process.max });
    if process.min > process.max {
        let problem = ManifestProblem::Invalid {
            key: table.key("min"),
            why: format!("min = {} is above max = {}", process.min, process.max),
        };
        let at = table.find("min").map_or(table.at, |found| found.value.span().start);
        return Err(table.reader.error(Some(at), problem));
    }
    Ok(())
}

fn check_health(path: &str, entry: Entry) -> Result<(), &'static str> {
    if entry != Entry::Http {
        return Err("a health path is asked over HTTP, so it needs entry = \"http\"");
    }
    let printable = path.bytes().all(|byte| byte.is_ascii_graphic());
    if path.starts_with('/') && printable && !path.contains('#') {
        Ok(())
    } else {
        Err("write a path that begins with '/', as in \"/healthz\", in plain ASCII without spaces")
    }
}

fn check_schedule(schedule: &str, entry: Entry) -> Result<(), String> {
    if entry != Entry::Events {
        return Err("a schedule delivers an event, so it needs entry = \"events\"".to_owned());
    }
    let ranges = [("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7)];
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != ranges.len() {
        return Err(format!("a schedule has five fields, as in \"0 3 * * *\", but this has {}", fields.len()));
    }
    for (field, (what, least, most)) in fields.into_iter().zip(ranges) {
        if !field.split(',').all(|part| cron_part_is_valid(part, least, most)) {
            return Err(format!(
                "{field:?} is no {what}: write *, a number from {least} to {most}, a range 1-3, a step */2, or a list \
                 of these"
            ));
        }
    }
    Ok(())
}

/// One part of a cron field: `*`, `3`, `1-5`, each perhaps with a step as in `*/2`.
fn cron_part_is_valid(part: &str, least: u32, most: u32) -> bool {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u32>().ok() } else { None }
    };
    let in_range = |value: &u32| (least..=most).contains(value);
    let (values, step) = match part.split_once('/') {
        Some((values, step)) => (values, Some(step)),
        None => (part, None),
    };
    let step_is_valid = step.is_none_or(|step| number(step).is_some_and(|step| step >= 1 && step <= most));
    let values_are_valid = match values.split_once('-') {
        _ if values == "*" => true,
        Some((from, to)) => match (number(from).filter(in_range), number(to).filter(in_range)) {
            (Some(from), Some(to)) => from <= to,
            _ => false,
        },
        None => step.is_none() && number(values).filter(in_range).is_some(),
    };
    step_is_valid && values_are_valid
}

fn read_grants(table: &Table<'_, '_>) -> Outcome<Grants> {
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
    Ok(grants)
}

fn read_limits(table: &Table<'_, '_>) -> Outcome<Limits> {
    table.only(app_limits::NAMES)?;
    let mut limits = Limits::default();
    for (name, found) in table.each() {
        let value = match found.value.get_ref() {
            DeValue::String(text) => WrittenLimit::Text(text),
            DeValue::Integer(_) => WrittenLimit::Count(found.whole_number()?),
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return Err(found.wrong_type("a size, a duration or a whole number"));
            }
        };
        limits.set(name.get_ref(), value).map_err(|error| match error {
            SetError::WrongKind { expected } => found.wrong_type(expected),
            SetError::UnknownLimit | SetError::Value(_) => found.invalid(error),
        })?;
    }
    Ok(limits)
}

fn read_config(table: &Table<'_, '_>) -> Outcome<BTreeMap<String, String>> {
    table.at_most(CONFIG_VARS_MAX)?;
    let mut config = BTreeMap::new();
    for (name, found) in table.each() {
        let name = name.get_ref();
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) || name.len() > 128 {
            return Err(found.invalid("a config var is named by at most 128 letters, digits and '_', no digit first"));
        }
        let value = found.text()?;
        if value.len() > CONFIG_VALUE_BYTES_MAX || value.contains('\0') {
            return Err(found.invalid(format_args!("a value has at most {CONFIG_VALUE_BYTES_MAX} bytes and no NUL")));
        }
        config.insert(name.to_string(), value.to_owned());
    }
    Ok(config)
}
