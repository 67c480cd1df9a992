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
        let mut session = Session { provider, pool, resources, calls, held: None };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{
        pool::PoolContext,
        resources::{GuestRuntimes, HostResources},
    };
    use http::Request;
    use isopod_engine::{Engine, EngineConfig, Output, OutputLine, Program, RequestBody, Sandbox, Speed};
    use isopod_executor::{Config, Executor};
    use isopod_policy::{AppType, Cores, Isolation, Process, Scale};
    use std::{num::NonZeroUsize, path::Path};
    use tokio_util::sync::CancellationToken;

    struct Silent;

    impl Output for Silent {
        fn line(&self, _: OutputLine<'_>) {}
    }

    /// The providers of an app that is destroyed after its first call of a provider.
    struct FirstCallOnly {
        pool: Arc<Pool>,
        resources: Arc<AppResources>,
    }

    #[async_trait]
    impl Providers for FirstCallOnly {
        fn provider(&self, _: &str) -> Option<&str> {
            Some("probe")
        }

        async fn call(&self, call: ProviderCall, request_id: &str) -> Result<Provided, ProviderError> {
            let provider: AppName = "probe".parse().expect("a valid name");
            let (pool, resources) = (Arc::clone(&self.pool), Arc::clone(&self.resources));
            let calls = resources.plugin_calls(&provider);
            let mut session = Session { provider, pool, resources, calls, held: None };
            let results = session.run(call, request_id).await.expect("the provider is called");
            assert!(results.holds_resources() && self.pool.live() == 1);
            self.resources.cancellation().cancel();
            Ok(Provided { results, session: Some(Box::new(session)) })
        }
    }

    async fn program(engine: &Engine, guest: &str, providers: Option<Arc<dyn Providers>>) -> Program {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/guests/{guest}.wasm"));
        let bytes = std::fs::read(&file)
            .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask guests {guest}` builds it", file.display()));
        let component = engine.load(bytes.into(), Speed::Quick).await.expect("it is accepted");
        let mut sandbox = Sandbox::without_rights(guest.to_owned(), Arc::new(Silent));
        let granted = ["acme:probe/probe@1.0.0", "acme:probe/counters@1.0.0"];
        let granted = granted.map(|name| (name.parse().expect("a name"), "probe".parse().expect("a reference")));
        sandbox.grants.interfaces = granted.into_iter().collect();
        sandbox.providers = providers;
        engine.program(&component, sandbox).expect("it can be linked")
    }

    #[tokio::test]
    async fn a_call_that_is_cancelled_before_it_runs_returns_no_instance_with_resources() {
        let executor = Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started");
        let host = HostResources::new(executor, GuestRuntimes::on(tokio::runtime::Handle::current()));
        let of_app = || host.app_resources(AppType::Dev, Cores::new(1, 1).expect("valid cores"));
        let engine = Engine::new(EngineConfig { instances_max: 10, ..EngineConfig::default() }).expect("an engine");
        let context = PoolContext {
            release: None,
            isolation: Isolation::Reuse,
            resources: of_app(),
            stop: CancellationToken::new(),
            on_standby: Arc::default(),
        };
        let provider = program(&engine, "probe-provider", None).await;
        let (name, process) = ("plugin".parse().expect("a valid name"), Process::new(Entry::Provider));
        let pool = Arc::new(Pool::new(context, name, process, provider, Scale { min: 0, max: 1 }));
        let providers = Arc::new(FirstCallOnly { pool: Arc::clone(&pool), resources: of_app() });
        let app = program(&engine, "probe-caller", Some(providers)).await.start().await.expect("it starts");
        let request = Request::get("http://shop/keep?5").body(RequestBody::Full(Default::default()));
        let outcome = app.http(request.expect("a request"), "r1").await;
        let Err(failure) = outcome.response else { panic!("its second call is not cancelled") };
        drop(outcome.after);
        assert!(failure.to_string().contains("the app was destroyed"), "{failure}");
        assert_eq!(pool.live(), 0, "the instance with the app's counter was ended");
    }
}
