//! The clock and timers. Never reads the machine's clock in tests.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use crate::{Error, Result, platform};

/// Returns the current time.
pub fn now() -> SystemTime {
    platform::now()
}

/// Waits for a duration. In tests, the simulated clock advances instead.
pub async fn sleep(duration: Duration) {
    platform::sleep(duration).await;
}

/// Runs work for at most `duration`. Work that isn't complete by then is dropped, which cancels its
/// calls to the host, and the result is an error.
///
/// ```
/// use isopod_sdk::testing::block_on;
/// use isopod_sdk::time::{sleep, timeout};
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// assert!(block_on(timeout(second, sleep(2 * second))).is_err());
/// ```
pub async fn timeout<T>(duration: Duration, work: impl Future<Output = T>) -> Result<T> {
    let (mut work, mut alarm) = (pin!(work), pin!(platform::sleep(duration)));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Pending => {
            alarm.as_mut().poll(context).map(|()| Err(Error::msg(format!("timeout: not complete within {duration:?}"))))
        }
        Poll::Ready(done) => Poll::Ready(Ok(done)),
    })
    .await
}
