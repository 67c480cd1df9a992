//! Checks the tokens with which clients of apps ask for the phases of their requests. Bounds the
//! checks of invalid tokens, since every client can send them. Never blocks, and never logs a
//! token.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use isopod_policy::AppName;
use jiff::Timestamp;

use super::{auth::Tokens, limits};
use crate::{control::ControlPlane, ingress::TimingAccess};

/// The tokens that show the phases of requests. Until they are set, none does.
#[derive(Default)]
pub(crate) struct TimingTokens {
    known: OnceLock<(Tokens, ControlPlane)>,
    invalid: InvalidTokens,
}

impl TimingTokens {
    /// Sets the tokens, once the host has loaded them.
    pub(crate) fn set(&self, tokens: Tokens, control: ControlPlane) {
        // They are set once, at the start.
        let _ = self.known.set((tokens, control));
    }
}

impl TimingAccess for TimingTokens {
    fn may_see(&self, token: &str, app: &AppName) -> bool {
        let Some((tokens, control)) = self.known.get() else { return false };
        let now = Timestamp::now();
        if token.len() > limits::TIMING_TOKEN_BYTES_MAX || self.invalid.are_too_many(now.as_second()) {
            return false;
        }
        let id_of = |app: &AppName| control.apps.app(app).ok().map(|record| record.id.clone());
        let may_see = tokens.may_read(token, app, &id_of, now);
        if !may_see {
            self.invalid.count(now.as_second());
        }
        may_see
    }
}

/// The number of invalid tokens in the current second. One number holds both, so that no lock is
/// needed: the second in the upper half, and the count in the lower.
#[derive(Default)]
struct InvalidTokens(AtomicU64);

impl InvalidTokens {
    fn are_too_many(&self, second: i64) -> bool {
        let counted = self.0.load(Ordering::Relaxed);
        counted >> 32 == upper(second) && counted & u64::from(u32::MAX) >= limits::TIMING_TOKENS_INVALID_PER_SECOND
    }

    fn count(&self, second: i64) {
        let next = |counted: u64| {
            let is_current = counted >> 32 == upper(second);
            Some(if is_current { counted + 1 } else { (upper(second) << 32) | 1 })
        };
        // The closure always returns a number, so the update can't fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

/// Returns the lower 32 bits of a second, which identify it for more than a century.
fn upper(second: i64) -> u64 {
    second.cast_unsigned() & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_tokens_are_counted_per_second() {
        let invalid = InvalidTokens::default();
        for _ in 0..limits::TIMING_TOKENS_INVALID_PER_SECOND {
            assert!(!invalid.are_too_many(1_000));
            invalid.count(1_000);
        }
        assert!(invalid.are_too_many(1_000) && !invalid.are_too_many(1_001));
        invalid.count(1_001);
        assert!(!invalid.are_too_many(1_001) && !invalid.are_too_many(1_000));
    }
}
