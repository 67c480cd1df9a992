//! Follows a stream of events of a host for as long as the user wants it: a stream that ends is opened again, after the
//! last event that was seen. It knows no route and prints no event.

use std::time::{Duration, Instant};

use super::client::{Client, Follow};
use super::failure::Failure;
use super::{limits, output};

/// The pause before the host is asked again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Hands out events until the stream can't be opened again, which is a failure. `reconnected` is called after each gap.
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
        // A host that is stopping or full may take the next attempt; any other answer holds for good.
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
