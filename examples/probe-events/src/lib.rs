//! Exports `isopod:app/events`, as components that were built before `isopod:app/event-handler` do.
//! Fails as the event's type asks.

wit_bindgen::generate!({ path: "../../sdk/wit", world: "isopod:app/event-app" });

use exports::isopod::app::events::{Event, Failure, Guest, Reply};

struct Probe;

impl Guest for Probe {
    fn handle(event: Event) -> Result<Option<Reply>, Failure> {
        match event.type_.as_str() {
            "permanent" => Err(Failure::Permanent("refused".to_owned())),
            "retry" => Err(Failure::Retry(("not yet".to_owned(), 1_500))),
            _ => Ok(event.data.map(|data| Reply { data_content_type: "text/plain".to_owned(), data })),
        }
    }
}

export!(Probe);
