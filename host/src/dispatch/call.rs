//! One job: a place in the pool, an instance, the call within its deadline, and the instance back in its place.

use super::{
    pool::{Lease, Pool, QueueFull},
    running::Running,
};
use http::{Request, Response};
use isopod_engine::{After, Event, Fault, Handled, Instance, Level, OutputLine, ReplyBody, RequestBody, Stream};
use isopod_policy::{InstanceId, ProcessName};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the app has no process type that takes {0}")]
    NoProcess(&'static str),
    #[error("the instance is gone")]
    NoInstance,
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Running {
    /// Answers an HTTP request. Dropping the future ends the guest's work on it.
    pub(crate) async fn http(
        &self,
        request: Request<RequestBody>,
        request_id: &str,
    ) -> Result<Response<ReplyBody>, Refused> {
        let pool = self.http.as_ref().ok_or(Refused::NoProcess("HTTP requests"))?;
        within(pool, request_id, async { answer(pool, pool.lease().await?, request, request_id).await }).await
    }

    /// Answers an HTTP request by this very instance.
    pub(crate) async fn http_by(
        &self,
        id: &InstanceId,
        request: Request<RequestBody>,
        request_id: &str,
    ) -> Result<Response<ReplyBody>, Refused> {
        let pool = self.pool(&id.process()).ok_or(Refused::NoInstance)?;
        if pool.entry() != isopod_policy::Entry::Http {
            return Err(Refused::NoProcess("HTTP requests"));
        }
        within(pool, request_id, async {
            let lease = pool.lease_of(id).await.ok_or(Refused::NoInstance)??;
            answer(pool, lease, request, request_id).await
        })
        .await
    }

    /// Delivers an event and waits for what its handler says.
    pub(crate) async fn event(&self, event: Event, request_id: &str) -> Result<Handled, Refused> {
        let pool = self.events.as_ref().ok_or(Refused::NoProcess("events"))?;
        deliver(pool, event, request_id).await
    }

    /// Delivers an event to one process type.
    pub(crate) async fn event_to(
        &self,
        process: &ProcessName,
        event: Event,
        request_id: &str,
    ) -> Result<Handled, Refused> {
        let pool = self.pool(process).ok_or(Refused::NoProcess("events"))?;
        deliver(pool, event, request_id).await
    }
}

async fn answer(
    pool: &Arc<Pool>,
    mut lease: Lease,
    request: Request<RequestBody>,
    request_id: &str,
) -> Result<Response<ReplyBody>, Refused> {
    let instance = lease.instance(pool.program()).await?;
    let (answer, spent) = Timed::new(instance.http(request, request_id)).await;
    lease.charge(spent);
    match answer.after {
        After::Free(instance) => lease.put(Some(instance)),
        After::Spent => {}
        After::Working(rest) => finish_later(pool, lease, rest, request_id),
    }
    Ok(answer.response?)
}

async fn deliver(pool: &Arc<Pool>, event: Event, request_id: &str) -> Result<Handled, Refused> {
    within(pool, request_id, async {
        let mut lease = pool.lease().await?;
        let instance = lease.instance(pool.program()).await?;
        let ((handled, instance), spent) = Timed::new(instance.event(event, request_id)).await;
        lease.charge(spent);
        lease.put(instance);
        Ok(handled?)
    })
    .await
}

async fn within<T>(pool: &Pool, request_id: &str, job: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    let limit = pool.program().sandbox().limits.request_timeout;
    let outcome = timeout(limit, job).await.unwrap_or(Err(Refused::Fault(Fault::Timeout { limit })));
    if let Err(Refused::Fault(fault)) = &outcome {
        report(pool, fault, request_id);
    }
    outcome
}

/// Lets a guest finish an answer that is on its way already. Its place stays taken until then.
fn finish_later(
    pool: &Arc<Pool>,
    mut lease: Lease,
    rest: impl Future<Output = Result<Option<Box<Instance>>, Fault>> + Send + Unpin + 'static,
    request_id: &str,
) {
    let pool = Arc::clone(pool);
    let request_id = request_id.to_owned();
    tokio::spawn(async move {
        let (rest, spent) = Timed::new(rest).await;
        lease.charge(spent);
        match rest {
            Ok(instance) => lease.put(instance),
            Err(fault) => report(&pool, &fault, &request_id),
        }
    });
}

/// Counts a fault, and writes it into the app's own log, where its author looks for it.
fn report(pool: &Pool, fault: &Fault, request_id: &str) {
    if matches!(fault, Fault::ClientGone | Fault::BadRequest { .. }) {
        return;
    }
    pool.count_failure();
    let mut text = fault.to_string();
    for function in fault.backtrace() {
        text.push_str("\n    at ");
        text.push_str(function);
    }
    let stream = Stream::Log(Level::Error);
    pool.program().sandbox().output.line(OutputLine { stream, context: "isopod", request_id, text: &text });
}

pin_project_lite::pin_project! {
    /// A guest's work, and how long it had a thread.
    struct Timed<F> {
        #[pin]
        work: F,
        spent: Duration,
    }
}

impl<F> Timed<F> {
    fn new(work: F) -> Self {
        Self { work, spent: Duration::ZERO }
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = (F::Output, Duration);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let begun = Instant::now();
        let polled = this.work.poll(cx);
        *this.spent += begun.elapsed();
        polled.map(|output| (output, *this.spent))
    }
}
