//! One call of a plugin of any kind. Leases an instance from the plugin's pool, and runs the
//! plugin's work within the plugin's time limit, until the calling app is destroyed. It runs on the
//! CPU account of the app; a gate runs on its own account. Counts and logs a failure as the
//! plugin's.

use crate::runtime::{
    error::InvokeError,
    invoke::{Id, Input, Job, current_call, origin, ready_lease, report_outcome, run_within},
    limits,
    plugin_use::{PluginCall, PluginCalls},
    pool::{Lease, Pool},
    release::ActiveRelease,
    resources::{AppResources, BodyBudgetExceeded},
};
use isopod_engine::{Fault, Instance, Origin};
use isopod_executor::{Class, CpuCounter};
use isopod_policy::{Entry, PluginReference};
use semver::Version;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Why a plugin gave no decision.
#[derive(Debug, thiserror::Error)]
pub(in crate::runtime) enum CallError {
    #[error("the plugin is of another kind")]
    OtherKind,
    #[error("the app already uses its share of the plugin's instances")]
    ShareInUse,
    #[error("the app was destroyed before the call completed")]
    AppDestroyed,
    #[error(transparent)]
    Invoke(#[from] InvokeError),
}

/// Why a plugin failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginFailureReason {
    #[error("no plugin with this name and kind is installed")]
    Missing,
    #[error("its version {0} is outside the range that the app accepts")]
    Version(Version),
    /// No release of the plugin is serving.
    #[error("it is unavailable: {0}")]
    Unavailable(String),
    /// All instances that the app may use are in use.
    #[error("all of its instances that the app may use are in use")]
    Busy,
    #[error("the app was destroyed before the call completed")]
    AppDestroyed,
    #[error(transparent)]
    Invoke(InvokeError),
    #[error("it responds with the static file `{0}`, which the app doesn't have")]
    UnknownAsset(String),
    #[error("its new request body has {bytes} bytes; the app accepts at most {bytes_max}")]
    NewBodyTooLarge { bytes: u64, bytes_max: u64 },
    #[error("it accepts request bodies of at most {bytes_max} bytes; an earlier plugin has set one of {bytes} bytes")]
    ReplacedBodyTooLarge { bytes: u64, bytes_max: u64 },
    #[error("there is no room for the request's body that it returned: {0}")]
    TooManyBodies(BodyBudgetExceeded),
    #[error("it asked for the response's body, which exceeds the {bytes_max} bytes that it accepts")]
    ResponseTooLarge { bytes_max: u64 },
    #[error("it asked for the response's body, which didn't end within {} s",
        limits::MIDDLEWARE_RESPONSE_TIMEOUT.as_secs())]
    ResponseTooSlow,
    #[error("it asked for the response's body, for which the host has no memory now")]
    NoRoomForResponse,
}

impl PluginFailureReason {
    /// Returns whether the host found the failure outside a call of the plugin. The plugin's log
    /// has no line about it.
    pub(crate) fn is_outside_call(&self) -> bool {
        matches!(
            self,
            Self::UnknownAsset(_)
                | Self::NewBodyTooLarge { .. }
                | Self::ReplacedBodyTooLarge { .. }
                | Self::TooManyBodies(_)
                | Self::ResponseTooLarge { .. }
                | Self::ResponseTooSlow
                | Self::NoRoomForResponse
        )
    }
}

impl From<CallError> for PluginFailureReason {
    fn from(error: CallError) -> Self {
        match error {
            CallError::OtherKind => Self::Missing,
            CallError::ShareInUse => Self::Busy,
            CallError::AppDestroyed => Self::AppDestroyed,
            CallError::Invoke(
                InvokeError::QueueFull(_) | InvokeError::QueueTimeout(_) | InvokeError::Fault(Fault::NoRoom { .. }),
            ) => Self::Busy,
            CallError::Invoke(refused) => Self::Invoke(refused),
        }
    }
}

