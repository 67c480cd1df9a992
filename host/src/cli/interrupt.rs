//! Prints a message when Ctrl-C ends a command while the host continues its work. Never stops work
//! on the host.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

use super::output;

/// 128 plus the number of SIGINT, as shells report it.
const INTERRUPTED: i32 = 130;

/// Prints its text if Ctrl-C or SIGTERM ends the program before this is dropped.
pub(crate) struct Interrupt(Arc<Mutex<Option<String>>>);

/// Installs handlers that print the text on Ctrl-C and SIGTERM, then end the program.
pub(crate) fn with_message(text: String) -> Interrupt {
    use tokio::signal::unix::{SignalKind, signal};
    let message = Arc::new(Mutex::new(Some(text)));
    let pending = Arc::clone(&message);
    // Returns once the handlers are installed, so that no signal ends the program without the
    // message.
    let (installed, is_installed) = sync_channel::<()>(1);
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
            let [Ok(mut interrupt), Ok(mut terminate)] = kinds.map(signal) else { return };
            drop(installed);
            let code = tokio::select! {
                _ = interrupt.recv() => INTERRUPTED,
                _ = terminate.recv() => INTERRUPTED + libc::SIGTERM - libc::SIGINT,
            };
            if let Some(text) = pending.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // On its own line, below a progress display.
                output::note(&format!("\n{text}"));
            }
            std::process::exit(code);
        });
    });
    let _ = is_installed.recv();
    Interrupt(message)
}

impl Interrupt {
    /// Replaces the text.
    pub(crate) fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
