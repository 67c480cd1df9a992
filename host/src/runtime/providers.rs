//! Calls the providers of an app's granted interfaces. A call runs in an instance of the provider's
//! release that serves, so an upgrade of the provider needs no new release of the app. While a call
//! of the app holds resources of a provider's instance, the instance serves only that call. Never
//! checks grants or types: the engine and the deploy do.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use isopod_engine::{
    Instance, Provided, ProviderCall, ProviderError, ProviderErrorKind, ProviderResults, ProviderSession, Providers,
};
use isopod_policy::{AppName, Entry, GrantedInterfaces, InterfaceName, PluginReference};

use super::{
    app::App,
    call,
    directory::Directory,
    error::InvokeError,
    invoke::Input,
    limits,
    plugin_call::{Caller, Held, PluginFailureReason, call_keeping},
    plugin_use::{PluginCalls, PluginOutcome},
    pool::Pool,
    resources::AppResources,
};

/// The providers of one app. A release in memory holds it, so it refers weakly to the directory of
/// releases.
pub(crate) struct AppProviders {
    app: AppName,
    directory: Weak<Directory>,
    resources: Arc<AppResources>,
    links: Vec<ProviderLink>,
}

/// An interface and its provider.
struct ProviderLink {
    interface: InterfaceName,
    provider: PluginReference,
    calls: Arc<PluginCalls>,
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
        let links: Vec<_> = links.collect();
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
        release.ensure_accepted(used)?;
        let pool = release.plugin_pool(Entry::Provider).ok_or(PluginFailureReason::Missing)?;
        let (pool, resources) = (Arc::clone(pool), Arc::clone(&self.resources));
        let (provider, calls) = (used.name.clone(), Arc::clone(calls));
        let mut session = Session { provider, pool, resources, calls, held: None, holds_resources: false };
        let results = session.run(call, request_id).await?;
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

/// An instance of a provider that serves one call of an app.
struct Session {
    provider: AppName,
    pool: Arc<Pool>,
    /// The resources of the app.
    resources: Arc<AppResources>,
    calls: Arc<PluginCalls>,
    /// `None` before the first call, and after a failure.
    held: Option<Held>,
    /// Whether the app holds resources of the instance.
    holds_resources: bool,
}

impl Session {
    async fn run(&mut self, call: ProviderCall, request_id: &str) -> Result<ProviderResults, CallFailure> {
        let (class, depth) = call::current();
        if depth >= limits::ASK_DEPTH_MAX {
            return Err(CallFailure::TooDeep);
        }
        let resources = &self.resources;
        let caller = Caller { resources, payer: resources, class, depth: depth + 1 };
        let input = Input::of_bytes(call.argument_bytes());
        let request_id = request_id.to_owned();
        let id = request_id.clone();
        let work = move |instance: Box<Instance>| async move { instance.provide(call, &id).await };
        let called = call_keeping(&self.pool, self.held.take(), caller, &self.calls, (&request_id, &input), work).await;
        let (results, held) = called.map_err(PluginFailureReason::from)?;
        self.holds_resources = results.holds_resources();
        self.held = Some(held);
        Ok(results)
    }
}

#[async_trait]
impl ProviderSession for Session {
    async fn call(&mut self, call: ProviderCall, request_id: &str) -> Result<ProviderResults, ProviderError> {
        // Another instance doesn't have the resources.
        let called = match self.held.as_ref().is_some_and(|held| held.lease.has_instance()) {
            true => self.run(call, request_id).await,
            false => Err(CallFailure::Ended),
        };
        self.calls.count(if called.is_ok() { PluginOutcome::Return } else { PluginOutcome::Failure });
        called.map_err(|failure| failure.of(&self.provider))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The instance is replaced, since its next caller must not find resources of this one.
        if let Some(held) = self.held.as_mut().filter(|_| self.holds_resources) {
            held.lease.end_call(true, None);
        }
    }
}

/// Why a call of a provider has no results.
#[derive(Debug, thiserror::Error)]
enum CallFailure {
    #[error("the chain of calls has reached its limit of {}", limits::ASK_DEPTH_MAX)]
    TooDeep,
    #[error("the host is stopping")]
    Stopping,
    #[error("its instance, which had the resources of the app, has ended")]
    Ended,
    #[error(transparent)]
    Provider(#[from] PluginFailureReason),
}

impl CallFailure {
    fn of(&self, provider: &AppName) -> ProviderError {
        ProviderError::Failed { provider: provider.to_string(), why: self.to_string(), kind: self.kind() }
    }

    fn kind(&self) -> ProviderErrorKind {
        match self {
            Self::Stopping
            | Self::Provider(PluginFailureReason::Unavailable(_) | PluginFailureReason::AppDestroyed) => {
                ProviderErrorKind::Unavailable
            }
            Self::Provider(PluginFailureReason::Missing | PluginFailureReason::Version(_)) => {
                ProviderErrorKind::Missing
            }
            Self::Provider(PluginFailureReason::Busy) => ProviderErrorKind::Busy,
            // The pool refused the call.
            Self::Provider(PluginFailureReason::Invoke(
                InvokeError::Stopping | InvokeError::NoProcess(_) | InvokeError::NoInstance | InvokeError::Destroyed,
            )) => ProviderErrorKind::Unavailable,
            Self::TooDeep | Self::Ended | Self::Provider(_) => ProviderErrorKind::Failed,
        }
    }
}
