//! Token buckets: decide whether an operation is within its rate. Never reads a clock, and never
//! stores a bucket.
//!
//! A bucket is one number, the time at which it is full again (the generic cell rate algorithm):
//! the time until then, divided by the time for one token, is the number of missing tokens.

use std::time::Duration;

use crate::limits::{BUCKET_FILL_TIME_MAX, BUCKET_PERIOD_MAX, BUCKET_TOKENS_MAX};

/// How many tokens a bucket has at most, and how fast it refills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds for one token.
    token_ns: u64,
    burst: u32,
}

/// A rate with a number outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rate is outside the permitted range")]
pub struct InvalidRate;

impl Rate {
    /// Returns the rate of this many tokens per period, for buckets of `burst` tokens.
    pub fn new(tokens: u32, period: Duration, burst: u32) -> Result<Self, InvalidRate> {
        let is_count = |count: u32| (1..=BUCKET_TOKENS_MAX).contains(&count);
        if !is_count(tokens) || !is_count(burst) || period > BUCKET_PERIOD_MAX {
            return Err(InvalidRate);
        }
        let token_ns = nanoseconds(period) / u64::from(tokens);
        let fill_ns = token_ns.checked_mul(burst.into()).filter(|ns| *ns <= nanoseconds(BUCKET_FILL_TIME_MAX));
        match (token_ns, fill_ns) {
            (1.., Some(_)) => Ok(Self { token_ns, burst }),
            _ => Err(InvalidRate),
        }
    }

    fn fill_ns(self) -> u64 {
        self.token_ns * u64::from(self.burst)
    }
}

/// When a bucket is full, in nanoseconds on the clock of its owner. The default bucket is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenBucket(u64);

/// The outcome of an attempt to take tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The bucket afterwards. If the tokens weren't taken, it has as many as before.
    pub bucket: TokenBucket,
    /// Whether the tokens were taken.
    pub is_taken: bool,
    /// The number of whole tokens afterwards.
    pub remaining: u32,
    /// The time until the bucket has as many tokens as were requested; zero if they were taken.
    pub retry_after: Duration,
    /// The time until the bucket is full.
    pub full_after: Duration,
}

impl TokenBucket {
    /// Returns whether the bucket is full at this time.
    pub fn is_full(self, now: Duration) -> bool {
        self.0 <= nanoseconds(now)
    }

    /// Takes tokens at the time `now`, which never decreases. Returns `None` for a number of tokens
    /// that no bucket has.
    pub fn take(self, tokens: u32, rate: Rate, now: Duration) -> Option<Taken> {
        if tokens == 0 || tokens > rate.burst {
            return None;
        }
        let (now, fill_ns) = (nanoseconds(now), rate.fill_ns());
        // A bucket of a former rate may lack more tokens than the current one can.
        let missing_ns = self.0.saturating_sub(now).min(fill_ns);
        let wanted_ns = missing_ns + rate.token_ns * u64::from(tokens);
        let is_taken = wanted_ns <= fill_ns;
        let full_ns = if is_taken { wanted_ns } else { missing_ns };
        let remaining = (fill_ns - full_ns) / rate.token_ns;
        Some(Taken {
            bucket: Self(now.saturating_add(full_ns)),
            is_taken,
            remaining: u32::try_from(remaining).unwrap_or(rate.burst),
            retry_after: Duration::from_nanos(wanted_ns.saturating_sub(fill_ns)),
            full_after: Duration::from_nanos(full_ns),
        })
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(tokens: u32, period: Duration, burst: u32) -> Rate {
        Rate::new(tokens, period, burst).expect("a valid rate")
    }

    #[test]
    fn a_bucket_yields_its_burst_and_then_the_rate() {
        let rate = rate(10, SECOND, 3);
        let mut bucket = TokenBucket::default();
        let mut take = |ms: u64| {
            let taken = bucket.take(1, rate, Duration::from_millis(ms)).expect("a number of tokens that fits");
            bucket = taken.bucket;
            (taken.is_taken, taken.remaining, taken.retry_after.as_millis(), taken.full_after.as_millis())
        };
        assert_eq!([take(0), take(0), take(0)], [(true, 2, 0, 100), (true, 1, 0, 200), (true, 0, 0, 300)]);
        assert_eq!([take(0), take(60)], [(false, 0, 100, 300), (false, 0, 40, 240)]);
        assert_eq!([take(100), take(100)], [(true, 0, 0, 300), (false, 0, 100, 300)]);
        assert_eq!(take(100_000), (true, 2, 0, 100));
    }

    #[test]
    fn several_tokens_are_taken_together_or_not_at_all() {
        let rate = rate(1, SECOND, 5);
        let first = TokenBucket::default().take(3, rate, SECOND).expect("it fits");
        let refused = first.bucket.take(3, rate, SECOND).expect("it fits");
        assert_eq!((refused.is_taken, refused.remaining, refused.retry_after), (false, 2, SECOND));
        assert!(refused.bucket.take(2, rate, SECOND).expect("it fits").is_taken);
        assert_eq!([0, 6].map(|tokens| first.bucket.take(tokens, rate, SECOND)), [None, None]);
    }

    #[test]
    fn a_lower_rate_does_not_punish_former_use() {
        let former = TokenBucket::default().take(1_000, rate(1_000, 1_000 * SECOND, 1_000), SECOND).expect("it fits");
        let now = former.bucket.take(1, rate(2, SECOND, 2), SECOND).expect("it fits");
        assert_eq!((now.is_taken, now.full_after), (false, SECOND));
    }

    #[test]
    fn rates_outside_the_range_are_refused() {
        let day = Duration::from_secs(86_400);
        for (tokens, period, burst) in [
            (0, SECOND, 1),
            (1, SECOND, 0),
            (1_000_001, SECOND, 1),
            (1, SECOND, 1_000_001),
            (1, day + SECOND, 1),
            (1, Duration::ZERO, 1),
            (1, day, 31),
            (u32::MAX, Duration::MAX, u32::MAX),
        ] {
            assert_eq!(Rate::new(tokens, period, burst), Err(InvalidRate), "{tokens} in {period:?}, {burst} at most");
        }
        assert!(Rate::new(1, day, 30).is_ok() && Rate::new(1_000_000, Duration::from_millis(1), 1_000_000).is_ok());
    }

    proptest! {
        #[test]
        fn no_bucket_yields_more_than_its_burst_and_its_rate(
            tokens in 1..100_u32,
            burst in 1..100_u32,
            waits in prop::collection::vec(0..500_u64, 1..200),
        ) {
            let (rate, mut bucket) = (rate(tokens, SECOND, burst), TokenBucket::default());
            let (mut now, mut count) = (0, 0_u64);
            for wait in waits {
                now += wait;
                let taken = bucket.take(1, rate, Duration::from_millis(now)).expect("it fits");
                bucket = taken.bucket;
                count += u64::from(taken.is_taken);
                prop_assert!(taken.remaining <= burst);
                prop_assert!(taken.is_taken || taken.remaining == 0 && !taken.retry_after.is_zero());
            }
            // A token takes at least `1 s / tokens`, rounded down to a nanosecond.
            prop_assert!(count <= u64::from(burst) + now * u64::from(tokens) / 1_000 + 1);
        }
    }
}
