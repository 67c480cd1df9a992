//! Requests that use the CPU for a time that is measured on an idle machine. Each does a fixed
//! amount of work; a guest that watched the clock would do less the longer it waits. Never measures
//! latency.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::{Client, Request};

/// Long enough that the request's overhead is negligible.
const TRIAL_AT_LEAST: Duration = Duration::from_millis(50);

const TRIAL_TURNS: u64 = 100_000;
const TRIAL_TURNS_MAX: u64 = 1 << 40;

/// The number of trials. The fastest counts, since other programs may have used the processor.
const TRIALS: usize = 5;

/// The number of loop turns that a server's guest completes in a millisecond on an idle processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    turns_per_ms: f64,
}

impl Pace {
    pub(super) fn measure(address: SocketAddr, host: &str) -> Result<Pace> {
        let mut client = Client::connect(address, host)?;
        let mut timed = |turns: u64| -> Result<Duration> {
            let began = Instant::now();
            let answer = client.send(&request(host, turns)).context("a request that uses the CPU got no response")?;
            if answer.status != 200 {
                bail!("a request that uses the CPU returned {}", answer.status);
            }
            Ok(began.elapsed())
        };
        let mut turns = TRIAL_TURNS;
        while timed(turns)? < TRIAL_AT_LEAST && turns < TRIAL_TURNS_MAX {
            turns *= 4;
        }
        let mut best = Duration::MAX;
        for _ in 0..TRIALS {
            best = best.min(timed(turns)?);
        }
        Ok(Pace { turns_per_ms: turns as f64 / (best.as_secs_f64() * 1e3) })
    }

    pub(super) fn turns(self, milliseconds: f64) -> u64 {
        (self.turns_per_ms * milliseconds) as u64
    }

    /// Creates a request for work of this duration.
    pub(super) fn request(self, host: &str, milliseconds: f64) -> Request {
        request(host, self.turns(milliseconds))
    }
}

fn request(host: &str, turns: u64) -> Request {
    Request::get(host, &format!("/burn?turns={turns}"))
}
