//! Installs and shows plugins. Never knows what a plugin does.

use crate::{Answer, Ask, Bundle, Host, Push, guest, guests::repository};
use serde_json::Value;

/// Returns the bundle of a plugin of `plugins/`, with its own manifest and these further tables.
///
/// # Panics
/// If the plugin has no manifest.
pub fn shipped_plugin(name: &str, tables: &str) -> Bundle {
    let manifest = repository().join("plugins").join(name).join("isopod.toml");
    let manifest = std::fs::read_to_string(manifest).expect("a manifest");
    let built = manifest.lines().filter(|line| !line.starts_with("build =") && !line.starts_with("component ="));
    let manifest = format!("{}\n{tables}", built.collect::<Vec<_>>().join("\n"));
    Bundle::archive(&manifest, &guest(name))
}

impl Host {
    /// Sends the bundle of a plugin, and returns the response unchecked. `query` is as in
    /// `?wait=true`.
    #[track_caller]
    pub fn install(&self, bundle: &Bundle, query: &str) -> Answer {
        let ask = Ask::post(format!("/v1/plugins{query}"));
        self.api(ask.body(bundle.content_type, bundle.bytes.clone()))
    }

    /// Installs a plugin, and waits until it serves.
    #[track_caller]
    pub fn installed(&self, bundle: &Bundle) -> Push {
        let push = Push::from(self.install(bundle, "?wait=true").expect(200).json());
        assert_eq!(push.state, "completed", "{push:?}");
        push
    }

    /// Returns the plugins as the API lists them.
    #[track_caller]
    pub fn plugins(&self) -> Vec<Value> {
        let page = self.api(Ask::get("/v1/plugins")).expect(200).json();
        page["items"].as_array().unwrap_or_else(|| panic!("no items in {page}")).clone()
    }

    /// Returns a plugin as the API shows it.
    #[track_caller]
    pub fn plugin(&self, name: &str) -> Value {
        self.api(Ask::get(format!("/v1/plugins/{name}"))).expect(200).json()
    }

    /// Removes a plugin, and returns the response unchecked.
    #[track_caller]
    pub fn remove_plugin(&self, name: &str) -> Answer {
        self.api(Ask::new("DELETE", format!("/v1/plugins/{name}")))
    }
}
