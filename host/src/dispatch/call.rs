//! One job: a place in the pool, an instance, the call within its deadline, and the instance back in its place.

use super::{Running, pool::Lease, pool::Pool};
use http::{Request, Response};
use isopod_engine::{After, Event, Fault, Handled, Instance, Level, OutputLine, ReplyBody, RequestBody, Stream};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the app has no process type that takes {0}")]
    NoProcess(&'static str),
    #[error(transparent)]
    QueueFull(#[from] super::pool::QueueFull),
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
        let limit = self.program.sandbox().limits.request_timeout;
        self.within(limit, request_id, async {
            let (mut lease, instance) = self.place(pool).await?;
            let answer = instance.http(request, request_id).await;
            match answer.after {
                After::Free(instance) => lease.put(Some(instance)),
                After::Spent => {}
                After::Working(rest) => self.finish_later(lease, rest, request_id),
            }
            Ok(answer.response?)
        })
        .await
    }

    /// Delivers an event and waits for what its handler says.
    pub(crate) async fn event(&self, event: Event, request_id: &str) -> Result<Handled, Refused> {
        let pool = self.events.as_ref().ok_or(Refused::NoProcess("events"))?;
        let limit = self.program.sandbox().limits.request_timeout;
        self.within(limit, request_id, async {
            let (mut lease, instance) = self.place(pool).await?;
            let (handled, instance) = instance.event(event, request_id).await;
            lease.put(instance);
            Ok(handled?)
        })
        .await
    }

    async fn place(&self, pool: &Arc<Pool>) -> Result<(Lease, Instance), Refused> {
        let mut lease = pool.lease().await?;
        let instance = lease.instance(&self.program).await?;
        Ok((lease, instance))
    }

    async fn within<T>(
        &self,
        limit: Duration,
        request_id: &str,
        job: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        let outcome = timeout(limit, job).await.unwrap_or(Err(Refused::Fault(Fault::Timeout { limit })));
        if let Err(Refused::Fault(fault)) = &outcome {
            self.report(fault, request_id);
        }
        outcome
    }

    /// Lets a guest finish an answer that is on its way already. Its place stays taken until then.
    fn finish_later(
        &self,
        mut lease: Lease,
        rest: impl Future<Output = Result<Option<Box<Instance>>, Fault>> + Send + 'static,
        request_id: &str,
    ) {
        let program = self.program.clone();
        let request_id = request_id.to_owned();
        tokio::spawn(async move {
            match rest.await {
                Ok(instance) => lease.put(instance),
                Err(fault) => report(&program, &fault, &request_id),
            }
        });
    }

    fn report(&self, fault: &Fault, request_id: &str) {
        report(&self.program, fault, request_id);
    }
}

/// Writes a fault into the app's own log, where its author looks for it.
fn report(program: &isopod_engine::Program, fault: &Fault, request_id: &str) {
    if matches!(fault, Fault::ClientGone | Fault::BadRequest { .. }) {
        return;
    }
    let mut text = fault.to_string();
    for function in fault.backtrace() {
        text.push_str("\n    at ");
        text.push_str(function);
    }
    let stream = Stream::Log(Level::Error);
    program.sandbox().output.line(OutputLine { stream, context: "isopod", request_id, text: &text });
}
