//! Sends the outgoing request that its query describes, over `wasi:http` 0.3. It does nothing else.

#[path = "../../greedy/src/relay.rs"]
mod relay;

use isopod_sdk::prelude::*;

isopod_sdk::http!(app);

async fn app(request: Request) -> Result<Response> {
    relay::relay(&request).await
}
