//! The path of one job: a lease, then the guest's work on the app's CPU account, within the
//! deadline. Returns the slot wherever the work ends, with its instance if that can be reused.
//! Never decides whether a failed job is retried.

use super::{
    call::{Call, Wait},
    deadline::Deadline,
    error::{AskError, InvokeError},
    phase_times::{GuestTime, PhaseTimes, measure},
    pool::{Lease, Pool},
    release::ActiveRelease,
    resources::SlotId,
};
use futures::FutureExt;
use http::{Request, Response};
use http_body::Body;
use isopod_engine::{
    BodyMonitor, Committable, Event, EventFailure, Fault, Handled, HttpOutcome, InstanceState, Origin, RequestBody,
    Resource, ResponseBody, Unfinished,
};
use isopod_executor::Class;
use isopod_policy::{InstanceId, Phase, ProcessName, swap_watch};
use std::{sync::Arc, time::Instant};

use crate::runtime::limits;

/// The id of a request, as used in the logs.
pub(crate) trait Id: AsRef<str> + Clone + Send + 'static {}

impl<T: AsRef<str> + Clone + Send + 'static> Id for T {}

/// Returns the origin of a line about a request.
pub(super) fn origin<'a>(instance: Option<&'a InstanceId>, request_id: &'a impl Id) -> Origin<'a> {
    let instance = instance.map_or("", InstanceId::as_str);
    Origin { instance, request_id: request_id.as_ref(), ..Origin::default() }
}

/// The response to an HTTP request, or why there is none.
pub(crate) struct Answered {
    pub(crate) response: Result<Response<ResponseBody>, InvokeError>,
    /// The instance that got the request.
    pub(crate) instance: Option<InstanceId>,
}

/// An HTTP request. Its head is boxed, since it passes through many functions.
pub(crate) struct HttpRequest<'a> {
    pub(crate) head: Box<http::request::Parts>,
    pub(crate) body: RequestBody,
    /// Receives the time of each phase.
    pub(crate) times: &'a PhaseTimes,
}

impl ActiveRelease {
    /// Responds to an HTTP request. Dropping the future ends the guest's work on it.
    pub(crate) async fn http(&self, request: HttpRequest<'_>, request_id: impl Id) -> Answered {
        let Some(pool) = &self.http else {
            return Answered { response: Err(InvokeError::NoProcess("HTTP requests")), instance: None };
        };
        let (input, times, deadline) = (Input::of(&request.body), request.times, pool.deadline());
        let job = Job { class: Class::Pull, caller: None, bytes: request.body.buffered_bytes(), times: Some(times) };
        let lease = match ready_lease(pool, job, deadline).await {
            Ok(lease) => lease,
            Err(refused) => return answered(pool, Err(refused), None, &input, &request_id),
        };
        let instance = Some(lease.id.clone());
        let response = respond(pool, lease, deadline, request, &input, request_id.clone()).await;
        answered(pool, response, instance, &input, &request_id)
    }

    /// Responds to an HTTP request with the given instance.
    pub(crate) async fn http_on(&self, id: &InstanceId, request: HttpRequest<'_>, request_id: impl Id) -> Answered {
        let refused = |reason| Answered { response: Err(reason), instance: None };
        let Some(pool) = self.pool(&id.process()) else { return refused(InvokeError::NoInstance) };
        if pool.entry() != isopod_policy::Entry::Http {
            return refused(InvokeError::NoProcess("HTTP requests"));
        }
        let (input, times, deadline) = (Input::of(&request.body), request.times, pool.deadline());
        let lease = pool.lease_instance(id, request.body.buffered_bytes(), deadline);
        let lease = match times.measure(Phase::Queue, lease).await.ok_or(InvokeError::NoInstance).flatten() {
            Ok(lease) => lease,
            Err(refused) => return answered(pool, Err(refused), None, &input, &request_id),
        };
        let response = respond(pool, lease, deadline, request, &input, request_id.clone()).await;
        answered(pool, response, Some(id.clone()), &input, &request_id)
    }

    /// Delivers an event as pull work, and waits for its handler's result.
    pub(crate) async fn event(&self, event: Event, request_id: impl Id) -> Result<Handled, InvokeError> {
        let pool = self.events.as_ref().ok_or(InvokeError::NoProcess("events"))?;
        let delivery = Delivery { class: Class::Pull, event, is_transaction: false, depth: 0 };
        let deadline = pool.deadline();
        let lease = ready_lease(pool, delivery.job(), deadline).await;
        Ok(reply_of(deliver(pool, lease, deadline, delivery, request_id).await?))
    }

