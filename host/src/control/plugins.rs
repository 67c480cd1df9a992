//! The plugins of the host: which exist, which apps use them, and whether a release can use its
//! middleware. Owns the checks before a build (`commit_lock.rs` has those of a commit). Never calls
//! a plugin for a request.

mod commit_lock;
mod gates;
mod providers;
mod required;
mod unfit;

use std::sync::{Arc, Mutex};

use isopod_engine::ComponentInfo;
use isopod_policy::{
    AppKind, AppName, GateUse, Grants, Manifest, MiddlewareUse, PluginKind, PluginReference, PluginSettings,
    ReleaseNumber,
};
use isopod_store::{Store, StoreError};
use semver::Version;
use tokio::sync::RwLock;

pub(crate) use self::required::PluginProblem;
use self::required::RejectedConfig;
pub(in crate::control) use self::{commit_lock::CommitGuard, unfit::UnfitPlugin};
use crate::control::{
    accepted_configs::AcceptedConfigs,
    app::AppRecord,
    app_table::AppTable,
    error::{DeployError, Failure},
    plugin_users::{Users, sorted},
};
use crate::runtime::Directory;

/// The settings and handles of [`Plugins`].
pub(in crate::control) struct Options {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) store: Store,
    pub(in crate::control) directory: Arc<Directory>,
    /// The middleware that the operator requires for all apps.
    pub(in crate::control) required: Vec<MiddlewareUse>,
    /// The gates that may refuse releases of apps.
    pub(in crate::control) gates: Vec<GateUse>,
}

/// The plugins of the host. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Plugins(Arc<Service>);

struct Service {
    options: Options,
    /// Held shared while an app commits a release, and exclusively while a plugin commits a release
    /// or is destroyed (`commit_lock.rs`). An automatic rollback counts as a commit.
    uses: Arc<RwLock<()>>,
    /// The required configs that plugins rejected at the last check.
    rejected: Mutex<Vec<RejectedConfig>>,
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

impl Plugins {
    pub(in crate::control) fn new(options: Options) -> Self {
        Self(Arc::new(Service { options, uses: Arc::default(), rejected: Mutex::default() }))
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

    /// Returns whether several apps may call a plugin. True if the store can't be read.
    pub(in crate::control) async fn has_several_users(&self, plugin: &AppName) -> bool {
        let users = self.users(plugin).await;
        users.map_or(true, |users| users.apps.len() > 1 || users.is_required)
    }

    fn users_of(&self, plugin: &AppName, apps: impl Iterator<Item = AppName>) -> Users {
        let apps = sorted(apps);
        Users { apps, is_required: self.is_required(plugin), ..Users::default() }
    }

    /// Returns whether the host's settings require a plugin with this name.
    pub(in crate::control) fn is_required(&self, name: &AppName) -> bool {
        self.host_uses().any(|used| used.plugin.name == *name)
    }

    /// Checks a new release before the build. The middleware of an app must be installed and accept
    /// its config, and its providers must offer the interfaces that it imports. The version of a
    /// plugin must be within the ranges of the apps that use it, its kind must stay the same, and a
    /// provider must still offer their interfaces. Returns the configs that were accepted.
    pub(in crate::control) async fn check(
        &self,
        app: &AppRecord,
        manifest: &Manifest,
        info: &ComponentInfo,
    ) -> Result<AcceptedConfigs, Failure> {
        self.check_versions(app, manifest, info).await?;
        let mut accepted = AcceptedConfigs::default();
        for used in self.unchecked(app, manifest, &accepted).await? {
            self.check_config(used, &mut accepted).await?;
        }
        Ok(accepted)
    }

    async fn check_versions(&self, app: &AppRecord, manifest: &Manifest, info: &ComponentInfo) -> Result<(), Failure> {
        for used in &manifest.middleware {
            self.check_version(&used.plugin, PluginKind::Middleware).await?;
        }
        self.check_providers(manifest, info).await?;
        let Some(settings) = &manifest.plugin else { return Ok(()) };
        self.check_users(&app.name, &settings.version).await?;
        let kind = manifest.processes.values().find_map(|process| process.entry.plugin_kind());
        self.check_kind(&app.name, kind).await?;
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
        let of_host = |used: &PluginReference| used.name == *plugin && !used.accepts(version);
        let users = Users { apps, is_required: self.host_uses().any(|used| of_host(used.plugin)), ..Users::default() };
        if users.is_none() {
            return Ok(());
        }
        Err(Failure::PluginVersionOfUsers {
            plugin: plugin.clone(),
            version: version.clone(),
            users: users.to_string(),
        })
    }

    /// Checks that a plugin has the kind that the host's settings and the apps expect.
    /// [`Self::check_interfaces_of_users`] checks the apps that use it as a provider.
    async fn check_kind(&self, plugin: &AppName, kind: Option<PluginKind>) -> Result<(), Failure> {
        let uses = match kind {
            Some(PluginKind::Middleware) => Vec::new(),
            _ => self.0.options.store.plugin_uses(Some(plugin)).await?,
        };
        let is_required = self.host_uses().any(|used| used.plugin.name == *plugin && Some(used.kind) != kind);
        let users = Users { apps: sorted(uses.into_iter().map(|found| found.app)), is_required, ..Users::default() };
        if users.is_none() {
            return Ok(());
        }
        Err(Failure::PluginKindOfUsers { plugin: plugin.clone(), users: users.to_string() })
    }
}
