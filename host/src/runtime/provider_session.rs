//! The calls of one call of an app to one provider. While the app holds resources of an instance,
//! the instance serves only this session. Between two calls, the instance is idle: the host takes
//! it back if the app keeps it too long while others need it. Never chooses a provider or a
//! release.

use async_trait::async_trait;
use isopod_engine::{Instance, ProviderCall, ProviderError, ProviderErrorKind, ProviderResults, ProviderSession};
use isopod_policy::{AppName, InterfaceName, PluginReference};
use semver::Version;
use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::time::sleep;

use super::{
    call,
    error::InvokeError,
    invoke::Input,
    limits,
    plugin_call::{Caller, Held, PluginFailureReason, call_keeping},
    plugin_use::{PluginCalls, PluginOutcome},
    pool::Pool,
    resources::AppResources,
};

/// The interfaces of an app's providers.
pub(super) type ProviderLinks = Arc<[ProviderLink]>;

/// An interface and its provider.
pub(super) struct ProviderLink {
    pub(super) interface: InterfaceName,
    pub(super) provider: PluginReference,
    pub(super) calls: Arc<PluginCalls>,
}

/// The calls of one call of an app to one provider.
pub(super) struct Session {
    provider: AppName,
    /// The version of the provider's release.
    version: Option<Version>,
    links: ProviderLinks,
    pool: Arc<Pool>,
    /// The resources of the app.
    resources: Arc<AppResources>,
    calls: Arc<PluginCalls>,
    parked: Arc<Mutex<ParkedLease>>,
    began: Instant,
    /// Whether a task may take the instance back.
    is_watched: bool,
}

/// The session's lease of an instance between two calls.
#[derive(Default)]
enum ParkedLease {
    /// A call uses the instance, or the session has none.
    #[default]
    Absent,
    /// The app holds resources of the instance, which has been idle since this time.
    Idle(Held, Instant),
    /// The host has taken the instance back.
    Reclaimed,
}

impl Session {
    /// Creates a session with an instance of this pool, which the first call leases.
    pub(super) fn new(
        (provider, version): (AppName, Option<Version>),
        links: ProviderLinks,
        pool: &Arc<Pool>,
        resources: &Arc<AppResources>,
        calls: &Arc<PluginCalls>,
    ) -> Self {
        let (pool, resources, calls) = (Arc::clone(pool), Arc::clone(resources), Arc::clone(calls));
        let parked = Arc::default();
        Self { provider, version, links, pool, resources, calls, parked, began: Instant::now(), is_watched: false }
    }

    /// Makes the first call.
    pub(super) async fn begin(&mut self, call: ProviderCall, request_id: &str) -> Result<ProviderResults, CallFailure> {
        self.run(None, call, request_id).await
    }

    async fn run(
        &mut self,
        held: Option<Held>,
        call: ProviderCall,
        request_id: &str,
    ) -> Result<ProviderResults, CallFailure> {
        self.ensure_accepted(call.interface())?;
        let (class, depth) = call::current();
        if depth >= limits::ASK_DEPTH_MAX {
            return Err(CallFailure::TooDeep);
        }
        let resources = &self.resources;
        let caller = Caller { resources, payer: resources, class, depth: depth + 1 };
        let input = Input::of_bytes(call.argument_bytes());
        let request_id = request_id.to_owned();
        let (id, is_first) = (request_id.clone(), held.is_none());
        let work = move |instance: Box<Instance>| async move { instance.provide(call, &id).await };
        let called = call_keeping(&self.pool, held, caller, &self.calls, (&request_id, &input), work).await;
        let (results, mut held) = called.map_err(PluginFailureReason::from)?;
        if results.holds_resources() && held.lease.has_instance() {
            if is_first {
                // The time for which the app holds the resources is not the duration of a job.
                held.lease.note_completed();
            }
            self.park(held);
        }
        Ok(results)
    }