    /// Delivers an event for the current call of a guest, which waits for the handler's result and
    /// lends its core meanwhile.
    pub(crate) async fn ask(&self, event: Event, request_id: impl Id) -> Result<Handled, AskError> {
        let pool = self.events.as_ref().ok_or(InvokeError::NoProcess("events"))?;
        let wait = Wait::begin()?;
        let delivery = Delivery { class: Class::Pull, event, is_transaction: false, depth: wait.depth() };
        let (deadline, input) = (pool.deadline(), delivery.input());
        let (event_id, mut instance) = (delivery.event.id.clone(), None);
        let handled = match asked_lease(pool, &wait, delivery.event.bytes(), deadline).await {
            Ok(lease) => {
                instance = Some(lease.id.clone());
                wait.for_call(pool.resources().host().waits(), pool.slot_id(lease.index()));
                handle(pool, lease, deadline, delivery, request_id.clone()).await.map_err(AskError::from)
            }
            Err(refused) => Err(refused),
        };
        if let Err(AskError::Invoke(refused)) = &handled {
            report_outcome(
                pool,
                refused,
                &input,
                Origin { event_id: &event_id, ..origin(instance.as_ref(), &request_id) },
            );
        }
        handled.map(reply_of)
    }

    /// Delivers a stored event to its process type as push work. The caller commits what the
    /// handler did. Returns `None` if `withdrawn` completes before the event has an instance; the
    /// handler is then not called.
    pub(crate) async fn stored_event(
        &self,
        process: &ProcessName,
        event: Event,
        request_id: impl Id,
        withdrawn: impl Future<Output = ()>,
    ) -> Result<Option<Committed>, InvokeError> {
        let pool = self.pool(process).ok_or(InvokeError::NoProcess("events"))?;
        let delivery = Delivery { class: Class::Push, event, is_transaction: true, depth: 0 };
        let deadline = pool.deadline();
        let lease = tokio::select! {
            biased;
            () = withdrawn => return Ok(None),
            lease = ready_lease(pool, delivery.job(), deadline) => lease,
        };
        deliver(pool, lease, deadline, delivery, request_id).await.map(Some)
    }
}

/// One delivery of an event.
struct Delivery {
    class: Class,
    event: Event,
    /// Whether the handler's effects are buffered for the caller to commit.
    is_transaction: bool,
    /// The number of calls in the chain that wait for its reply.
    depth: u32,
}

impl Delivery {
    fn input(&self) -> Input {
        Input::of_bytes(self.event.bytes())
    }

    fn job(&self) -> Job<'static> {
        Job { class: self.class, caller: None, bytes: self.event.bytes(), times: None }
    }
}

/// A job that needs an instance.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) class: Class,
    /// The slot of the call that waits for the job.
    pub(super) caller: Option<SlotId>,
    /// The bytes that the job holds while it is queued.
    pub(super) bytes: u64,
    /// Receives the time in the queue and the time of the start, if the job is a request.
    pub(super) times: Option<&'a PhaseTimes>,
}

fn reply_of(committed: Committed) -> Handled {
    committed.map(|committed| committed.reply)
}

/// The result of a handler. Without a transaction, its effects are empty.
type Committed = Result<Committable, EventFailure>;

/// Returns a lease with an instance.
pub(super) async fn ready_lease(pool: &Arc<Pool>, job: Job<'_>, deadline: Deadline) -> Result<Lease, InvokeError> {
    match pool.try_lease(job.class, deadline) {
        Some(lease) if lease.has_instance() => Ok(lease),
        // Boxed, so that the future of a job that finds an instance stays small.
        Some(lease) => Box::pin(start_instance(pool, lease, job, deadline)).await,
        None => Box::pin(queued_lease(pool, job, deadline)).await,
    }
}

/// Waits for a lease in the queue.
async fn queued_lease(pool: &Arc<Pool>, job: Job<'_>, deadline: Deadline) -> Result<Lease, InvokeError> {
    let lease = measure(job.times, Phase::Queue, pool.lease(job.class, job.bytes, deadline)).await?;
    if lease.has_instance() { Ok(lease) } else { start_instance(pool, lease, job, deadline).await }
}

