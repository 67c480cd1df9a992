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
        Pin::new(&mut head).poll(cx)
    })
    .await
    // The sender is dropped unused only when the guest came to its end without an answer.
    .unwrap_or(Err(Fault::NoAnswer));
    let after = match finished {
        Some(Ok(instance)) => After::from(instance),
        Some(Err(fault)) => return Answer::lost(fault),
        None => After::Working(watched(work, Arc::clone(&link), limits.request_timeout)),
    };
    let response = match head {
        Err(fault) => Err(fault),
        Ok(response) if matches!(after, After::Working(_)) => {
            Ok(response.map(|body| ReplyBody::streamed(body, None, limits.reply_body_bytes, link)))
        }
        Ok(response) => {
            let (parts, body) = response.into_parts();
            Ok(Response::from_parts(parts, whole_or_streamed(body, limits.reply_body_bytes, link).await))
        }
    };
    Answer { response, after }
}

/// A body whose writer has finished is usually there in full: then it is sent with its length and in one piece.
async fn whole_or_streamed(mut body: WasiBody, limit: u64, link: Arc<Link>) -> ReplyBody {
    let first = match next_if_ready(&mut body, &link).await {
        Next::End => return ReplyBody::full(Bytes::new()),
        Next::Pending => return ReplyBody::streamed(body, None, limit, link),
        Next::Frame(frame) => frame,
    };
    match (first.into_data(), next_if_ready(&mut body, &link).await) {
        (Ok(data), Next::End) if data.len() as u64 <= limit => ReplyBody::full(data),
        (Ok(data), Next::Frame(second)) => {
            let body = WasiBody::new(Preceded { first: Some(second), body });
            ReplyBody::streamed(body, Some(Frame::data(data)), limit, link)
        }
        (Ok(data), _) => ReplyBody::streamed(body, Some(Frame::data(data)), limit, link),
        (Err(trailers), _) => ReplyBody::streamed(body, Some(trailers), limit, link),
    }
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

/// A body with a frame that was taken out before its turn put back in front.
struct Preceded {
    first: Option<Frame<Bytes>>,
    body: WasiBody,
}

impl Body for Preceded {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.first.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
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
