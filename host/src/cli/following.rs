//! Follows an event stream of a host until the command ends: reopens a stream that ended, after the
//! last event received. Knows no route and prints no event.

use std::time::{Duration, Instant};

use super::client::{Client, Follow};
use super::failure::Failure;
use super::{limits, output};

/// The pause between two attempts to reconnect.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Passes on events until the stream can't be reopened, which is a failure. Calls `reconnected`
/// after each gap.
pub(crate) fn follow(
    client: &Client,
    path: &str,
    mut show: impl FnMut(&str),
    mut reconnected: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut events = client.follow(path)?;
    loop {
        while let Some(Ok(event)) = events.next() {
            show(&event);
        }
        events = reopen(client, path, events.last_id())?;
        reconnected()?;
    }
}

fn reopen(client: &Client, path: &str, last_id: Option<&str>) -> Result<Follow, Failure> {
    let address = client.address();
    output::note(&format!("the host at {address} ended the stream; reconnecting"));
    let until = Instant::now() + limits::FOLLOW_RECONNECT_TIME;
    loop {
        std::thread::sleep(RETRY_EVERY);
        let failure = match client.follow_after(path, last_id) {
            Ok(events) => {
                output::note("connected again");
                return Ok(events);
            }
            Err(failure) => failure,
        };
        // A host that is stopping or full may accept a later attempt; any other response is final.
        if failure.status().is_some_and(|status| status < 500) {
            return Err(failure);
        }
        if Instant::now() > until {
            let seconds = limits::FOLLOW_RECONNECT_TIME.as_secs();
            return Err(Failure::new(format!("the host at {address} ended the stream and did not come back"))
                .why(format!("after {seconds} s: {}", failure.one_line()))
                .next("start the host, and run the command again"));
        }
    }
}
