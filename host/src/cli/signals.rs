//! Owns the signals that stop a serving process: SIGTERM, SIGINT and SIGHUP. The first one starts
//! the drain, a later one exits immediately. Never drains anything itself.

use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{cli::limits, os};

/// Receives the signals, whose default action is disabled from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` if the process was started with SIGHUP ignored, as by `nohup`: it then survives the
    /// end of its terminal.
    hangup: Option<Signal>,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        let hangup = if os::ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hangup })
    }

    /// Waits for the next stop signal.
    pub(crate) async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = hangup => {}
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
