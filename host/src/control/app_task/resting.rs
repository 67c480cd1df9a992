//! The state of an app's resting task: a task without work ends, and the next command to the app
//! starts it again. Holds only what the next command needs, since most apps of a host are idle.

use std::sync::Arc;

use isopod_policy::AppMachine;
use tokio::sync::{Semaphore, mpsc};

use super::{AppTask, Services};
use crate::control::{
    app::AppRecord,
    app_command::{AppHandle, Command},
    limits,
    mailbox::{Mailbox, Resting},
};

pub(super) struct RestingTask {
    services: Arc<Services>,
    app: Arc<AppRecord>,
    machine: AppMachine,
    /// `None` if no push job holds a permit.
    pushes: Option<Arc<Semaphore>>,
    changes: u64,
}

impl AppTask {
    /// Returns whether only a command can change the task's state.
    pub(super) fn is_idle(&self) -> bool {
        self.work.is_empty()
            && self.permit_holder.is_none()
            && self.waiting.is_empty()
            && self.standby.is_empty()
            && self.load.is_none()
            && self.replacing.is_none()
    }

    pub(super) fn resting(&self) -> RestingTask {
        let is_free = self.pushes.available_permits() == limits::PUSHES_QUEUED_PER_APP;
        RestingTask {
            services: Arc::clone(&self.services),
            app: Arc::clone(&self.app),
            machine: self.machine.clone(),
            pushes: (!is_free).then(|| Arc::clone(&self.pushes)),
            changes: self.changes,
        }
    }
}

impl Resting<Box<Command>> for RestingTask {
    fn resume(self: Box<Self>, mailbox: Mailbox<Box<Command>>, commands: mpsc::Receiver<Box<Command>>) {
        let Self { services, app, machine, pushes, changes } = *self;
        let task = AppTask::new(services, AppHandle::new(app, mailbox), commands);
        let pushes = pushes.unwrap_or_else(|| Arc::clone(&task.pushes));
        AppTask { machine, pushes, changes, ..task }.spawn();
    }
}
