//! Bundles of the example `probe-plugin`, and of apps that use it. Its config selects how it
//! handles requests.

use crate::{Bundle, guest};

/// A plugin named `probe` with this version. `manifest` has further tables.
pub fn probe_plugin(version: &str, manifest: &str) -> Bundle {
    Bundle::archive(&probe_manifest(version, manifest), &guest("probe-plugin"))
}

/// The manifest of [`probe_plugin`].
pub fn probe_manifest(version: &str, manifest: &str) -> String {
    format!(
        "name = \"probe\"\nkind = \"plugin\"\n[plugin]\nversion = \"{version}\"\ntime_limit = \"500ms\"\n{manifest}"
    )
}

/// A use of the plugin with this config, in TOML. `more` has further keys.
pub fn used(config: &str, more: &str) -> String {
    format!("[[middleware]]\nuse = \"probe\"\nconfig = {config}\n{more}\n")
}

/// A component as an app with these uses of the plugin.
pub fn with_middleware(component: &str, uses: &[String]) -> Bundle {
    Bundle::archive(&format!("name = \"{component}\"\n{}", uses.concat()), &guest(component))
}
