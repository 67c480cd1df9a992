//! Describes a plugin that is installed: what it asks for, and how it is used. Never installs one.

use isopod_policy::Manifest;
use serde_json::Value;

use super::{build, output};

/// Describes what a plugin asks for.
pub(super) fn requests_of(manifest: &Manifest) -> String {
    let grants = build::grants(&manifest.grants);
    let grants = if grants.is_empty() { "no grants".to_owned() } else { grants.join(", ") };
    format!("{} asks for {grants}", titled(manifest))
}

/// Returns the name of a plugin with its version.
fn titled(manifest: &Manifest) -> String {
    let version = manifest.plugin.as_ref().map(|plugin| format!(" {}", plugin.version));
    format!("{}{}", manifest.name, version.unwrap_or_default())
}

/// Returns the interfaces that a provider offers.
pub(super) fn interfaces(plugin: &Value) -> Vec<&str> {
    plugin["interfaces"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Describes the events that a hook receives. Empty for other plugins.
pub(super) fn received(plugin: &Value) -> String {
    let subscription = &plugin["subscription"];
    let listed = |name: &str, all: &str| match subscription[name].as_array() {
        Some(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        None => all.to_owned(),
    };
    match subscription.is_object() {
        true => format!("{} of {}", listed("events", "all events"), listed("apps", "all apps")),
        false => String::new(),
    }
}

/// Reports an installed plugin, and how an app uses it.
pub(super) fn report(manifest: &Manifest, push: &Value, plugin: &Value) -> String {
    let done = output::done(&format!("{} is installed as {}", titled(manifest), output::release(push, "release")));
    if plugin["kind"] == "hook" {
        return format!("{done}\nit receives {} from now on", received(plugin));
    }
    if plugin["kind"] == "gate" {
        let hint = "to use it, add these lines to the host's settings, and restart the host:";
        return format!("{done}\n{hint}\n  [[gates]]\n  use = \"{}\"", manifest.name);
    }
    let hint = "to use it in an app, add these lines to the app's isopod.toml:";
    let interfaces = interfaces(plugin);
    let lines = match interfaces.is_empty() {
        true => format!(
            "  [[middleware]]\n  use = \"{}\"\n  # config = {{ … }}, if the plugin's documentation describes one",
            manifest.name
        ),
        false => {
            let lines = interfaces.iter().map(|interface| format!("\n  \"{interface}\" = \"{}\"", manifest.name));
            format!("  [grants.interfaces]{}", lines.collect::<String>())
        }
    };
    format!("{done}\n{hint}\n{lines}")
}
