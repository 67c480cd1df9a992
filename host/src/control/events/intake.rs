//! Stores events in the queues of apps, and wakes their delivery. Never delivers an event.

use std::sync::Arc;

use isopod_policy::AppName;
use isopod_store::{Accepted, Claim, EventQueue};
use jiff::Timestamp;

use super::{
    conversion::{self, Handler, Sent},
    error::EventsError,
    outcome::Failure,
    tasks::Tasks,
};
use crate::{
    control::{AppRecord, app_table::AppTable},
    runtime::Directory,
};

/// The queues of all apps, and what their users share.
pub(super) struct Intake {
    pub(super) queue: Arc<dyn EventQueue>,
    pub(super) directory: Arc<Directory>,
    pub(super) app_table: AppTable,
    pub(super) tasks: Tasks,
}

impl Intake {
    /// Stores events for the app's event handler: all of them, or none. Returns once they are
    /// durable.
    pub(super) async fn store(&self, app: &Arc<AppRecord>, events: Vec<Sent>) -> Result<Vec<Accepted>, EventsError> {
        let release = self.directory.serving(&app.traffic).await.map_err(EventsError::NotServing)?;
        let handler = Handler::of(&release).ok_or(EventsError::NoHandler)?;
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        let events = events.into_iter().map(|sent| handler.event(sent.event, sent.not_before, sent.expires_at));
        let accepted = self.queue.accept(&app.name, events.collect(), Timestamp::now()).await?;
        let is_new = |accepted: &&Accepted| matches!(accepted, Accepted::New { .. });
        app.traffic.resources().add_stored_work(accepted.iter().filter(is_new).count());
        self.tasks.wake(app);
        Ok(accepted)
    }

    /// Stores an event in another app's queue. A repetition has no effect, since the queue knows
    /// the event's source and id.
    pub(super) async fn forward(&self, target: &str, is_granted: bool, claim: &Claim) -> Result<(), Failure> {
        let refused = |why: &str| Failure::Effects(format!("the event can't be forwarded to `{target}`: {why}"));
        if !is_granted {
            return Err(refused("the grants of the release don't include it"));
        }
        let app = target.parse::<AppName>().ok().and_then(|name| self.app_table.app(&name).ok());
        let app = app.ok_or_else(|| refused("there is no such app"))?;
        let forwarded = Sent { event: conversion::forwarded(&claim.event), not_before: None, expires_at: None };
        self.store(&app, vec![forwarded]).await.map(drop).map_err(|error| refused(&error.to_string()))
    }
}
