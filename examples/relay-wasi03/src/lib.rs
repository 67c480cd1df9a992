//! Sends the outgoing request that its query describes over `wasi:http` 0.3, or sends an event to
//! itself. It does nothing else.

#[path = "../../greedy/src/relay.rs"]
mod relay;

use isopod_sdk::prelude::*;
use std::time::Duration;

isopod_sdk::http!(app);
isopod_sdk::events!(on_event);

async fn app(request: Request) -> Result<Response> {
    let event = || Ok::<_, Error>(NewEvent::new("relayed").with_subject(request.text()?));
    match request.path() {
        "/emit" => Ok(Response::text(events::emit(event()?)?)),
        "/ask" => {
            let reply = events::ask(event()?, Duration::from_secs(300)).await?;
            Ok(Response::new(200).with_body(reply.or_status(502, "the event handler gave no reply")?.data))
        }
        _ => relay::relay(&request).await,
    }
}

async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    Ok(Some(Reply::text(format!("relayed to {}", event.subject()?))))
}
