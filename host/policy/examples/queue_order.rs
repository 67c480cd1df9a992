//! Compares three orders in which an overloaded app's queue could admit waiting jobs. Simulates one
//! queue in virtual time, and prints the results of each order for the same requests:
//! `cargo run --release -p isopod-policy --example queue_order`

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a measurement fails by a panic")]

use std::collections::VecDeque;

/// Concurrent jobs and queue length: an app's default cores and `queue_max`.
const CORES: usize = 10;
const QUEUE_MAX: usize = 1_000;
/// Milliseconds: the duration of a job, the client's timeout, the duration of the load.
const JOB_MS: f64 = 10.0;
const PATIENCE_MS: f64 = 10_000.0;
const LASTS_MS: f64 = 60_000.0;
/// As in RFC 8289, with times for requests instead of packets.
const TARGET_MS: f64 = 50.0;
const INTERVAL_MS: f64 = 1_000.0;

#[derive(Clone, Copy, PartialEq)]
enum Order {
    OldestFirst,
    NewestFirst,
    ControlledDelay,
}

#[derive(Default)]
struct Outcome {
    waits: Vec<f64>,
    refused: usize,
    /// Accepted, then dropped by the host, or by the client after waiting too long.
    lost: usize,
}

fn main() {
    println!("| load | order | answered | refused immediately | accepted, then lost | wait p50 ms | p99 ms |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for load in [0.9, 1.2, 2.0] {
        for (order, name) in [
            (Order::OldestFirst, "oldest first"),
            (Order::NewestFirst, "newest first"),
            (Order::ControlledDelay, "oldest first, CoDel"),
        ] {
            let mut outcome = play(order, load);
            outcome.waits.sort_by(f64::total_cmp);
            let all = (outcome.waits.len() + outcome.refused + outcome.lost) as f64;
            let percent = |count: usize| format!("{:.1} %", 100.0 * count as f64 / all);
            let at = |part: f64| outcome.waits[((outcome.waits.len() - 1) as f64 * part) as usize];
            let (answered, refused, lost) =
                (percent(outcome.waits.len()), percent(outcome.refused), percent(outcome.lost));
            println!("| {load} | {name} | {answered} | {refused} | {lost} | {:.0} | {:.0} |", at(0.5), at(0.99));
        }
    }
}

fn play(order: Order, load: f64) -> Outcome {
    let mut random = Random(7);
    let mut outcome = Outcome::default();
    let (mut queue, mut free_at) = (VecDeque::<f64>::new(), [0.0_f64; CORES]);
    let mut above_since: Option<f64> = None;
    let mut now = 0.0;
    while now < LASTS_MS {
        let arrives = now + random.exponential(JOB_MS / CORES as f64 / load);
        // Every job that is admitted before the next one arrives.
        while let Some(core) = (0..CORES).min_by(|a, b| free_at[*a].total_cmp(&free_at[*b]))
            && free_at[core] < arrives
        {
            let turn = free_at[core].max(now);
            let next = if order == Order::NewestFirst { queue.pop_back() } else { queue.pop_front() };
            let Some(came) = next else { break };
            let waited = (turn - came).max(0.0);
            if waited <= TARGET_MS {
                above_since = None;
            }
            let is_shed = order == Order::ControlledDelay
                && waited > TARGET_MS
                && turn - *above_since.get_or_insert(turn) > INTERVAL_MS;
            if waited > PATIENCE_MS || is_shed {
                outcome.lost += 1;
                continue;
            }
            outcome.waits.push(waited);
            free_at[core] = turn.max(came) + random.exponential(JOB_MS);
        }
        now = arrives;
        if queue.len() < QUEUE_MAX { queue.push_back(now) } else { outcome.refused += 1 }
    }
    outcome.lost += queue.iter().filter(|came| now - **came > PATIENCE_MS).count();
    outcome
}

/// A generator that gives the same numbers in each run.
struct Random(u64);

impl Random {
    fn exponential(&mut self, mean: f64) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((self.0 >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        -uniform.ln() * mean
    }
}
