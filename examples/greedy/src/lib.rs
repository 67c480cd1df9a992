//! An app that misbehaves on demand: what it does is named by the path (see `acts`). It is exported over `wasi:http`
//! only, so that it can break off in the middle of an answer; `greedy-flat` does the same over the flat interface.
//!
//! With the config var GREEDY_START set to `trap`, `spin` or `allocate` it already misbehaves while it is started.

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

/// The body and its trailers as they come. Over HTTP/1.1 only those trailers reach a client that the head has named.
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

/// How many bytes a body has.
async fn count(mut body: IncomingBody) -> Result<usize> {
    let mut bytes = 0;
    while let Some(piece) = body.next().await? {
        bytes += piece.len();
    }
    Ok(bytes)
}
