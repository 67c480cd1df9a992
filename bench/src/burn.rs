//! Owns how an app is asked to use the CPU: the same work each time, as much as takes so long on a machine at rest. A
//! guest that watched the clock instead would do less the longer it is kept waiting.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::{Client, Request};

/// Long enough that the way of the request does not count.
const TRIAL_AT_LEAST: Duration = Duration::from_millis(50);

const TRIAL_TURNS: u64 = 100_000;
const TRIAL_TURNS_MAX: u64 = 1 << 40;

/// The best of these counts: others may have had the processor meanwhile.
const TRIALS: usize = 5;

/// How many turns a server's guest does in a millisecond while it has a processor for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    turns_per_ms: f64,
}

impl Pace {
    pub(super) fn measure(address: SocketAddr, host: &str) -> Result<Pace> {
        let mut client = Client::connect(address, host)?;
        let mut timed = |turns: u64| -> Result<Duration> {
            let began = Instant::now();
            let answer = client.send(&request(host, turns)).context("a request that uses the CPU was not answered")?;
            if answer.status != 200 {
                bail!("a request that uses the CPU was answered with {}", answer.status);
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

    /// A request for so much work.
    pub(super) fn request(self, host: &str, milliseconds: f64) -> Request {
        request(host, self.turns(milliseconds))
    }
}

fn request(host: &str, turns: u64) -> Request {
    Request::get(host, &format!("/burn?turns={turns}"))
}
