//! One job: a place in the pool, then its guest's work on the app's account of CPU time, within its deadline. The place
//! is given back, with the instance in it or without, wherever the work ends.

use super::{
    deadline::{Deadline, Late},
    lease::Lease,
    pool::{Pool, QueueFull},
    release::ActiveRelease,
};
use futures::FutureExt;
use http::{Request, Response};
use http_body::Body;
use isopod_engine::{
    After, Answer, BodyTrouble, Event, Fault, Handled, Level, OutputLine, ReplyBody, RequestBody, Stream, Unfinished,
};
use isopod_executor::Class;
use isopod_policy::{InstanceId, ProcessName, swap_watch::is_by_size};
use std::{sync::Arc, time::Instant};

use crate::limits;

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    #[error("the app has no process type that takes {0}")]
    NoProcess(&'static str),
    #[error("the instance is gone")]
    NoInstance,
    #[error("the app was destroyed before the work on it was done")]
    Gone,
    #[error("the host is stopping: the job was still waiting for an instance and was not begun")]
    Stopping,
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    #[error(transparent)]
    Late(#[from] Late),
    #[error("the app ran out of {what} on a request body of this size; the limit is {limit}")]
    BodyDoesNotFit { what: &'static str, limit: String },
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl InvokeError {
    /// Whether a guest has started the job.
    pub(crate) fn has_run(&self) -> bool {
        match self {
            Self::NoProcess(_) | Self::NoInstance | Self::Gone => false,
            Self::Stopping | Self::QueueFull(_) | Self::Late(_) => false,
            Self::Fault(Fault::NoRoom { .. } | Fault::NoSuchEntry { .. } | Fault::BadRequest { .. }) => false,
            Self::BodyDoesNotFit { .. } => true,
            Self::Fault(
                Fault::Trap { .. }
                | Fault::OutOf { .. }
                | Fault::Exited { .. }
                | Fault::Timeout { .. }
                | Fault::NoAnswer
                | Fault::BodyLeftOpen
                | Fault::Stopped
                | Fault::BadAnswer { .. }
                | Fault::Failed { .. }
                | Fault::ClientGone,
            ) => true,
        }
    }
}

/// The id of a request, as it stands in the logs.
pub(crate) trait Id: AsRef<str> + Clone + Send + 'static {}

impl<T: AsRef<str> + Clone + Send + 'static> Id for T {}

impl ActiveRelease {
    /// Answers an HTTP request. Dropping the future ends the guest's work on it.
    pub(crate) async fn http(
        &self,
        request: Request<RequestBody>,
        request_id: impl Id,
    ) -> Result<Response<ReplyBody>, InvokeError> {
        let pool = self.http.as_ref().ok_or(InvokeError::NoProcess("HTTP requests"))?;
        let (input, deadline) = (Input::of(&request), pool.deadline());
        let answered = reported(pool, request_id.clone(), input.clone(), async {
            let lease = ready_lease(pool, Class::Pull, held(&request), deadline).await?;
            answer(pool, lease, deadline, (request, input.clone()), request_id).await
        });
        answered.await.map_err(|refused| by_size(refused, &input, pool))
    }

    /// Answers an HTTP request by this very instance.
    pub(crate) async fn http_by(
        &self,
        id: &InstanceId,
        request: Request<RequestBody>,
        request_id: impl Id,
    ) -> Result<Response<ReplyBody>, InvokeError> {
        let pool = self.pool(&id.process()).ok_or(InvokeError::NoInstance)?;
        if pool.entry() != isopod_policy::Entry::Http {
            return Err(InvokeError::NoProcess("HTTP requests"));
        }
        let (input, deadline) = (Input::of(&request), pool.deadline());
        let answered = reported(pool, request_id.clone(), input.clone(), async {
            let lease = pool.lease_of(id, held(&request), deadline).await.ok_or(InvokeError::NoInstance)??;
            answer(pool, lease, deadline, (request, input.clone()), request_id).await
        });
        answered.await.map_err(|refused| by_size(refused, &input, pool))
    }

    /// Delivers an event and waits for what its handler says.
    pub(crate) async fn event(&self, class: Class, event: Event, request_id: impl Id) -> Result<Handled, InvokeError> {
        let pool = self.events.as_ref().ok_or(InvokeError::NoProcess("events"))?;
        deliver(pool, class, event, request_id).await
    }

    /// Delivers an event that nobody waits for to one process type.
    pub(crate) async fn event_to(
        &self,
        process: &ProcessName,
        event: Event,
        request_id: impl Id,
    ) -> Result<Handled, InvokeError> {
        let pool = self.pool(process).ok_or(InvokeError::NoProcess("events"))?;
        deliver(pool, Class::Push, event, request_id).await
    }
}

/// The right to run one job, with an instance for it.
async fn ready_lease(pool: &Arc<Pool>, class: Class, bytes: u64, deadline: Deadline) -> Result<Lease, InvokeError> {
    let lease = pool.lease(class, bytes, deadline).await?;
    // In a box, so that the future of those who find an instance has no room for what they don't need.
    if lease.has_instance() { Ok(lease) } else { Box::pin(start(pool, lease, bytes, deadline)).await }
}

/// Starts an instance for a job. Where the host has no room for one, the job waits for those that the pool has.
async fn start(pool: &Arc<Pool>, mut lease: Lease, bytes: u64, deadline: Deadline) -> Result<Lease, InvokeError> {
    let class = lease.class;
    while !lease.has_instance() {
        let (taken, spent) = (lease.taken, lease.spent.clone());
        let starting = async move { (lease.instance().await, lease) };
        let starting = pool.resources().run(class, pool.program(), starting).counted_in(spent);
        let ((started, mut back), _) = run_within(deadline, pool, taken, starting).await?;
        lease = match started {
            Ok(instance) => {
                back.put(Some(instance));
                back
            }
            Err(fault @ Fault::NoRoom { .. }) => {
                let turn = pool.requeue(back, bytes, deadline).ok_or(fault)??;
                pool.turn(turn, class, deadline).await?
            }
            Err(fault) => return Err(fault.into()),
        };
    }
    Ok(lease)
}

async fn answer(
    pool: &Arc<Pool>,
    mut lease: Lease,
    deadline: Deadline,
    (request, input): (Request<RequestBody>, Input),
    request_id: impl Id,
) -> Result<Response<ReplyBody>, InvokeError> {
    let (id, taken, spent) = (request_id.clone(), lease.taken, lease.spent.clone());
    let work = async move {
        let answer = match lease.instance().await {
            Ok(instance) => instance.http(request, id.as_ref()).await,
            Err(fault) => Answer { response: Err(fault), after: After::Spent },
        };
        (answer, lease)
    };
    let work = pool.resources().run(Class::Pull, pool.program(), work).counted_in(spent);
    let ((answer, mut lease), _) = run_within(deadline, pool, taken, work).await?;
    match answer.after {
        After::Free(instance) => lease.put(Some(instance)),
        After::Spent => {}
        After::Working(rest) => finish_later(pool, lease, rest, (request_id, input)),
    }
    Ok(answer.response?)
}

async fn deliver(pool: &Arc<Pool>, class: Class, event: Event, request_id: impl Id) -> Result<Handled, InvokeError> {
    let deadline = pool.deadline();
    let input = Input { bytes: event.bytes(), trouble: None };
    reported(pool, request_id.clone(), input, async {
        let mut lease = ready_lease(pool, class, event.bytes(), deadline).await?;
        pool.resources().note_event(class);
        let (taken, spent) = (lease.taken, lease.spent.clone());
        let work = async move {
            let (handled, instance) = match lease.instance().await {
                Ok(instance) => instance.event(event, request_id.as_ref()).await,
                Err(fault) => (Err(fault), None),
            };
            lease.put(instance);
            (handled, lease)
        };
        let work = pool.resources().run(class, pool.program(), work).counted_in(spent);
        let ((handled, _lease), _) = run_within(deadline, pool, taken, work).await?;
        Ok(handled?)
    })
    .await
}

/// Holds a guest's work, for which there is time since `taken`, to its deadline and to the life of its app. It is no
/// `async fn`, whose future would have room for the work twice.
fn run_within<T>(
    deadline: Deadline,
    pool: &Pool,
    taken: Instant,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, InvokeError>> {
    let work = pool.resources().cancellation().run_until_cancelled(work);
    deadline.hold(taken, work).map(|held| held?.ok_or(InvokeError::Gone))
}

/// The size of a job's input, as far as it determines whether a failure counts against the release.
#[derive(Clone)]
struct Input {
    /// The announced size.
    bytes: u64,
    trouble: Option<BodyTrouble>,
}

impl Input {
    fn of(request: &Request<RequestBody>) -> Self {
        let body = request.body();
        Self { bytes: body.size_hint().lower(), trouble: body.trouble() }
    }

    /// The announced size, or the received size of a body without one.
    fn bytes(&self) -> u64 {
        self.trouble.as_ref().map_or(0, BodyTrouble::bytes_read).max(self.bytes)
    }
}

/// Turns a fault into a refusal of the request if the body's size is the cause.
fn by_size(refused: InvokeError, input: &Input, pool: &Pool) -> InvokeError {
    match refused {
        InvokeError::Fault(Fault::OutOf { what, limit, .. })
            if is_by_size(input.bytes(), pool.program().sandbox().limits.memory_bytes) =>
        {
            InvokeError::BodyDoesNotFit { what, limit }
        }
        refused => refused,
    }
}

/// What a request holds in memory while it waits: a body that streams is not read before.
fn held(request: &Request<RequestBody>) -> u64 {
    match request.body() {
        RequestBody::Full(body) => body.size_hint().lower(),
        RequestBody::Incoming(_) => 0,
    }
}

/// Counts and logs what a job failed of. It is no `async fn`, whose future would have room for the job twice: before it is
/// begun and after.
fn reported<T>(
    pool: &Pool,
    request_id: impl Id,
    input: Input,
    job: impl Future<Output = Result<T, InvokeError>>,
) -> impl Future<Output = Result<T, InvokeError>> {
    job.inspect(move |outcome| {
        let Err(InvokeError::Fault(fault)) = outcome else { return };
        if matches!(fault, Fault::Timeout { .. }) {
            input.trouble.iter().for_each(BodyTrouble::time_is_over);
        }
        // Whatever the app made of half a body: it was the client's.
        if input.trouble.as_ref().is_some_and(|trouble| trouble.found().is_some()) {
            return;
        }
        report(pool, fault, request_id.as_ref(), input.bytes());
        pool.resources().evict_after(fault, pool.program());
    })
}

/// Lets a guest finish an answer that is on its way already. Its place stays taken until then, but not for a client that
/// takes nothing of it.
fn finish_later(pool: &Arc<Pool>, mut lease: Lease, rest: Unfinished, (request_id, input): (impl Id, Input)) {
    let pool = Arc::clone(pool);
    lease.note_answer();
    tokio::spawn(async move {
        let rest = rest.finish(pool.patience(limits::TRAFFIC_ANSWER_CROWDED));
        let rest = pool.resources().run(Class::Pull, pool.program(), rest).counted_in(lease.spent.clone());
        let Some((rest, _)) = pool.resources().cancellation().run_until_cancelled(rest).await else { return };
        match rest {
            Ok(instance) => lease.put(instance),
            Err(fault) => report(&pool, &fault, request_id.as_ref(), input.bytes()),
        }
    });
}

/// Counts a fault, and writes it into the app's own log, where its author looks for it.
fn report(pool: &Pool, fault: &Fault, request_id: &str, input_bytes: u64) {
    if matches!(fault, Fault::ClientGone | Fault::BadRequest { .. }) {
        return;
    }
    // These failures must not take a release out of service: the host was full, the app was too
    // busy to give the guest its time, or the guest had no memory for a large request.
    let is_to_blame = match fault {
        Fault::NoRoom { .. } => false,
        Fault::Timeout { limit } => pool.had_its_time(*limit),
        Fault::OutOf { .. } => !is_by_size(input_bytes, pool.program().sandbox().limits.memory_bytes),
        _ => true,
    };
    if is_to_blame {
        pool.count_failure();
    }
    let mut text = fault.to_string();
    for function in fault.backtrace() {
        text.push_str("\n    at ");
        text.push_str(function);
    }
    let stream = Stream::Log(Level::Error);
    pool.program().sandbox().output.line(OutputLine { stream, context: "isopod", request_id, text: &text });
}
