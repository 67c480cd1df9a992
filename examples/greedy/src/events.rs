//! Acts on events, named by the event's type. Never replies with data.

use crate::acts;
use isopod_sdk::prelude::*;
use std::time::Duration;

pub async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    // A schedule can choose no type.
    let on_schedule = config::get("ON_SCHEDULE").filter(|_| event.kind == "isopod.schedule");
    match on_schedule.as_deref().unwrap_or(&event.kind) {
        "quiet" => Ok(None),
        "print" => {
            println!("greedy handles {}", event.id);
            Ok(None)
        }
        "fail" => Err(EventError::permanent("greedy was asked to fail")),
        "retry" => Err(Error::msg("greedy was asked to put it off").retry_after(Duration::from_secs(7))),
        "panic" => panic!("greedy was asked to panic"),
        "spin" => {
            acts::spin(None);
            Ok(None)
        }
        "never" => {
            sleep(Duration::MAX).await;
            Ok(None)
        }
        "read" => {
            let outcome = std::fs::read_to_string("/data/pipe");
            Ok(Some(Reply::text(format!("{outcome:?}"))))
        }
        "echo" => {
            let data_content_type = event.data_content_type.unwrap_or_default();
            Ok(Some(Reply { data_content_type, data: event.data.unwrap_or_default() }))
        }
        "extensions" => Ok(Some(Reply::json(&event.extensions)?)),
        kind => Ok(Some(Reply::text(format!("{kind}, delivery {}", event.attempt)))),
    }
}
