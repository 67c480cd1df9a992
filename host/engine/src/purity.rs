//! Detects reads of values that a snapshot must not capture: environment variables, folders and
//! random bytes. Also keeps the monotonic clock from running backwards after a snapshot. Never
//! refuses a read itself: the snapshot decides.

use crate::limits;
use rand::{Rng, SeedableRng, TryRng, rngs::StdRng};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use wasmtime_wasi::{HostMonotonicClock, clocks::MonotonicClock};

/// The values that a guest has read while it was prepared.
#[derive(Default)]
pub(crate) struct PurityCheck {
    environment: AtomicBool,
    folders: AtomicBool,
    randomness: AtomicBool,
}

impl PurityCheck {
    pub(crate) fn note_environment(&self) {
        self.environment.store(true, Ordering::Relaxed);
    }

    pub(crate) fn note_folders(&self) {
        self.folders.store(true, Ordering::Relaxed);
    }

    /// Returns whether the guest read environment variables. C libraries read all of them once and
    /// cache them.
    pub(crate) fn saw_environment(&self) -> bool {
        self.environment.load(Ordering::Relaxed)
    }

    /// Returns whether the guest listed its granted folders. C libraries cache this list too.
    pub(crate) fn saw_folders(&self) -> bool {
        self.folders.load(Ordering::Relaxed)
    }

    /// Returns whether the guest read random bytes. Usually they seed a generator or become a key.
    pub(crate) fn saw_randomness(&self) -> bool {
        self.randomness.load(Ordering::Relaxed)
    }
}

/// Secure random bytes; each use is recorded.
pub(crate) struct CheckedRandom {
    source: StdRng,
    purity: Arc<PurityCheck>,
}

impl CheckedRandom {
    pub(crate) fn new(purity: &Arc<PurityCheck>) -> Self {
        Self { source: StdRng::from_rng(&mut rand::rng()), purity: Arc::clone(purity) }
    }

    fn noted(&mut self) -> &mut StdRng {
        self.purity.randomness.store(true, Ordering::Relaxed);
        &mut self.source
    }
}

impl TryRng for CheckedRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.noted().next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.noted().next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.noted().fill_bytes(bytes);
        Ok(())
    }
}

/// The monotonic clock of an instance that starts from a snapshot.
pub(crate) struct LaterClock(MonotonicClock);

impl LaterClock {
    pub(crate) fn new() -> Self {
        Self(MonotonicClock::new())
    }
}

impl HostMonotonicClock for LaterClock {
    fn resolution(&self) -> u64 {
        self.0.resolution()
    }

    fn now(&self) -> u64 {
        let ahead = u64::try_from(limits::SNAPSHOT_CLOCK_AHEAD.as_nanos()).unwrap_or(u64::MAX);
        self.0.now().saturating_add(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_were_read_are_recorded() {
        let purity = Arc::new(PurityCheck::default());
        let mut random = CheckedRandom::new(&purity);
        assert!(!purity.saw_randomness());
        random.try_next_u64().unwrap();
        assert!(purity.saw_randomness() && !purity.saw_environment() && !purity.saw_folders());
    }

    #[test]
    fn the_clock_after_a_snapshot_is_later_than_any_before() {
        let (before, after) = (MonotonicClock::new(), LaterClock::new());
        let longest = u64::try_from((limits::SNAPSHOT_TIME_MAX * 2).as_nanos()).unwrap();
        assert!(after.now() > before.now() + longest);
    }
}
