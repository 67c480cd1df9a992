//! The token buckets of native tests, on the simulated clock. Like the host's, but without limits.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::plugin::counters::{Rate, Taken};
use crate::{Error, Result};

/// When each bucket is full, by its key.
#[derive(Default)]
pub(crate) struct Counters(BTreeMap<String, SystemTime>);

impl Counters {
    /// Takes tokens from the bucket with a key.
    pub(crate) fn take(&mut self, now: SystemTime, key: &str, tokens: u32, rate: &Rate) -> Result<Taken> {
        if tokens == 0 || tokens > rate.burst || rate.tokens == 0 {
            return Err(Error::msg(format!("a bucket of {} tokens can't yield {tokens}", rate.burst)));
        }
        let token = rate.period / rate.tokens;
        let fill = token * rate.burst;
        let full_at = self.0.entry(key.to_owned()).or_insert(now);
        let missing = full_at.duration_since(now).unwrap_or(Duration::ZERO).min(fill);
        let wanted = missing + token * tokens;
        let is_taken = wanted <= fill;
        let full_after = if is_taken { wanted } else { missing };
        *full_at = now + full_after;
        Ok(Taken {
            is_taken,
            remaining: ((fill - full_after).as_nanos() / token.as_nanos().max(1)) as u32,
            retry_after: wanted.saturating_sub(fill),
            full_after,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::plugin::counters::{Rate, take};
    use crate::testing::TestHost;
    use std::time::Duration;

    #[test]
    fn a_bucket_refills_as_the_simulated_clock_advances() {
        let host = TestHost::new();
        let rate = Rate::new(2, Duration::from_secs(60));
        let taken = |key| take(key, 1, &rate).unwrap().is_taken;
        assert_eq!([taken("a"), taken("a"), taken("a"), taken("b")], [true, true, false, true]);
        let refused = take("a", 1, &rate).unwrap();
        assert_eq!((refused.remaining, refused.retry_after.as_secs(), refused.full_after.as_secs()), (0, 30, 60));
        host.advance(refused.retry_after);
        assert_eq!([taken("a"), taken("a")], [true, false]);
        assert!(take("a", 3, &rate).is_err());
    }
}