/// The app that a plugin is called for.
#[derive(Clone, Copy)]
pub(in crate::runtime) struct Caller<'a> {
    pub(in crate::runtime) resources: &'a AppResources,
    /// The resources whose CPU account pays for the call.
    pub(in crate::runtime) payer: &'a AppResources,
    pub(in crate::runtime) class: Class,
    /// The number of calls that wait for the plugin.
    pub(in crate::runtime) depth: u32,
}

/// The CPU time of a call. Dropping it adds the time to the calls of the app, also if the call was
/// cancelled because the client of the request disconnected.
struct CpuUse<'a> {
    calls: &'a PluginCalls,
    /// The counter of a slot, which is leased to this call only.
    cpu: CpuCounter,
    before: Duration,
}

impl<'a> CpuUse<'a> {
    fn begin(calls: &'a PluginCalls, cpu: &CpuCounter) -> Self {
        Self { calls, cpu: cpu.clone(), before: cpu.time() }
    }
}

impl Drop for CpuUse<'_> {
    fn drop(&mut self) {
        self.calls.add_cpu(self.cpu.time().saturating_sub(self.before));
    }
}

/// The job of a call. Its caller measures the whole call.
const JOB: Job<'static> = Job { class: Class::Pull, caller: None, bytes: 0, times: None };

/// An instance of a plugin that is leased to an app: the lease, and its part of the app's share.
pub(in crate::runtime) struct Held {
    pub(in crate::runtime) lease: Lease,
    call: PluginCall,
}

/// Calls an instance of a plugin's pool for an app.
pub(in crate::runtime) async fn call_pool<T, F>(
    pool: &Arc<Pool>,
    caller: Caller<'_>,
    calls: &Arc<PluginCalls>,
    origin: (&impl Id, &Input),
    work: impl FnOnce(Box<Instance>) -> F + Send + 'static,
) -> Result<T, CallError>
where
    T: Send + 'static,
    F: Future<Output = (Result<T, Fault>, Option<Box<Instance>>)> + Send + 'static,
{
    call_keeping(pool, None, caller, calls, origin, work).await.map(|(decided, _)| decided)
}

/// Calls an instance of a plugin's pool for an app: the given one, or any. Also returns its lease.
pub(in crate::runtime) async fn call_keeping<T, F>(
    pool: &Arc<Pool>,
    held: Option<Held>,
    caller: Caller<'_>,
    calls: &Arc<PluginCalls>,
    (request_id, input): (&impl Id, &Input),
    work: impl FnOnce(Box<Instance>) -> F + Send + 'static,
) -> Result<(T, Held), CallError>
where
    T: Send + 'static,
    F: Future<Output = (Result<T, Fault>, Option<Box<Instance>>)> + Send + 'static,
{
    let deadline = pool.deadline();
    let (call, lease) = match held {
        Some(Held { lease, call }) => (call, Ok((lease, Instant::now()))),
        None => {
            // As many calls of an app may wait as requests may wait for an app.
            let begin = calls.begin(share_of(pool), pool.program().sandbox().limits.queue_max);
            let call = deadline.wait_for(begin).await.flatten().ok_or(CallError::ShareInUse)?;
            let lease = ready_lease(pool, JOB, deadline).await;
            let admitted = lease.as_ref().map_or_else(|_| Instant::now(), |lease| lease.admitted);
            (call, lease.map(|lease| (lease, admitted)))
        }
    };
    let mut instance = None;
    let outcome = match lease {
        Ok((mut lease, admitted)) => {
            instance = Some(lease.id.clone());
            let cpu = lease.cpu.clone();
            let used = CpuUse::begin(calls, &cpu);
            let work = Box::pin(current_call(pool, &lease, caller.depth).scope(async move {
                let (decided, instance) = match lease.instance().await {
                    Ok(instance) => work(instance).await,
                    Err(fault) => (Err(fault), None),
                };
                lease.end_call(decided.is_ok(), instance);
                (decided, lease)
            }));
            let run = caller.payer.run(caller.class, pool.program(), work).counted_in(cpu);
            let run = caller.resources.cancellation().run_until_cancelled(run);
            let outcome = run_within(deadline, pool, admitted, run).await;
            drop(used);
            match outcome {
                Ok(Some(((decided, lease), _))) => decided.map(|decided| (decided, lease)).map_err(InvokeError::from),
                Ok(None) => return Err(CallError::AppDestroyed),
                Err(refused) => Err(refused),
            }
        }
        Err(refused) => Err(refused),
    };
    match outcome {
        Ok((decided, lease)) => Ok((decided, Held { lease, call })),
        Err(refused) => {
            drop(call);
            if report_outcome(pool, &refused, input, origin(instance.as_ref(), request_id)) {
                calls.count_failure();
            }
            Err(CallError::Invoke(refused))
        }
    }
}