/// Returns a lease with an instance for the event of a waiting call. Fails if the calls would wait
/// for each other.
async fn asked_lease(pool: &Arc<Pool>, wait: &Wait, bytes: u64, deadline: Deadline) -> Result<Lease, AskError> {
    let lease = match pool.try_lease_asked(deadline) {
        Some(lease) if lease.has_instance() => return Ok(lease),
        lease => lease,
    };
    let job = Job { class: Class::Pull, caller: wait.caller(), bytes, times: None };
    let never_free = |_| {
        let sandbox = pool.program().sandbox();
        AskError::NeverFree {
            app: sandbox.app.clone(),
            process: pool.process().clone(),
            max: pool.scale().max,
            instances_max: sandbox.limits.instances_max,
        }
    };
    wait.for_slot(pool.resources().host().waits(), Arc::<Pool>::clone(pool)).map_err(never_free)?;
    Ok(match lease {
        Some(lease) => start_instance(pool, lease, job, deadline).await?,
        None => queued_lease(pool, job, deadline).await?,
    })
}

/// Starts an instance for a job. If the host has no room, the job waits for an instance that the
/// pool already has. Fails if none of them can become free.
async fn start_instance(
    pool: &Arc<Pool>,
    mut lease: Lease,
    Job { caller, bytes, times, .. }: Job<'_>,
    deadline: Deadline,
) -> Result<Lease, InvokeError> {
    let class = lease.class;
    while !lease.has_instance() {
        let (admitted, cpu) = (lease.admitted, lease.cpu.clone());
        let starting = Box::pin(async move { (lease.instance().await, lease) });
        let starting = pool.resources().run(class, pool.program(), starting).counted_in(cpu);
        let started = measure(times, Phase::Start, run_within(deadline, pool, admitted, starting)).await;
        let ((started, mut returned), _) = started?;
        lease = match started {
            Ok(instance) => {
                returned.put_instance(instance);
                returned
            }
            Err(fault @ Fault::NoRoom { .. }) => {
                let receiver = pool.requeue(returned, caller, bytes, deadline).ok_or(fault)??;
                measure(times, Phase::Queue, pool.wait_for_lease(receiver, class, deadline)).await?
            }
            Err(fault) => return Err(fault.into()),
        };
    }
    Ok(lease)
}

/// Returns the response of an instance, if there was one, after its failure is reported.
fn answered(
    pool: &Pool,
    response: Result<Response<ResponseBody>, InvokeError>,
    instance: Option<InstanceId>,
    input: &Input,
    request_id: &impl Id,
) -> Answered {
    let response = response.map_err(|refused| fail(pool, refused, input, origin(instance.as_ref(), request_id)));
    Answered { response, instance }
}

async fn respond(
    pool: &Arc<Pool>,
    mut lease: Lease,
    deadline: Deadline,
    request: HttpRequest<'_>,
    input: &Input,
    request_id: impl Id,
) -> Result<Response<ResponseBody>, InvokeError> {
    let HttpRequest { head, body, times } = request;
    let (id, admitted, cpu) = (request_id.clone(), lease.admitted, lease.cpu.clone());
    let call = current_call(pool, &lease, 0);
    let guest = GuestTime::begin(times, &cpu, lease.waits());
    let work = Box::pin(call.scope(guest.observe(async move {
        let outcome = match lease.instance().await {
            Ok(instance) => instance.http(Request::from_parts(*head, body), id.as_ref()).await,
            Err(fault) => HttpOutcome { response: Err(fault), after: InstanceState::Ended },
        };
        (outcome, lease)
    })));
    let work = pool.resources().run(Class::Pull, pool.program(), work).counted_in(cpu);
    let ((outcome, mut lease), _) = run_within(deadline, pool, admitted, work).await?;
    drop(guest);
    match outcome.after {
        InstanceState::Free(instance) => lease.put_instance(instance),
        InstanceState::Ended => lease.end_call(outcome.response.is_ok(), None),
        InstanceState::Working(rest) => finish_in_background(pool, lease, rest, (request_id, input.clone())),
    }
    Ok(outcome.response?)
}

/// Returns the call that runs on a lease.
pub(super) fn current_call(pool: &Arc<Pool>, lease: &Lease, depth: u32) -> Call {
    let (resources, slot) = (Arc::clone(pool.resources()), pool.slot_id(lease.index()));
    Call { resources, class: lease.class, slot, depth }
}

