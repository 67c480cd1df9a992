//! The plugins of the host: which exist, which apps use them, and whether a release can use its
//! middleware. Owns the checks at a deploy, and the lock that keeps plugins and the apps that use
//! them consistent. Never calls a plugin for a request.

mod providers;

use std::sync::Arc;

use isopod_engine::ComponentInfo;
use isopod_policy::{
    AppKind, AppName, Grants, Manifest, MiddlewareUse, PluginKind, PluginReference, PluginSettings, ReleaseNumber,
};
use isopod_store::{Store, StoreError};
use semver::Version;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::control::{
    app::AppRecord,
    app_table::AppTable,
    error::{DeployError, Failure},
    plugin_users::{UnusedPlugin, Users, sorted},
};
use crate::runtime::{ActiveRelease, Directory};

/// The settings and handles of [`Plugins`].
pub(in crate::control) struct Options {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) store: Store,
    pub(in crate::control) directory: Arc<Directory>,
    /// The middleware that the operator requires for all apps.
    pub(in crate::control) required: Vec<MiddlewareUse>,
}

/// The plugins of the host. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Plugins(Arc<Service>);

struct Service {
    options: Options,
    /// Held shared while an app that uses plugins commits a release, and exclusively while a plugin
    /// commits a release or is destroyed. A plugin that a commit has checked therefore can't
    /// disappear before the commit ends.
    uses: Arc<RwLock<()>>,
}

/// A plugin with its current release.
pub(crate) struct Plugin {
    pub(crate) record: Arc<AppRecord>,
    /// What the current release defines; `None` before the first one.
    pub(crate) release: Option<PluginRelease>,
    pub(crate) users: Users,
}

/// The part of a plugin that its release defines.
pub(crate) struct PluginRelease {
    pub(crate) number: ReleaseNumber,
    pub(crate) kind: Option<PluginKind>,
    pub(crate) settings: PluginSettings,
    pub(crate) grants: Grants,
    /// The interfaces that a provider offers.
    pub(crate) interfaces: Vec<String>,
}

