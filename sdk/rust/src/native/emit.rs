//! The events that handlers of a native test send. Never delivers one; `testing` does.

use std::time::Duration;

use super::world::{step, with};
use crate::events::{NewEvent, Reply};
use crate::limits::TEST_EVENT_TIME_AHEAD_MAX;
use crate::{Error, Result};

fn check_grant(event: &NewEvent) -> Result<()> {
    match &event.app {
        Some(app) if !with(|world| world.queue.granted.contains(app)) => {
            Err(Error::msg(format!("events to the app `{app}` are not granted; add `[grants] events = [\"{app}\"]`")))
        }
        _ => Ok(()),
    }
}

/// Refuses the delays and expiries that the host refuses.
fn check_times(event: &NewEvent) -> Result<()> {
    let (delay, expiry) = (event.delay, event.expiry);
    if delay.max(expiry).is_some_and(|time| time > TEST_EVENT_TIME_AHEAD_MAX) {
        return Err(Error::msg("the delay or the expiry of the event is more than 366 days ahead"));
    }
    if delay.is_some() && expiry.is_some() && expiry <= delay {
        return Err(Error::msg("the event expires before its delay ends"));
    }
    Ok(())
}

pub(crate) fn emit(event: NewEvent) -> Result<String> {
    check_grant(&event)?;
    check_times(&event)?;
    let id = with(|world| world.queue.emit(event, world.now));
    step();
    Ok(id)
}

pub(crate) fn ask(event: NewEvent, _: Duration) -> Result<Option<Reply>> {
    check_grant(&event)?;
    let Some(answers) = with(|world| world.queue.answers.clone()) else {
        return Err(Error::msg("this test defines no replies; define them with TestHost::on_ask"));
    };
    let reply = answers(event);
    step();
    reply
}
