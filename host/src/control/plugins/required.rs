//! The plugins that the host's settings use: the middleware of all apps, and the gates. Finds what
//! prevents them from handling requests or deciding about releases. Never prevents the start of the
//! host.

use std::sync::PoisonError;

use isopod_policy::{AppName, AppState, MiddlewareConfig, MiddlewareUse, PluginKind, PluginReference, ReleaseNumber};

use super::{Options, Plugins};
use crate::control::{
    accepted_configs::{AcceptedConfigs, has_same_config},
    error::Failure,
};

/// Why a plugin of the host's settings can't be called.
pub(crate) struct PluginProblem {
    pub(crate) plugin: AppName,
    pub(crate) why: String,
}

/// A use of a plugin by the host's settings.
pub(super) struct HostUse<'a> {
    pub(super) kind: PluginKind,
    pub(super) plugin: &'a PluginReference,
    config: &'a MiddlewareConfig,
}

/// A config of the host's settings that a release of its plugin rejects.
pub(super) struct RejectedConfig {
    by: Option<ReleaseNumber>,
    used: MiddlewareUse,
    why: String,
}

impl HostUse<'_> {
    /// Returns the plugin with its config, for a check of both.
    pub(super) fn config_use(&self) -> MiddlewareUse {
        MiddlewareUse { config: self.config.clone(), ..MiddlewareUse::new(self.plugin.clone()) }
    }

    fn warn(&self, why: &str) {
        let text = match self.kind == PluginKind::Gate {
            true => "the host's settings name a gate that can't be called",
            false => "the host's settings require a middleware that can't handle requests",
        };
        tracing::warn!(plugin = %self.plugin.name, "{text}: {why}");
    }
}

impl Plugins {
    /// Returns the plugins that the host's settings use.
    pub(super) fn host_uses(&self) -> impl Iterator<Item = HostUse<'_>> {
        let Options { required, gates, .. } = &self.0.options;
        let required = required.iter().map(|used| (PluginKind::Middleware, &used.plugin, &used.config));
        let gates = gates.iter().map(|used| (PluginKind::Gate, &used.plugin, &used.config));
        required.chain(gates).map(|(kind, plugin, config)| HostUse { kind, plugin, config })
    }

    /// Returns the present problems of the plugins of this kind that the host's settings use. Calls
    /// no plugin: the configs were checked at the start, and at each commit of a plugin since.
    pub(crate) async fn problems(&self, kind: PluginKind) -> Vec<PluginProblem> {
        let mut problems = Vec::new();
        for used in self.host_uses().filter(|used| used.kind == kind) {
            if let Some(why) = self.problem_of(&used).await {
                problems.push(PluginProblem { plugin: used.plugin.name.clone(), why });
            }
        }
        problems
    }

    async fn problem_of(&self, used: &HostUse<'_>) -> Option<String> {
        let fields = match self.check_version(used.plugin, used.kind).await {
            Ok(record) => record.fields(),
            Err(failure) => return Some(failure.to_string()),
        };
        if let state @ (AppState::Stopped | AppState::Error(_)) = fields.state {
            return Some(format!("the {} `{}` isn't serving: its state is {state}", used.kind, used.plugin.name));
        }
        let (config, rejected) = (used.config_use(), self.0.rejected.lock().unwrap_or_else(PoisonError::into_inner));
        let is_of_release =
            |known: &&RejectedConfig| known.by == fields.release && has_same_config(&known.used, &config);
        rejected.iter().find(is_of_release).map(|known| known.why.clone())
    }

    /// Logs the problems of the plugins that the host's settings use. Called before the plugins are
    /// loaded.
    pub(in crate::control) async fn report_host_uses(&self) {
        for used in self.host_uses() {
            if let Err(failure) = self.check_version(used.plugin, used.kind).await {
                used.warn(&failure.to_string());
            }
        }
    }

    /// Checks the configs of the host's settings with the releases of the plugins that serve, and
    /// logs those that are rejected. Called after the plugins are loaded, and after an automatic
    /// rollback of a plugin.
    pub(in crate::control) async fn check_host_configs(&self) {
        let mut rejected = Vec::new();
        for used in self.host_uses() {
            // Read first: if the plugin changes meanwhile, its commit checks the config.
            let by = self.record(&used.plugin.name).and_then(|record| record.fields().release);
            let config = used.config_use();
            if let Err(failure @ Failure::PluginConfig { .. }) =
                self.check_config(config.clone(), &mut AcceptedConfigs::default()).await
            {
                let why = failure.to_string();
                used.warn(&why);
                rejected.push(RejectedConfig { by, used: config, why });
            }
        }
        *self.0.rejected.lock().unwrap_or_else(PoisonError::into_inner) = rejected;
    }
}
