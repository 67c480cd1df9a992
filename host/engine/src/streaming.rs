//! What follows an answer's head: the body on its way to the client, and the guest that is still at work.

use crate::{
    Answer, Fault, Instance,
    body::{Link, Patience, ReplyBody, RequestBody},
    instance::After,
    limits, wasi02, wasi03,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame};
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

/// A guest at work; ends with the instance if it may be used again.
pub(crate) type Work = BoxFuture<'static, Result<Option<Box<Instance>>, Fault>>;

/// An answer's head, as the guest gives it.
pub(crate) type Head = Result<Response<WasiBody>, Fault>;

/// The version of `wasi:http` that a guest answers by.
#[derive(Clone, Copy)]
pub(crate) enum Version {
    Wasi02,
    Wasi03,
}

/// Answers a request by one of the standard roads.
pub(crate) async fn answer(
    mut instance: Box<Instance>,
    request: Request<RequestBody>,
    request_id: &str,
    version: Version,
) -> Answer {
    instance.begin(request_id);
    let program = instance.program.clone();
    let (sender, head) = oneshot::channel();
    let link = Arc::new(Link::default());
    let work = work(instance, request, sender, Arc::clone(&link), version);
    head_of(work, head, link, &program.sandbox().limits).await
}

/// Everything the guest does for a request, until none of its work is left.
fn work(
    mut instance: Box<Instance>,
    request: Request<RequestBody>,
    sender: oneshot::Sender<Head>,
    link: Arc<Link>,
    version: Version,
) -> Work {
    Box::pin(async move {
        let called = match version {
            Version::Wasi02 => wasi02::call(&mut instance, request, sender).await,
            Version::Wasi03 => wasi03::call(&mut instance, request, sender).await,
        };
        match called {
            Ok(()) => Ok(instance.finished()),
            Err(error) => {
                link.fail();
                Err(instance.fault(&error))
            }
        }
    })
}

