//! What must not be frozen into a snapshot, and is fresh again after it: environment variables, folders, random bytes,
//! the monotonic clock. It notes what a guest asks for while it is prepared; whether that is refused is the snapshot's.

use crate::{limits, state::HostState};
use rand::{Rng, SeedableRng, TryRng, rngs::StdRng};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{HostMonotonicClock, clocks::MonotonicClock, filesystem::Descriptor};

/// The interfaces as wasmtime-wasi offers them; every 0.2 of a guest is joined with these.
const ENVIRONMENT: &str = "wasi:cli/environment@0.2.12";
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";

/// What a guest has asked for that it would keep.
#[derive(Default)]
pub(crate) struct PurityCheck {
    environment: AtomicBool,
    folders: AtomicBool,
    randomness: AtomicBool,
}

impl PurityCheck {
    /// C libraries read all variables at the first question and never again.
    pub(crate) fn saw_environment(&self) -> bool {
        self.environment.load(Ordering::Relaxed)
    }

    /// They do the same with the list of granted folders.
    pub(crate) fn saw_folders(&self) -> bool {
        self.folders.load(Ordering::Relaxed)
    }

    /// Whoever asks for random bytes seeds a generator with them, or makes a key.
    pub(crate) fn saw_randomness(&self) -> bool {
        self.randomness.load(Ordering::Relaxed)
    }
}

/// The same imports, but for environment and folders: there are none, and the witness sees who asks for them.
pub(crate) fn linker(usual: &Linker<HostState>) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = usual.clone();
    linker.allow_shadowing(true);
    let mut environment = linker.instance(ENVIRONMENT)?;
    environment.func_wrap("get-environment", |store, ()| {
        note(&store, |purity| &purity.environment);
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |store, ()| {
        note(&store, |purity| &purity.environment);
        Ok((Vec::<String>::new(),))
    })?;
    linker.instance(PREOPENS)?.func_wrap("get-directories", |store, ()| {
        note(&store, |purity| &purity.folders);
        Ok((Vec::<(Resource<Descriptor>, String)>::new(),))
    })?;
    Ok(linker)
}

fn note(store: &StoreContextMut<'_, HostState>, what: impl FnOnce(&PurityCheck) -> &AtomicBool) {
    if let Some(purity) = store.data().purity() {
        what(purity).store(true, Ordering::Relaxed);
    }
}

/// Random bytes as good as any, whose use is noted.
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
    fn what_was_not_asked_for_was_not_seen() {
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
