//! An app that uses the CPU, or waits, for a requested time: the noisy neighbour of the benchmarks.
//! It needs no grant, so that other hosts can run it too.

use isopod_sdk::prelude::*;
use std::hint::black_box;
use std::time::Duration;

isopod_sdk::http!(app);
isopod_sdk::events!(on_event);
isopod_sdk::routes!(app:
    GET "/" => idle,
    GET "/burn" => burn_for,
    GET "/wait" => wait,
);

async fn idle(_request: Request) -> Result<Response> {
    Ok(Response::text("done"))
}

async fn burn_for(request: Request) -> Result<Response> {
    let turns = request.query_param("turns").or_status(400, "the query needs turns=")?;
    burn(turns.parse()?);
    Ok(Response::text("done"))
}

async fn wait(request: Request) -> Result<Response> {
    let milliseconds = request.query_param("ms").or_status(400, "the query needs ms=")?;
    sleep(Duration::from_millis(milliseconds.parse()?)).await;
    Ok(Response::text("done"))
}

/// Runs the number of turns that the event's data names.
async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    burn(event.json()?);
    Ok(None)
}

/// Does a fixed amount of work. A time limit would also count the time in which the guest is
/// suspended.
fn burn(turns: u64) {
    for turn in 0..turns {
        black_box(turn);
    }
}
