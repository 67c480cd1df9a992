//! The checks of the interfaces between apps and providers: at the deploy of an app, and at an
//! upgrade of a provider. Never calls a provider.

use std::sync::Arc;

use isopod_engine::{ComponentInfo, Interfaces, Providers, inspect};
use isopod_policy::{AppName, GrantedInterfaces, InterfaceName, Manifest, PluginKind, PluginReference};
use isopod_store::StoreError;

use super::Plugins;
use crate::control::{
    app::AppRecord,
    error::Failure,
    plugin_users::{Users, sorted},
};
use crate::runtime::AppProviders;

impl Plugins {
    /// Checks that the granted interfaces of an app are offered by their providers, with the types
    /// that the app expects.
    pub(super) async fn check_providers(&self, manifest: &Manifest, info: &ComponentInfo) -> Result<(), Failure> {
        for (interface, used) in &manifest.grants.interfaces {
            self.check_provider(interface, used, info).await?;
        }
        Ok(())
    }

    /// Checks that a provider offers an interface, with the types that the app expects.
    pub(super) async fn check_provider(
        &self,
        interface: &InterfaceName,
        used: &PluginReference,
        info: &ComponentInfo,
    ) -> Result<(), Failure> {
        let provider = self.check_version(used, PluginKind::Provider).await?;
        let Some(expected) = info.imported_interfaces.get(interface.as_str()) else { return Ok(()) };
        let offered = self.offered(&provider).await?;
        let difference = match offered.get(interface.as_str()) {
            None => Some("it doesn't offer the interface".to_owned()),
            Some(offered) => expected.difference(offered),
        };
        let (interface, plugin) = (interface.to_string(), used.name.clone());
        difference.map_or(Ok(()), |why| Err(Failure::PluginInterface { interface, plugin, why }))
    }

    /// Checks that a new release of a provider offers the interfaces that apps use, unchanged.
    pub(super) async fn check_interfaces_of_users(
        &self,
        plugin: &AppRecord,
        kind: Option<PluginKind>,
        info: &ComponentInfo,
    ) -> Result<(), Failure> {
        let uses = self.0.options.store.interface_uses(Some(&plugin.name)).await?;
        if uses.is_empty() {
            return Ok(());
        }
        let present = self.offered(plugin).await?;
        for found in &uses {
            let name = found.interface.as_str();
            if let Some(why) = difference(name, kind, &present, info) {
                let users = uses.iter().filter(|other| other.interface == found.interface);
                let apps = sorted(users.map(|found| found.app.clone()));
                let (plugin, interface) = (plugin.name.clone(), name.to_owned());
                let users = Users { apps, ..Users::default() }.to_string();
                return Err(Failure::PluginInterfaceOfUsers { plugin, interface, why, users });
            }
        }
        Ok(())
    }

    /// Returns the interfaces that the current release of a provider offers.
    pub(super) async fn offered(&self, plugin: &AppRecord) -> Result<Interfaces, Failure> {
        let number = plugin.fields().release;
        if let Some(active) = plugin.traffic.active().filter(|active| active.release() == number) {
            return Ok(active.program().info().exported_interfaces.clone());
        }
        let store = &self.0.options.store;
        let release = match number {
            Some(number) => store.release(&plugin.name, number).await?,
            None => None,
        };
        let Some(release) = release else { return Ok(Interfaces::new()) };
        let bytes = store.blobs().get(&release.bundle).await?;
        let inspected = tokio::task::spawn_blocking(move || inspect(&bytes)).await;
        Ok(inspected.map_err(|error| Failure::Internal(error.to_string()))??.exported_interfaces)
    }

    /// Returns the providers of an app's granted interfaces, for its sandbox.
    pub(in crate::control) fn providers_of(
        &self,
        app: &AppRecord,
        granted: &GrantedInterfaces,
    ) -> Option<Arc<dyn Providers>> {
        AppProviders::shared(&app.traffic, &self.0.options.directory, granted)
    }

    /// Adds an app to the canary phases of its plugins' upgrades: it uses the new releases, with
    /// which its own release was checked.
    pub(in crate::control) fn include_in_canaries(&self, app: &AppName, manifest: &Manifest) {
        let middleware = manifest.middleware.iter().map(|used| &used.plugin.name);
        let providers = manifest.grants.interfaces.values().map(|provider| &provider.name);
        for plugin in middleware.chain(providers) {
            if let Some(plugin) = self.0.options.directory.get(plugin.as_str()) {
                plugin.include_in_canary(app);
            }
        }
    }

    /// Returns the apps that use an interface of a provider.
    pub(super) async fn users_of_interfaces(&self, plugin: &AppName) -> Result<Vec<AppName>, StoreError> {
        let uses = self.0.options.store.interface_uses(Some(plugin)).await?;
        Ok(uses.into_iter().map(|found| found.app).collect())
    }
}

/// Returns why apps that use an interface of a provider's present release can't use that of a new
/// release; `None` if they can.
pub(super) fn difference(
    interface: &str,
    kind: Option<PluginKind>,
    present: &Interfaces,
    new: &ComponentInfo,
) -> Option<String> {
    match (kind, new.exported_interfaces.get(interface)) {
        (Some(PluginKind::Provider), Some(new)) => present.get(interface).and_then(|present| present.difference(new)),
        (Some(PluginKind::Provider), None) => Some("it doesn't offer the interface".to_owned()),
        (_, _) => Some("it is not a provider".to_owned()),
    }
}
