//! Owns the signals that stop a serving process: SIGTERM and SIGINT. The first one starts the
//! drain, a later one exits immediately. Never drains anything itself.

use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::limits;

/// Receives the signals, whose default action is disabled from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next stop signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Exits at the next signal, once the drain has started. A signal that follows immediately
    /// counts as the same one: some programs send it to a process and to its group.
    pub(crate) async fn exit_at_the_next(mut self) {
        let first = Instant::now();
        while first.elapsed() < limits::STOP_SIGNAL_GRACE {
            self.next().await;
        }
        tracing::warn!("second stop signal: exiting immediately");
        std::process::exit(1);
    }
}
