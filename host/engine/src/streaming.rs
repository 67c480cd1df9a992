//! Drives a call over `wasi:http`: receives the response's head, then streams its body while the
//! guest works on. Never reads a request's body.

use crate::{
    body::{BodyMonitor, RequestBody},
    fault::Fault,
    head_sender::{Head, HeadSender, Opened},
    http_outcome::{HttpOutcome, InstanceState},
    instance::Instance,
    limits,
    response_body::{Link, ResponseBody, Settled, too_large},
    unfinished::{Finished, GuestCall, Unfinished},
    wasi02, wasi03,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use isopod_executor::slice;
use isopod_policy::Limits;
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};

/// The version of `wasi:http` that a guest exports.
#[derive(Clone, Copy)]
pub(crate) enum Version {
    Wasi02,
    Wasi03,
}

/// Handles a request over `wasi:http`.
pub(crate) async fn handle(
    mut instance: Box<Instance>,
    request: Request<RequestBody>,
    request_id: &str,
    version: Version,
) -> HttpOutcome {
    instance.begin(request_id);
    let program = instance.program.clone();
    let method = request.method().clone();
    let (sender, head) = oneshot::channel();
    let monitor = request.body().monitor();
    let link = Arc::new(Link::answering(monitor.clone()));
    let sender = HeadSender { head: sender, link: Arc::clone(&link), method };
    let future = Box::pin(run(instance, request, sender, Arc::clone(&link), version));
    let call = GuestCall { future, link: Arc::clone(&link), is_finished: false };
    let unread = Unread::new(monitor, program.sandbox().limits.request_timeout);
    head_of(call, head, link, &program.sandbox().limits, unread).await
}

/// Runs the guest's whole call, until all its work is done.
async fn run(
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
        let fault = link.attribute(instance.fault(&error));
        link.fail(fault.clone());
        return Err(fault);
    }
    let instance = instance.finished();
    match link.settle() {
        Settled::Ended => Ok(instance),
        Settled::Broken(fault) => Err(fault),
        // The instance is dropped, since the rest of the response needs no guest.
        Settled::PassedOn => Ok(None),
    }
}