/// The lock that a commit holds.
pub(in crate::control) enum CommitGuard<'a> {
    /// The release neither uses plugins nor belongs to one.
    None,
    App(#[expect(dead_code, reason = "held until it is dropped")] RwLockReadGuard<'a, ()>),
    Plugin(#[expect(dead_code, reason = "held until it is dropped")] RwLockWriteGuard<'a, ()>),
}

impl Plugins {
    pub(in crate::control) fn new(options: Options) -> Self {
        Self(Arc::new(Service { options, uses: Arc::default() }))
    }

    /// Returns all plugins, ordered by name.
    pub(crate) async fn list(&self) -> Result<Vec<Plugin>, DeployError> {
        let Options { app_table, store, .. } = &self.0.options;
        let (uses, interfaces) = (store.plugin_uses(None).await?, store.interface_uses(None).await?);
        let mut plugins = Vec::new();
        for record in app_table.of_kind(AppKind::Plugin, None, usize::MAX) {
            let own = uses.iter().filter(|found| found.used.plugin.name == record.name).map(|found| &found.app);
            let called = interfaces.iter().filter(|found| found.provider.name == record.name).map(|found| &found.app);
            let users = self.users_of(&record.name, own.chain(called).cloned());
            let release = self.release_of(&record).await?;
            plugins.push(Plugin { record, release, users });
        }
        Ok(plugins)
    }

    /// Returns a plugin.
    pub(crate) async fn get(&self, name: &AppName) -> Result<Plugin, DeployError> {
        let record = self.record(name).ok_or_else(|| DeployError::UnknownPlugin(name.clone()))?;
        let (release, users) = (self.release_of(&record).await?, self.users(name).await?);
        Ok(Plugin { record, release, users })
    }

    fn record(&self, name: &AppName) -> Option<Arc<AppRecord>> {
        self.0.options.app_table.app(name).ok().filter(|record| record.kind == AppKind::Plugin)
    }

    async fn release_of(&self, record: &AppRecord) -> Result<Option<PluginRelease>, StoreError> {
        let Some(number) = record.fields().release else { return Ok(None) };
        let release = self.0.options.store.release(&record.name, number).await?;
        let Some(Manifest { processes, plugin: Some(settings), grants, .. }) = release.map(|release| release.manifest)
        else {
            return Ok(None);
        };
        let kind = processes.values().find_map(|process| process.entry.plugin_kind());
        let interfaces = match kind {
            // An unreadable release offers nothing.
            Some(PluginKind::Provider) => self.offered(record).await.unwrap_or_default().into_keys().collect(),
            _ => Vec::new(),
        };
        Ok(Some(PluginRelease { number, kind, settings, grants, interfaces }))
    }

    async fn users(&self, plugin: &AppName) -> Result<Users, StoreError> {
        let uses = self.0.options.store.plugin_uses(Some(plugin)).await?;
        let callers = self.users_of_interfaces(plugin).await?;
        Ok(self.users_of(plugin, uses.into_iter().map(|found| found.app).chain(callers)))
    }

    fn users_of(&self, plugin: &AppName, apps: impl Iterator<Item = AppName>) -> Users {
        let apps = sorted(apps);
        Users { apps, is_required: self.is_required(plugin) }
    }

    /// Returns whether the host's settings require a plugin with this name.
    pub(in crate::control) fn is_required(&self, name: &AppName) -> bool {
        self.0.options.required.iter().any(|used| used.plugin.name == *name)
    }

    /// Waits for the exclusive lock, and checks that nothing uses a plugin that is to be destroyed.
    /// The caller holds the lock until the deletion is stored.
    pub(in crate::control) async fn lock_unused(&self, plugin: &AppName) -> Result<UnusedPlugin, DeployError> {
        let guard = Arc::clone(&self.0.uses).write_owned().await;
        let users = self.users(plugin).await?;
        if users.apps.is_empty() && !users.is_required {
            return Ok(guard);
        }
        Err(DeployError::PluginInUse { plugin: plugin.clone(), users })
    }

    /// Checks a new release before the build. The middleware of an app must be installed and accept
    /// its config, and its providers must offer the interfaces that it imports. The version of a
    /// plugin must be within the ranges of the apps that use it, and a provider must still offer
    /// their interfaces.
    /// `before` is the middleware of the current release, whose configs are already checked.
    pub(in crate::control) async fn check(
        &self,
        app: &AppRecord,
        manifest: &Manifest,
        info: &ComponentInfo,
        before: &[MiddlewareUse],
    ) -> Result<(), Failure> {
        self.check_versions(app, manifest, info).await?;
        let is_new = |used: &&MiddlewareUse| {
            !before.iter().any(|before| before.plugin.name == used.plugin.name && before.config == used.config)
        };
        for used in manifest.middleware.iter().filter(is_new) {
            self.check_config(used).await?;
        }
        Ok(())
    }

    /// Takes the lock of a commit, and checks again what may have changed since the first check. A
    /// plugin must also accept the configs of the apps that use it.
    pub(in crate::control) async fn lock_commit(
        &self,
        app: &AppRecord,
        manifest: &Manifest,
        running: &ActiveRelease,
    ) -> Result<CommitGuard<'_>, Failure> {
        let guard = match app.kind {
            AppKind::App if manifest.middleware.is_empty() && manifest.grants.interfaces.is_empty() => {
                return Ok(CommitGuard::None);
            }
            AppKind::App => CommitGuard::App(self.0.uses.read().await),
            AppKind::Plugin => {
                self.check_configs_of_users(&app.name, running).await?;
                CommitGuard::Plugin(self.0.uses.write().await)
            }
        };
        self.check_versions(app, manifest, running.program().info()).await?;
        Ok(guard)
    }

    async fn check_versions(&self, app: &AppRecord, manifest: &Manifest, info: &ComponentInfo) -> Result<(), Failure> {
        for used in &manifest.middleware {
            self.check_version(&used.plugin, PluginKind::Middleware).await?;
        }
        self.check_providers(manifest, info).await?;
        let Some(settings) = &manifest.plugin else { return Ok(()) };
        self.check_users(&app.name, &settings.version).await?;
        let kind = manifest.processes.values().find_map(|process| process.entry.plugin_kind());
        self.check_interfaces_of_users(app, kind, info).await
    }

    /// Checks that a plugin of a kind is installed in an accepted version.
    async fn check_version(&self, used: &PluginReference, kind: PluginKind) -> Result<Arc<AppRecord>, Failure> {
        let missing = |why: String| Failure::PluginMissing { plugin: used.name.clone(), why };
        let record = self.record(&used.name).ok_or_else(|| missing("it is not installed".to_owned()))?;
        let release = self.release_of(&record).await?.ok_or_else(|| missing("it has no release yet".to_owned()))?;
        if release.kind != Some(kind) {
            return Err(missing(format!("its kind is not {kind}")));
        }
        let version = release.settings.version;
        if !used.accepts(&version) {
            return Err(Failure::PluginVersion { used: Box::new(used.clone()), version });
        }
        Ok(record)
    }

    /// Checks that a version of a plugin is within the ranges of all its users.
    async fn check_users(&self, plugin: &AppName, version: &Version) -> Result<(), Failure> {
        let refuses = |used: &MiddlewareUse| used.plugin.name == *plugin && !used.plugin.accepts(version);
        let uses = self.0.options.store.plugin_uses(Some(plugin)).await?.into_iter();
        let called = self.0.options.store.interface_uses(Some(plugin)).await?.into_iter();
        let called = called.filter(|found| !found.provider.accepts(version)).map(|found| found.app);
        let apps = sorted(uses.filter(|found| refuses(&found.used)).map(|found| found.app).chain(called));
        let users = Users { apps, is_required: self.0.options.required.iter().any(refuses) };
        if users.apps.is_empty() && !users.is_required {
            return Ok(());
        }
        Err(Failure::PluginVersionOfUsers {
            plugin: plugin.clone(),
            version: version.clone(),
            users: users.to_string(),
        })
    }

    /// Checks that the serving release of a plugin accepts the config of a use.
    async fn check_config(&self, used: &MiddlewareUse) -> Result<(), Failure> {
        let name = &used.plugin.name;
        let missing = || Failure::PluginMissing { plugin: name.clone(), why: "it is not installed".to_owned() };
        let record = self.record(name).ok_or_else(missing)?;
        let running = self.0.options.directory.serving(&record.traffic).await;
        let running = running.map_err(|why| Failure::PluginNotServing { plugin: name.clone(), why })?;
        let refused = |why: String| Failure::PluginConfig { plugin: name.clone(), why };
        validate_config(&running, used.config.as_str()).await.map_err(refused)
    }

    /// Checks that a new release of a plugin accepts the configs of all its users.
    async fn check_configs_of_users(&self, plugin: &AppName, running: &ActiveRelease) -> Result<(), Failure> {
        let uses = self.0.options.store.plugin_uses(Some(plugin)).await?;
        let required = self.0.options.required.iter().filter(|used| used.plugin.name == *plugin);
        let of_host = required.map(|used| ("the host's settings".to_owned(), used.clone()));
        let of_apps = uses.into_iter().map(|found| (format!("the app `{}`", found.app), found.used));
        let mut accepted: Vec<MiddlewareUse> = Vec::new();
        for (user, used) in of_host.chain(of_apps) {
            if accepted.iter().any(|before| before.config == used.config) {
                continue;
            }
            let refused = |why| Failure::PluginConfigOfUser { plugin: plugin.clone(), user, why };
            validate_config(running, used.config.as_str()).await.map_err(refused)?;
            accepted.push(used);
        }
        Ok(())
    }

    /// Logs which required plugins are missing: with `on_failure = "refuse"`, all apps fail.
    pub(in crate::control) fn report_missing(&self) {
        for used in &self.0.options.required {
            let name = &used.plugin.name;
            if self.record(name).is_none_or(|record| record.fields().release.is_none()) {
                tracing::warn!(plugin = %name, "the host's settings require a plugin that is not installed; install it \
                               with `isopod plugins install`");
            }
        }
    }
}

/// Validates a config with a release of a plugin. The error is the plugin's message, or the reason
/// for its failure.
async fn validate_config(running: &ActiveRelease, config: &str) -> Result<(), String> {
    running.validate_config(config).await.unwrap_or_else(|failed| Err(format!("the check failed: {failed}")))
}