async fn deliver(
    pool: &Arc<Pool>,
    lease: Result<Lease, InvokeError>,
    deadline: Deadline,
    delivery: Delivery,
    request_id: impl Id,
) -> Result<Committed, InvokeError> {
    let (input, event_id) = (delivery.input(), delivery.event.id.clone());
    let instance = lease.as_ref().ok().map(|lease| lease.id.clone());
    let handled = match lease {
        Ok(lease) => handle(pool, lease, deadline, delivery, request_id.clone()).await,
        Err(refused) => Err(refused),
    };
    if let Err(refused) = &handled {
        report_outcome(pool, refused, &input, Origin { event_id: &event_id, ..origin(instance.as_ref(), &request_id) });
    }
    handled
}

async fn handle(
    pool: &Arc<Pool>,
    mut lease: Lease,
    deadline: Deadline,
    delivery: Delivery,
    request_id: impl Id,
) -> Result<Committed, InvokeError> {
    let class = lease.class;
    pool.resources().note_event(class);
    let (admitted, cpu) = (lease.admitted, lease.cpu.clone());
    let work = Box::pin(current_call(pool, &lease, delivery.depth).scope(async move {
        let (handled, instance) = match lease.instance().await {
            Ok(instance) if delivery.is_transaction => {
                instance.event_in_transaction(delivery.event, request_id.as_ref()).await
            }
            Ok(instance) => {
                let (handled, instance) = instance.event(delivery.event, request_id.as_ref()).await;
                let committed = |reply| Committable { reply, ..Committable::default() };
                (handled.map(|handled| handled.map(committed)), instance)
            }
            Err(fault) => (Err(fault), None),
        };
        lease.end_call(handled.is_ok(), instance);
        (handled, lease)
    }));
    let work = pool.resources().run(class, pool.program(), work).counted_in(cpu);
    let ((handled, _lease), _) = run_within(deadline, pool, admitted, work).await?;
    Ok(handled?)
}

/// Runs `work` until it completes, its deadline expires, or the app is destroyed. `admitted` is
/// when the job got its slot. Not an `async fn`: its future would store the work twice.
pub(super) fn run_within<T>(
    deadline: Deadline,
    pool: &Pool,
    admitted: Instant,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, InvokeError>> {
    let work = pool.resources().cancellation().run_until_cancelled(work);
    deadline.enforce(admitted, work).map(|result| result?.ok_or(InvokeError::Destroyed))
}

/// The size of a job's input, which determines whether a failure counts against the release.
#[derive(Clone)]
pub(super) struct Input {
    /// The announced size.
    bytes: u64,
    monitor: Option<BodyMonitor>,
}

impl Input {
    /// Returns the input of a job whose sender doesn't choose the size of an input.
    pub(super) fn none() -> Self {
        Self::of_bytes(0)
    }

    /// Returns the input of a job of this size.
    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self { bytes, monitor: None }
    }

    fn of(body: &RequestBody) -> Self {
        Self { bytes: body.size_hint().lower(), monitor: body.monitor() }
    }

    /// Returns whether an instance that ran out of this did so because of the input's size.
    fn exhausts(&self, what: Resource, memory_bytes: u64) -> bool {
        match what {
            Resource::Memory => swap_watch::is_by_size(self.bytes(), memory_bytes),
            Resource::Handles | Resource::HostMemory | Resource::CallArguments => {
                swap_watch::is_by_bytes_read(self.bytes_read())
            }
            Resource::TableSpace | Resource::HeaderFields => false,
        }
    }

    /// Returns the bytes that the guest has read. A body that is known in full is passed whole.
    fn bytes_read(&self) -> u64 {
        self.monitor.as_ref().map_or(self.bytes, BodyMonitor::bytes_read)
    }

    /// Returns the announced size, or the received size of a body without one.
    fn bytes(&self) -> u64 {
        self.monitor.as_ref().map_or(0, BodyMonitor::bytes_read).max(self.bytes)
    }

    /// Returns the fault of a guest that failed with `fault`, attributed to the client if the
    /// client caused it.
    fn attribute(&self, fault: Fault) -> Fault {
        match &self.monitor {
            Some(monitor) => monitor.attribute(fault),
            None => fault,
        }
    }
}

