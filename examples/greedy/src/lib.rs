//! An app that misbehaves on demand: the path names the act (see `acts`). It is exported only over
//! `wasi:http`, so that it can fail in the middle of a response; `greedy-flat` does the same over
//! the flat interface.
//!
//! If the config var GREEDY_START is `trap`, `spin` or `allocate`, it misbehaves while an instance
//! starts.

/// A response that is written while it is sent.
macro_rules! stream {
    ($producer:expr) => {
        Response::stream($producer)
    };
}

mod acts;
mod events;
mod relay;
mod start;
mod storms;

use isopod_sdk::prelude::*;

isopod_sdk::http_streaming!(app);
isopod_sdk::events!(events::on_event);

async fn app(request: Request, body: IncomingBody) -> Result<Response> {
    match request.path() {
        "/echo" => Ok(echo(&request, body)),
        "/count" => Ok(Response::text(count(body).await?.to_string())),
        _ => acts::act(request).await,
    }
}

/// Returns the request's body and its trailers. Over HTTP/1.1 the client receives only trailers
/// that the response's head lists.
fn echo(request: &Request, mut body: IncomingBody) -> Response {
    let echoed = Response::stream(async move |mut out| {
        while let Some(piece) = body.next().await? {
            out.write(piece).await?;
        }
        out.set_trailers(body.trailers().await?);
        Ok(())
    });
    match request.header("trailer") {
        Some(named) => echoed.with_header("trailer", named.to_owned()),
        None => echoed,
    }
}

/// Returns the size of a body.
async fn count(mut body: IncomingBody) -> Result<usize> {
    let mut bytes = 0;
    while let Some(piece) = body.next().await? {
        bytes += piece.len();
    }
    Ok(bytes)
}
