//! Drives a call over `wasi:http`: receives the response's head, then streams its body while the
//! guest works on. Never reads a request's body.

use crate::{
    Answer, Fault, Instance,
    body::{Patience, RequestBody},
    head,
    instance::After,
    limits,
    reply::{Link, ReplyBody, Settled, too_large},
    wasi02, wasi03,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, header::CONTENT_LENGTH, response::Parts};
use http_body::Frame;
use isopod_policy::Limits;
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};
use wasmtime_wasi_http::WasiBody;

/// Receives a response's head from the guest, and connects its body to the link.
pub(crate) struct HeadSender {
    head: oneshot::Sender<Head>,
    link: Arc<Link>,
    /// The request's method.
    method: Method,
}

type Head = Result<Opened, Fault>;

/// A response's head, with its body opened.
struct Opened {
    parts: Parts,
    /// The `content-length` of a body that is sent; `None` if the head has none, or if no body is
    /// sent.
    length: Option<u64>,
}

fn content_length(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl HeadSender {
    pub(crate) fn send(self, response: Result<Response<WasiBody>, Fault>) {
        let Self { head, link, method } = self;
        // If the receiver is dropped, the head is dropped too, and the guest's next write to the
        // body fails.
        let _ = head.send(response.and_then(|response| {
            let (parts, body) = response.into_parts();
            head::final_status(parts.status.as_u16())?;
            let length = if head::has_no_content(&method, parts.status) { None } else { content_length(&parts) };
            link.open(head::content(&method, parts.status, body));
            Ok(Opened { parts, length })
        }));
    }
}

/// The version of `wasi:http` that a guest exports.
#[derive(Clone, Copy)]
pub(crate) enum Version {
    Wasi02,
    Wasi03,
}

/// The outcome of a guest's work, with the instance if it can be reused.
type Finished = Result<Option<Box<Instance>>, Fault>;

/// A running guest. Dropping it early breaks the response's body before the instance is dropped.
struct Work {
    call: BoxFuture<'static, Finished>,
    link: Arc<Link>,
    is_finished: bool,
}

impl Future for Work {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        let polled = self.call.as_mut().poll(cx);
        self.is_finished = polled.is_ready();
        polled
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.is_finished {
            self.link.fail(Fault::Stopped);
        }
    }
}

/// Answers a request over `wasi:http`.
pub(crate) async fn answer(
    mut instance: Box<Instance>,
    request: Request<RequestBody>,
    request_id: &str,
    version: Version,
) -> Answer {
    instance.begin(request_id);
    let program = instance.program.clone();
    let method = request.method().clone();
    let (sender, head) = oneshot::channel();
    let link = Arc::new(Link::default());
    let sender = HeadSender { head: sender, link: Arc::clone(&link), method };
    let call = Box::pin(work(instance, request, sender, Arc::clone(&link), version));
    let work = Work { call, link: Arc::clone(&link), is_finished: false };
    head_of(work, head, link, &program.sandbox().limits).await
}

/// Runs the guest's whole call, until all its work is done.
async fn work(
    mut instance: Box<Instance>,
    request: Request<RequestBody>,
    sender: HeadSender,
    link: Arc<Link>,
    version: Version,
) -> Finished {
    let called = match version {
        Version::Wasi02 => wasi02::call(&mut instance, request, sender).await,
        Version::Wasi03 => wasi03::call(&mut instance, request, sender).await,
    };
    if let Err(error) = called {
        let fault = instance.fault(&error);
        link.fail(fault.clone());
        return Err(fault);
    }
    let instance = instance.finished();
    match link.settle() {
        Settled::Ended => Ok(instance),
        Settled::Broken(fault) => Err(fault),
        Settled::Open(body) => {
            drop(instance);
            link.release(body).map(|()| None)
        }
    }
}

