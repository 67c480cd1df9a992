//! Bundles of the example `probe-gate`, and the host's settings that use it. Its config selects its
//! decision for each app.

use crate::{Bundle, Host, guest};

/// The gate `probe-gate` with this version. `manifest` has further tables.
pub fn probe_gate(version: &str, manifest: &str) -> Bundle {
    let head = format!("name = \"probe-gate\"\nkind = \"plugin\"\n[plugin]\nversion = \"{version}\"\n");
    Bundle::archive(&format!("{head}time_limit = \"500ms\"\n{manifest}"), &guest("probe-gate"))
}

/// The host's settings with this config of the gate, in TOML. `more` has further keys.
pub fn gate_settings(config: &str, more: &str) -> String {
    format!("[[gates]]\nuse = \"probe-gate@^1\"\nconfig = {config}\n{more}\n")
}

/// Starts a host with the gate.
pub fn host_with_gate(config: &str, more: &str) -> Host {
    let host = Host::start_with("", &gate_settings(config, more));
    host.installed(&probe_gate("1.0.0", ""));
    host
}
