//! Owns the signals that stop a serving process: SIGTERM and SIGINT alike. The first one drains it, a later one ends it at
//! once. Never stops anything itself otherwise.

use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::limits;

/// The signals, which do nothing by themselves from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Ends the process at the next one, now that it drains. One that follows at once is taken for the same: some programs
    /// send it to a process and to its group.
    pub(crate) async fn exit_at_the_next(mut self) {
        let first = Instant::now();
        while first.elapsed() < limits::STOP_AGAIN_AFTER {
            self.next().await;
        }
        tracing::warn!("second stop signal: exiting immediately");
        std::process::exit(1);
    }
}
