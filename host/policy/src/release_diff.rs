//! The differences between two releases, field by field. Owns the fields' names and the sentence
//! about them. Shows only that a secret differs, and never decides whether a difference matters.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::limits::{CHANGE_VALUE_CHARS_MAX, CHANGES_NAMED_MAX};
use crate::schema::FieldValue;
use crate::{ConfigValue, ConfigVars, Manifest};

/// The contents of a release.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseContent<'a> {
    /// The digest of its bundle.
    pub bundle: &'a str,
    /// The digest of its assets, if it has any.
    pub assets: Option<&'a str>,
    /// Its manifest, including its formation.
    pub manifest: &'a Manifest,
    /// Its config vars, as set at the host.
    pub config: &'a ConfigVars,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Change {
    /// The field, as keys joined with dots: `processes.web.max`, `config.GREETING`, `bundle`,
    /// `assets`.
    pub field: String,
    /// The old value, if any.
    #[schema(value_type = Option<FieldValue>)]
    pub before: Option<Value>,
    /// The new value, if any.
    #[schema(value_type = Option<FieldValue>)]
    pub after: Option<Value>,
}

/// A field's value. Secrets are compared by their sealed form and shown as redacted.
#[derive(Clone, PartialEq)]
enum Compared {
    Open(Value),
    Secret(String),
}

impl Compared {
    fn shown(&self) -> Value {
        match self {
            Self::Open(value) => value.clone(),
            Self::Secret(_) => json!({"secret": true}),
        }
    }
}

/// Returns the differences from one release to another, sorted by field. Config vars are compared
/// as guests see them: the manifest's, overlaid by those set at the host.
pub fn changes(from: &ReleaseContent<'_>, to: &ReleaseContent<'_>) -> Vec<Change> {
    let (before, after) = (fields(from), fields(to));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| Change {
            field: name.clone(),
            before: before.get(name).map(Compared::shown),
            after: after.get(name).map(Compared::shown),
        })
        .collect()
}

#[expect(clippy::expect_used, reason = "a manifest contains only JSON types")]
fn fields(content: &ReleaseContent<'_>) -> BTreeMap<String, Compared> {
    let mut fields = BTreeMap::new();
    fields.insert("bundle".to_owned(), Compared::Open(content.bundle.into()));
    if let Some(assets) = content.assets {
        fields.insert("assets".to_owned(), Compared::Open(assets.into()));
    }
    let manifest = serde_json::to_value(content.manifest).expect("a manifest contains only JSON types");
    flatten("", manifest, &mut fields);
    for (key, value) in content.config.iter() {
        let held = match value {
            ConfigValue::Plain(text) => Compared::Open(text.as_str().into()),
            ConfigValue::Secret(sealed) => Compared::Secret(sealed.as_base64().to_owned()),
        };
        fields.insert(format!("config.{key}"), held);
    }
    fields
}

/// Adds every leaf of a tree with its path.
fn flatten(path: &str, value: Value, fields: &mut BTreeMap<String, Compared>) {
    match value {
        Value::Object(entries) if !is_health(path) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(&path, value, fields);
            }
        }
        leaf => {
            fields.insert(path.to_owned(), Compared::Open(leaf));
        }
    }
}

/// Returns whether a path is that of a health check. It counts as one leaf, since it may be a path
/// or a table.
fn is_health(path: &str) -> bool {
    let process = path.strip_prefix("processes.").and_then(|rest| rest.strip_suffix(".health"));
    process.is_some_and(|name| !name.contains('.'))
}

impl Change {
    /// Describes the change for the activity: `processes.web.max from 3 to 10`. Omits the values of
    /// config vars, since the activity outlives them.
    pub fn sentence(&self) -> String {
        let field = &self.field;
        let quiet = field.starts_with("config.") || field == "bundle" || field == "assets";
        match (&self.before, &self.after) {
            // Two lists of middleware may differ only in their configs.
            (Some(before), Some(after)) if !quiet && show(before) != show(after) => {
                format!("{field} from {} to {}", show(before), show(after))
            }
            (None, Some(after)) if !quiet => format!("{field} set to {}", show(after)),
            (None, Some(_)) => format!("{field} set"),
            (Some(_), None) => format!("{field} removed"),
            (Some(_), Some(_)) | (None, None) => format!("{field} changed"),
        }
    }
}

/// Describes all changes in one sentence for the activity: names the first few and counts the rest.
pub fn sentence(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing changed".to_owned();
    }
    let mut named: Vec<String> = changes.iter().take(CHANGES_NAMED_MAX).map(Change::sentence).collect();
    if changes.len() > CHANGES_NAMED_MAX {
        named.push(format!("{} more", changes.len() - CHANGES_NAMED_MAX));
    }
    match named.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => String::new(),
    }
}

fn show(value: &Value) -> String {
    let plugins = || value.as_array()?.iter().map(|used| used.get("use")?.as_str()).collect::<Option<Vec<_>>>();
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if !items.is_empty() && plugins().is_some() => plugins().unwrap_or_default().join(", "),
        other => other.to_string(),
    };
    if text.chars().count() <= CHANGE_VALUE_CHARS_MAX {
        return text;
    }
    let cut: String = text.chars().take(CHANGE_VALUE_CHARS_MAX).collect();
    format!("{cut}…")
}
