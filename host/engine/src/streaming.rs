//! What follows an answer's head: the body on its way to the client, and the guest that is still at work.

use crate::{
    Answer, Fault, Instance,
    body::{Link, ReplyBody},
    instance::After,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::Response;
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
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

/// A guest at work; ends with the instance if it may be used again.
pub(crate) type Work = BoxFuture<'static, Result<Option<Box<Instance>>, Fault>>;

/// An answer's head, as the guest gives it.
pub(crate) type Head = Result<Response<WasiBody>, Fault>;

/// Lets the guest run, here where its request is, until the head is known; what is left of the work goes with the
/// answer.
pub(crate) async fn answer(
    mut work: Work,
    mut head: oneshot::Receiver<Head>,
    link: Arc<Link>,
    limits: &Limits,
) -> Answer {
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
    let mut after = match finished {
        Some(Ok(_)) if matches!(head, Err(Fault::NoAnswer)) => return Answer::lost(Fault::NoAnswer),
        Some(Ok(instance)) => After::from(instance),
        Some(Err(fault)) => return Answer::lost(fault),
        None => After::Working(watched(work, Arc::clone(&link), limits.request_timeout)),
    };
    let response = match head {
        Err(fault) => Err(fault),
        Ok(response) if matches!(after, After::Working(_)) => {
            Ok(response.map(|body| ReplyBody::streamed(body, limits.reply_body_bytes, link)))
        }
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let (body, is_whole) = left_behind(body, limits.reply_body_bytes, link).await;
            if !is_whole {
                after = After::Spent;
            }
            Ok(Response::from_parts(parts, body))
        }
    };
    Answer { response, after }
}

/// The body that a guest at its end has left, and whether it is whole. Nothing can come any more but what is there
/// already; usually that is all, and it is sent with its length and in one piece.
async fn left_behind(mut body: WasiBody, limit: u64, link: Arc<Link>) -> (ReplyBody, bool) {
    let mut frames = VecDeque::new();
    let is_whole = loop {
        match next_if_ready(&mut body, &link).await {
            Next::Frame(frame) => frames.push_back(frame),
            Next::End => break true,
            Next::Pending => break false,
        }
    };
    if !is_whole {
        // It never ended its body, so its client must not take it for a whole one.
        link.fail();
    }
    let is_one_piece = match frames.front().and_then(Frame::data_ref) {
        Some(data) => frames.len() == 1 && data.len() as u64 <= limit,
        None => frames.is_empty(),
    };
    if is_whole && is_one_piece {
        let data = frames.pop_front().and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        return (ReplyBody::full(data), true);
    }
    (ReplyBody::streamed(WasiBody::new(Left(frames)), limit, link), is_whole)
}

enum Next {
    End,
    Frame(Frame<Bytes>),
    Pending,
}

async fn next_if_ready(body: &mut WasiBody, link: &Link) -> Next {
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(None) => Next::End,
            Poll::Ready(Some(Ok(frame))) => Next::Frame(frame),
            Poll::Ready(Some(Err(_))) => {
                link.fail();
                Next::Pending
            }
            Poll::Pending => Next::Pending,
        })
    })
    .await
}

/// Frames that are there already, as a body.
struct Left(VecDeque<Frame<Bytes>>);

impl Body for Left {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Lets a guest work on after its answer's head, as long as it gets on with the body and somebody reads it.
///
/// `patience` is how long it may go without handing on a part of the body, and how long it may work after the body.
fn watched(mut work: Work, link: Arc<Link>, patience: Duration) -> Work {
    Box::pin(async move {
        let mut reader_gone = pin!(link.reader_gone());
        let mut reading = true;
        let mut seen = link.progress();
        let mut alarm = pin!(tokio::time::sleep(patience));
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
                    let now = link.progress();
                    if now == seen {
                        link.fail();
                        return Err(Fault::Timeout { limit: patience });
                    }
                    seen = now;
                    alarm.as_mut().reset(tokio::time::Instant::now() + patience);
                }
            }
        }
    })
}
