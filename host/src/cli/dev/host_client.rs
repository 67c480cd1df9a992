//! Owns the thread that sends requests to the host for `isopod dev`: pushes and build errors, one
//! after another, so that the session never waits for the network. Never decides what to send.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use super::event::SessionEvent;
use super::push::Pusher;
use crate::cli::failure::Failure;
use crate::cli::limits;
use crate::cli::project::Project;

/// A request to the host.
enum Task {
    Push { project: Box<Project>, seen_at: Instant },
    ShowError(String),
    ClearError,
}

/// The handle of the thread, with its bounded queue.
pub(crate) struct HostClient {
    tasks: SyncSender<Task>,
}

impl HostClient {
    /// Starts the thread, which ends when this handle is dropped.
    pub(crate) fn start(pusher: Pusher, events: SyncSender<SessionEvent>) -> HostClient {
        let (tasks, receiver) = sync_channel(limits::DEV_TASKS_WAITING_MAX);
        std::thread::spawn(move || work(pusher, &receiver, &events));
        HostClient { tasks }
    }

    /// Queues a push of the component. The result arrives as [`SessionEvent::Pushed`].
    pub(crate) fn push(&self, project: &Project, seen_at: Instant) -> Result<(), Failure> {
        self.enqueue(Task::Push { project: Box::new(project.clone()), seen_at })
    }

    /// Queues a build error to be shown to visitors of the app.
    pub(crate) fn show_error(&self, text: String) -> Result<(), Failure> {
        self.enqueue(Task::ShowError(text))
    }

    /// Queues the removal of the shown build error.
    pub(crate) fn clear_error(&self) -> Result<(), Failure> {
        self.enqueue(Task::ClearError)
    }

    fn enqueue(&self, task: Task) -> Result<(), Failure> {
        self.tasks.try_send(task).map_err(|error| match error {
            TrySendError::Full(_) => {
                Failure::new("the host has stopped responding").next("stop with Ctrl-C and start `isopod dev` again")
            }
            TrySendError::Disconnected(_) => {
                Failure::new("the connection to the host has ended").next("start `isopod dev` again")
            }
        })
    }
}

fn work(mut pusher: Pusher, tasks: &Receiver<Task>, events: &SyncSender<SessionEvent>) {
    for task in tasks {
        let reported = match task {
            Task::Push { project, seen_at } => {
                if events.send(SessionEvent::Pushed(pusher.push(&project, seen_at))).is_err() {
                    return;
                }
                Ok(())
            }
            Task::ShowError(text) => pusher.show_error(&text),
            Task::ClearError => pusher.clear_error(),
        };
        // The terminal has already shown the build error; only the browser doesn't.
        if let Err(failure) = reported {
            let _ =
                events.send(SessionEvent::Print(format!("! cannot show the build error in the browser: {failure}\n")));
        }
    }
}
