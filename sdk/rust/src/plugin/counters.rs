//! Token buckets of the host, which limit the rate of an operation. Never decides what happens to
//! a request beyond the rate.
//!
//! The buckets belong to one plugin and one app that uses it: all instances and versions of the
//! plugin share them. They are available only in the handlers of a [`middleware!`]. The host keeps
//! them in memory, so they are full after its start.
//!
//! ```
//! use isopod_sdk::prelude::*;
//! use isopod_sdk::plugin::{AppRequest, Decision, NoSettings, counters};
//!
//! isopod_sdk::middleware!(limit);
//!
//! async fn limit(request: &AppRequest, _: &NoSettings) -> Result<Decision> {
//!     let rate = counters::Rate::new(100, Duration::from_secs(60));
//!     let client = request.header("x-real-ip").unwrap_or_default();
//!     match counters::take(client, 1, &rate)?.is_taken {
//!         true => Ok(Decision::Pass),
//!         false => Ok(Response::text("try again later").with_status(429).into()),
//!     }
//! }
//! # use std::time::Duration;
//! # fn main() {}
//! ```
//!
//! [`middleware!`]: crate::middleware!

use std::time::Duration;

use crate::{Result, platform};

/// How many tokens a bucket has at most, and how fast it refills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number of tokens that are added in each period, 1 to 1,000,000.
    pub tokens: u32,
    /// The length of the period, from a millisecond to a day.
    pub period: Duration,
    /// The number of tokens of a full bucket, 1 to 1,000,000. It must refill within 30 days.
    pub burst: u32,
}

impl Rate {
    /// Returns the rate of this many tokens per period. A full bucket has this number of tokens.
    pub fn new(tokens: u32, period: Duration) -> Self {
        Self { tokens, period, burst: tokens }
    }

    /// Sets the number of tokens of a full bucket.
    #[must_use]
    pub fn with_burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }
}

/// The state of a bucket after an attempt to take tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether the tokens were taken. If not, the bucket is unchanged.
    pub is_taken: bool,
    /// The number of whole tokens in the bucket.
    pub remaining: u32,
    /// The time until the bucket has as many tokens as were requested; zero if they were taken.
    pub retry_after: Duration,
    /// The time until the bucket is full.
    pub full_after: Duration,
}

/// Takes tokens from the bucket with this key, if it has that many. A new bucket is full.
///
/// Fails if the key is longer than 256 bytes, or if the rate or the number of tokens is outside its
/// range. The host keeps a limited number of buckets. Beyond it, the host drops the bucket that
/// will be full soonest, which then counts as full.
pub fn take(key: &str, tokens: u32, rate: &Rate) -> Result<Taken> {
    platform::take_tokens(key, tokens, rate)
}