/// Turns a fault into a refusal of the request if the body's size is the cause.
fn attribute_to_body(refused: InvokeError, input: &Input, pool: &Pool) -> InvokeError {
    match refused {
        InvokeError::Fault(Fault::OutOf { what, limit, .. })
            if input.exhausts(what, pool.program().sandbox().limits.memory_bytes) =>
        {
            InvokeError::BodyDoesNotFit { what, limit }
        }
        refused => refused,
    }
}

/// Reports the failure of a request, and returns it as its client receives it.
#[cold]
fn fail(pool: &Pool, refused: InvokeError, input: &Input, origin: Origin<'_>) -> InvokeError {
    let refused = match refused {
        InvokeError::Fault(fault) => InvokeError::Fault(input.attribute(fault)),
        refused => refused,
    };
    report_outcome(pool, &refused, input, origin);
    attribute_to_body(refused, input, pool)
}

/// Counts and logs the fault of a job. Returns whether it counts against the release.
pub(super) fn report_outcome(pool: &Pool, refused: &InvokeError, input: &Input, origin: Origin<'_>) -> bool {
    let InvokeError::Fault(fault) = refused else { return false };
    let counts_against_release = report(pool, fault, origin, input);
    pool.resources().evict_after(fault, pool.program());
    counts_against_release
}

/// Lets a guest finish after its response has started. The slot stays leased until then, or until
/// the client has stopped reading the response for too long.
fn finish_in_background(pool: &Arc<Pool>, mut lease: Lease, rest: Unfinished, (request_id, input): (impl Id, Input)) {
    let pool = Arc::clone(pool);
    lease.note_response();
    tokio::spawn(async move {
        let rest = rest.finish(pool.stall_timeout(limits::TRAFFIC_RESPONSE_CROWDED));
        let rest = Box::pin(current_call(&pool, &lease, 0).scope(rest));
        let rest = pool.resources().run(Class::Pull, pool.program(), rest).counted_in(lease.cpu.clone());
        let Some((rest, _)) = pool.resources().cancellation().run_until_cancelled(rest).await else { return };
        match rest {
            Ok(instance) => lease.end_call(true, instance),
            Err(fault) => {
                report(&pool, &fault, origin(Some(&lease.id), &request_id), &input);
            }
        }
    });
}

/// Counts a fault and writes it to the app's log, unless the client caused it. Returns whether it
/// counts against the release.
fn report(pool: &Pool, fault: &Fault, origin: Origin<'_>, input: &Input) -> bool {
    if matches!(fault, Fault::ClientGone | Fault::BadRequest { .. }) {
        return false;
    }
    // These faults must not take a release out of service. The host was full, or a provider failed,
    // which counts against the provider's own release. Or the app was too busy to give the guest
    // enough time, or a large request used up what the guest may hold.
    let counts_against_release = match fault {
        Fault::NoRoom { .. } | Fault::Provider { .. } => false,
        Fault::Timeout { limit } => pool.had_enough_time(*limit),
        Fault::OutOf { what, .. } => !input.exhausts(*what, pool.program().sandbox().limits.memory_bytes),
        _ => true,
    };
    if counts_against_release {
        pool.count_failure();
    }
    pool.program().log_fault(fault, origin);
    counts_against_release
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_kind_of_fault_decides_whether_the_size_of_the_input_caused_it() {
        let input = Input::of_bytes;
        for memory in [64 * MIB, 1024 * MIB] {
            for fixed in [Resource::Handles, Resource::HostMemory, Resource::CallArguments] {
                assert!(input(10 * MIB).exhausts(fixed, memory) && !input(MIB).exhausts(fixed, memory), "{fixed}");
            }
            for other in [Resource::TableSpace, Resource::HeaderFields] {
                assert!(!input(memory).exhausts(other, memory), "{other}");
            }
        }
        assert!(input(10 * MIB).exhausts(Resource::Memory, 64 * MIB));
        assert!(!input(10 * MIB).exhausts(Resource::Memory, 1024 * MIB));
    }

    #[test]
    fn a_body_that_the_guest_has_not_read_does_not_use_up_its_handles() {
        let unread = Input { bytes: 10 * MIB, monitor: Some(BodyMonitor::default()) };
        assert!(!unread.exhausts(Resource::Handles, 64 * MIB));
        assert!(unread.exhausts(Resource::Memory, 64 * MIB));
    }
}
