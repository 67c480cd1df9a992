//! Drives a guest that works on a response after its head. Never reads a request's body.

use crate::{body::StallTimeout, fault::Fault, instance::Instance, response_body::Link};
use futures::future::BoxFuture;
use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// The outcome of a guest's work, with the instance if it can be reused.
pub(crate) type Finished = Result<Option<Box<Instance>>, Fault>;

/// A call that a guest is running. Dropping it early breaks the response's body before the instance
/// is dropped.
pub(crate) struct GuestCall {
    pub(crate) future: BoxFuture<'static, Finished>,
    pub(crate) link: Arc<Link>,
    pub(crate) is_finished: bool,
}

impl Future for GuestCall {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        let polled = self.future.as_mut().poll(cx);
        self.is_finished = polled.is_ready();
        polled
    }
}

impl Drop for GuestCall {
    fn drop(&mut self) {
        if !self.is_finished {
            self.link.fail(Fault::Stopped);
        }
    }
}

/// A guest that is still working on a response after its head.
pub struct Unfinished {
    pub(crate) call: GuestCall,
    pub(crate) link: Arc<Link>,
    /// How long the guest may take for each part of the body, and how long it may work after the
    /// body.
    pub(crate) limit: Duration,
}

impl Unfinished {
    /// Drives the guest to its end, while it makes progress with the body and the client reads it.
    pub async fn finish(self, stall_timeout: StallTimeout) -> Finished {
        let Self { mut call, link, limit } = self;
        let waits = Waits { limit, stall_timeout: &stall_timeout };
        let mut reader_gone = pin!(link.reader_gone());
        let mut reading = true;
        let start = Instant::now();
        let mut alarm = pin!(tokio::time::sleep(waits.next_look(Duration::ZERO)));
        loop {
            tokio::select! {
                biased;
                finished = &mut call => return finished,
                broken_off = &mut reader_gone, if reading => {
                    if broken_off {
                        return Err(link.fault().cloned().unwrap_or(Fault::ClientGone));
                    }
                    reading = false;
                }
                () = &mut alarm => {
                    let now = Instant::now();
                    let stalled = now.saturating_duration_since(link.last_progress().max(start));
                    let fault = waits.fault(stalled, reading && link.reader_is_slow());
                    if let Some(fault) = fault {
                        let fault = link.attribute(fault);
                        link.fail(fault.clone());
                        return Err(fault);
                    }
                    alarm.as_mut().reset(now + waits.next_look(stalled));
                }
            }
        }
    }
}

/// How long a response may make no progress.
struct Waits<'a> {
    limit: Duration,
    stall_timeout: &'a StallTimeout,
}

impl Waits<'_> {
    /// Returns the fault of a response that has made no progress for `stalled`, if the response
    /// must be aborted.
    fn fault(&self, stalled: Duration, reader_is_slow: bool) -> Option<Fault> {
        if reader_is_slow && self.stall_timeout.is_over(stalled) {
            return Some(Fault::ClientGone);
        }
        (stalled >= self.limit).then_some(Fault::Timeout { limit: self.limit })
    }

    /// Returns the time until the next check of a response that has made no progress for `stalled`:
    /// until it reaches the next limit, or `crowded` if it exceeds all.
    fn next_look(&self, stalled: Duration) -> Duration {
        let StallTimeout { usual, crowded, .. } = *self.stall_timeout;
        let look = crowded.min(self.limit);
        let next = [crowded, usual, self.limit].into_iter().filter(|bound| *bound > stalled).min();
        // Also checked regularly between the limits, since the host may become crowded meanwhile.
        next.map_or(look, |bound| (bound - stalled).min(look))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_stalled_response_is_broken_off_when_its_limit_has_passed_since_the_last_progress() {
        let stall_timeout = StallTimeout { usual: seconds(20), crowded: seconds(10), is_crowded: Arc::default() };
        let waits = Waits { limit: seconds(30), stall_timeout: &stall_timeout };
        // The first check comes at any time after the last progress.
        for first in 0..=10 {
            for (reader_is_slow, ends) in [(false, 30), (true, 20)] {
                let mut stalled = seconds(first);
                while waits.fault(stalled, reader_is_slow).is_none() {
                    stalled += waits.next_look(stalled);
                }
                assert_eq!(stalled, seconds(ends), "first check after {first} s");
            }
        }
    }

    #[test]
    fn a_limit_between_two_regular_checks_is_met_exactly() {
        let stall_timeout = StallTimeout { usual: seconds(12), crowded: seconds(10), is_crowded: Arc::default() };
        let waits = Waits { limit: seconds(25), stall_timeout: &stall_timeout };
        assert_eq!(waits.next_look(seconds(3)), seconds(7));
        assert_eq!(waits.next_look(seconds(10)), seconds(2));
        assert_eq!(waits.next_look(seconds(12)), seconds(10));
        assert_eq!(waits.next_look(seconds(22)), seconds(3));
        assert_eq!(waits.next_look(seconds(40)), seconds(10));
        assert!(matches!(waits.fault(seconds(25), false), Some(Fault::Timeout { .. })));
        assert!(waits.fault(seconds(25) - Duration::from_micros(1), false).is_none());
    }
}
