//! The thread that advances the engines' epochs. Never does other work, so no guest can delay it.

use crate::limits;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Advances the epochs until it is dropped.
pub(crate) struct Ticker {
    stop: Arc<AtomicBool>,
}

impl Ticker {
    pub(crate) fn start(engines: Vec<wasmtime::Engine>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("isopod-epochs".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(limits::EPOCH);
                engines.iter().for_each(wasmtime::Engine::increment_epoch);
            }
        })?;
        Ok(Self { stop })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
