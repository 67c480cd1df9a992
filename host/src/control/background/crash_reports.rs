//! Forwards reports about process types that fail repeatedly to the tasks of their apps. Never acts
//! on a report.

use tokio::sync::mpsc;

use crate::control::{app_command::Command, app_table::AppTable};
use crate::runtime::CrashReport;

/// The receiver of crash reports.
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) received: mpsc::Receiver<CrashReport>,
}

impl Service {
    /// Forwards reports until the host shuts down.
    pub(in crate::control) async fn run(mut self) {
        while let Some(report) = self.received.recv().await {
            let name = report.app.parse().map_err(drop);
            if let Ok(app) = name.and_then(|name| self.app_table.handle(&name).map_err(drop)) {
                // The app may be destroyed meanwhile.
                drop(app.send(Command::Crashed(report)).await);
            }
        }
    }
}
