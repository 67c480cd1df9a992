//! Reads the bodies of responses that aren't sent, so that their guests can finish.

use super::limits;
use http_body_util::BodyExt;
use isopod_engine::ResponseBody;

/// Reads a body that isn't sent, for a limited time.
pub(crate) fn discard(body: ResponseBody) {
    let ResponseBody::Streamed(mut body) = body else { return };
    tokio::spawn(tokio::time::timeout(limits::DISCARDED_BODY_TIMEOUT, async move {
        while let Some(Ok(_)) = body.frame().await {}
    }));
}