/// Polls the guest in the caller's task until the head is known. The rest of the work is returned
/// with the outcome.
async fn head_of(
    mut call: GuestCall,
    mut head: oneshot::Receiver<Head>,
    link: Arc<Link>,
    limits: &Limits,
    mut unread: Unread,
) -> HttpOutcome {
    let mut finished = None;
    let head = poll_fn(|cx| {
        if finished.is_none()
            && let Poll::Ready(result) = Pin::new(&mut call).poll(cx)
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
    .unwrap_or(Err(Fault::NoResponse));
    let Opened { parts, length } = match (head, &finished) {
        (_, Some(Err(_))) => return HttpOutcome::lost(finished.and_then(Result::err).unwrap_or(Fault::NoResponse)),
        (Err(Fault::NoResponse), _) => return HttpOutcome::lost(Fault::NoResponse),
        (Err(fault), _) => return HttpOutcome { response: Err(fault), after: after(finished, call, link, limits) },
        (Ok(opened), _) => opened,
    };
    let available = take_available(&mut call, &mut finished, &link, &mut unread).await;
    // The client has received nothing yet, so it can still get an error response.
    match (finished, available.broken) {
        (Some(Err(fault)), _) | (_, Some(fault)) => return HttpOutcome::lost(fault),
        _ if available.bytes.max(length.unwrap_or(0)) > limits.reply_body_bytes => {
            return HttpOutcome::lost(too_large(limits.reply_body_bytes));
        }
        (before, None) => finished = before,
    }
    let body = match available.is_whole {
        true => ResponseBody::whole(available.frames),
        false => ResponseBody::streamed(available.frames, Arc::clone(&link), limits.reply_body_bytes, length),
    };
    HttpOutcome { response: Ok(Response::from_parts(parts, body)), after: after(finished, call, link, limits) }
}

/// Returns the state of the instance: final if the guest has ended, else its unfinished work.
fn after(finished: Option<Finished>, call: GuestCall, link: Arc<Link>, limits: &Limits) -> InstanceState {
    match finished {
        Some(Ok(instance)) => InstanceState::from(instance),
        Some(Err(_)) => InstanceState::Ended,
        None => InstanceState::Working(Unfinished { call, link, limit: limits.request_timeout }),
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

impl Available {
    /// Returns whether the rest of a response of this size is streamed.
    fn is_enough(&self) -> bool {
        self.bytes >= limits::RESPONSE_TAKEN_AT_ONCE_BYTES || self.frames.len() >= limits::RESPONSE_TAKEN_AT_ONCE_FRAMES
    }
}

/// A request's body that the client sends only once the guest reads it. The response's head waits
/// for the read: a client that gets the head first may omit the body.
struct Unread {
    monitor: Option<BodyMonitor>,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Unread {
    fn new(monitor: Option<BodyMonitor>, request_timeout: Duration) -> Self {
        Self { monitor, limit: limits::UNREAD_BODY_TIMEOUT.min(request_timeout / 2), timer: None }
    }

    /// Becomes ready once the response may begin.
    fn poll_may_begin(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.monitor.as_ref().is_some_and(BodyMonitor::is_awaited) {
            return Poll::Ready(());
        }
        let limit = self.limit;
        self.timer.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx)
    }
}

impl Drop for Unread {
    /// The response begins when this is dropped, so later reads of the body are refused.
    fn drop(&mut self) {
        self.monitor.iter().for_each(BodyMonitor::refuse_unread);
    }
}

/// Polls the guest and takes its output until neither can continue without waiting. A short
/// response is then complete, and needs neither a task nor a timer. If the guest has ended,
/// everything is taken, since it is already available. A guest whose slice has expired doesn't
/// wait, so it is polled in a number of further slices. It is never polled again in the same slice:
/// a guest that writes a byte in each poll would otherwise occupy the thread.
async fn take_available(
    call: &mut GuestCall,
    finished: &mut Option<Finished>,
    link: &Link,
    unread: &mut Unread,
) -> Available {
    let mut available = Available::default();
    let mut slices_left = limits::RESPONSE_BEGIN_SLICES_MAX;
    poll_fn(|cx| {
        // Whether the guest has nothing to do until its next frame is taken.
        let mut is_polled = false;
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
            is_polled &= !moved;
            if finished.is_none() && !is_polled && !slice::has_yielded() {
                if let Poll::Ready(result) = Pin::new(&mut *call).poll(cx) {
                    *finished = Some(result);
                }
                // It may have written a frame.
                (is_polled, moved) = (true, true);
            }
            let is_done = available.is_whole && finished.is_some();
            let is_enough = available.is_enough() && !link.is_settled();
            if is_done || is_enough {
                return Poll::Ready(());
            }
            if moved {
                continue;
            }
            if finished.is_none() && slices_left > 0 && slice::has_yielded() {
                slices_left -= 1;
                return Poll::Pending;
            }
            return unread.poll_may_begin(cx);
        }
    })
    .await;
    available
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::BoxFuture;
    use http_body::Body;
    use isopod_executor::{Class, Config, Executor, Weight};
    use std::num::{NonZeroU32, NonZeroUsize};
    use tokio::sync::mpsc;
    use wasmtime_wasi_http::{Error, WasiBody};

    /// A body that a guest writes to a channel.
    struct Written(mpsc::Receiver<Result<Frame<Bytes>, Error>>);

    impl Body for Written {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            self.0.poll_recv(cx)
        }
    }

    /// Takes the available part of the response of a guest that writes single bytes without end. If
    /// `computes`, each byte takes the rest of a slice.
    async fn taken(computes: bool) -> Available {
        let (sender, frames) = mpsc::channel(1);
        let link = Arc::new(Link::default());
        link.open(WasiBody::new(Written(frames)));
        let future: BoxFuture<'static, Finished> = Box::pin(async move {
            while sender.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.is_ok() {
                if computes {
                    slice::yield_now().await;
                }
            }
            Ok(None)
        });
        let mut call = GuestCall { future, link: Arc::clone(&link), is_finished: false };
        let mut unread = Unread::new(None, Duration::from_secs(1));
        assert!(futures::poll!(&mut call).is_pending(), "it has written the first byte");
        take_available(&mut call, &mut None, &link, &mut unread).await
    }

    #[tokio::test]
    async fn a_guest_that_computes_between_writes_is_polled_once_in_each_slice() {
        let executor = Executor::new(&Config::new(NonZeroUsize::MIN)).unwrap();
        let account = executor.account(Weight::default(), NonZeroU32::MIN);
        let (available, _) = account.run(Class::Pull, taken(true)).await;
        let frames = available.frames.len();
        assert!((1..=limits::RESPONSE_BEGIN_SLICES_MAX as usize + 1).contains(&frames), "{frames}");
    }

    #[tokio::test]
    async fn many_small_frames_are_streamed() {
        // Tokio's own limit per poll would hide that of this module.
        let available = tokio::task::unconstrained(taken(false)).await;
        assert_eq!(available.frames.len(), limits::RESPONSE_TAKEN_AT_ONCE_FRAMES);
    }
}
