//! The gates of the host's settings: which apply to the releases of an app, and whether their
//! plugins can be used. Never calls a gate.

use isopod_policy::{AppKind, GateUse, MiddlewareConfig, PluginKind, PluginReference};

use super::{Options, Plugins};
use crate::control::{app::AppRecord, error::Failure};

impl Plugins {
    /// Returns the gates that apply to an app. None apply to a plugin: a gate that refuses every
    /// release must not prevent its own replacement.
    pub(in crate::control) fn gates_of(&self, app: &AppRecord) -> impl Iterator<Item = &GateUse> {
        let (name, kind, app_type) = (app.name.clone(), app.kind, app.fields().app_type);
        let applies = move |used: &&GateUse| kind == AppKind::App && used.applies_to(&name, app_type);
        self.0.options.gates.iter().filter(applies)
    }

    /// Returns the plugins that the host's settings use, with their configs.
    pub(super) fn host_uses(&self) -> impl Iterator<Item = (&PluginReference, &MiddlewareConfig)> {
        let Options { required, gates, .. } = &self.0.options;
        let required = required.iter().map(|used| (&used.plugin, &used.config));
        required.chain(gates.iter().map(|used| (&used.plugin, &used.config)))
    }

    /// Logs a warning for each gate that can't be called.
    pub(in crate::control) async fn report_gates(&self) {
        for used in &self.0.options.gates {
            if let Err(why) = self.check_gate(used).await {
                tracing::warn!(gate = %used.plugin.name, "the host's settings name a gate that can't be asked: {why}");
            }
        }
    }

    /// Checks that the plugin of a gate is installed in an accepted version.
    pub(in crate::control) async fn check_gate(&self, used: &GateUse) -> Result<(), Failure> {
        self.check_version(&used.plugin, PluginKind::Gate).await.map(drop)
    }
}
