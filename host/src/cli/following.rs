//! Follows an event stream of an app: reopens a stream that ended, after the last received event,
//! until the app is destroyed. Never prints an event.

use std::time::{Duration, Instant};

use isopod_policy::AppName;

use super::client::{Client, Follow};
use super::failure::Failure;
use super::{limits, output};

/// The pause between two attempts to reconnect.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Passes the events of a stream to `show`, starting after the event `after`, until its end time.
/// It is a failure if the app is destroyed before, or if the stream can't be reopened. Calls
/// `reconnected` after each gap.
pub(crate) fn follow(
    client: &Client,
    app: &AppName,
    stream: &str,
    after: Option<&str>,
    mut show: impl FnMut(&str),
    mut reconnected: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = format!("/v1/apps/{app}{stream}");
    let created = created_at(client, app)?;
    let mut events = client.follow_after(&path, after)?;
    let mut gap = Gap::default();
    loop {
        let opened = Instant::now();
        let mut is_silent = true;
        while let Some(Ok(event)) = events.next() {
            show(&event);
            is_silent = false;
        }
        if let Some(end) = events.end() {
            return ended(app, end);
        }
        gap.ended(opened, is_silent, Instant::now());
        events = reopen(client, app, &path, events.last_id(), &gap)?;
        match created_at(client, app) {
            Ok(found) if found != created => {
                return Err(destroyed(app).next("a new app has this name; run the command again to follow it"));
            }
            Err(failure) if failure.status() == Some(404) => return Err(destroyed(app)),
            // The next event or reconnect shows whether the host is there.
            Ok(_) | Err(_) => {}
        }
        reconnected()?;
    }
}

/// The time for which a stream yields nothing, over several connections: a host may end each
/// connection immediately.
#[derive(Debug, Default)]
struct Gap {
    began: Option<Instant>,
}

impl Gap {
    /// Records the end of a connection that was opened at `opened`.
    fn ended(&mut self, opened: Instant, is_silent: bool, now: Instant) {
        if !is_silent || now.duration_since(opened) > limits::FOLLOW_RECONNECT_TIME {
            self.began = None;
        }
        self.began.get_or_insert(now);
    }

    fn is_too_long(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now.duration_since(began) > limits::FOLLOW_RECONNECT_TIME)
    }
}

fn created_at(client: &Client, app: &AppName) -> Result<String, Failure> {
    Ok(output::field(&client.get(&format!("/v1/apps/{app}"))?.success()?, "created_at"))
}

/// Returns the result of a stream, by the reason in the host's final event.
fn ended(app: &AppName, data: &str) -> Result<(), Failure> {
    let reason = serde_json::from_str::<serde_json::Value>(data).unwrap_or_default();
    Err(match reason["reason"].as_str() {
        Some("until-passed") => return Ok(()),
        Some("token-revoked") => Failure::new(format!("the token used to follow {app} was revoked"))
            .next("set ISOPOD_TOKEN to another token"),
        Some("token-expired") => {
            Failure::new(format!("the token used to follow {app} expired")).next("set ISOPOD_TOKEN to another token")
        }
        // Hosts of earlier versions send no other reason.
        _ => destroyed(app),
    })
}

fn destroyed(app: &AppName) -> Failure {
    Failure::new(format!("the app {app} was destroyed")).why("its log and activity were removed with it")
}

fn reopen(client: &Client, app: &AppName, path: &str, last_id: Option<&str>, gap: &Gap) -> Result<Follow, Failure> {
    let address = client.address();
    output::note(&format!("the host at {address} ended the stream; reconnecting"));
    loop {
        std::thread::sleep(RETRY_EVERY);
        let opened = client.follow_after(path, last_id);
        let why = match opened {
            Ok(events) if !gap.is_too_long(Instant::now()) => {
                output::note("connected again");
                return Ok(events);
            }
            Ok(_) => "it ends each new stream immediately".to_owned(),
            // The app existed before, so 404 means that it was destroyed.
            Err(failure) if failure.status() == Some(404) => return Err(destroyed(app)),
            // A host that is stopping or full may accept a later attempt; any other response is
            // final.
            Err(failure) if failure.status().is_some_and(|status| status < 500) => return Err(failure),
            Err(failure) => failure.one_line(),
        };
        if gap.is_too_long(Instant::now()) {
            let seconds = limits::FOLLOW_RECONNECT_TIME.as_secs();
            return Err(Failure::new(format!("the host at {address} ended the stream, and reconnecting failed"))
                .why(format!("after {seconds} s: {why}"))
                .next("check that the host runs, then run the command again"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_the_final_event_is_reported() {
        let app = "shop".parse().expect("a valid name");
        let failure = |data: &str| ended(&app, data).err().map(|failure| failure.text()).unwrap_or_default();
        assert!(failure(r#"{"reason":"app-destroyed"}"#).contains("was destroyed"));
        assert!(failure(r#"{"reason":"token-revoked"}"#).contains("was revoked"));
        assert!(failure(r#"{"reason":"token-expired"}"#).contains("expired"));
        assert!(ended(&app, r#"{"reason":"until-passed"}"#).is_ok());
    }

    #[test]
    fn streams_that_end_immediately_are_one_gap() {
        let (start, mut gap) = (Instant::now(), Gap::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..=30 {
            gap.ended(at(second), true, at(second));
            assert!(!gap.is_too_long(at(second)), "{second}");
        }
        gap.ended(at(31), true, at(31));
        assert!(gap.is_too_long(at(31)));
        gap.ended(at(32), false, at(32));
        assert!(!gap.is_too_long(at(32)), "an event was received");
        gap.ended(at(33), true, at(99));
        assert!(!gap.is_too_long(at(99)), "it was open for long");
    }
}
