//! Calls the providers of an app's granted interfaces. A call runs in an instance of the provider's
//! release that serves, so an upgrade of the provider needs no new release of the app. Never checks
//! grants or types: the engine and the deploy do.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use isopod_engine::{Provided, ProviderCall, ProviderError, ProviderSession, Providers};
use isopod_policy::{AppName, Entry, GrantedInterfaces};

use super::{
    app::App,
    directory::Directory,
    plugin_call::PluginFailureReason,
    plugin_use::PluginOutcome,
    provider_session::{CallFailure, ProviderLink, ProviderLinks, Session},
    resources::AppResources,
};

/// The providers of one app. A release in memory holds it, so it refers weakly to the directory of
/// releases.
pub(crate) struct AppProviders {
    app: AppName,
    directory: Weak<Directory>,
    resources: Arc<AppResources>,
    links: ProviderLinks,
}

impl AppProviders {
    /// Returns the providers of these interfaces; `None` without any.
    pub(crate) fn shared(
        app: &App,
        directory: &Arc<Directory>,
        granted: &GrantedInterfaces,
    ) -> Option<Arc<dyn Providers>> {
        let resources = app.resources();
        let links = granted.iter().map(|(interface, provider)| ProviderLink {
            interface: interface.clone(),
            provider: provider.clone(),
            calls: resources.plugin_calls(&provider.name),
        });
        let links: ProviderLinks = links.collect();
        let (app, directory, resources) = (app.name().clone(), Arc::downgrade(directory), Arc::clone(resources));
        (!links.is_empty()).then(|| Arc::new(Self { app, directory, resources, links }) as Arc<dyn Providers>)
    }

    async fn call(&self, link: &ProviderLink, call: ProviderCall, request_id: &str) -> Result<Provided, CallFailure> {
        let ProviderLink { provider: used, calls, .. } = link;
        let directory = self.directory.upgrade().ok_or(CallFailure::Stopping)?;
        // An app with the name of a plugin must not be loaded for its calls.
        let provider = directory.get(used.name.as_str()).filter(|app| app.is_plugin());
        let provider = provider.ok_or(PluginFailureReason::Missing)?;
        let release = directory.serving_for(&provider, &self.app, used, calls).await;
        let release = release.map_err(PluginFailureReason::Unavailable)?;
        let version = release.plugin_version().cloned();
        let pool = release.plugin_pool(Entry::Provider).ok_or(PluginFailureReason::Missing)?;
        let (provider, links) = ((used.name.clone(), version), Arc::clone(&self.links));
        let mut session = Session::new(provider, links, pool, &self.resources, calls);
        let results = session.begin(call, request_id).await?;
        let session = results.holds_resources().then(|| Box::new(session) as Box<dyn ProviderSession>);
        Ok(Provided { results, session })
    }
}

#[async_trait]
impl Providers for AppProviders {
    fn provider(&self, interface: &str) -> Option<&str> {
        self.links.iter().find(|link| link.interface.as_str() == interface).map(|link| link.provider.name.as_str())
    }

    async fn call(&self, call: ProviderCall, request_id: &str) -> Result<Provided, ProviderError> {
        let link = self.links.iter().find(|link| link.interface.as_str() == call.interface());
        let Some(link) = link else {
            return Err(ProviderError::NotGranted { interface: call.interface().to_owned() });
        };
        let called = self.call(link, call, request_id).await;
        link.calls.count(if called.is_ok() { PluginOutcome::Return } else { PluginOutcome::Failure });
        called.map_err(|failure| failure.of(&link.provider.name))
    }
}
