//! Tests that a host that is killed again and again loses no acknowledged event, handles each once
//! as far as its state shows, and repeats no more than what was running. `cargo xtask torture` runs
//! the same with more kills.

use isopod_tests::Torture;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads a number that `cargo xtask torture` has set.
fn given<N: std::str::FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_host_that_is_killed_again_and_again_handles_each_acknowledged_event_once() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    let kills = given("ISOPOD_TORTURE_KILLS");
    let seed = given("ISOPOD_TORTURE_SEED").unwrap_or(now);
    let at_most = if kills.is_some() { Duration::MAX } else { Duration::from_secs(45) };
    let survived = Torture { kills: kills.unwrap_or(20), seed, senders: 6, at_most, pause: 150 }.run();
    println!("torture: verified {survived}; seed {seed}");
    assert!(survived.kills > 0 && survived.acknowledged > 0, "{survived}");
    // An attempt is counted at the claim. A kill interrupts the events at the head of the queue.
    assert!(survived.attempts <= 10, "{survived}");
}
