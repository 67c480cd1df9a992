//! Counts down, a line at a time: each line reaches the client when it is written. Stores nothing.

use isopod_sdk::prelude::*;
use std::time::Duration;

isopod_sdk::http!(count_down);

async fn count_down(request: Request) -> Result<Response> {
    let number = |name: &str, default: u64| match request.query_param(name) {
        Some(text) => text.parse().or_status(400, format!("{name}= must be a number")),
        None => Ok(default),
    };
    let (from, pause) = (number("from", 3)?, Duration::from_millis(number("ms", 1_000)?));
    Ok(Response::stream(async move |mut out| {
        for second in (1..=from).rev() {
            out.write(format!("{second}\n")).await?;
            sleep(pause).await;
        }
        out.write("lift-off\n").await
    }))
}
