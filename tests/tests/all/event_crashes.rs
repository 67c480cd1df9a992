//! Tests a host that is killed repeatedly, also with power failures and disk errors: it loses no
//! acknowledged event, the state shows each event once, and only interrupted deliveries are
//! repeated. `cargo xtask torture` runs the same test with more kills.

use isopod_tests::{Hazards, Torture};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The minimum number of kills, unless fewer are requested.
const KILLS_MIN: u32 = 10;

/// Reads a number that `cargo xtask torture` has set in the environment.
fn given<N: std::str::FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok()?.parse().ok()
}

fn random_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()))
}

/// Runs a torture, and verifies that its faults have occurred.
fn survive(torture: Torture) {
    let survived = torture.run();
    println!("torture: verified {survived}; seed {}", torture.seed);
    assert!(survived.kills >= KILLS_MIN.min(torture.kills) && survived.acknowledged > 0, "{survived}");
    // An attempt is counted at the claim. A kill interrupts the events at the head of the queue.
    assert!(survived.attempts <= 10, "{survived}");
    // A disk error also makes deliveries fail between the kills.
    if !torture.hazards.has_errors() {
        assert!(survived.interrupted > 0, "no kill interrupted a delivery: {survived}");
        assert!(survived.redeliveries <= survived.interrupted, "{survived}");
    }
}

/// A torture test that ends after 20 kills, or after 20 s if the minimum number of kills is
/// reached.
fn short(hazards: Hazards) -> Torture {
    let (seed, at_most) = (random_seed(), Duration::from_secs(20));
    Torture { kills: 20, seed, hazards, senders: 6, at_most, kills_min: KILLS_MIN, pause: 150 }
}

#[test]
fn a_host_that_is_killed_again_and_again_handles_each_acknowledged_event_once() {
    survive(short(Hazards::None));
}

#[test]
fn power_failures_and_failing_disks_lose_no_acknowledged_event() {
    let short = short(given("ISOPOD_TORTURE_FAULTS").unwrap_or(Hazards::All));
    let seed = given("ISOPOD_TORTURE_SEED").unwrap_or(short.seed);
    let torture = match given("ISOPOD_TORTURE_KILLS") {
        Some(kills) => Torture { kills, seed, at_most: Duration::MAX, ..short },
        None => Torture { seed, ..short },
    };
    survive(torture);
}