/// Polls the guest in the caller's task until the head is known. The rest of the work is returned
/// with the answer.
async fn head_of(mut work: Work, mut head: oneshot::Receiver<Head>, link: Arc<Link>, limits: &Limits) -> Answer {
    let mut finished = None;
    let head = poll_fn(|cx| {
        if finished.is_none()
            && let Poll::Ready(result) = Pin::new(&mut work).poll(cx)
        {
            finished = Some(result);
        }
        match Pin::new(&mut head).poll(cx) {
            Poll::Ready(head) => Poll::Ready(head.ok()),
            // A guest that has ended can't respond, though its response-outparam may still be in
            // its table.
            Poll::Pending if finished.is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
    .unwrap_or(Err(Fault::NoAnswer));
    let Opened { parts, length } = match (head, &finished) {
        (_, Some(Err(_))) => return Answer::lost(finished.and_then(Result::err).unwrap_or(Fault::NoAnswer)),
        (Err(Fault::NoAnswer), _) => return Answer::lost(Fault::NoAnswer),
        (Err(fault), _) => return Answer { response: Err(fault), after: after(finished, work, link, limits) },
        (Ok(opened), _) => opened,
    };
    let available = take_available(&mut work, &mut finished, &link).await;
    // The client has received nothing yet, so it can still get an error response.
    match (finished, available.broken) {
        (Some(Err(fault)), _) | (_, Some(fault)) => return Answer::lost(fault),
        _ if available.bytes.max(length.unwrap_or(0)) > limits.reply_body_bytes => {
            return Answer::lost(too_large(limits.reply_body_bytes));
        }
        (before, None) => finished = before,
    }
    let body = match available.is_whole {
        true => ReplyBody::whole(available.frames),
        false => ReplyBody::streamed(available.frames, Arc::clone(&link), limits.reply_body_bytes, length),
    };
    Answer { response: Ok(Response::from_parts(parts, body)), after: after(finished, work, link, limits) }
}

/// Returns the state of the instance: final if the guest has ended, else its unfinished work.
fn after(finished: Option<Finished>, work: Work, link: Arc<Link>, limits: &Limits) -> After {
    match finished {
        Some(Ok(instance)) => After::from(instance),
        Some(Err(_)) => After::Spent,
        None => After::Working(Unfinished { work, link, limit: limits.request_timeout }),
    }
}

/// The part of a body that was available without waiting.
#[derive(Default)]
struct Available {
    frames: VecDeque<Frame<Bytes>>,
    bytes: u64,
    is_whole: bool,
    /// The fault that broke the body, if any.
    broken: Option<Fault>,
}

/// Polls the guest and takes its output until neither can continue without waiting. A short
/// response is then complete, and needs neither a task nor a timer. If the guest has ended,
/// everything is taken, since it is already available.
async fn take_available(work: &mut Work, finished: &mut Option<Finished>, link: &Link) -> Available {
    let mut available = Available::default();
    poll_fn(|cx| {
        loop {
            let mut moved = false;
            match link.poll_frame(cx) {
                _ if available.is_whole => {}
                Poll::Ready(Some(Ok(frame))) => {
                    available.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    available.frames.push_back(frame);
                    moved = true;
                }
                Poll::Ready(Some(Err(fault))) => {
                    available.broken = Some(fault);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => {
                    available.is_whole = true;
                    moved = true;
                }
                Poll::Pending => {}
            }
            if finished.is_none()
                && let Poll::Ready(result) = Pin::new(&mut *work).poll(cx)
            {
                *finished = Some(result);
                moved = true;
            }
            let is_done = available.is_whole && finished.is_some();
            let is_enough = available.bytes >= limits::ANSWER_TAKEN_AT_ONCE_BYTES && !link.is_settled();
            if is_done || !moved || is_enough {
                return Poll::Ready(());
            }
        }
    })
    .await;
    available
}

/// A guest that is still working on a response after its head.
pub struct Unfinished {
    work: Work,
    link: Arc<Link>,
    /// How long the guest may take for each part of the body, and how long it may work after the
    /// body.
    limit: Duration,
}

impl Unfinished {
    /// Drives the guest to its end, while it makes progress with the body and the client reads it.
    pub async fn finish(self, patience: Patience) -> Finished {
        let Self { mut work, link, limit } = self;
        let waits = Waits { limit, patience: &patience };
        let mut reader_gone = pin!(link.reader_gone());
        let mut reading = true;
        let start = Instant::now();
        let mut alarm = pin!(tokio::time::sleep(waits.next_look(Duration::ZERO)));
        loop {
            tokio::select! {
                biased;
                finished = &mut work => return finished,
                broken_off = &mut reader_gone, if reading => {
                    if broken_off {
                        return Err(link.fault().cloned().unwrap_or(Fault::ClientGone));
                    }
                    reading = false;
                }
                () = &mut alarm => {
                    let now = Instant::now();
                    let stalled = now.saturating_duration_since(link.last_progress().max(start));
                    let fault = waits.fault(stalled, reading && link.reader_is_slow());
                    if let Some(fault) = fault {
                        link.fail(fault.clone());
                        return Err(fault);
                    }
                    alarm.as_mut().reset(now + waits.next_look(stalled));
                }
            }
        }
    }
}

/// How long a response may make no progress.
struct Waits<'a> {
    limit: Duration,
    patience: &'a Patience,
}

impl Waits<'_> {
    /// Returns the fault of a response that has made no progress for `stalled`, if it is broken
    /// off.
    fn fault(&self, stalled: Duration, reader_is_slow: bool) -> Option<Fault> {
        if reader_is_slow && self.patience.is_over(stalled) {
            return Some(Fault::ClientGone);
        }
        (stalled >= self.limit).then_some(Fault::Timeout { limit: self.limit })
    }

    /// Returns the time until the next check of a response that has made no progress for `stalled`:
    /// until it reaches the next limit, or `crowded` if it exceeds all.
    fn next_look(&self, stalled: Duration) -> Duration {
        let Patience { usual, crowded, .. } = *self.patience;
        let look = crowded.min(self.limit);
        let next = [crowded, usual, self.limit].into_iter().filter(|bound| *bound > stalled).min();
        // Also checked regularly between the limits, since the host may become crowded meanwhile.
        next.map_or(look, |bound| (bound - stalled).min(look))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_stalled_response_is_broken_off_when_its_limit_has_passed_since_the_last_progress() {
        let patience = Patience { usual: seconds(20), crowded: seconds(10), is_crowded: Arc::default() };
        let waits = Waits { limit: seconds(30), patience: &patience };
        // The first check comes at any time after the last progress.
        for first in 0..=10 {
            for (reader_is_slow, ends) in [(false, 30), (true, 20)] {
                let mut stalled = seconds(first);
                while waits.fault(stalled, reader_is_slow).is_none() {
                    stalled += waits.next_look(stalled);
                }
                assert_eq!(stalled, seconds(ends), "first check after {first} s");
            }
        }
    }

    #[test]
    fn a_limit_between_two_regular_checks_is_met_exactly() {
        let patience = Patience { usual: seconds(12), crowded: seconds(10), is_crowded: Arc::default() };
        let waits = Waits { limit: seconds(25), patience: &patience };
        assert_eq!(waits.next_look(seconds(3)), seconds(7));
        assert_eq!(waits.next_look(seconds(10)), seconds(2));
        assert_eq!(waits.next_look(seconds(12)), seconds(10));
        assert_eq!(waits.next_look(seconds(22)), seconds(3));
        assert_eq!(waits.next_look(seconds(40)), seconds(10));
        assert!(matches!(waits.fault(seconds(25), false), Some(Fault::Timeout { .. })));
        assert!(waits.fault(seconds(25) - Duration::from_micros(1), false).is_none());
    }
}
