//! The lock that keeps plugins and the apps that use them consistent. A release commits only after
//! it was checked with the current releases of the other side. Owns the lock and the checks of a
//! commit. An automatic rollback takes the lock too, so that it doesn't change what a commit has
//! checked. Never calls a plugin while it holds the lock.
//!
//! The order of locks: a commit takes the lock before it sends a command to the task of an app or a
//! plugin, and then waits for the task. A task never waits for the lock.

use std::sync::Arc;

use isopod_policy::{AppKind, AppName, Manifest, MiddlewareUse, ReleaseNumber};
use isopod_store::StoreError;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use super::Plugins;
use crate::control::{
    accepted_configs::{AcceptedConfigs, has_same_config},
    app::AppRecord,
    error::{DeployError, Failure},
    failpoint::reached,
    limits,
    plugin_users::{UnusedPlugin, Users},
};
use crate::runtime::ActiveRelease;

/// The lock that a commit holds until it is stored.
pub(in crate::control) enum CommitGuard {
    /// Of an app. Other apps commit at the same time.
    App(#[expect(dead_code, reason = "held until it is dropped")] OwnedRwLockReadGuard<()>),
    /// Of a plugin.
    Plugin(#[expect(dead_code, reason = "held until it is dropped")] OwnedRwLockWriteGuard<()>),
}

/// A config that a plugin must accept before the commit.
enum UncheckedConfig {
    /// Of the app that commits.
    OfApp(MiddlewareUse),
    /// Of a user of the plugin that commits.
    OfUser(String, MiddlewareUse),
}

impl Plugins {
    /// Waits for the exclusive lock, and checks that nothing uses a plugin that is to be destroyed.
    /// The caller holds the lock until the deletion is stored.
    pub(in crate::control) async fn lock_unused(&self, plugin: &AppName) -> Result<UnusedPlugin, DeployError> {
        let guard = Arc::clone(&self.0.uses).write_owned().await;
        let users = Users { on_standby: self.users_on_standby(plugin).await?, ..self.users(plugin).await? };
        if users.is_none() {
            reached("plugin-unused").await;
            return Ok(guard);
        }
        Err(DeployError::PluginInUse { plugin: plugin.clone(), users })
    }

    /// Returns the apps whose rollout watch may return to a release that uses a plugin.
    async fn users_on_standby(&self, plugin: &AppName) -> Result<Vec<AppName>, StoreError> {
        let mut users = Vec::new();
        for app in self.0.options.app_table.of_kind(AppKind::App, None, usize::MAX) {
            for number in &app.fields().standby {
                let release = self.0.options.store.release(&app.name, *number).await?;
                if release.is_some_and(|release| uses(&release.manifest, plugin)) {
                    users.push(app.name.clone());
                    break;
                }
            }
        }
        Ok(users)
    }

    /// Takes the lock of a commit, and checks under the lock what the commit combines: versions,
    /// interfaces, and that each config was accepted. If a config was not, releases the lock, calls
    /// the plugin to check it, and begins again.
    pub(in crate::control) async fn lock_commit(
        &self,
        app: &AppRecord,
        manifest: &Manifest,
        running: &ActiveRelease,
        mut accepted: AcceptedConfigs,
    ) -> Result<CommitGuard, Failure> {
        for _ in 0..limits::COMMIT_CHECKS_MAX {
            let guard = self.lock(app.kind).await;
            self.check_versions(app, manifest, running.program().info()).await?;
            let unchecked = match app.kind {
                AppKind::App => self.unchecked(app, manifest, &accepted).await?.map(UncheckedConfig::OfApp).collect(),
                AppKind::Plugin => self.unchecked_of_users(&app.name, running.release(), &accepted).await?,
            };
            if unchecked.is_empty() {
                return Ok(guard);
            }
            drop(guard);
            for unchecked in unchecked {
                match unchecked {
                    UncheckedConfig::OfApp(used) => self.check_config(used, &mut accepted).await?,
                    UncheckedConfig::OfUser(user, used) => {
                        let refused = |why| Failure::PluginConfigOfUser { plugin: app.name.clone(), user, why };
                        validate_config(running, &used).await.map_err(refused)?;
                        accepted.add(running.release(), used);
                    }
                }
            }
            reached("configs-accepted").await;
        }
        Err(Failure::PluginsChanging)
    }

    /// Waits for the lock of a commit or of an automatic rollback.
    pub(in crate::control) async fn lock(&self, kind: AppKind) -> CommitGuard {
        let uses = Arc::clone(&self.0.uses);
        match kind {
            AppKind::App => CommitGuard::App(uses.read_owned().await),
            AppKind::Plugin => CommitGuard::Plugin(uses.write_owned().await),
        }
    }

    /// Returns the middleware of an app's new release whose config the current release of the
    /// plugin has not accepted. The configs of the app's current release are accepted: each commit
    /// of the plugin checks them.
    pub(super) async fn unchecked(
        &self,
        app: &AppRecord,
        manifest: &Manifest,
        accepted: &AcceptedConfigs,
    ) -> Result<impl Iterator<Item = MiddlewareUse> + use<>, Failure> {
        let is_accepted = |used: &MiddlewareUse| {
            let plugin = self.record(&used.plugin.name);
            plugin.is_some_and(|plugin| accepted.contains(plugin.fields().release, used))
        };
        let mut unchecked: Vec<_> = manifest.middleware.iter().filter(|used| !is_accepted(used)).cloned().collect();
        if let (false, Some(number)) = (unchecked.is_empty(), app.fields().release)
            && let Some(current) = self.0.options.store.release(&app.name, number).await?
        {
            let is_new = |used: &MiddlewareUse| !current.manifest.middleware.iter().any(|of| has_same_config(of, used));
            unchecked.retain(is_new);
        }
        Ok(unchecked.into_iter())
    }

    /// Returns the configs of a plugin's users that its new release has not accepted, each once.
    async fn unchecked_of_users(
        &self,
        plugin: &AppName,
        release: Option<ReleaseNumber>,
        accepted: &AcceptedConfigs,
    ) -> Result<Vec<UncheckedConfig>, Failure> {
        let uses = self.0.options.store.plugin_uses(Some(plugin)).await?;
        let of_host = self.host_uses().filter(|used| used.plugin.name == *plugin);
        let of_host = of_host.map(|used| ("the host's settings".to_owned(), used.config_use()));
        let of_apps = uses.into_iter().map(|found| (format!("the app `{}`", found.app), found.used));
        let mut unchecked: Vec<(String, MiddlewareUse)> = Vec::new();
        for (user, used) in of_host.chain(of_apps) {
            let is_known = |(_, before): &(String, MiddlewareUse)| has_same_config(before, &used);
            if !accepted.contains(release, &used) && !unchecked.iter().any(is_known) {
                unchecked.push((user, used));
            }
        }
        Ok(unchecked.into_iter().map(|(user, used)| UncheckedConfig::OfUser(user, used)).collect())
    }

    /// Checks that the serving release of a plugin accepts the config of a use.
    pub(super) async fn check_config(
        &self,
        used: MiddlewareUse,
        accepted: &mut AcceptedConfigs,
    ) -> Result<(), Failure> {
        let name = &used.plugin.name;
        let missing = || Failure::PluginMissing { plugin: name.clone(), why: "it is not installed".to_owned() };
        let record = self.record(name).ok_or_else(missing)?;
        let running = self.0.options.directory.serving(&record.traffic).await;
        let running = running.map_err(|why| Failure::PluginNotServing { plugin: name.clone(), why })?;
        let refused = |why: String| Failure::PluginConfig { plugin: name.clone(), why };
        validate_config(&running, &used).await.map_err(refused)?;
        accepted.add(running.release(), used);
        Ok(())
    }
}

/// Validates the config of a use with a release of its plugin. The error is the plugin's message,
/// or the reason for its failure.
pub(super) async fn validate_config(running: &ActiveRelease, used: &MiddlewareUse) -> Result<(), String> {
    let validated = running.validate_config(used.config.as_str()).await;
    validated.unwrap_or_else(|failed| Err(format!("the check failed: {failed}")))
}

fn uses(manifest: &Manifest, plugin: &AppName) -> bool {
    manifest.middleware.iter().any(|used| used.plugin.name == *plugin)
        || manifest.grants.interfaces.values().any(|provider| provider.name == *plugin)
}