/// Lets the guest run, here where its request is, until the head is known; what is left of the work goes with the
/// answer.
async fn head_of(mut work: Work, mut head: oneshot::Receiver<Head>, link: Arc<Link>, limits: &Limits) -> Answer {
    let mut finished = None;
    let head = poll_fn(|cx| {
        if finished.is_none()
            && let Poll::Ready(result) = work.as_mut().poll(cx)
        {
            finished = Some(result);
        }
        match Pin::new(&mut head).poll(cx) {
            Poll::Ready(head) => Poll::Ready(head.ok()),
            // A guest at its end answers no more, though it may have forgotten the means to do so in its table.
            Poll::Pending if finished.is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
    .unwrap_or(Err(Fault::NoAnswer));
    let response = match (head, &finished) {
        (_, Some(Err(_))) => return Answer::lost(finished.and_then(Result::err).unwrap_or(Fault::NoAnswer)),
        (Err(Fault::NoAnswer), _) => return Answer::lost(Fault::NoAnswer),
        (Err(fault), _) => return Answer { response: Err(fault), after: after(finished, work, link, limits) },
        (Ok(response), _) => response,
    };
    let (parts, mut body) = response.into_parts();
    let taken = take_what_is_ready(&mut body, &mut work, &mut finished, &link).await;
    // Nothing was sent yet, so the client can still be told.
    match (finished, &taken.broken) {
        (Some(Err(fault)), _) => return Answer::lost(fault),
        (_, Some(detail)) => return Answer::lost(Fault::BadAnswer { detail: detail.clone() }),
        (before, None) => finished = before,
    }
    if finished.is_some() && !taken.is_whole {
        // It never ended its body, so its client must not take it for a whole one, nor another client get the instance.
        link.fail();
        finished = Some(Ok(None));
    }
    let body = taken.into_body(body, limits.reply_body_bytes, &link, finished.is_some());
    Answer { response: Ok(Response::from_parts(parts, body)), after: after(finished, work, link, limits) }
}

/// What becomes of the instance: known if the guest is at its end, else what it still has to do.
fn after(
    finished: Option<Result<Option<Box<Instance>>, Fault>>,
    work: Work,
    link: Arc<Link>,
    limits: &Limits,
) -> After {
    match finished {
        Some(Ok(instance)) => After::from(instance),
        Some(Err(_)) => After::Spent,
        None => After::Working(Unfinished { work, link, limit: limits.request_timeout }),
    }
}

/// The beginning of a body, as far as it came without waiting.
struct Taken {
    frames: VecDeque<Frame<Bytes>>,
    is_whole: bool,
    /// Why it ended before its end, if it did.
    broken: Option<String>,
}

/// Lets the guest write, and takes what it wrote, until both would have to wait: a short answer is then complete, and
/// needs neither a task nor a timer of its own.
async fn take_what_is_ready(
    body: &mut WasiBody,
    work: &mut Work,
    finished: &mut Option<Result<Option<Box<Instance>>, Fault>>,
    link: &Link,
) -> Taken {
    let mut taken = Taken { frames: VecDeque::new(), is_whole: false, broken: None };
    let mut bytes = 0;
    poll_fn(|cx| {
        loop {
            let mut moved = false;
            match Pin::new(&mut *body).poll_frame(cx) {
                _ if taken.is_whole => {}
                Poll::Ready(Some(Ok(frame))) => {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    taken.frames.push_back(frame);
                    moved = true;
                }
                Poll::Ready(Some(Err(error))) => {
                    link.fail();
                    taken.broken = Some(format!("its body broke off: {error}"));
                    return Poll::Ready(());
                }
                Poll::Ready(None) => {
                    taken.is_whole = true;
                    moved = true;
                }
                Poll::Pending => {}
            }
            if finished.is_none()
                && let Poll::Ready(result) = work.as_mut().poll(cx)
            {
                *finished = Some(result);
                moved = true;
            }
            let is_done = taken.is_whole && finished.is_some();
            if is_done || !moved || bytes >= limits::ANSWER_TAKEN_AT_ONCE_BYTES {
                return Poll::Ready(());
            }
        }
    })
    .await;
    taken
}

impl Taken {
    /// The answer's body: in one piece and with its length if it is all there, else what is there and then the rest.
    fn into_body(mut self, rest: WasiBody, limit: u64, link: &Arc<Link>, guest_is_done: bool) -> ReplyBody {
        let is_one_piece = match self.frames.front().and_then(Frame::data_ref) {
            Some(data) => self.frames.len() == 1 && data.len() as u64 <= limit,
            None => self.frames.is_empty(),
        };
        if self.is_whole && is_one_piece && guest_is_done {
            let data = self.frames.pop_front().and_then(|frame| frame.into_data().ok());
            return ReplyBody::full(data.unwrap_or_default());
        }
        let rest = (!self.is_whole && !guest_is_done).then_some(rest);
        ReplyBody::streamed(WasiBody::new(Begun { frames: self.frames, rest }), limit, Arc::clone(link))
    }
}

/// Frames that are there already, and the body that goes on after them.
struct Begun {
    frames: VecDeque<Frame<Bytes>>,
    rest: Option<WasiBody>,
}

impl Body for Begun {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match (self.frames.pop_front(), &mut self.rest) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, Some(rest)) => Pin::new(rest).poll_frame(cx),
            (None, None) => Poll::Ready(None),
        }
    }
}

/// A guest that is still at work on an answer whose head is known.
pub struct Unfinished {
    work: Work,
    link: Arc<Link>,
    /// How long it may go without handing on a part of the body, and how long it may work after the body.
    limit: Duration,
}

impl Unfinished {
    /// Lets the guest work on, as long as it gets on with the body and somebody reads it.
    pub async fn finish(self, patience: Patience) -> Result<Option<Box<Instance>>, Fault> {
        let Self { mut work, link, limit } = self;
        let look = patience.crowded.min(limit);
        let mut reader_gone = pin!(link.reader_gone());
        let mut reading = true;
        let (mut seen, mut since) = (link.progress(), Instant::now());
        let mut alarm = pin!(tokio::time::sleep(look));
        loop {
            tokio::select! {
                biased;
                finished = &mut work => return finished,
                broken_off = &mut reader_gone, if reading => {
                    if broken_off {
                        return Err(Fault::ClientGone);
                    }
                    reading = false;
                }
                () = &mut alarm => {
                    let (now, progress) = (Instant::now(), link.progress());
                    let fault = match now - since {
                        _ if progress != seen => None,
                        still if reading && link.reader_is_slow() && patience.is_over(still) => Some(Fault::ClientGone),
                        still if still >= limit => Some(Fault::Timeout { limit }),
                        _ => None,
                    };
                    if let Some(fault) = fault {
                        link.fail();
                        return Err(fault);
                    }
                    if progress != seen {
                        (seen, since) = (progress, now);
                    }
                    alarm.as_mut().reset(now + look);
                }
            }
        }
    }
}
