//! An app that uses the CPU, or waits, for as long as it is asked to: the benchmarks' noisy neighbour. It needs no grant,
//! so that other hosts can run it too.

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

/// The event's data is the number of turns.
async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    burn(event.json()?);
    Ok(None)
}

/// The same work however long the guest is kept waiting meanwhile, which a clock would count as well.
fn burn(turns: u64) {
    for turn in 0..turns {
        black_box(turn);
    }
}