    /// Checks the version of the provider for an interface. An app may accept another range of
    /// versions for each interface.
    fn ensure_accepted(&self, interface: &str) -> Result<(), PluginFailureReason> {
        let link = self.links.iter().find(|link| link.interface.as_str() == interface);
        match (link, &self.version) {
            (Some(link), Some(version)) if !link.provider.accepts(version) => {
                Err(PluginFailureReason::Version(version.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the instance for the next call.
    fn park(&mut self, held: Held) {
        let is_over = is_over(Duration::ZERO, self.began.elapsed()) && self.pool.reclaims(held.lease.index());
        // The instance is dropped after the lock is released.
        let (parked, _reclaimed) = match is_over {
            true => (ParkedLease::Reclaimed, Some(held)),
            false => (ParkedLease::Idle(held, Instant::now()), None),
        };
        *lock(&self.parked) = parked;
        if !is_over && !mem::replace(&mut self.is_watched, true) {
            tokio::spawn(reclaim(Arc::downgrade(&self.parked), Arc::downgrade(&self.pool), self.began));
        }
    }

    /// Takes the instance for a call.
    fn take(&self) -> Result<Held, CallFailure> {
        let mut parked = lock(&self.parked);
        match mem::take(&mut *parked) {
            ParkedLease::Idle(held, _) => Ok(held),
            ParkedLease::Absent => Err(CallFailure::Ended),
            ParkedLease::Reclaimed => {
                *parked = ParkedLease::Reclaimed;
                Err(CallFailure::Reclaimed)
            }
        }
    }
}

#[async_trait]
impl ProviderSession for Session {
    async fn call(&mut self, call: ProviderCall, request_id: &str) -> Result<ProviderResults, ProviderError> {
        // Another instance doesn't have the resources.
        let called = match self.take() {
            Ok(held) => self.run(Some(held), call, request_id).await,
            Err(failure) => Err(failure),
        };
        self.calls.count(if called.is_ok() { PluginOutcome::Return } else { PluginOutcome::Failure });
        called.map_err(|failure| failure.of(&self.provider))
    }

    fn is_ended(&self) -> bool {
        !matches!(*lock(&self.parked), ParkedLease::Idle(..))
    }
}

/// Takes an idle instance back if its session keeps it too long while others need it. Ends with the
/// session.
async fn reclaim(parked: Weak<Mutex<ParkedLease>>, pool: Weak<Pool>, began: Instant) {
    loop {
        sleep(limits::PROVIDER_HELD_CHECKED).await;
        let (Some(parked), Some(pool)) = (parked.upgrade(), pool.upgrade()) else { return };
        let mut current = lock(&parked);
        let is_reclaimed = match &*current {
            ParkedLease::Idle(held, since) => {
                is_over(since.elapsed(), began.elapsed()) && pool.reclaims(held.lease.index())
            }
            ParkedLease::Absent => false,
            ParkedLease::Reclaimed => return,
        };
        let taken = is_reclaimed.then(|| mem::replace(&mut *current, ParkedLease::Reclaimed));
        drop(current);
        // The instance is dropped after the lock is released.
        drop(taken);
    }
}

/// Returns whether a session has kept its instance too long, idle or in total.
fn is_over(idle: Duration, in_total: Duration) -> bool {
    idle >= limits::PROVIDER_HELD_CROWDED || in_total >= limits::PROVIDER_HELD_CROWDED_MAX
}

fn lock(parked: &Mutex<ParkedLease>) -> MutexGuard<'_, ParkedLease> {
    parked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a call of a provider has no results.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFailure {
    #[error("the chain of calls has reached its limit of {}", limits::ASK_DEPTH_MAX)]
    TooDeep,
    #[error("the host is stopping")]
    Stopping,
    #[error("the instance that owned the app's resources has ended")]
    Ended,
    #[error(
        "the app held its resources for too long while other calls waited for an instance or the provider's \
        release drained"
    )]
    Reclaimed,
    #[error(transparent)]
    Provider(#[from] PluginFailureReason),
}

impl CallFailure {
    pub(super) fn of(&self, provider: &AppName) -> ProviderError {
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
            Self::TooDeep | Self::Ended | Self::Reclaimed | Self::Provider(_) => ProviderErrorKind::Failed,
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
    use isopod_engine::{
        Engine, EngineConfig, Output, OutputLine, Program, Provided, Providers, RequestBody, Sandbox, Speed,
    };
    use isopod_executor::{Config, Executor};
    use isopod_policy::{AppType, Cores, Entry, Isolation, Process, Scale};
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
            let Self { pool, resources } = self;
            let calls = resources.plugin_calls(&provider);
            let mut session = Session::new((provider, None), Arc::new([]), pool, resources, &calls);
            let results = session.begin(call, request_id).await.expect("the provider is called");
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
