//! Exponential back-off with jitter. Owns the formula only; its callers own the settings of their
//! back-offs. Never uses a random source: the random number is an argument.

use std::time::Duration;

/// Returns the delay after the given number of consecutive failures. The full delay is `first`
/// after the first failure, doubles with each further one, and is at most `max`. The result is
/// between half of the full delay and all of it. `random` is a uniformly distributed number, which
/// spreads the retries of many callers that failed together.
pub fn back_off(first: Duration, max: Duration, failures: u32, random: u32) -> Duration {
    let factor = 2u32.checked_pow(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let full = first.saturating_mul(factor).min(max);
    let half = full / 2;
    full - half + half.mul_f64(f64::from(random) / f64::from(u32::MAX)).min(half)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_delay_is_between_half_of_the_full_delay_and_all_of_it(
            first in any::<u32>(), max in any::<u64>(), failures in 0..=32u32, random in any::<u32>(),
        ) {
            let (first, max) = (Duration::from_millis(first.into()), Duration::from_millis(max));
            let full = (1..failures).fold(first, |full, _| full * 2).min(max);
            let delay = back_off(first, max, failures, random);
            prop_assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
        }

        #[test]
        fn no_argument_overflows(
            first in any::<u64>(), max in any::<u64>(), failures in any::<u32>(), random in any::<u32>(),
        ) {
            back_off(Duration::from_secs(first), Duration::from_secs(max), failures, random);
        }
    }
}