impl ActiveRelease {
    /// Checks that the version of this plugin is within the range of a user. A deploy checks it
    /// too. An automatic rollback, or a release that serves at its own URL, may violate the range.
    pub(super) fn ensure_accepted(&self, by: &PluginReference) -> Result<(), PluginFailureReason> {
        match self.plugin_version() {
            Some(version) if !by.accepts(version) => Err(PluginFailureReason::Version(version.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Calls an instance of this plugin for an app with these resources. `entry` is the plugin's
    /// kind, and `input` the data whose size the app or its client chose. A gate pays for its own
    /// CPU time: an app that uses all of its CPU time must not delay the decision about its next
    /// release, which may be the correction.
    pub(super) async fn call_plugin<T, F>(
        &self,
        entry: Entry,
        resources: &AppResources,
        calls: &Arc<PluginCalls>,
        (request_id, input): (&impl Id, &Input),
        work: impl FnOnce(Box<Instance>) -> F + Send + 'static,
    ) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: Future<Output = (Result<T, Fault>, Option<Box<Instance>>)> + Send + 'static,
    {
        let pool = self.plugin_pool(entry).ok_or(CallError::OtherKind)?;
        let payer = if entry == Entry::Gate { pool.resources() } else { resources };
        let caller = Caller { resources, payer, class: Class::Pull, depth: 0 };
        let counters = (entry == Entry::Middleware).then(|| calls.counters());
        let work = move |mut instance: Box<Instance>| {
            counters.into_iter().for_each(|counters| instance.set_counters(counters));
            work(instance)
        };
        call_pool(pool, caller, calls, (request_id, input), work).await
    }

    /// Calls this plugin's check of a config. The inner error is the plugin's message. Runs on the
    /// plugin's CPU account.
    pub(crate) async fn validate_config(&self, config: &str) -> Result<Result<(), String>, InvokeError> {
        let pool = self.checking_pool().ok_or(InvokeError::NoProcess("calls of the host"))?;
        let (deadline, config) = (pool.deadline(), config.to_owned());
        let validated = match ready_lease(pool, JOB, deadline).await {
            Ok(mut lease) => {
                let (cpu, admitted) = (lease.cpu.clone(), lease.admitted);
                let work = Box::pin(current_call(pool, &lease, 0).scope(async move {
                    let (validated, instance) = match lease.instance().await {
                        Ok(instance) => instance.validate_config(&config).await,
                        Err(fault) => (Err(fault), None),
                    };
                    lease.end_call(validated.is_ok(), instance);
                    (validated, lease)
                }));
                let run = pool.resources().run(Class::Pull, pool.program(), work).counted_in(cpu);
                let outcome = run_within(deadline, pool, admitted, run).await;
                outcome.and_then(|((validated, _lease), _)| validated.map_err(InvokeError::from))
            }
            Err(refused) => Err(refused),
        };
        match validated {
            Ok(()) => Ok(Ok(())),
            // A plugin that rejects a config has not failed.
            Err(InvokeError::Fault(Fault::Failed { message })) => Ok(Err(message)),
            Err(refused) => {
                report_outcome(pool, &refused, &Input::none(), Origin::default());
                Err(refused)
            }
        }
    }
}

/// Returns how many calls of one app may be in progress in a plugin's pool: half of the pool's
/// instances, so that the other half serves other apps.
fn share_of(pool: &Pool) -> u32 {
    let instances = pool.scale().max.min(pool.resources().cores(Class::Pull));
    instances.div_ceil(2).max(1)
}
