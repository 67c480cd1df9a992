//! What differs between two releases, field by field. Owns the names of the fields and the words about them. Shows of a
//! secret only that it differs, and never decides whether a difference matters.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::limits::{CHANGE_VALUE_CHARS_MAX, CHANGES_NAMED_MAX};
use crate::{ConfigValue, ConfigVars, Manifest};

/// What a release is made of.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseContent<'a> {
    /// The digest of its bundle.
    pub bundle: &'a str,
    /// Its manifest, with the formation it has.
    pub manifest: &'a Manifest,
    /// The config vars that were set at the host.
    pub config: &'a ConfigVars,
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Change {
    /// Which, as keys with dots between them: `processes.web.max`, `config.GREETING`, `bundle`.
    pub field: String,
    /// What it was; none if it wasn't there.
    pub before: Option<Value>,
    /// What it is; none if it is gone.
    pub after: Option<Value>,
}

/// A field's value, and what it is compared by: of a secret both differ.
#[derive(Clone, PartialEq)]
enum Held {
    Open(Value),
    Secret(String),
}

impl Held {
    fn shown(&self) -> Value {
        match self {
            Self::Open(value) => value.clone(),
            Self::Secret(_) => json!({"secret": true}),
        }
    }
}

/// What differs from one release to another, in order of fields. Config vars are compared as guests see them: those
/// of the manifest, overlaid by those set at the host.
pub fn changes(from: &ReleaseContent<'_>, to: &ReleaseContent<'_>) -> Vec<Change> {
    let (before, after) = (fields(from), fields(to));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| Change {
            field: name.clone(),
            before: before.get(name).map(Held::shown),
            after: after.get(name).map(Held::shown),
        })
        .collect()
}

fn fields(content: &ReleaseContent<'_>) -> BTreeMap<String, Held> {
    let mut fields = BTreeMap::new();
    fields.insert("bundle".to_owned(), Held::Open(content.bundle.into()));
    let manifest = serde_json::to_value(content.manifest).expect("a manifest holds only what JSON has");
    flatten("", manifest, &mut fields);
    for (key, value) in content.config.iter() {
        let held = match value {
            ConfigValue::Plain(text) => Held::Open(text.as_str().into()),
            ConfigValue::Secret(sealed) => Held::Secret(sealed.as_base64().to_owned()),
        };
        fields.insert(format!("config.{key}"), held);
    }
    fields
}

/// Names every leaf of a tree.
fn flatten(path: &str, value: Value, fields: &mut BTreeMap<String, Held>) {
    match value {
        Value::Object(entries) if !is_health(path) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(&path, value, fields);
            }
        }
        leaf => {
            fields.insert(path.to_owned(), Held::Open(leaf));
        }
    }
}

/// Whether a path is that of a health check, which is one leaf, since it may be a path or a table.
fn is_health(path: &str) -> bool {
    let process = path.strip_prefix("processes.").and_then(|rest| rest.strip_suffix(".health"));
    process.is_some_and(|name| !name.contains('.'))
}

impl Change {
    /// What happened to the field, for the activity: `processes.web.max from 3 to 10`. The values of config vars are
    /// left out, since the activity is kept when they are gone.
    pub fn sentence(&self) -> String {
        let field = &self.field;
        let quiet = field.starts_with("config.") || field == "bundle";
        match (&self.before, &self.after) {
            (Some(before), Some(after)) if !quiet => {
                format!("{field} from {} to {}", show(before), show(after))
            }
            (None, Some(after)) if !quiet => format!("{field} set to {}", show(after)),
            (None, Some(_)) => format!("{field} set"),
            (Some(_), None) => format!("{field} removed"),
            (Some(_), Some(_)) | (None, None) => format!("{field} changed"),
        }
    }
}

/// What differs, in one sentence for the activity. The first few are named, and the rest counted.
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
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= CHANGE_VALUE_CHARS_MAX {
        return text;
    }
    let cut: String = text.chars().take(CHANGE_VALUE_CHARS_MAX).collect();
    format!("{cut}…")
}
