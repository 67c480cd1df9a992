//! Runs the delivery tasks of all apps. Never delivers an event itself.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    dead_letter::DeadLetter, delivery::Delivery, intake::Intake, settling::Settling, tasks::Start, warnings::Warnings,
};
use crate::control::shutdown::Shutdown;

/// Starts a delivery task for each app with events to deliver.
pub(in crate::control) struct Deliveries {
    pub(super) intake: Arc<Intake>,
    pub(super) shutdown: Shutdown,
    pub(super) dead_letters: mpsc::Sender<DeadLetter>,
}

impl Deliveries {
    /// Runs until the host begins to shut down. The tasks then complete their running deliveries.
    pub(in crate::control) async fn run(self) {
        loop {
            let Start { app, registration } = self.intake.tasks.next_start().await;
            let (intake, shutdown) = (Arc::clone(&self.intake), self.shutdown.clone());
            let (dead_letters, settling, warnings) = (self.dead_letters.clone(), Settling::new(), Warnings::default());
            let delivery = Arc::new(Delivery { intake, shutdown, app, registration, settling, dead_letters, warnings });
            let cut_off = self.shutdown.cut_off.clone();
            tokio::spawn(self.shutdown.deliveries.track_future(async move {
                cut_off.run_until_cancelled(delivery.run()).await;
            }));
        }
    }
}
