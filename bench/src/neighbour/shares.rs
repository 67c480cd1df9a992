//! Measures whether heavy apps get CPU time by their weights: several apps concurrently, each with
//! more work than the whole machine can do. Never starts a host.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::burn::Pace;
use crate::flood::{self, Caller};
use crate::host::{Host, name_of};
use std::time::Duration;
use xtask::step;

/// The apps' names, types, and relative weights.
const HEAVY: [(&str, &str, f64); 3] =
    [("heavy-dev-1", "dev", 1.0), ("heavy-dev-2", "dev", 1.0), ("heavy-production", "production", 4.0)];

const CLIENTS_EACH: usize = 8;

/// Short requests, so that work charged late or early at both ends has little effect.
const SPIN_MS: f64 = 50.0;

/// The share of one app in the CPU time of all heavy apps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Share {
    pub(super) app: &'static str,
    pub(super) expected: f64,
    pub(super) measured: f64,
}

impl Share {
    /// Returns the relative error from the expected share.
    pub(super) fn error(&self) -> f64 {
        (self.measured / self.expected - 1.0).abs()
    }

    pub(super) fn json(&self) -> Value {
        json!({ "app": self.app, "expected": self.expected, "measured": self.measured, "error": self.error() })
    }
}

/// Measures the shares. Empty if this host doesn't report CPU time.
pub(super) fn measure(host: &Host, component: &[u8], pace: Pace, seconds: u32) -> Result<Vec<Share>> {
    let api = host.api();
    let mut callers = Vec::new();
    for (app, kind, _) in HEAVY {
        api.create(app, kind)?;
        api.push(app, component)?;
        let request = pace.request(&name_of(app), SPIN_MS);
        callers.extend(vec![Caller::of(host.listen(), request); CLIENTS_EACH]);
    }
    let used = || -> Result<[f64; HEAVY.len()]> {
        let mut used = [0.0; HEAVY.len()];
        for ((app, ..), used) in HEAVY.iter().zip(&mut used) {
            let metrics = api.get(&format!("/v1/apps/{app}/metrics"))?;
            *used = metrics["cpu_ms"].as_f64().context("the metrics have no cpu_ms")?;
        }
        Ok(used)
    };
    if let Err(error) = used() {
        step::announce(&format!("shares: skipped, {error:#}"));
        return Ok(Vec::new());
    }
    let (during, _) = flood::beside(&callers, || -> Result<[f64; HEAVY.len()]> {
        let before = used()?;
        std::thread::sleep(Duration::from_secs(seconds.into()));
        let after = used()?;
        Ok(std::array::from_fn(|at| after[at] - before[at]))
    });
    Ok(shares(&during?))
}

fn shares(used: &[f64; HEAVY.len()]) -> Vec<Share> {
    let all: f64 = used.iter().sum();
    let weights: f64 = HEAVY.iter().map(|(_, _, weight)| weight).sum();
    let share = |(&(app, _, weight), used): (&(&'static str, &str, f64), &f64)| Share {
        app,
        expected: weight / weights,
        measured: used / all,
    };
    HEAVY.iter().zip(used).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_production_app_has_four_times_the_share_of_a_dev_app() {
        let exact = shares(&[100.0, 100.0, 400.0]);
        assert!(exact.iter().all(|share| share.error() < 1e-9), "{exact:?}");
        let equal = shares(&[200.0, 200.0, 200.0]);
        assert!((equal[0].error() - 1.0).abs() < 1e-9);
        assert!((equal[2].error() - 0.5).abs() < 1e-9);
    }
}
