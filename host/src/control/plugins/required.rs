//! The middleware that the host's settings require for all apps: finds what prevents it from
//! handling requests. Never prevents the start of the host.

use std::sync::PoisonError;

use isopod_policy::{AppName, AppState, MiddlewareUse, PluginKind, ReleaseNumber};

use super::Plugins;
use crate::control::{
    accepted_configs::{AcceptedConfigs, has_same_config},
    error::Failure,
};

/// Why a required middleware can't handle requests.
pub(crate) struct MiddlewareProblem {
    pub(crate) plugin: AppName,
    pub(crate) why: String,
}

/// A required config that a release of its plugin rejects.
pub(super) struct RejectedConfig {
    by: Option<ReleaseNumber>,
    used: MiddlewareUse,
    why: String,
}

impl Plugins {
    /// Returns the problems of the required middleware now. Calls no plugin: the configs were
    /// checked at the start, and at each commit of a plugin since.
    pub(crate) async fn middleware_problems(&self) -> Vec<MiddlewareProblem> {
        let mut problems = Vec::new();
        for used in &self.0.options.required {
            if let Some(why) = self.problem_of(used).await {
                problems.push(MiddlewareProblem { plugin: used.plugin.name.clone(), why });
            }
        }
        problems
    }

    async fn problem_of(&self, used: &MiddlewareUse) -> Option<String> {
        let fields = match self.check_version(&used.plugin, PluginKind::Middleware).await {
            Ok(record) => record.fields(),
            Err(failure) => return Some(failure.to_string()),
        };
        if let state @ (AppState::Stopped | AppState::Error(_)) = fields.state {
            return Some(format!("the middleware `{}` isn't serving: its state is {state}", used.plugin.name));
        }
        let rejected = self.0.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        let of_release = rejected.iter().find(|known| known.by == fields.release && has_same_config(&known.used, used));
        of_release.map(|known| known.why.clone())
    }

    /// Logs the problems of the required middleware. Called before the plugins are loaded.
    pub(in crate::control) async fn report_required(&self) {
        for used in &self.0.options.required {
            if let Err(failure) = self.check_version(&used.plugin, PluginKind::Middleware).await {
                warn(used, &failure.to_string());
            }
        }
    }

    /// Checks the configs of the required middleware with the releases that serve, and logs those
    /// that are rejected. Called after the plugins are loaded, and after an automatic rollback of a
    /// plugin.
    pub(in crate::control) async fn check_required(&self) {
        let mut rejected = Vec::new();
        for used in &self.0.options.required {
            // Read first: if the plugin changes meanwhile, its commit checks the config.
            let by = self.record(&used.plugin.name).and_then(|record| record.fields().release);
            if let Err(failure @ Failure::PluginConfig { .. }) =
                self.check_config(used.clone(), &mut AcceptedConfigs::default()).await
            {
                let why = failure.to_string();
                warn(used, &why);
                rejected.push(RejectedConfig { by, used: used.clone(), why });
            }
        }
        *self.0.rejected.lock().unwrap_or_else(PoisonError::into_inner) = rejected;
    }
}

fn warn(used: &MiddlewareUse, why: &str) {
    tracing::warn!(plugin = %used.plugin.name, "the host's settings require a middleware that can't serve: {why}");
}
