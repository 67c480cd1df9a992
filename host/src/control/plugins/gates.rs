//! The gates of the host's settings: which apply to the releases of an app, and whether their
//! plugins can be used. Never calls a gate.

use isopod_policy::{AppKind, AppType, GateUse, PluginKind};

use super::Plugins;
use crate::control::{app::AppRecord, error::Failure};

impl Plugins {
    /// Returns the gates that apply to an app of this type. None apply to a plugin: a gate that
    /// refuses every release must not prevent its own replacement.
    pub(in crate::control) fn gates_of(&self, app: &AppRecord, app_type: AppType) -> impl Iterator<Item = &GateUse> {
        let (name, kind) = (app.name.clone(), app.kind);
        let applies = move |used: &&GateUse| kind == AppKind::App && used.applies_to(&name, app_type);
        self.0.options.gates.iter().filter(applies)
    }

    /// Checks that the plugin of a gate is installed in an accepted version.
    pub(in crate::control) async fn check_gate(&self, used: &GateUse) -> Result<(), Failure> {
        self.check_version(&used.plugin, PluginKind::Gate).await.map(drop)
    }
}
