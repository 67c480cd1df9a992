//! Responds to requests with counters of the provider.

use crate::{acme::probe::counters::Counter, count::count};
use isopod_sdk::prelude::*;
use std::time::Duration;

pub(crate) async fn handle(request: Request, _body: IncomingBody) -> Result<Response> {
    let number = request.query().parse().unwrap_or(1);
    Ok(match request.path() {
        "/stream" => stream(Duration::from_millis(number.into())),
        _ => Response::text(count(number)),
    })
}

/// Streams two sums of a counter, with this pause between them. Holds the counter until the
/// response ends.
fn stream(pause: Duration) -> Response {
    let counter = Counter::new(0);
    Response::stream(async move |mut out| {
        out.write(format!("{}\n", counter.add(1))).await?;
        sleep(pause).await;
        out.write(format!("{}\n", counter.add(1))).await
    })
}
