//! Finds the plugins and apps that are incompatible after an automatic rollback of a plugin or an
//! app. A deploy refuses such combinations. An automatic rollback doesn't, since the release that
//! it replaces fails for all its users. Never changes a release.

use isopod_engine::ComponentInfo;
use isopod_policy::{AppKind, AppName, Manifest, MiddlewareUse, PluginKind, PluginReference};

use super::{Plugins, commit_lock::validate_config, providers::difference};
use crate::control::{accepted_configs::AcceptedConfigs, app::AppRecord, error::Failure};
use crate::runtime::ActiveRelease;

/// A use of a plugin that is incompatible with the plugin's current release.
pub(in crate::control) struct UnfitPlugin {
    /// The app; `None` for the host's settings.
    pub(in crate::control) user: Option<AppName>,
    pub(in crate::control) plugin: AppName,
    pub(in crate::control) failure: Failure,
}

impl Plugins {
    /// Returns the uses of plugins that are incompatible with a release of an app or a plugin,
    /// which has replaced `bad`. Returns at most one for each user of a plugin.
    pub(in crate::control) async fn unfit(
        &self,
        app: &AppRecord,
        running: &ActiveRelease,
        bad: &ActiveRelease,
    ) -> Result<Vec<UnfitPlugin>, Failure> {
        let Some(number) = running.release() else { return Ok(Vec::new()) };
        let Some(release) = self.0.options.store.release(&app.name, number).await? else { return Ok(Vec::new()) };
        match app.kind {
            AppKind::App => self.unfit_of_app(app, &release.manifest, running.program().info()).await,
            AppKind::Plugin => self.unfit_users(app, &release.manifest, running, bad).await,
        }
    }

    async fn unfit_of_app(
        &self,
        app: &AppRecord,
        manifest: &Manifest,
        info: &ComponentInfo,
    ) -> Result<Vec<UnfitPlugin>, Failure> {
        let mut unfit = Vec::new();
        for used in &manifest.middleware {
            let checked = match self.check_version(&used.plugin, PluginKind::Middleware).await {
                Ok(_) => self.check_config(used.clone(), &mut AcceptedConfigs::default()).await,
                Err(failure) => Err(failure),
            };
            unfit.extend(unfit_use(app, &used.plugin, checked)?);
        }
        for (interface, used) in &manifest.grants.interfaces {
            let checked = self.check_provider(interface, used, info).await;
            unfit.extend(unfit_use(app, used, checked)?);
        }
        Ok(unfit)
    }

    async fn unfit_users(
        &self,
        plugin: &AppRecord,
        manifest: &Manifest,
        running: &ActiveRelease,
        bad: &ActiveRelease,
    ) -> Result<Vec<UnfitPlugin>, Failure> {
        let mut unfit = Vec::<UnfitPlugin>::new();
        let mut add = |user: Option<AppName>, failure: Option<Failure>| {
            if let Some(failure) = failure.filter(|_| !unfit.iter().any(|unfit| unfit.user == user)) {
                unfit.push(UnfitPlugin { user, plugin: plugin.name.clone(), failure });
            }
        };
        let outside = |used: &PluginReference| {
            let version = running.plugin_version().filter(|version| !used.accepts(version))?.clone();
            Some(Failure::PluginVersion { used: Box::new(used.clone()), version })
        };
        let uses = self.0.options.store.plugin_uses(Some(&plugin.name)).await?;
        let of_host = self.host_uses().filter(|used| used.plugin.name == plugin.name);
        let of_host = of_host.map(|used| (None, used.config_use()));
        let mut validated = Vec::<(MiddlewareUse, Result<(), String>)>::new();
        for (user, used) in of_host.chain(uses.into_iter().map(|found| (Some(found.app), found.used))) {
            if let Some(failure) = outside(&used.plugin) {
                add(user, Some(failure));
                continue;
            }
            // Many apps have the same config.
            let known = validated.iter().find(|(known, _)| known.config == used.config).map(|(_, known)| known.clone());
            let result = match known {
                Some(known) => known,
                None => {
                    let result = validate_config(running, &used).await;
                    validated.push((used, result.clone()));
                    result
                }
            };
            add(user, result.err().map(|why| Failure::PluginConfig { plugin: plugin.name.clone(), why }));
        }
        let kind = manifest.processes.values().find_map(|process| process.entry.plugin_kind());
        let (present, new) = (&bad.program().info().exported_interfaces, running.program().info());
        for found in self.0.options.store.interface_uses(Some(&plugin.name)).await? {
            let changed = |why| Failure::PluginInterface {
                plugin: plugin.name.clone(),
                interface: found.interface.to_string(),
                why,
            };
            let differs = difference(found.interface.as_str(), kind, present, new).map(changed);
            add(Some(found.app), outside(&found.provider).or(differs));
        }
        Ok(unfit)
    }
}

/// Returns a failed check as an incompatible use. A plugin that isn't serving may be compatible. An
/// error is a failed read.
fn unfit_use<T>(
    app: &AppRecord,
    used: &PluginReference,
    checked: Result<T, Failure>,
) -> Result<Option<UnfitPlugin>, Failure> {
    match checked {
        Ok(_) | Err(Failure::PluginNotServing { .. }) => Ok(None),
        Err(failure @ (Failure::Store(_) | Failure::Internal(_))) => Err(failure),
        Err(failure) => Ok(Some(UnfitPlugin { user: Some(app.name.clone()), plugin: used.name.clone(), failure })),
    }
}
